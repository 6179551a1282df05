"""VLAN: the frames of a device below that bear one tag (IEEE 802.1Q, ip-link(8), net/8021q/vlan_netlink.c)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StrictBool, StrictInt

from topo.changes import Env
from topo.facts import Fact
from topo.kinds.kind import LinkKind, View
from topo.kinds.macvlan import home
from topo.kinds.spec import Device, InterfaceSpec, parent_field
from topo.wire import BE16, U16, Attr, attr, named

IFLA_VLAN_ID, IFLA_VLAN_FLAGS, IFLA_VLAN_PROTOCOL = 1, 2, 5
_FLAGS: Final = {"reorder_hdr": 1, "gvrp": 2, "loose_binding": 4, "mvrp": 8, "bridge_binding": 16}  # VLAN_FLAG_*
_FLAGS_AND_MASK: Final = struct.Struct("=II")  # struct ifla_vlan_flags

DATA: Final = (
    Attr("id", IFLA_VLAN_ID, U16),
    Attr("protocol", IFLA_VLAN_PROTOCOL, named(BE16, {"802.1Q": 0x8100, "802.1ad": 0x88A8}), "802.1Q"),
)


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    """Of all that is asked, vlan_changelink changes the flags and drops the rest without a word."""
    return frozenset({"parent", "id", "protocol"})


def sinks(fact: Fact) -> bool:
    """With the device below (vlan_device_event); and it comes up again with it."""
    return not fact.attrs.get("loose_binding")


def extra(attrs: Mapping[str, Any], _: Env) -> bytes:
    mask = sum(bit for name, bit in _FLAGS.items() if attrs.get(name) is not None)
    flags = sum(bit for name, bit in _FLAGS.items() if attrs.get(name))
    return attr(IFLA_VLAN_FLAGS, _FLAGS_AND_MASK.pack(flags, mask)) if mask else b""


def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], _: View) -> None:
    flags = (
        _FLAGS_AND_MASK.unpack(data[IFLA_VLAN_FLAGS])[0] if IFLA_VLAN_FLAGS in data else 0
    )  # told unless all are off
    attrs.update((name, bool(flags & bit)) for name, bit in _FLAGS.items())


def claims(fact: Fact) -> Iterator[tuple[Any, ...]]:
    """A tag is on a device once (vlan_check_real_dev: EEXIST)."""
    attrs = fact.attrs
    if attrs.get("parent") and "id" in attrs:
        yield "vlan", attrs["parent"], attrs.get("protocol", "802.1Q"), attrs["id"]


class Vlan(InterfaceSpec):
    """A VLAN on a device below; on another VLAN it is stacked (QinQ)."""

    kind: Literal["vlan"] = Field(description="the frames of the parent that bear one VLAN tag")
    parent: Device = parent_field()
    id: Annotated[StrictInt, Field(ge=0, le=4094)] = Field(description="the VLAN's number")
    protocol: Literal["802.1Q", "802.1ad"] | None = Field(
        None, description="which tag: of customers, or of providers (the outer one of two); unset, 802.1Q"
    )
    reorder_hdr: StrictBool | None = Field(
        None, description="whether the tag is taken off what comes in, as seen by packet sockets; unset, true"
    )
    gvrp: StrictBool | None = Field(None, description="whether the VLAN is registered by GVRP")
    mvrp: StrictBool | None = Field(None, description="whether the VLAN is registered by MVRP")
    loose_binding: StrictBool | None = Field(None, description="whether it can be up while the parent is down")
    bridge_binding: StrictBool | None = Field(
        None, description="whether its carrier follows those ports of the bridge below that are in the VLAN"
    )


VLAN = LinkKind(
    "vlan",
    spec=Vlan,
    option="CONFIG_VLAN_8021Q",
    data=DATA,
    replace=replace,
    below="parent",
    home=home,
    one_queue=True,
    follows="parent",
    mtu=None,
    sinks=sinks,
    extra=extra,
    more=frozenset(_FLAGS),
    unstated={name: name == "reorder_hdr" for name in _FLAGS},
    decode_extra=decode_extra,
    claims=claims,
)
