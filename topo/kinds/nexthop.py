"""Nexthop objects and groups of them (ip-nexthop(8), linux/nexthop.h): what routes name by `nhid`.

One is changed in place without its routes being touched, but one that leads somewhere never becomes a group, nor a group
one of another type or number of buckets (EINVAL). When one goes, so do its routes, and groups that had nothing else. It
goes when its device loses its carrier, and cannot be made while that has none (ENETDOWN).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from topo.changes import AGAIN, DELETE, REPLACE, UPDATE, Change, Env, Op, Rtnl
from topo.facts import PROTOCOL, STATIC, Fact, Live, Ref, link, links_of
from topo.kinds import encap
from topo.kinds.kind import DesiredView, Kind, View, but_for_rare
from topo.kinds.route import origin, reaching
from topo.wire import (
    AF_INET,
    AF_INET6,
    NHMSG,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_DELNEXTHOP,
    RTM_NEWNEXTHOP,
    U16,
    U32,
    attr,
    attr_u32,
    attributes,
    nest,
    pack_ip,
    unpack_ip,
)

NHA_ID, NHA_GROUP, NHA_GROUP_TYPE, NHA_BLACKHOLE, NHA_OIF, NHA_GATEWAY = 1, 2, 3, 4, 5, 6
NHA_ENCAP_TYPE, NHA_ENCAP, NHA_FDB, NHA_RES_GROUP = 7, 8, 11, 12
RTNH_F_ONLINK: Final = 4
TYPES: Final = ("mpath", "resilient")  # NEXTHOP_GRP_TYPE_*
_RESILIENT: Final = {"buckets": (1, U16), "idle_timer": (2, U32), "unbalanced_timer": (3, U32)}
_FIXED: Final = frozenset({"type", "buckets"})
_MEMBER: Final = struct.Struct("=IBBxx")  # struct nexthop_grp: id, weight - 1 in two parts


def encode(op: Op, env: Env) -> list[Rtnl]:
    ns, number = op.ref.ns, attr_u32(NHA_ID, op.ref.key[0])
    if op.verb == DELETE:
        return [Rtnl(ns, RTM_DELNEXTHOP, 0, NHMSG.pack(0, 0, 0, 0) + number)]
    assert op.new is not None
    attrs = op.new.attrs
    family = {4: AF_INET, 6: AF_INET6}.get(attrs["family"], 0)
    flags = RTNH_F_ONLINK if attrs.get("onlink") else 0
    body = NHMSG.pack(family, 0, attrs.get("_protocol", PROTOCOL), flags) + number
    if attrs.get("group"):
        body += b"".join(_group(attrs))
    elif attrs.get("blackhole"):
        body += attr(NHA_BLACKHOLE, b"")
    else:
        body += attr_u32(NHA_OIF, env.index(ns, attrs["dev"]))
        body += attr(NHA_GATEWAY, pack_ip(attrs["gateway"])) if attrs.get("gateway") else b""
        body += encap.encode(attrs["encap"], NHA_ENCAP_TYPE, NHA_ENCAP) if attrs.get("encap") else b""
    there = op.verb == UPDATE or AGAIN in op.attrs
    return [Rtnl(ns, RTM_NEWNEXTHOP, NLM_F_CREATE | (NLM_F_REPLACE if there else NLM_F_EXCL), body)]


def _group(attrs: Mapping[str, Any]) -> Iterator[bytes]:
    packed = (_MEMBER.pack(one, (weight - 1) & 0xFF, (weight - 1) >> 8) for one, weight in members(attrs["group"]))
    yield attr(NHA_GROUP, b"".join(packed))
    yield attr(NHA_GROUP_TYPE, U16.pack(TYPES.index(attrs["type"])))
    if attrs["type"] == "resilient":
        stated = ((nla, form.pack(attrs[name])) for name, (nla, form) in _RESILIENT.items() if name in attrs)
        yield nest(NHA_RES_GROUP, *(attr(*pair) for pair in stated))


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    if end - offset < NHMSG.size:
        return ()
    family, _, protocol, flags = NHMSG.unpack_from(data, offset)
    found = attributes(data, offset + NHMSG.size, end)
    if len(found.get(NHA_ID, b"")) != 4 or NHA_FDB in found or family not in (0, AF_INET, AF_INET6):
        return ()
    attrs: dict[str, Any] = {
        "family": {AF_INET: 4, AF_INET6: 6}.get(family), "gateway": None, "dev": None, "group": None, "type": None,
        "onlink": bool(flags & RTNH_F_ONLINK), "blackhole": NHA_BLACKHOLE in found, "_protocol": protocol,
    }  # fmt: skip
    if NHA_GROUP in found:
        attrs.update(_decode_group(found))
    elif not attrs["blackhole"]:
        if len(oif := found.get(NHA_OIF, b"")) != 4 or (dev := view.ifname(U32.unpack(oif))) is None:
            return ()
        gateway = found.get(NHA_GATEWAY, b"")
        attrs |= {"dev": dev, "gateway": unpack_ip(gateway) if len(gateway) in (4, 16) else None}
        if NHA_ENCAP in found:
            attrs["encap"] = encap.decode(found.get(NHA_ENCAP_TYPE, b""), found[NHA_ENCAP])
    made_by = origin(protocol) if protocol else STATIC  # ip-nexthop(8) states none
    return (Fact(Ref("nexthop", view.ns, (U32.unpack(found[NHA_ID]),)), attrs, made_by),)


def _decode_group(found: Mapping[int, bytes]) -> Iterator[tuple[str, Any]]:
    data, size = found[NHA_GROUP], _MEMBER.size
    whole = data[: len(data) // size * size]
    yield "family", None
    yield "group", written((one, (low | high << 8) + 1) for one, low, high in _MEMBER.iter_unpack(whole))
    number = U16.unpack(found[NHA_GROUP_TYPE]) if len(found.get(NHA_GROUP_TYPE, b"")) == 2 else 0
    yield "type", TYPES[number] if number < len(TYPES) else str(number)
    inside = attributes(found.get(NHA_RES_GROUP, b""))
    for name, (nla, form) in _RESILIENT.items():
        if len(inside.get(nla, b"")) == (2 if form is U16 else 4):
            yield name, form.unpack(inside[nla])


def written(group: Iterable[tuple[int, int]]) -> str:
    """Ids and weights as ip-nexthop(8) writes a group, in order."""
    return "/".join(f"{one},{weight}" if weight > 1 else str(one) for one, weight in sorted(group))


def members(group: str | None) -> list[tuple[int, int]]:
    """Ids and weights of a group."""
    pairs = (part.partition(",") for part in group.split("/")) if group else ()
    return [(int(one), int(weight or 1)) for one, _, weight in pairs]


def used(fact: Fact) -> tuple[Ref, ...]:
    """The nexthops that a route or a group has."""
    attrs, ns = fact.attrs, fact.ref.ns
    if fact.ref.kind not in ("route", "nexthop"):
        return ()
    if fact.ref.kind == "route":
        return (Ref("nexthop", ns, (attrs["nhid"],)),) if attrs.get("nhid") else ()
    return tuple(Ref("nexthop", ns, (one,)) for one, _ in members(attrs.get("group")))


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    """Its members; or its link and what gives that a carrier, and the address that makes its gateway reachable."""
    attrs, ns = fact.attrs, fact.ref.ns
    needed = [*used(fact), *links_of(fact)]
    if dev := attrs.get("dev"):
        needed += _carriers(link(ns, dev), desired)
        if (gateway := attrs.get("gateway")) and not attrs.get("onlink"):
            needed += reaching(fact, gateway, dev, desired)
        else:  # the kernel wants the family to be alive on the link
            needed += [other.ref for other in desired.on(link(ns, dev), "address")]
    return dict.fromkeys(needed)


def _carriers(home: Ref, desired: DesiredView) -> Iterator[Ref]:
    """The other end of a veth pair; of a bridge its ports and theirs."""
    fact = desired.get(home)
    if fact is None:
        return
    ends = [fact]
    if fact.attrs.get("kind") != "veth":
        ends = [port for port in desired.within(home.ns, "link") if port.attrs.get("master") == home.key[0]]
    for end in ends:
        yield end.ref
        if peer := end.attrs.get("peer"):
            yield link(*peer)


def replace(desired: Fact, live: Fact) -> frozenset[str]:
    if bool(desired.attrs.get("group")) != bool(live.attrs.get("group")):
        return frozenset({"group"})
    return _FIXED


def takes(change: Change, live: Live) -> Iterable[Ref]:
    """Routes and groups that have it."""
    if change.action not in (DELETE, REPLACE) or change.live is None:
        return ()
    gone = change.live.ref
    others = (fact for fact in live.within(gone.ns) if fact.ref.kind in ("route", "nexthop"))
    return [fact.ref for fact in others if gone in used(fact)]


def describe(fact: Fact) -> str:
    """As ip-nexthop(8) writes what follows the id."""
    attrs = fact.attrs
    if attrs.get("blackhole"):
        return "blackhole"
    if attrs.get("group"):
        return f"group {attrs['group']}" + (" type resilient" if attrs.get("type") == "resilient" else "")
    words = [f"{word} {attrs[name]}" for name, word in _WORDS.items() if attrs.get(name)]
    return " ".join(words + ["onlink"] * bool(attrs.get("onlink")))


_WORDS: Final = {"encap": "encap", "gateway": "via", "dev": "dev"}

NEXTHOP: Final = Kind(
    "nexthop", encode, decode, requires, partial(but_for_rare, frozenset({"encap"})), replace, takes=takes, describe=describe,
    absent=frozenset({errno.ENOENT, errno.ENODEV, errno.ESRCH}),
)  # fmt: skip
