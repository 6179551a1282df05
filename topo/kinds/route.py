"""Routes (ip-route(8), linux/rtnetlink.h).

Identity is (family, table, destination, metric), and a TOS of IPv4, as the kernel has it for NLM_F_EXCL and
NLM_F_REPLACE; all else is changed in place. Of IPv6 the kernel makes ECMP only of next hops with gateways.

Most routes have none of what is in `RARE`. A live one that has has no `mtu` where that is None, so that the quick way to
compare whole routes does not pass it for one that states nothing of the sort.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from operator import add
from typing import Any, Final

from topo.changes import AGAIN, DELETE, UPDATE, Env, Op, Rtnl
from topo.facts import FOREIGN, PROTOCOL, STATIC, TAGGED, Fact, Ref, link, links_of
from topo.kinds import encap, metrics
from topo.kinds.alike import Block, Expected, columns, new_fact, new_ref, sorted_by
from topo.kinds.kind import DesiredView, Kind, View, but_for_rare
from topo.kinds.rule import realms_text
from topo.wire import (
    AF_INET,
    AF_INET6,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    RTMSG,
    RTNEXTHOP,
    U8,
    U32,
    attr,
    attr_u32,
    attributes,
    pack_ip,
    pack_ips,
    unpack_ip,
    unpack_ips,
)

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
RTA_METRICS, RTA_MULTIPATH, RTA_TABLE, RTA_VIA, RTA_NH_ID = 8, 9, 15, 18, 30
RTA_FLOW, RTA_PREF = 11, 20
RTNH_F_ONLINK, RTM_F_CLONED = 4, 0x200
NOWHERE: Final = {"blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9}  # RTN_*, of routes without a way
TYPES: Final = {"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, **NOWHERE}
SCOPES: Final = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}  # RT_SCOPE_*
PREFERENCES: Final = {"medium": 0, "high": 1, "low": 3}  # ICMPV6_ROUTER_PREF_*
WAY: Final = frozenset({"gateway", "dev", "nexthops", "onlink", "encap"})
RARE: Final = frozenset({"nhid", "encap", "scope", "pref", "realms", *metrics.METRICS})
_TYPE_NAMES: Final = {number: name for name, number in TYPES.items()}
_RT_TABLE_COMPAT = 252
_PLAIN: Final = frozenset({RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE})
_NO: Final = bytes(4)
_SCOPE_NAMES: Final = {number: name for name, number in SCOPES.items()}
_PREFERENCE_NAMES: Final = {number: name for name, number in PREFERENCES.items()}
# RTPROT_*: what the kernel itself makes is no one's to care for; what a person makes bears boot or static.
OF_KERNEL: Final = frozenset({1, 2, 9})  # redirect, kernel, ra
_BY_HAND: Final = frozenset({3, 4})  # boot, static
_ANYWHERE: Final = {4: "0.0.0.0/0", 6: "::/0"}
METRIC: Final = {4: 0, 6: 1024}
"""The metric of a route that states none: IPv4, and IP6_RT_PRIO_USER."""

NextHop = tuple[Any, ...]  # gateway or None, dev or None, weight, onlink; and where there is one its encapsulation


def _gateway(family: int, gateway: str) -> bytes:
    packed = pack_ip(gateway)
    if (family == 4) == (len(packed) == 4):
        return attr(RTA_GATEWAY, packed)
    return attr(RTA_VIA, struct.pack("=H", AF_INET if len(packed) == 4 else AF_INET6) + packed)


def _next_hop(family: int, hop: NextHop, ns: str, env: Env) -> bytes:
    gateway, dev, weight, onlink, *wrapped = hop
    inside = (_gateway(family, gateway) if gateway else b"") + b"".join(map(encap.encode, wrapped))
    index = env.index(ns, dev) if dev else 0
    return RTNEXTHOP.pack(RTNEXTHOP.size + len(inside), RTNH_F_ONLINK if onlink else 0, weight - 1, index) + inside


def _way(ref: Ref, attrs: Mapping[str, Any], env: Env) -> bytes:
    """Where the route leads."""
    if attrs.get("nhid"):
        return attr_u32(RTA_NH_ID, attrs["nhid"])
    if hops := attrs.get("nexthops"):
        return attr(RTA_MULTIPATH, b"".join(_next_hop(ref.key[0], hop, ref.ns, env) for hop in hops))
    way = _gateway(ref.key[0], attrs["gateway"]) if attrs.get("gateway") else b""
    way += attr_u32(RTA_OIF, env.index(ref.ns, attrs["dev"])) if attrs.get("dev") else b""
    return way + (encap.encode(attrs["encap"]) if attrs.get("encap") else b"")


def scope(family: int, attrs: Mapping[str, Any]) -> str:
    """The scope that ip-route(8) chooses."""
    if family == 6 or attrs["type"] in NOWHERE:
        return "global"
    if attrs["type"] != "unicast":
        return "host" if attrs["type"] == "local" else "link"
    direct = not (attrs.get("gateway") or attrs.get("nexthops") or attrs.get("nhid"))
    return "link" if direct else "global"


def _scope(family: int, attrs: Mapping[str, Any], deleting: bool) -> int:
    name = attrs.get("scope") or ("nowhere" if deleting and family == 4 else scope(family, attrs))
    return SCOPES[name] if name in SCOPES else int(name)


def encode(op: Op, env: Env) -> list[Rtnl]:
    ref = op.ref
    family, table, dst, metric = ref.key[:4]
    fact = op.old if op.verb == DELETE else op.new
    assert fact is not None
    attrs = fact.attrs
    network, _, length = dst.partition("/")
    deleting = op.verb == DELETE
    header = RTMSG.pack(
        AF_INET if family == 4 else AF_INET6,
        int(length),
        0,
        attrs.get("_tos", 0),
        table if table < 256 else _RT_TABLE_COMPAT,
        attrs.get("_protocol", PROTOCOL),
        _scope(family, attrs, deleting),
        TYPES[attrs["type"]],
        RTNH_F_ONLINK if attrs.get("onlink") else 0,
    )
    body = header + (attr(RTA_DST, pack_ip(network)) if int(length) else b"")
    body += (attr_u32(RTA_PRIORITY, metric) if metric else b"") + (attr_u32(RTA_TABLE, table) if table > 255 else b"")
    if not (deleting and attrs.get("nhid")):  # which may be gone: EINVAL
        body += _way(ref, attrs, env)
    if deleting:  # the protocol and the way are in it, so that no other's route is hit
        return [Rtnl(ref.ns, RTM_DELROUTE, 0, body)]
    if attrs.get("src"):
        body += attr(RTA_PREFSRC, pack_ip(attrs["src"]))
    if packed := metrics.pack(attrs):
        body += attr(RTA_METRICS, packed)
    if attrs.get("pref"):
        body += attr(RTA_PREF, U8.pack(PREFERENCES[attrs["pref"]]))
    if attrs.get("realms"):
        body += attr_u32(RTA_FLOW, attrs["realms"])
    there = op.verb == UPDATE or AGAIN in op.attrs  # a route that was lost and yet is there is the same route
    return [Rtnl(ref.ns, RTM_NEWROUTE, NLM_F_CREATE | (NLM_F_REPLACE if there else NLM_F_EXCL), body)]


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    if end - offset < RTMSG.size:
        return ()
    family, length, src_len, tos, table, protocol, scoped, type_, flags = RTMSG.unpack_from(data, offset)
    if protocol in OF_KERNEL or type_ not in _TYPE_NAMES or flags & RTM_F_CLONED or src_len:
        return ()
    if family not in (AF_INET, AF_INET6):
        return ()
    found = attributes(data, offset + RTMSG.size, end)
    number = 4 if family == AF_INET else 6
    size = 4 if number == 4 else 16
    dst = f"{unpack_ip(found[RTA_DST])}/{length}" if len(found.get(RTA_DST, b"")) == size else _ANYWHERE[number]
    metric = _u32(found, RTA_PRIORITY, 0)
    attrs = _decode_way(found, flags, view)
    if attrs is None:
        return ()
    name = "unicast" if "nhid" in attrs else _TYPE_NAMES[type_]  # blackhole is its nexthop's
    if name in NOWHERE:
        attrs["dev"] = None  # IPv6 shows lo
    attrs["type"], attrs["_protocol"] = name, protocol
    attrs["src"] = unpack_ip(found[RTA_PREFSRC]) if len(found.get(RTA_PREFSRC, b"")) == size else None
    key: tuple[Any, ...] = (number, _u32(found, RTA_TABLE, table), dst, metric)
    if tos:
        attrs["_tos"] = tos
        key += of_tos(tos)
    rare = dict(_decode_rare(number, found, attrs, scoped))
    if not rare and "nhid" not in attrs:
        attrs["mtu"] = None
    return (Fact(Ref("route", view.ns, key), attrs | rare, origin(protocol)),)


def of_tos(tos: int) -> tuple[str, ...]:
    """What the key of a route for one TOS has behind its metric."""
    return (f"tos {tos:#x}",) if tos else ()


def _decode_rare(family: int, found: Mapping[int, bytes], attrs: Mapping[str, Any], scoped: int) -> Iterator[Any]:
    if RTA_METRICS in found:
        yield from metrics.unpack(found[RTA_METRICS]).items()
    for wrapped in _decode_encap(found):
        yield "encap", wrapped
    if family == 4 and scoped != SCOPES[scope(4, attrs)]:
        yield "scope", _SCOPE_NAMES.get(scoped, str(scoped))
    if realms := _u32(found, RTA_FLOW, 0):
        yield "realms", realms
    if (preference := found.get(RTA_PREF, _NO)[:1]) != _NO[:1] and preference:
        yield "pref", _PREFERENCE_NAMES.get(preference[0], "medium")


def decode_alike(block: Block, view: View, expected: Expected) -> list[Fact] | None:
    """As `decode`, of unicast routes of one prefix length, table and metric, each out of one device."""
    found = columns(block, RTMSG, _PLAIN, _PLAIN)
    if found is None or not {RTA_DST, RTA_OIF, RTA_TABLE} <= found.values.keys():
        return None
    family, length, src_len, tos, _, protocol, scoped, type_, flags = found.header
    values, number = found.values, 4 if family == AF_INET else 6
    size = {AF_INET: 4, AF_INET6: 16}.get(family)
    tables, metrics = (set(values.get(nla, (_NO,))) for nla in (RTA_TABLE, RTA_PRIORITY))
    names = {device: view.ifname(U32.unpack(device)) for device in set(values[RTA_OIF])}
    gateways = values.get(RTA_GATEWAY)
    usual = protocol not in OF_KERNEL and type_ == TYPES["unicast"] and not (flags & RTM_F_CLONED or src_len or tos)
    if not usual or len(tables) > 1 or len(metrics) > 1 or None in names.values():
        return None
    if family == AF_INET and scoped != SCOPES["global" if gateways else "link"]:
        return None
    if len(values[RTA_DST][0]) != size or (gateways and len(gateways[0]) not in (4, 16)):
        return None
    table, metric = (int(U32.unpack(each.pop())) for each in (tables, metrics))
    ns, onlink, made_by = view.ns, bool(flags & RTNH_F_ONLINK), origin(protocol)
    dsts, devices = values[RTA_DST], values[RTA_OIF]
    if protocol == PROTOCOL and len(names) == 1:
        group = ("route", ns, names[devices[0]], number, table, str(length), metric, onlink)
        more = expected.take(group, dsts, gateways) if gateways else expected.take(group, dsts)
        if not more:
            return []
        dsts, devices = ([each[i] for i in more] for each in (dsts, devices))
        gateways = [gateways[i] for i in more] if gateways else None
    ways = unpack_ips(gateways) if gateways else repeat(None, len(dsts))
    return [
        new_fact((
            new_ref(("route", ns, (number, table, f"{dst}/{length}", metric))),
            {
                "gateway": way, "dev": names[device], "nexthops": None, "onlink": onlink, "type": "unicast",
                "_protocol": protocol, "src": None, "mtu": None,
            },
            made_by,
        ))
        for dst, way, device in zip(unpack_ips(dsts), ways, devices, strict=True)
    ]  # fmt: skip


def expect(facts: Sequence[Fact], expected: Expected) -> None:
    """Note those that lead by one way out of a stated device, and of which no more is stated."""
    facts = [fact for fact in facts if len(fact[1]) == 7 and "gateway" in fact[1]]  # and `_FURTHER`
    if not facts:
        return
    keys, attrs = [fact[0][2] for fact in facts], [fact[1] for fact in facts]
    places = [[key[part] for key in keys] for part in (0, 1, 3)]
    lengths = [key[2].partition("/")[2] for key in keys]
    further = [[each[name] for each in attrs] for name in _FURTHER]
    direct = [each["gateway"] is None for each in attrs]
    for sign, plain in sorted_by(facts, *places, lengths, direct, *further):
        family, table, metric, length, gone, type_, nexthops, src, mtu, dev, onlink = sign
        if type_ != "unicast" or not (nexthops is src is mtu is None) or dev is None:
            continue
        cut = -1 - len(length)
        values = pack_ips([fact[0][2][2][:cut] for fact in plain])
        ways = [] if gone else pack_ips([fact[1]["gateway"] for fact in plain])
        group = ("route", plain[0][0][1], dev, family, table, length, metric, onlink)
        expected.add(group, map(add, values, ways) if ways else values, plain)


_FURTHER: Final = ("type", "nexthops", "src", "mtu", "dev", "onlink")


def origin(protocol: int) -> str:
    """Who put it there, by RTPROT_*."""
    return TAGGED if protocol == PROTOCOL else STATIC if protocol in _BY_HAND else FOREIGN


def _u32(found: Mapping[int, bytes], nla: int, default: int) -> int:
    data = found.get(nla, b"")
    return int(U32.unpack(data)) if len(data) == 4 else default


def _decode_gateway(found: Mapping[int, bytes]) -> str | None:
    if len(gateway := found.get(RTA_GATEWAY, b"")) in (4, 16):
        return unpack_ip(gateway)
    if len(via := found.get(RTA_VIA, b"")) in (6, 18):
        return unpack_ip(via[2:])
    return None


def _decode_way(found: Mapping[int, bytes], flags: int, view: View) -> dict[str, Any] | None:
    """The attributes that say where a route leads; None where it leads out of a link that is not there (any more)."""
    attrs: dict[str, Any] = {"gateway": None, "dev": None, "nexthops": None, "onlink": bool(flags & RTNH_F_ONLINK)}
    if nhid := _u32(found, RTA_NH_ID, 0):
        attrs["nhid"] = nhid
    if RTA_MULTIPATH in found:
        attrs["nexthops"] = tuple(_decode_next_hops(found[RTA_MULTIPATH], view))
        attrs["onlink"] = False
        return attrs
    attrs["gateway"] = _decode_gateway(found)
    if index := _u32(found, RTA_OIF, 0):
        attrs["dev"] = view.ifname(index)
        if attrs["dev"] is None:
            return None
    return attrs


def _decode_encap(found: Mapping[int, bytes]) -> tuple[str, ...]:
    if encap.RTA_ENCAP not in found:
        return ()
    return (encap.decode(found.get(encap.RTA_ENCAP_TYPE, b""), found[encap.RTA_ENCAP]),)


def _decode_next_hops(data: bytes, view: View) -> Iterator[NextHop]:
    offset = 0
    while offset + RTNEXTHOP.size <= len(data):
        size, flags, hops, index = RTNEXTHOP.unpack_from(data, offset)
        if size < RTNEXTHOP.size or offset + size > len(data):
            return
        found = attributes(data, offset + RTNEXTHOP.size, offset + size)
        yield _decode_gateway(found), view.ifname(index), hops + 1, bool(flags & RTNH_F_ONLINK), *_decode_encap(found)
        offset += (size + 3) & ~3


def compare(desired: Fact, live: Fact) -> tuple[str, ...]:
    """The attributes that differ; the order of next hops is no difference. What is not stated of `RARE` is not to be."""
    stated = desired.attrs
    differing = but_for_rare(RARE, desired, live)
    if stated.get("nhid"):  # the way is its nexthop's
        return tuple(name for name in differing if name not in WAY)
    if "nexthops" in differing and _same_hops(desired.attrs["nexthops"] or (), live.attrs["nexthops"] or ()):
        return tuple(name for name in differing if name != "nexthops")
    return differing


def _same_hops(desired: Iterable[NextHop], live: Iterable[NextHop]) -> bool:
    """Whether these are the same next hops, where a device that is not stated is the kernel's to find."""
    left = list(live)
    for hop in desired:
        same = [h for h in left if h == hop or (hop[1] is None and (h[0], *h[2:]) == (hop[0], *hop[2:]))]
        if not same:
            return False
        left.remove(same[0])
    return not left


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    """The links that it leads out of, its source address, and what makes its gateways reachable."""
    needed = list(links_of(fact))
    attrs, ns = fact.attrs, fact.ref.ns
    if attrs.get("nhid"):
        needed.append(Ref("nexthop", ns, (attrs["nhid"],)))
    if attrs.get("src"):
        needed += _owners(attrs["src"], desired.within(ns, "address"))
    hops = attrs.get("nexthops") or ((attrs.get("gateway"), attrs.get("dev"), 1, attrs.get("onlink")),)
    for gateway, dev, _, onlink, *_ in hops:
        if gateway and not onlink:
            needed += reaching(fact, gateway, dev, desired)
        elif gateway and dev:  # the kernel wants the family to be alive on the link
            needed += [f.ref for f in desired.on(link(ns, dev), "address")]
    return dict.fromkeys(needed)


