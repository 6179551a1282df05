"""Addresses, routes, rules, neighbours and FDB entries: bytes and facts against pyroute2's message classes."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from topo.changes import AGAIN, CREATE, DELETE, UPDATE, Change, Op, Rtnl
from topo.facts import FOREIGN, PROTOCOL, STATIC, TAGGED, Fact, Live, Ref, link
from topo.kinds import encap
from topo.kinds.address import ADDRESS, deleted_first, flushed
from topo.kinds.fdb import FDB, FLOOD
from topo.kinds.kind import Kind
from topo.kinds.neighbour import NEIGHBOUR
from topo.kinds.nexthop import NEXTHOP
from topo.kinds.route import NOWHERE, ROUTE, TYPES, of_tos
from topo.kinds.rule import ACTIONS, RULE, key, selector
from topo.kinds.sysctl import SYSCTL
from topo.planning.compare import View as DesiredFacts
from topo.wire import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLMSGHDR, attr, attributes

INDEXES = {"eth0": 3, "eth1": 258, "lo": 1}
NAMES = {index: name for name, index in INDEXES.items()}
NS = "web"


class Indexes:
    """The links of a namespace, for encoding and decoding."""

    ns, mark = NS, 0

    def index(self, ns: str, ifname: str) -> int:
        return INDEXES[ifname]

    def ifname(self, index: int) -> str | None:
        return NAMES.get(index)


LINKS: Any = Indexes()


def fact(kind: str, key_: tuple[Any, ...], /, _origin: str = "own", **attrs: Any) -> Fact:
    return Fact(Ref(kind, NS, key_), attrs, _origin)


def encoded(kind: Kind, verb: str, subject: Fact, *attrs: str, old: Fact | None = None) -> Rtnl:
    new = None if verb == DELETE else subject
    (request,) = kind.encode(Op(verb, subject.ref, new, subject if verb == DELETE else old, attrs), LINKS)
    assert isinstance(request, Rtnl) and request.ns == NS
    return request


def decoded(kind: Kind, body: bytes, number: int = 0) -> list[Fact]:
    """With other bytes around it, as in a buffer of many messages."""
    return list(kind.decode(number, b"\xaa" * 16 + body + b"\x55" * 8, 16, 16 + len(body), LINKS))


def oracle(message: nlmsg, attrs: list[tuple[str, Any]], **header: Any) -> bytes:
    for name, value in header.items():
        message[name] = value
    message["attrs"] = [[name, value] for name, value in attrs if value is not None]
    message.encode()
    return bytes(message.data[16:])


def parsed(kind: type[nlmsg], body: bytes) -> nlmsg:
    message = kind(NLMSGHDR.pack(16 + len(body), 0, 0, 0, 0) + body)
    message.decode()
    return message


devices = st.sampled_from(["eth0", "eth1"])
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).map(str).filter(lambda ip: not ip.startswith("::ffff:"))
macs = st.binary(min_size=6, max_size=6).map(lambda b: bytes([b[0] & 0xFE | 2, *b[1:]]).hex(":"))
u32 = st.integers(1, 0xFFFFFFFE)


@st.composite
def addresses(draw: st.DrawFn) -> Fact:
    ip = draw(ipv4 | ipv6)
    length = draw(st.integers(0, 128 if ":" in ip else 32))
    key = (draw(devices), f"{ip}/{length}")
    return fact("address", key, nodad=True) if ":" in ip and draw(st.booleans()) else fact("address", key)


@given(addresses(), st.sampled_from([CREATE, UPDATE, DELETE, AGAIN]))
def test_address_bytes(wanted: Fact, verb: str) -> None:
    ip, _, length = wanted.ref.key[1].partition("/")
    v4, making = ":" not in ip, verb != DELETE
    request = encoded(ADDRESS, CREATE, wanted, AGAIN) if verb == AGAIN else encoded(ADDRESS, verb, wanted)
    assert request.body == oracle(
        ifaddrmsg(),
        [
            ("IFA_LOCAL", ip if v4 else None),
            ("IFA_ADDRESS", ip),
            ("IFA_RT_PRIORITY", 256 if verb == UPDATE and not v4 else None),  # what it has where none is stated
            ("IFA_PROTO", PROTOCOL if making else None),
        ],
        family=2 if v4 else 10,
        prefixlen=int(length),
        flags=2 if making and wanted.attrs.get("nodad") else 0,
        scope=254 if making and ip.startswith("127.") else 0,
        index=INDEXES[wanted.ref.key[0]],
    )
    flags = {CREATE: NLM_F_CREATE | NLM_F_EXCL, DELETE: 0}.get(verb, NLM_F_CREATE | NLM_F_REPLACE)
    assert (request.type, request.flags) == (21 if verb == DELETE else 20, flags)


@given(addresses())
def test_address_read_back(wanted: Fact) -> None:
    (live,) = decoded(ADDRESS, encoded(ADDRESS, CREATE, wanted).body)
    assert live.ref == wanted.ref and live.origin == TAGGED
    assert ADDRESS.compare(wanted, live) == ()


@given(
    st.sampled_from([4, 6]),
    st.data(),
    st.integers(0, 0xFFF),
    st.sampled_from([None, 0, 1, 2, 3, 4, PROTOCOL, 200]),
    st.tuples(u32, u32),
)
def test_address_decoding_agrees(
    version: int, data: st.DataObject, flags: int, protocol: int | None, lifetime: tuple[int, int]
) -> None:
    ips = ipv4 if version == 4 else ipv6
    local, far = data.draw(ips), data.draw(ips)
    body = oracle(
        ifaddrmsg(),
        [
            ("IFA_ADDRESS", far),
            ("IFA_LOCAL", local),
            ("IFA_BROADCAST", "10.255.255.255" if version == 4 else None),
            ("IFA_LABEL", "eth0:x"),
            ("IFA_CACHEINFO", {"ifa_preferred": lifetime[0], "ifa_valid": lifetime[1], "cstamp": 1, "tstamp": 2}),
            ("IFA_FLAGS", flags),
            ("IFA_PROTO", protocol),
        ],
        family=2 if version == 4 else 10,
        prefixlen=24,
        flags=flags & 0xFF,
        scope=0,
        index=3,
    )
    (live,) = decoded(ADDRESS, body)
    message = parsed(ifaddrmsg, body)
    assert live.ref.key[:2] == ("eth0", f"{message.get_attr('IFA_LOCAL')}/{message['prefixlen']}")
    assert live.attrs.get("_peer", message.get_attr("IFA_LOCAL")) == message.get_attr("IFA_ADDRESS")
    assert live.attrs["_protocol"] == (message.get_attr("IFA_PROTO") or 0)
    assert live.attrs["_flags"] == message.get_attr("IFA_FLAGS") & 0x712
    if not flags & 0x80:
        info = message.get_attr("IFA_CACHEINFO")
        preferred = 0 if flags & 0x20 else info["ifa_preferred"]  # deprecated
        assert live.attrs["_lifetime"] == (preferred, info["ifa_valid"])
    if version == 4:
        assert live.attrs["_broadcast"] == message.get_attr("IFA_BROADCAST")
        assert live.attrs["_label"] == message.get_attr("IFA_LABEL")
    # What was read can be made again, and is then read the same.
    (again,) = decoded(ADDRESS, encoded(ADDRESS, CREATE, live).body)
    stays = {name: value for name, value in live.attrs.items() if name != "_secondary"}
    assert again.ref == live.ref and {k: v for k, v in again.attrs.items() if k != "_secondary"} == stays


@pytest.mark.parametrize(
    ("ifname", "address", "flags", "protocol", "origin"),
    [
        ("eth0", "10.0.0.1/24", 0x80, None, STATIC),
        ("eth0", "10.0.0.1/24", 0x80, PROTOCOL, TAGGED),
        ("eth0", "10.0.0.1/24", 0, None, FOREIGN),  # DHCP: it has a lifetime
        ("lo", "127.0.0.1/8", 0x80, None, FOREIGN),
        ("lo", "::1/128", 0x80, 1, FOREIGN),
        ("lo", "10.0.0.1/32", 0x80, None, STATIC),
        ("eth0", "fe80::1/64", 0x80, None, STATIC),
        ("eth0", "fe80::a0:c9ff:fe01:203/64", 0x80, 3, FOREIGN),
        ("eth0", "fe80::a0:c9ff:fe01:203/64", 0x80, None, FOREIGN),  # before Linux 5.18
        ("eth0", "2001:db8::1/64", 0x180, 2, FOREIGN),  # router advertisement
    ],
)
def test_address_origin(ifname: str, address: str, flags: int, protocol: int | None, origin: str) -> None:
    ip, _, length = address.partition("/")
    v4 = ":" not in ip
    attrs = [("IFA_ADDRESS", ip), ("IFA_LOCAL", ip if v4 else None), ("IFA_FLAGS", flags), ("IFA_PROTO", protocol)]
    body = oracle(
        ifaddrmsg(), attrs, family=2 if v4 else 10, prefixlen=int(length), flags=0, scope=0, index=INDEXES[ifname]
    )
    (live,) = decoded(ADDRESS, body)
    assert (live.ref.key, live.origin) == ((ifname, address), origin)


def address(text: str, ifname: str = "eth0", **attrs: Any) -> Fact:
    return fact("address", (ifname, text), **attrs)


def route(dst: str, /, metric: int | None = None, **attrs: Any) -> Fact:
    family = 6 if ":" in dst else 4
    plain: dict[str, Any] = {"type": "unicast", "gateway": None, "nexthops": None}
    plain |= {"onlink": False, "src": None, "mtu": None}
    return fact(
        "route", (family, 254, dst, (1024 if family == 6 else 0) if metric is None else metric), **plain | attrs
    )


def test_which_goes_first() -> None:
    old = address("10.0.0.1/24")
    assert deleted_first(old, address("10.0.0.2/24"))
    assert deleted_first(address("10.0.0.1/25"), address("10.0.0.127/25"))
    assert not deleted_first(address("10.0.0.1/25"), address("10.0.0.128/25"))
    assert deleted_first(address("10.0.0.1/32", _peer="10.0.0.9"), address("10.0.0.2/32", _peer="10.0.0.9"))
    assert not deleted_first(old, address("10.0.0.2/16"))
    assert not deleted_first(old, address("10.0.1.2/24"))
    assert not deleted_first(old, address("10.0.0.2/24", "eth1"))
    assert not deleted_first(address("fd00::1/64"), address("fd00::2/64"))


def test_what_goes_with_addresses() -> None:
    primary, secondary = address("10.0.0.1/24"), address("10.0.0.9/24", _secondary=True)
    other, elsewhere = address("10.2.0.1/16"), address("10.9.0.1/16", "eth1")
    sixth = address("fd00::1/64")
    via = route("10.50.0.0/16", gateway="10.0.0.2", dev="eth0")
    source = route("10.51.0.0/16", gateway="10.9.0.2", dev="eth1", src="10.0.0.9")
    source6 = route("fd51::/64", gateway="fe80::1", dev="eth1", src="fd00::1")
    stays = route("10.52.0.0/16", gateway="10.9.0.2", dev="eth1")
    facts = (primary, secondary, other, elsewhere, sixth, via, source, source6, stays)
    live = Live({f.ref: f for f in facts})

    def lost(*deleted: Fact, made: tuple[Fact, ...] = ()) -> set[Ref]:
        return set(flushed(deleted, made, live))

    assert lost(primary) == {secondary.ref, source.ref}
    assert lost(secondary) == {source.ref}
    assert lost(other) == set()
    assert lost(sixth) == {source6.ref}
    assert lost(primary, other) == {secondary.ref, source.ref, via.ref}
    assert via.ref not in lost(primary, other, made=(address("10.3.0.1/16"),))
    assert via.ref in lost(primary, other, made=(address("10.0.0.7/24"),))  # it is made only after the deletion
    assert set(ADDRESS.takes(Change(DELETE, primary.ref, None, primary), live)) == {secondary.ref, source.ref}


METRICS: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.integers(1, 0xFFFFFFFF) for name in ("advmss", "hoplimit", "initcwnd", "rtt", "rto_min", "quickack")},
    "congctl": st.sampled_from(["bbr", "cubic"]),
    "features": st.just(("ecn",)),
    "lock": st.sampled_from([("mtu",), ("mtu", "advmss")]),
    "pref": st.sampled_from(["high", "low"]),
    "realms": st.integers(1, 0xFFFFFFFF),
    "_tos": st.sampled_from([4, 16]),
}
RTAX = {"congctl": "CC_ALGO"}


def metrics_oracle(attrs: dict[str, Any]) -> dict[str, Any] | None:
    numbers: dict[str, tuple[int, dict[Any, int]]] = {
        "lock": (1, {("mtu",): 4, ("mtu", "advmss"): 0x104}),
        "features": (12, {("ecn",): 1}),
    }
    words = ("mtu", *(name for name in METRICS if name not in ("pref", "realms", "_tos")))
    order = {"lock": 1, "mtu": 2, "rtt": 4, "advmss": 8, "hoplimit": 10, "initcwnd": 11, "features": 12, "rto_min": 13}
    stated = sorted((n for n in words if attrs.get(n)), key=lambda n: order.get(n, 15 if n == "quickack" else 16))
    plain = [[f"RTAX_{RTAX.get(n, n.upper())}", numbers.get(n, (0, {}))[1].get(attrs[n], attrs[n])] for n in stated]
    return {"attrs": plain} if plain else None


@st.composite
def hops(draw: st.DrawFn, ips: st.SearchStrategy[str]) -> tuple[Any, ...]:
    gateway = draw(st.none() | ips)
    dev = draw(devices if gateway is None else st.none() | devices)
    return gateway, dev, draw(st.integers(1, 256)), draw(st.booleans())


@st.composite
def routes(draw: st.DrawFn) -> Fact:
    version = draw(st.sampled_from([4, 6]))
    ips = ipv4 if version == 4 else ipv6
    length = draw(st.integers(0, 32 if version == 4 else 128))
    dst = str(ipaddress.ip_network((draw(ips), length), strict=False))
    attrs: dict[str, Any] = {"type": draw(st.sampled_from(list(TYPES))), "gateway": None, "nexthops": None}
    attrs |= {
        "onlink": False,
        "src": draw(st.none() | ips),
        "mtu": draw(st.none() | st.integers(68, 65535)),
        "dev": None,
    }
    attrs |= draw(st.fixed_dictionaries({}, optional=METRICS))
    if attrs["type"] not in NOWHERE:
        gateways = ips if version == 6 else ipv4 | ipv6
        if draw(st.booleans()):
            attrs["nexthops"] = tuple(draw(st.lists(hops(gateways), min_size=1, max_size=4)))
        else:
            attrs["gateway"], attrs["dev"], _, attrs["onlink"] = draw(hops(gateways))
    metric = draw(st.just(0) | u32)
    return fact("route", (version, draw(st.integers(1, 255) | u32), dst, metric), **attrs)


def via(version: int, gateway: str | None) -> list[tuple[str, Any]]:
    if gateway is None:
        return []
    if (version == 6) == (":" in gateway):
        return [("RTA_GATEWAY", gateway)]
    return [("RTA_VIA", {"family": 10, "addr": gateway})]


def route_oracle(wanted: Fact, verb: str) -> bytes:
    version, table, dst, metric = wanted.ref.key
    attrs = wanted.attrs
    network, _, length = dst.partition("/")
    nested = [
        {"oif": INDEXES.get(d or "", 0), "flags": 4 * o, "hops": w - 1, "attrs": [list(a) for a in via(version, g)]}
        for g, d, w, o in attrs["nexthops"] or ()
    ]
    direct = attrs["type"] in ("broadcast", "anycast", "multicast") or (
        attrs["type"] == "unicast" and not attrs["gateway"] and not nested
    )
    scope = 255 if verb == DELETE else 254 if attrs["type"] == "local" else 253 if direct else 0
    return oracle(
        rtmsg(),
        [
            ("RTA_DST", network if int(length) else None),
            ("RTA_PRIORITY", metric or None),
            ("RTA_TABLE", table if table > 255 else None),
            ("RTA_MULTIPATH", nested or None),
            *via(version, attrs["gateway"]),
            ("RTA_OIF", INDEXES.get(attrs["dev"] or "")),
            ("RTA_PREFSRC", None if verb == DELETE else attrs["src"]),
            ("RTA_METRICS", None if verb == DELETE else metrics_oracle(attrs)),
            ("RTA_PREF", None if verb == DELETE else {"high": 1, "low": 3}.get(attrs.get("pref", ""))),
            ("RTA_FLOW", None if verb == DELETE else attrs.get("realms")),
        ],
        family=2 if version == 4 else 10,
        dst_len=int(length),
        src_len=0,
        tos=attrs.get("_tos", 0),
        table=table if table < 256 else 252,
        proto=PROTOCOL,
        scope=scope if version == 4 else 0,
        type=TYPES[attrs["type"]],
        flags=4 if attrs["onlink"] else 0,
    )


@given(routes(), st.sampled_from([CREATE, UPDATE, DELETE]))
def test_route_bytes(wanted: Fact, verb: str) -> None:
    request = encoded(ROUTE, verb, wanted)
    assert request.body == route_oracle(wanted, verb)
    flags = {CREATE: NLM_F_CREATE | NLM_F_EXCL, UPDATE: NLM_F_CREATE | NLM_F_REPLACE, DELETE: 0}
    assert (request.type, request.flags) == (25 if verb == DELETE else 24, flags[verb])
    assert encoded(ROUTE, CREATE, wanted, AGAIN).flags == NLM_F_CREATE | NLM_F_REPLACE


@given(routes())
def test_route_read_back(wanted: Fact) -> None:
    body = encoded(ROUTE, CREATE, wanted).body
    (live,) = decoded(ROUTE, body)
    assert live.ref[:2] == wanted.ref[:2] and live.origin == TAGGED
    assert live.ref.key == (*wanted.ref.key, *of_tos(wanted.attrs.get("_tos", 0)))
    assert ROUTE.compare(wanted, live) == ()
    message = parsed(rtmsg, body)
    assert live.attrs["gateway"] == (message.get_attr("RTA_GATEWAY") or (message.get_attr("RTA_VIA") or {}).get("addr"))
    assert live.attrs["src"] == message.get_attr("RTA_PREFSRC")
    assert live.attrs["dev"] == NAMES.get(message.get_attr("RTA_OIF"))
    read = [(h["oif"], h["hops"] + 1, bool(h["flags"] & 4)) for h in message.get_attr("RTA_MULTIPATH") or ()]
    assert [(INDEXES.get(d or "", 0), w, o) for _, d, w, o in live.attrs["nexthops"] or ()] == read


@given(routes(), routes())
def test_route_differences_are_seen(one: Fact, other: Fact) -> None:
    (live,) = decoded(ROUTE, encoded(ROUTE, CREATE, one).body)
    differing = ROUTE.compare(Fact(one.ref, other.attrs), live)
    names = {*one.attrs, *other.attrs} - {"nexthops", "_tos"}
    assert set(differing) - {"nexthops"} == {n for n in names if other.attrs.get(n) != one.attrs.get(n)}
    assert not differing or not other.attrs.items() <= live.attrs.items(), "the quick way passes over none of them"
    if len(other.attrs["nexthops"] or ()) != len(one.attrs["nexthops"] or ()):
        assert "nexthops" in differing


def test_route_order_of_next_hops_is_no_difference() -> None:
    first, second = ("10.0.0.2", "eth0", 1, False), ("10.1.0.2", "eth1", 2, False)
    one, other = route("10.5.0.0/16", nexthops=(first, second)), route("10.5.0.0/16", nexthops=(second, first))
    assert ROUTE.compare(one, other) == ()
    assert ROUTE.compare(route("10.5.0.0/16", nexthops=(first, first)), one) == ("nexthops",)
    found = route("10.5.0.0/16", nexthops=(("10.0.0.2", None, 1, False), second))
    assert ROUTE.compare(found, one) == ()
    assert ROUTE.compare(route("10.5.0.0/16", nexthops=(first,)), one) == ("nexthops",)


@pytest.mark.parametrize(
    ("header", "origin"),
    [
        ({"proto": 2}, None),
        ({"proto": 9}, None),
        ({"proto": 3}, STATIC),
        ({"proto": 4}, STATIC),
        ({"proto": 11}, FOREIGN),
        ({"proto": 186}, FOREIGN),
        ({"proto": PROTOCOL}, TAGGED),
        ({"proto": 3, "type": 2}, STATIC),  # local
        ({"proto": 3, "type": 10}, None),  # NAT
        ({"proto": 3, "flags": 0x200}, None),  # a cache entry
        ({"proto": 3, "flags": 0x10}, STATIC),  # linkdown
        ({"proto": 3, "family": 28}, None),  # MPLS
    ],
)
def test_route_origin(header: dict[str, int], origin: str | None) -> None:
    plain = {"family": 2, "dst_len": 24, "src_len": 0, "tos": 0, "table": 254, "scope": 0, "type": 1, "flags": 0}
    body = oracle(rtmsg(), [("RTA_DST", "10.1.2.0"), ("RTA_OIF", 3)], **{**plain, **header, "family": 2})
    body = bytes([header.get("family", 2)]) + body[1:]
    assert [live.origin for live in decoded(ROUTE, body)] == ([origin] if origin else [])


def test_route_of_others_comes_back_as_it_was() -> None:
    body = oracle(
        rtmsg(),
        [
            ("RTA_DST", "10.1.2.0"),
            ("RTA_METRICS", {"attrs": [["RTAX_MTU", 1400], ["RTAX_ADVMSS", 1000]]}),
            ("RTA_OIF", 258),
        ],
        family=2, dst_len=24, src_len=0, tos=16, table=254, proto=186, scope=253, type=1, flags=0,
    )  # fmt: skip
    (live,) = decoded(ROUTE, body)
    assert live.ref.key == (4, 254, "10.1.2.0/24", 0, "tos 0x10") and live.attrs["mtu"] == 1400
    again = encoded(ROUTE, CREATE, live).body
    assert list(decoded(ROUTE, again)) == [live] and again[:12] == body[:12]


def test_route_requirements() -> None:
    near, far = address("10.0.0.1/24"), address("10.9.0.1/24", "eth1")
    host = route("192.0.2.1/32", dev="eth0")
    desired = DesiredFacts({f.ref: f for f in (near, far, host)})
    eth0 = link(NS, "eth0")

    def needs(wanted: Fact) -> set[Ref]:
        return set(ROUTE.requires(wanted, desired))

    assert needs(route("0.0.0.0/0", gateway="10.0.0.2", dev="eth0")) == {eth0, near.ref}
    assert needs(route("0.0.0.0/0", gateway="10.0.0.2")) == {near.ref}
    assert needs(route("0.0.0.0/0", gateway="192.0.2.1", dev="eth0")) == {eth0, host.ref}
    assert needs(route("0.0.0.0/0", gateway="10.0.0.2", dev="eth0", src="10.9.0.1")) == {eth0, near.ref, far.ref}
    assert needs(host) == {eth0}
    assert needs(route("10.5.0.0/16", nexthops=(("10.0.0.2", None, 1, False), ("10.9.0.2", "eth1", 1, False)))) == {
        link(NS, "eth1"),
        near.ref,
        far.ref,
    }
    assert needs(route("10.5.0.0/16", type="blackhole")) == set()


ranges = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(lambda pair: tuple(sorted(pair)))


@st.composite
def rules(draw: st.DrawFn) -> Fact:
    version = draw(st.sampled_from([4, 6]))
    ips = ipv4 if version == 4 else ipv6
    attrs: dict[str, Any] = {"action": draw(st.sampled_from(list(ACTIONS)))}
    if attrs["action"] == "to_table":
        attrs |= draw(st.fixed_dictionaries({"table": st.integers(1, 255) | u32}) | st.just({"l3mdev": True}))
    elif attrs["action"] == "goto":
        attrs["goto"] = draw(u32)
    for side in draw(st.sets(st.sampled_from(["from", "to"]))):
        length = draw(st.integers(1, 32 if version == 4 else 128))
        attrs[side] = str(ipaddress.ip_network((draw(ips), length), strict=False))
    plain = {"iif": devices, "oif": devices, "uidrange": st.tuples(u32, u32), "ipproto": st.integers(1, 255)}
    plain |= {"sport": ranges, "dport": ranges, "suppress_prefixlength": st.integers(0, 128), "tos": st.just(16)}
    plain |= {"tun_id": st.integers(1, 0xFFFFFFFFFFFFFFFF), "suppress_ifgroup": st.integers(0, 0x7FFFFFFF)}
    plain |= {"invert": st.just(True), "fwmark": st.integers(0, 0xFFFFFFFF)}
    for name in draw(st.sets(st.sampled_from(list(plain)))):
        attrs[name] = draw(plain[name])
    if "fwmark" in attrs and draw(st.booleans()):
        attrs["fwmask"] = draw(u32)
    return fact("rule", key(version, draw(st.integers(0, 0xFFFFFFFF)), attrs), **attrs)


@given(rules(), st.sampled_from([CREATE, DELETE]))
def test_rule_bytes(wanted: Fact, verb: str) -> None:
    version, priority, _ = wanted.ref.key
    attrs = wanted.attrs
    table = attrs.get("table", 0)
    text = {name: f"{attrs[name][0]}:{attrs[name][1]}" for name in ("uidrange", "sport", "dport") if name in attrs}
    request = encoded(RULE, verb, wanted)
    source, target = (attrs.get(side, "/0").split("/") for side in ("from", "to"))
    assert request.body == oracle(
        fibmsg(),
        [
            ("FRA_PRIORITY", priority),
            ("FRA_SRC", source[0] or None),
            ("FRA_DST", target[0] or None),
            ("FRA_FWMARK", attrs.get("fwmark")),
            ("FRA_FWMASK", attrs.get("fwmask", 0xFFFFFFFF) if "fwmark" in attrs else None),
            ("FRA_IIFNAME", attrs.get("iif")),
            ("FRA_OIFNAME", attrs.get("oif")),
            ("FRA_UID_RANGE", text.get("uidrange")),
            ("FRA_IP_PROTO", attrs.get("ipproto")),
            ("FRA_SPORT_RANGE", text.get("sport")),
            ("FRA_DPORT_RANGE", text.get("dport")),
            ("FRA_TUN_ID", attrs.get("tun_id")),
            ("FRA_SUPPRESS_PREFIXLEN", attrs.get("suppress_prefixlength")),
            ("FRA_SUPPRESS_IFGROUP", attrs.get("suppress_ifgroup")),
            ("FRA_GOTO", attrs.get("goto")),
            ("FRA_L3MDEV", attrs.get("l3mdev") and 1),
            ("FRA_PROTOCOL", PROTOCOL),
            ("FRA_TABLE", table if table > 255 else None),
        ],
        family=2 if version == 4 else 10,
        dst_len=int(target[1]),
        src_len=int(source[1]),
        tos=attrs.get("tos", 0),
        table=table if table < 256 else 0,
        action=ACTIONS[attrs["action"]],
        flags=2 if attrs.get("invert") else 0,
    )
    assert (request.type, request.flags) == ((33, 0) if verb == DELETE else (32, NLM_F_CREATE | NLM_F_EXCL))


@given(rules())
def test_rule_read_back(wanted: Fact) -> None:
    body = encoded(RULE, CREATE, wanted).body
    (live,) = decoded(RULE, body)
    assert live.ref == wanted.ref and live.origin == TAGGED
    message = parsed(fibmsg, body)
    assert live.attrs.get("iif") == message.get_attr("FRA_IIFNAME")
    assert live.attrs.get("ipproto") == message.get_attr("FRA_IP_PROTO")
    ports = live.attrs.get("dport")
    assert (ports and f"{ports[0]}:{ports[1]}") == message.get_attr("FRA_DPORT_RANGE")


def test_rule_masks() -> None:
    """Numbers of linux/fib_rules.h that pyroute2 does not know; a flow label's mask always goes with it."""
    attrs: dict[str, Any] = {
        "action": "nop",
        "dscp": 8,
        "dscp_mask": 0x38,
        "sport": (7, 7),
        "sport_mask": 0xF,
        "flowlabel": 0x12345,
    }
    body = encoded(RULE, CREATE, fact("rule", key(6, 5, attrs), **attrs)).body
    for nla, data in ((30, b"\x38"), (28, b"\x0f\x00"), (26, b"\x00\x01\x23\x45"), (27, b"\x00\x0f\xff\xff")):
        assert attributes(body, 12)[nla] == data
    (live,) = decoded(RULE, body)
    assert live.ref.key == (6, 5, "from all sport 7/0xf dscp 8/0x38 flowlabel 0x12345 nop")
    (cut,) = decoded(RULE, body[:12] + attr(28, b"\xff") + attr(27, b"\xff"))
    assert cut.attrs == {"action": "nop", "_protocol": 0}, "a mask that is too short is none"


