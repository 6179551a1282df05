"""VXLAN: Ethernet in UDP (RFC 7348, ip-link(8), drivers/net/vxlan/vxlan_core.c)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from topo.changes import Env
from topo.facts import Fact, Ref, link
from topo.kinds.kind import DesiredView, LinkKind, View
from topo.wire import AF_INET, AF_INET6, BE16, BOOL, U8, U32, Attr, attr, attr_u32, pack_ip, unpack_ip

# IFLA_VXLAN_* in linux/if_link.h
ID, GROUP, LINK, LOCAL, TTL, TOS, LEARNING, AGEING = 1, 2, 3, 4, 5, 6, 7, 8
PROXY, L2MISS, L3MISS, PORT, GROUP6, LOCAL6, EXTERNAL, VNIFILTER = 11, 13, 14, 15, 16, 17, 25, 30

DATA: Final = (
    Attr("id", ID, U32),
    Attr("ttl", TTL, U8, 0),
    Attr("tos", TOS, U8, 0),
    Attr("learning", LEARNING, BOOL, True),
    Attr("ageing", AGEING, U32, 300),
    Attr("proxy", PROXY, BOOL, False),
    Attr("l2miss", L2MISS, BOOL, False),
    Attr("l3miss", L3MISS, BOOL, False),
    Attr("port", PORT, BE16, 4789),
    Attr("external", EXTERNAL, BOOL, False),
    Attr("vnifilter", VNIFILTER, BOOL, False),
)
_FIXED: Final = frozenset(  # EOPNOTSUPP, even if equal
    {"id", "port", "proxy", "l2miss", "l3miss", "created_in", "external", "vnifilter"}
)


def home(fact: Fact) -> str:
    """Where its UDP socket and its underlay are."""
    made: str = fact.attrs.get("created_in") or fact.ref.ns
    return made


def replace(desired: Fact, live: Fact) -> frozenset[str]:
    """VNI, port and flags are fixed, and so is the family of `local`.

    A multicast group, and the device that it is heard on, the kernel can change. But older ones do so without
    leaving the old group and joining the new (6.18 does it), so topo replaces the device.
    """
    fixed = _FIXED
    if any(_multicast(fact.attrs.get("group")) for fact in (desired, live)):
        fixed |= {"group", "dev"}
    if _family(desired.attrs) != _family(live.attrs):
        fixed |= {"local", "group"}
    return fixed


def _multicast(ip: str | None) -> bool:
    if not ip:
        return False
    first = pack_ip(ip)[0]
    return first == 0xFF if ":" in ip else 224 <= first <= 239


def _family(attrs: Mapping[str, Any]) -> int:
    ips = (attrs.get("local"), attrs.get("group"))
    return AF_INET6 if any(ip and ":" in ip for ip in ips) else AF_INET


def extra(attrs: Mapping[str, Any], env: Env) -> bytes:
    """IFLA_VXLAN_LINK, and the addresses, whose attributes differ by family."""
    parts = []
    if dev := attrs.get("dev"):
        parts.append(attr_u32(LINK, env.index(*dev)))
    if group := attrs.get("group"):
        parts.append(attr(GROUP6 if ":" in group else GROUP, pack_ip(group)))
    if local := attrs.get("local"):
        parts.append(attr(LOCAL6 if ":" in local else LOCAL, pack_ip(local)))
    return b"".join(parts)


def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], _: View) -> None:
    group, local = data.get(GROUP) or data.get(GROUP6), data.get(LOCAL) or data.get(LOCAL6)
    if group:
        attrs["group"] = unpack_ip(group)
    if local:
        attrs["local"] = unpack_ip(local)
    attrs["vnifilter"] = VNIFILTER in data  # told only where it is set
    if LINK in data:
        attrs["_link"] = U32.unpack(data[LINK])


def requires(fact: Fact, _: DesiredView) -> Iterable[Ref]:
    if dev := fact.attrs.get("dev"):
        yield link(*dev)


def claims(fact: Fact) -> Iterable[tuple[Any, ...]]:
    """One VNI per UDP socket: per namespace of the underlay, port and address family."""
    attrs = fact.attrs
    if "id" in attrs:
        yield "vni", home(fact), attrs["id"], attrs.get("port", 4789), _family(attrs)


VXLAN = LinkKind(
    "vxlan",
    option="CONFIG_VXLAN",
    mtu=None,
    data=DATA,
    replace=replace,
    below="dev",
    home=home,
    extra=extra,
    more=frozenset({"dev", "group", "local"}),
    unstated={"created_in": None},
    decode_extra=decode_extra,
    requires=requires,
    claims=claims,
)
