"""IPVLAN: an interface with IP addresses of its own and its parent's MAC address (drivers/net/ipvlan)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, Literal

from pydantic import Field

from topo.facts import Fact
from topo.kinds.kind import LinkKind
from topo.kinds.macvlan import home
from topo.kinds.spec import Device, InterfaceSpec, parent_field
from topo.wire import U16, Attr, in_order, named

IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 2

Mode = Literal["l2", "l3", "l3s"]
Flags = Literal["bridge", "private", "vepa"]

DATA: Final = (
    Attr("mode", IFLA_IPVLAN_MODE, named(U16, in_order("l2", "l3", "l3s")), "l3"),
    Attr("flags", IFLA_IPVLAN_FLAGS, named(U16, in_order("bridge", "private", "vepa")), "bridge"),
)


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    return frozenset({"parent"})


class IpvlanSettings(InterfaceSpec):
    """What ipvlan and ipvtap have in common. All on one parent have one mode and one of the flags."""

    cannot: ClassVar[Mapping[str, str]] = {"mac": "it has its parent's MAC address"}

    parent: Device = parent_field()
    mode: Mode = Field(
        "l3", description="what the parent's ipvlans share: l2 switching, l3 routing, l3s with netfilter"
    )
    flags: Flags = Field(
        "bridge", description="who of the parent's ipvlans reach each other: all, none, or by way of outside"
    )


class Ipvlan(IpvlanSettings):
    """An IPVLAN."""

    kind: Literal["ipvlan"] = Field(description="an IPVLAN on the parent")


IPVLAN = LinkKind(
    "ipvlan",
    spec=Ipvlan,
    option="CONFIG_IPVLAN",
    data=DATA,
    replace=replace,
    below="parent",
    home=home,
    one_queue=True,
    follows="parent",
    mtu=None,
    shared=frozenset({"mode", "flags"}),
)