@given(rules(), rules())
def test_rule_selectors_tell_rules_apart(one: Fact, other: Fact) -> None:
    encode_both = [encoded(RULE, CREATE, Fact(Ref("rule", NS, (4, 1, "")), f.attrs)).body[12:] for f in (one, other)]
    headers = [f.attrs.get(name) for name in ("tos", "invert", "table", "action", "from", "to") for f in (one, other)]
    same = encode_both[0] == encode_both[1] and headers[::2] == headers[1::2]
    assert (selector(one.attrs) == selector(other.attrs)) == same


def test_rule_canonical() -> None:
    assert selector({"action": "to_table"}) == selector({"action": "to_table", "table": 254, "from": "0.0.0.0/0"})
    whole = {"action": "prohibit", "fwmark": 5, "fwmask": 0xFFFFFFFF}
    assert selector(whole) == "from all fwmark 0x5 prohibit"
    assert selector({"action": "nop", "flowlabel": 7, "flowlabel_mask": 255}) == "from all flowlabel 0x7/0xff nop"
    assert selector({"action": "blackhole", "to": "10.0.0.0/8", "invert": True, "dport": (80, 80)}) == (
        "not from all to 10.0.0.0/8 dport 80 blackhole"
    )


@pytest.mark.parametrize(
    ("protocol", "origin"), [(None, STATIC), (3, STATIC), (2, FOREIGN), (11, FOREIGN), (116, TAGGED)]
)
def test_rule_of_the_kernel_and_of_others(protocol: int | None, origin: str) -> None:
    body = oracle(
        fibmsg(),
        [
            ("FRA_TABLE", 254),
            ("FRA_SUPPRESS_PREFIXLEN", 0xFFFFFFFF),
            ("FRA_PRIORITY", 32766),
            ("FRA_PROTOCOL", protocol),
            ("FRA_SUPPRESS_IFGROUP", 7),
            ("FRA_FLOW", 7),
        ],
        family=2, dst_len=0, src_len=0, tos=0, table=254, action=1, flags=0,
    )  # fmt: skip
    (live,) = decoded(RULE, body)
    assert live.ref.key == (4, 32766, "from all suppress_ifgroup 7 realms 7 lookup 254") and live.origin == origin
    (again,) = decoded(RULE, encoded(RULE, CREATE, live).body)
    assert again == live


