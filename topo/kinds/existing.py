"""A device that is there already (a NIC): topo sets what is stated and puts it back, never makes or deletes it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.kind import LinkKind
from topo.kinds.spec import InterfaceSpec


class Existing(InterfaceSpec):
    """A device that is there already."""

    kind: Literal["existing"] = Field(description="a device that is there already: what is stated is set, and put back")


EXISTING = LinkKind("existing", spec=Existing)
