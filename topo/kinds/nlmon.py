"""nlmon: an interface that shows the netlink messages of its namespace to packet sockets (drivers/net/nlmon.c)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.kind import LinkKind
from topo.kinds.spec import InterfaceSpec
from topo.kinds.tunnel import TunnelSpec


class Nlmon(InterfaceSpec):
    """A netlink monitor."""

    cannot = TunnelSpec.flat

    kind: Literal["nlmon"] = Field(description="netlink messages, for packet sockets")


NLMON = LinkKind("nlmon", spec=Nlmon, option="CONFIG_NLMON", one_queue=True, mtu=None)