@given(devices, ipv4 | ipv6, macs, st.sampled_from([CREATE, UPDATE, DELETE]))
def test_neighbour(ifname: str, ip: str, mac: str, verb: str) -> None:
    wanted = fact("neighbour", (ifname, ip), lladdr=mac)
    request = encoded(NEIGHBOUR, verb, wanted)
    making = verb != DELETE
    assert request.body == oracle(
        ndmsg(),
        [
            ("NDA_DST", ip),
            ("NDA_LLADDR", mac if making else None),
            ("NDA_PROTOCOL", PROTOCOL if making else None),
        ],
        family=10 if ":" in ip else 2,
        ifindex=INDEXES[ifname],
        state=0x80 if making else 0,
        flags=0,
        ndm_type=0,
    )
    assert (request.type, request.flags) == ((28, NLM_F_CREATE | NLM_F_REPLACE) if making else (29, 0))
    if making:
        (live,) = decoded(NEIGHBOUR, request.body)
        assert live.ref == wanted.ref and live.origin == TAGGED and NEIGHBOUR.compare(wanted, live) == ()
        message = parsed(ndmsg, request.body)
        assert (live.ref.key[1], live.attrs["lladdr"]) == (message.get_attr("NDA_DST"), message.get_attr("NDA_LLADDR"))


