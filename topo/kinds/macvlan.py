"""MACVLAN: an interface with a MAC address of its own on a device below (ip-link(8), drivers/net/macvlan.c)."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from topo.facts import Fact
from topo.kinds.kind import LinkKind
from topo.kinds.spec import Device, InterfaceSpec, parent_field
from topo.wire import U32, Attr, named

Mode = Literal["private", "vepa", "bridge", "passthru"]

IFLA_MACVLAN_MODE: Final = 1
_MODES: Final = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}  # MACVLAN_MODE_* in linux/if_link.h

MODE: Final = Attr("mode", IFLA_MACVLAN_MODE, named(U32, _MODES), "vepa")


def replace(desired: Fact, live: Fact) -> frozenset[str]:
    """The parent is for life; the mode can change, but neither to nor from passthru (EINVAL)."""
    passthru = "passthru" in (desired.attrs.get("mode"), live.attrs.get("mode"))
    return frozenset({"parent", "mode"}) if passthru else frozenset({"parent"})


def home(fact: Fact) -> str:
    """Where the parent is: IFLA_LINK is an ifindex of the namespace whose socket sends."""
    ns: str = fact.attrs["parent"][0]
    return ns


class Macvlan(InterfaceSpec):
    """A MACVLAN."""

    kind: Literal["macvlan"] = Field(description="a MACVLAN on the parent")
    parent: Device = parent_field()
    mode: Mode | None = Field(None, description="who of the parent's macvlans reach each other; unset, vepa")


MACVLAN = LinkKind(
    "macvlan",
    spec=Macvlan,
    option="CONFIG_MACVLAN",
    data=(MODE,),
    replace=replace,
    below="parent",
    home=home,
    one_queue=True,
    follows="parent",
    mtu=None,
)
