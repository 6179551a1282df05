"""dummy: an interface that drops what is sent by it, for addresses and routes (ip-link(8), drivers/net/dummy.c)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.kind import LinkKind
from topo.kinds.spec import InterfaceSpec


class Dummy(InterfaceSpec):
    """A dummy interface."""

    kind: Literal["dummy"] = Field(description="an interface that drops what is sent by it")


DUMMY = LinkKind("dummy", spec=Dummy, option="CONFIG_DUMMY", one_queue=True)