@pytest.mark.parametrize(
    ("state", "flags", "protocol", "origin"),
    [
        (0x80, 0, None, STATIC),
        (0x80, 0x80, None, STATIC),  # a router
        (0x80, 0x10, None, FOREIGN),  # learned by a daemon
        (0x80, 0, 186, FOREIGN),
        (0x80, 0x08, None, None),  # proxied
        (0x40, 0, None, None),  # the kernel's own
        (0x02, 0, None, None),
    ],
)
def test_neighbour_origin(state: int, flags: int, protocol: int | None, origin: str | None) -> None:
    attrs = [("NDA_DST", "10.0.0.5"), ("NDA_LLADDR", "02:00:00:00:00:01"), ("NDA_PROTOCOL", protocol)]
    body = oracle(ndmsg(), attrs, family=2, ifindex=3, state=state, flags=flags, ndm_type=1)
    assert [live.origin for live in decoded(NEIGHBOUR, body)] == ([origin] if origin else [])


@st.composite
def vxlan_entries(draw: st.DrawFn) -> Fact:
    dst = draw(ipv4 | ipv6)
    mac = draw(st.just(FLOOD) | macs)
    attrs: dict[str, Any] = {"dst": dst}
    attrs |= draw(st.fixed_dictionaries({}, optional={"vni": st.integers(1, 0xFFFFFF), "port": st.integers(1, 65535)}))
    return fact("fdb", (draw(devices), mac, dst if mac == FLOOD else ""), **attrs)


