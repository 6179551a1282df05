"""bridge: an Ethernet switch (ip-link(8), net/bridge/br_netlink.c). The kernel changes all of it in place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from topo.facts import Fact
from topo.kinds.kind import LinkKind, Ports, View
from topo.wire import BE16, BOOL, U8, U16, U32, U64, Attr, Format, named

# IFLA_BR_* in linux/if_link.h. Times are in centiseconds (USER_HZ).
_MOST_MTU: Final = 65535
_IFLA_BR_VLAN_PROTOCOL: Final = 8
_STP: Final = Format(lambda on: U32.pack(1 if on else 0), lambda data: U32.unpack(data) != 0)  # 2: by a daemon


def some_mac() -> str:
    """A random address for a bridge that states none: locally administered, unicast, as the kernel chooses them.

    One that is given when the bridge is made stays. Else the bridge takes the lowest of its ports' each time that a port
    comes or goes (br_stp_recalculate_bridge_id), and who has it as a gateway sends to an address that nobody has.
    """
    first, *rest = os.urandom(6)
    return bytes([first & 0xFC | 0x02, *rest]).hex(":")


def at_first(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """What a bridge needs to be told so that it keeps its own and does not take after its ports.

    A MAC address; and another MTU than its own, which it keeps only once it was *changed* by hand (br_change_mtu), and
    may by its ports have come to already.
    """
    told = {"mac": some_mac(), **attrs}
    if mtu := told.get("mtu"):
        told["mtu"] = mtu + 1 if mtu < _MOST_MTU else mtu - 1
    return told


def refuses(_: Fact, port: Fact) -> str:
    """What br_add_if refuses of the links that a file makes."""
    if port.attrs.get("kind") == "bridge":
        return "it is a bridge: a bridge is no port of another, link them by a veth pair"
    return ""


def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], _: View) -> None:
    """A kernel without CONFIG_BRIDGE_VLAN_FILTERING tells no protocol, and refuses to be told even that it heeds none."""
    if _IFLA_BR_VLAN_PROTOCOL not in data:
        attrs.pop("vlan_filtering", None)


BRIDGE = LinkKind(
    "bridge",
    option="CONFIG_BRIDGE",
    ports=Ports(refuses=refuses),
    decode_extra=decode_extra,
    follows="ports",
    at_first=at_first,
    mtu_again=True,
    data=(
        Attr("forward_delay", 1, U32, 1500),
        Attr("hello_time", 2, U32, 200),
        Attr("max_age", 3, U32, 2000),
        Attr("ageing", 4, U32, 30000),
        Attr("stp", 5, _STP, False),
        Attr("priority", 6, U16, 32768),
        Attr("vlan_filtering", 7, BOOL, False),
        Attr("vlan_protocol", _IFLA_BR_VLAN_PROTOCOL, named(BE16, {"802.1Q": 0x8100, "802.1ad": 0x88A8}), "802.1Q"),
        Attr("group_fwd_mask", 9, U16, 0),
        Attr("mcast_router", 22, U8, 1),
        Attr("mcast_snooping", 23, BOOL, True),
        Attr("mcast_query_use_ifaddr", 24, BOOL, False),
        Attr("mcast_querier", 25, BOOL, False),
        Attr("mcast_query_intvl", 33, U64, 12500),
        Attr("vlan_default_pvid", 39, U16, 1),
        Attr("mcast_igmp_version", 43, U8, 2),
        Attr("mcast_mld_version", 44, U8, 1),
    ),
)