def _owners(ip: str, addresses: Iterable[Fact]) -> Iterator[Ref]:
    return (fact.ref for fact in addresses if fact.ref.key[1].partition("/")[0] == ip)


def reaching(fact: Fact, gateway: str, dev: str | None, desired: DesiredView) -> Iterator[Ref]:
    """Addresses and direct routes (of the same namespace, on `dev` where it is stated) that the gateway is within."""
    ns = fact.ref.ns
    for other in desired.near(ns, dev, _spans):
        if other.ref.kind == "address":
            reaches = _within(gateway, other.attrs.get("_peer") or other.ref.key[1], other.ref.key[1])
        else:
            reaches = other.ref != fact.ref and _within(gateway, *other.ref.key[2:3] * 2)
        if reaches:
            yield other.ref


def _spans(fact: Fact) -> bool:
    """Whether a gateway can be within this: an address, or a direct route."""
    kind, attrs = fact.ref.kind, fact.attrs
    return kind == "address" or (
        kind == "route" and attrs["type"] == "unicast" and not any(map(attrs.get, ("gateway", "nexthops", "nhid")))
    )


def _within(ip: str, base: str, prefix: str) -> bool:
    """Whether `ip` is in the network of `base`, whose length `prefix` has behind its slash."""
    length = int(prefix.partition("/")[2])
    mine, theirs = pack_ip(ip), pack_ip(base.partition("/")[0])
    shift = len(mine) * 8 - length
    return len(mine) == len(theirs) and int.from_bytes(mine, "big") >> shift == int.from_bytes(theirs, "big") >> shift