def fdb_oracle(entry: Fact) -> bytes:
    attrs = entry.attrs
    return oracle(
        ndmsg(),
        [
            ("NDA_LLADDR", entry.ref.key[1]),
            ("NDA_DST", attrs["dst"]),
            ("NDA_PORT", attrs.get("port")),
            ("NDA_VNI", attrs.get("vni")),
        ],
        family=7,
        ifindex=INDEXES[entry.ref.key[0]],
        state=0xC0,
        flags=2,
        ndm_type=0,
    )


@given(vxlan_entries(), st.sampled_from([CREATE, DELETE]))
def test_fdb_of_vxlan(wanted: Fact, verb: str) -> None:
    request = encoded(FDB, verb, wanted)
    assert request.body == fdb_oracle(wanted)
    how = NLM_F_APPEND if wanted.ref.key[1] == FLOOD else NLM_F_REPLACE
    assert (request.type, request.flags) == ((29, 0) if verb == DELETE else (28, NLM_F_CREATE | how))
    (live,) = decoded(FDB, request.body)
    assert live.ref == wanted.ref and FDB.compare(wanted, live) == ()
    message = parsed(ndmsg, request.body)
    assert (live.attrs.get("port"), live.attrs.get("vni")) == (
        message.get_attr("NDA_PORT"),
        message.get_attr("NDA_VNI"),
    )


