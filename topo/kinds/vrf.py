"""VRF: interfaces with a routing table of their own (ip-vrf(8), drivers/net/vrf.c).

With the first one of a namespace the kernel makes the rule `1000: from all lookup [l3mdev-table]` of both families,
and leaves it when the last one goes.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StrictInt

from topo.facts import Fact
from topo.kinds.kind import LinkKind, Ports
from topo.kinds.spec import InterfaceName, InterfaceSpec, ports_field
from topo.wire import U32, Attr

IFLA_VRF_TABLE: Final = 1
_MTU: Final = 65575  # IP6_MAX_MTU


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    """The driver has no changelink: EOPNOTSUPP."""
    return frozenset({"table"})


def refuses(_: Fact, port: Fact) -> str:
    return "it is a VRF, which cannot be in another one" if port.attrs.get("kind") == "vrf" else ""


def table(fact: Fact) -> int:
    number: int = fact.attrs["table"]
    return number


class Vrf(InterfaceSpec):
    """A VRF. What its ports route by is its table: state it for routes that leave by them."""

    kind: Literal["vrf"] = Field(description="a VRF: a routing table for some interfaces")
    table: Annotated[StrictInt, Field(ge=1, le=0xFFFFFFFF)] = Field(description="the number of its routing table")
    ports: list[InterfaceName] = ports_field()


VRF = LinkKind(
    "vrf",
    spec=Vrf,
    option="CONFIG_NET_VRF",
    data=(Attr("table", IFLA_VRF_TABLE, U32),),
    replace=replace,
    mtu=_MTU,
    ports=Ports(refuses=refuses, cycled=True, table=table),
)