def describe(fact: Fact) -> str:
    """As ip-route(8) writes what follows the destination."""
    attrs = fact.attrs
    words = [] if attrs.get("type") == "unicast" else [str(attrs.get("type"))]
    for gateway, dev, weight, onlink, *wrapped in attrs.get("nexthops") or ():
        hop = (
            "nexthop",
            *(f"encap {one}" for one in wrapped),
            gateway and f"via {gateway}",
            dev and f"dev {dev}",
            f"weight {weight}",
            onlink and "onlink",
        )
        words += [word for word in hop if word]
    words += [f"{word} {attrs[name]}" for name, word in _WORDS.items() if attrs.get(name)]
    words += [f"{name} {_text(name, attrs[name])}" for name in attrs if name in RARE and attrs[name]]
    return " ".join(words + ["onlink"] * bool(attrs.get("onlink")))


def _text(name: str, value: Any) -> str:
    if name == "realms":
        return realms_text(value)
    return " ".join(value) if isinstance(value, tuple) else str(value)


_WORDS: Final = {"gateway": "via", "dev": "dev", "src": "src"}

ROUTE: Final = Kind(
    "route",
    encode,
    decode,
    requires,
    compare,
    describe=describe,
    decode_alike=decode_alike,
    literal=True,
    expect=expect,
)