@given(vxlan_entries(), vxlan_entries())
def test_fdb_update(old: Fact, new: Fact) -> None:
    new = Fact(old.ref, {**new.attrs, "dst": old.attrs["dst"]} if old.ref.key[1] == FLOOD else new.attrs)
    requests = FDB.encode(Op(UPDATE, new.ref, new, old, FDB.compare(new, old)), LINKS)
    made = Rtnl(NS, 28, NLM_F_CREATE | NLM_F_REPLACE, fdb_oracle(new))
    if old.ref.key[1] == FLOOD:  # flood entries stand side by side: there is no gap between the two
        assert requests == [made._replace(flags=NLM_F_CREATE | NLM_F_APPEND), Rtnl(NS, 29, 0, fdb_oracle(old))]
    else:
        assert requests == [made]


@pytest.mark.parametrize(
    ("mac", "dst", "state", "flags", "master", "key_", "origin"),
    [
        ("02:00:00:00:00:01", "10.0.0.2", 0xC0, 0x02, None, "", STATIC),
        ("02:00:00:00:00:01", "10.0.0.2", 0x42, 0x02, None, "", STATIC),
        ("02:00:00:00:00:01", "10.0.0.2", 0x02, 0x02, None, None, ""),  # learned
        ("02:00:00:00:00:01", "10.0.0.2", 0xC0, 0x12, None, "", FOREIGN),  # learned by a daemon
        (FLOOD, "10.0.0.2", 0xC0, 0x02, None, "10.0.0.2", STATIC),
        (FLOOD, "239.1.1.1", 0xC0, 0x02, None, "239.1.1.1", FOREIGN),  # the device's own group
        (FLOOD, "ff05::100", 0x82, 0x02, None, "ff05::100", FOREIGN),
        (FLOOD, "10.0.0.2", 0x82, 0x02, None, "10.0.0.2", FOREIGN),  # the device's own remote
        ("02:00:00:00:00:01", None, 0x40, 0, 6, "master", STATIC),
        ("02:00:00:00:00:01", None, 0x80, 0, 6, None, ""),  # a port's own address
        ("02:00:00:00:00:01", None, 0x02, 0, 6, None, ""),  # learned
        ("02:00:00:00:00:01", None, 0x80, 0x02, None, "self", STATIC),
        ("33:33:00:00:00:01", None, 0x80, 0x02, None, None, ""),
    ],
)
def test_fdb_origin(
    mac: str, dst: str | None, state: int, flags: int, master: int | None, key_: str | None, origin: str
) -> None:
    attrs = [("NDA_LLADDR", mac), ("NDA_DST", dst), ("NDA_MASTER", master)]
    body = oracle(ndmsg(), attrs, family=7, ifindex=3, state=state, flags=flags, ndm_type=0)
    found = decoded(FDB, body)
    assert [(live.ref.key, live.origin) for live in found] == ([] if key_ is None else [(("eth0", mac, key_), origin)])
    for live in found:  # what was deleted can be put back
        (again,) = decoded(FDB, encoded(FDB, DELETE, live).body + (b"" if master is None else b"\x08\0\x09\0\6\0\0\0"))
        assert again.ref == live.ref


def test_sysctl() -> None:
    rp_filter = fact("sysctl", ("net/ipv4/conf/eth0/rp_filter",), value="1")
    everywhere = fact("sysctl", ("net/ipv4/conf/all/rp_filter",), value="0")
    forward = fact("sysctl", ("net/ipv4/ip_forward",), value="1")
    device = fact("sysctl", ("net/ipv4/conf/eth0/forwarding",), value="0")
    facts = {f.ref: f for f in (rp_filter, everywhere, forward, device)}
    (write,) = SYSCTL.encode(Op(UPDATE, rp_filter.ref, rp_filter, None), LINKS)
    assert write == (NS, "net/ipv4/conf/eth0/rp_filter", "1", False)
    assert SYSCTL.encode(Op(DELETE, rp_filter.ref, None, rp_filter), LINKS) == []
    default = fact("sysctl", ("net/ipv6/conf/br0/accept_ra",), value="0", optional=True)
    (write,) = SYSCTL.encode(Op(UPDATE, default.ref, default, None), LINKS)
    assert write == (NS, "net/ipv6/conf/br0/accept_ra", "0", True)
    nowhere = Fact(default.ref, {"value": None})
    assert SYSCTL.compare(default, nowhere) == SYSCTL.compare(nowhere, default) == ()
    assert SYSCTL.encode(Op(UPDATE, default.ref, nowhere, default), LINKS) == []
    ports = fact("sysctl", ("net/ipv4/ip_local_port_range",), value="1024 65000")
    assert SYSCTL.compare(ports, Fact(ports.ref, {"value": "1024\t65000\n"})) == ()
    assert SYSCTL.compare(ports, Fact(ports.ref, {"value": "1024\t65001"})) == ("value",)
    assert set(SYSCTL.requires(rp_filter, DesiredFacts(facts))) == {link(NS, "eth0"), everywhere.ref}
    assert set(SYSCTL.requires(device, DesiredFacts(facts))) == {link(NS, "eth0"), forward.ref}
    assert set(SYSCTL.takes(Change(UPDATE, forward.ref, forward, forward), Live(facts))) == {device.ref}
    assert set(SYSCTL.takes(Change(UPDATE, everywhere.ref, everywhere, everywhere), Live(facts))) == {rp_filter.ref}
    assert set(SYSCTL.takes(Change(UPDATE, device.ref, device, device), Live(facts))) == set()


ENCAPS = (
    "mpls 100/200", "mpls 16 ttl 9", "ip id 7 dst 10.0.0.2 ttl 9", "ip6 dst fd00::2 hoplimit 3 tc 4",
    "seg6 mode encap segs fd00::1,fd00::2", "seg6 mode inline segs fd00::1", "seg6local action End",
    "seg6local action End.DT6 table 254", "seg6local action End.DX4 nh4 10.0.0.2", "raw 6 0102",
)  # fmt: skip


@pytest.mark.parametrize("words", ENCAPS)
def test_encapsulations(words: str) -> None:
    """Of a route and of one of its next hops; what is damaged is told as it is."""
    hops = (("10.0.0.2", "eth0", 1, False, words), ("10.1.0.2", "eth1", 2, False))
    for wanted in (route("10.5.0.0/16", dev="eth0", encap=words), route("10.5.0.0/16", nexthops=hops)):
        (live,) = decoded(ROUTE, encoded(ROUTE, CREATE, wanted).body)
        assert ROUTE.compare(wanted, live) == ()
    types, data = (attributes(encap.encode(words))[nla] for nla in (encap.RTA_ENCAP_TYPE, encap.RTA_ENCAP))
    for length in range(len(data)):
        assert encap.decode(types, data[:length])


@given(st.binary(min_size=2, max_size=2), st.binary(max_size=80))
def test_garbage_in_an_encapsulation(types: bytes, data: bytes) -> None:
    assert encap.encode(encap.decode(types, data))


@given(st.binary(max_size=120), st.sampled_from([ADDRESS, NEXTHOP, ROUTE, RULE, NEIGHBOUR, FDB]))
def test_garbage_does_not_raise(body: bytes, kind: Kind) -> None:
    for live in decoded(kind, body):
        assert live.ref.kind == kind.name and live.ref.ns == NS


@given(
    st.sampled_from([(ADDRESS, addresses()), (ROUTE, routes()), (RULE, rules()), (FDB, vxlan_entries())]).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), pair[1])
    ),
    st.data(),
)
def test_damage_does_not_raise(made: tuple[Kind, Fact], data: st.DataObject) -> None:
    kind, wanted = made
    body = bytearray(encoded(kind, CREATE, wanted).body)
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(0, len(body))) :]
    decoded(kind, bytes(body))
