"""The messages of links: pyroute2's message classes are the oracle, for what is built and for what is read."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from topo import wire
from topo.changes import CREATE, DELETE, OWNER, UPDATE, Netns, Op, Rtnl, Tun
from topo.errors import KernelError
from topo.facts import FOREIGN, HOST, OWN, Fact, Ref, link, mark, namespace
from topo.kinds import link_decode, port
from topo.kinds.link import LINK, leads
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.namespace import NAMESPACE
from topo.kinds.port import PORT
from topo.planning.compare import View
from topo.wire import HEADER_SIZE, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, message

MARK = mark("lab")
Attrs = list[tuple[str, Any]]


class Env:
    """The running kernel, as far as encoding asks: every link is there, and the next index is the next number."""

    mark = MARK

    def __init__(self, *facts: Fact) -> None:
        self.facts = {fact.ref: fact for fact in facts}
        self.indexes: dict[tuple[str, str], int] = {}
        self.spaces: dict[str, int] = {}

    def assign(self, ns: str, ifname: str) -> int:
        return self.indexes.setdefault((ns, ifname), 1000 + len(self.indexes))

    index = assign

    def rename(self, ns: str, old: str, new: str) -> None:
        self.indexes[ns, new] = self.indexes.pop((ns, old))

    def netns(self, ns: str) -> int:
        return self.spaces.setdefault(ns, 50 + len(self.spaces))

    def desired(self, ref: Ref) -> Fact | None:
        return self.facts.get(ref)

    def secret(self, name: str) -> bytes:
        return b"\1" * 32


# The oracle


def pyroute2_body(index: int, attrs: Sequence[tuple[str, Any]], up: bool | None = None) -> bytes:
    msg = ifinfmsg()
    msg["index"], msg["flags"], msg["change"] = index, int(bool(up)), int(up is not None)
    msg["attrs"] = [list(pair) for pair in attrs]
    msg.encode()
    return bytes(msg.data[HEADER_SIZE:])


def pyroute2_read(body: bytes) -> Any:
    msg = ifinfmsg(message(RTM_NEWLINK, 0, 1, body))
    msg.decode()
    return msg


def plain(body: bytes) -> bytes:
    """`body` without NLA_F_NESTED, which pyroute2 does not set: every length and all else stays."""
    out = bytearray(body)

    def walk(offset: int, end: int) -> None:
        while offset + 4 <= end:
            size, nla = struct.unpack_from("=HH", out, offset)
            if nla & 0x8000:
                struct.pack_into("=H", out, offset + 2, nla & 0x7FFF)
                walk(offset + 4, offset + size)
            offset += (size + 3) & ~3

    walk(16, len(out))
    return bytes(out)


def info(kind: str, data: Attrs) -> Attrs:
    inner: Attrs = [("IFLA_INFO_KIND", kind)]
    if data:
        inner.append(("IFLA_INFO_DATA", {"attrs": [list(pair) for pair in data]}))
    return [("IFLA_LINKINFO", {"attrs": [list(pair) for pair in inner]})]


NAMES = {
    "bridge": {
        "forward_delay": "IFLA_BR_FORWARD_DELAY",
        "hello_time": "IFLA_BR_HELLO_TIME",
        "max_age": "IFLA_BR_MAX_AGE",
        "ageing": "IFLA_BR_AGEING_TIME",
        "stp": "IFLA_BR_STP_STATE",
        "priority": "IFLA_BR_PRIORITY",
        "vlan_filtering": "IFLA_BR_VLAN_FILTERING",
        "group_fwd_mask": "IFLA_BR_GROUP_FWD_MASK",
        "mcast_snooping": "IFLA_BR_MCAST_SNOOPING",
        "vlan_default_pvid": "IFLA_BR_VLAN_DEFAULT_PVID",
    },
    "vxlan": {
        "id": "IFLA_VXLAN_ID",
        "ttl": "IFLA_VXLAN_TTL",
        "tos": "IFLA_VXLAN_TOS",
        "learning": "IFLA_VXLAN_LEARNING",
        "ageing": "IFLA_VXLAN_AGEING",
        "proxy": "IFLA_VXLAN_PROXY",
        "l2miss": "IFLA_VXLAN_L2MISS",
        "l3miss": "IFLA_VXLAN_L3MISS",
        "port": "IFLA_VXLAN_PORT",
    },
    "macvlan": {"mode": "IFLA_MACVLAN_MODE"},
    "macvtap": {"mode": "IFLA_MACVTAP_MODE"},
    "ifb": {},
}
PORT_NAMES = {
    "priority": "IFLA_BRPORT_PRIORITY",
    "cost": "IFLA_BRPORT_COST",
    "hairpin": "IFLA_BRPORT_MODE",
    "guard": "IFLA_BRPORT_GUARD",
    "root_block": "IFLA_BRPORT_PROTECT",
    "fast_leave": "IFLA_BRPORT_FAST_LEAVE",
    "learning": "IFLA_BRPORT_LEARNING",
    "flood": "IFLA_BRPORT_UNICAST_FLOOD",
    "proxy_arp": "IFLA_BRPORT_PROXYARP",
    "mcast_router": "IFLA_BRPORT_MULTICAST_ROUTER",
    "mcast_flood": "IFLA_BRPORT_MCAST_FLOOD",
    "mcast_to_unicast": "IFLA_BRPORT_MCAST_TO_UCAST",
    "vlan_tunnel": "IFLA_BRPORT_VLAN_TUNNEL",
    "bcast_flood": "IFLA_BRPORT_BCAST_FLOOD",
    "neigh_suppress": "IFLA_BRPORT_NEIGH_SUPPRESS",
    "isolated": "IFLA_BRPORT_ISOLATED",
    "locked": "IFLA_BRPORT_LOCKED",
}


def own_data(fact: Fact, names: Mapping[str, Any], env: Env) -> Attrs:
    """What pyroute2 is told of the kind's own attributes among `names`."""
    found = [
        (nla, int(names[name]) if isinstance(names[name], bool) else names[name])
        for name, nla in NAMES[fact.attrs["kind"]].items()
        if name in names
    ]
    if "dev" in names:
        found.append(("IFLA_VXLAN_LINK", env.index(*names["dev"])))
    for name in ("group", "local"):
        if name in names:
            found.append((f"IFLA_VXLAN_{name.upper()}{6 if ':' in names[name] else ''}", names[name]))
    return found


def settings_of(attrs: Mapping[str, Any]) -> Attrs:
    names = {"mac": "IFLA_ADDRESS", "mtu": "IFLA_MTU", "txqueuelen": "IFLA_TXQLEN"}
    return [(nla, attrs[name]) for name, nla in names.items() if name in attrs]


QUEUES: Attrs = [("IFLA_NUM_TX_QUEUES", 1), ("IFLA_NUM_RX_QUEUES", 1)]


def first(fact: Fact, env: Env, home: str, queues: bool = True) -> Attrs:
    attrs = [
        ("IFLA_IFNAME", fact.ref.key[0]),
        *settings_of(fact.attrs),
        ("IFLA_GROUP", MARK),
        *(QUEUES if queues else []),
    ]
    return attrs + ([("IFLA_NET_NS_FD", env.netns(fact.ref.ns))] if home != fact.ref.ns else [])


def master_of(fact: Fact, env: Env) -> Attrs:
    return [("IFLA_MASTER", env.index(fact.ref.ns, fact.attrs["master"]))] if fact.attrs.get("master") else []


# Facts

NAMESPACES = st.sampled_from([HOST, "web", "db"])
IFNAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.é", min_size=1, max_size=7).filter(
    lambda t: t not in (".", "..")
)
MACS = st.binary(min_size=5, max_size=5).map(lambda b: "02:" + b.hex(":"))
IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.binary(min_size=16, max_size=16).map(lambda b: socket.inet_ntop(socket.AF_INET6, b))
U8, U16, U32 = st.integers(0, 255), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
DEVICES = st.tuples(NAMESPACES, IFNAMES)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "mac": MACS,
    "mtu": st.integers(68, 65535),
    "txqueuelen": st.integers(0, 0x7FFFFFFF),
    "alias": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40),
    "up": st.booleans(),
    "master": st.none() | IFNAMES.map(lambda name: f"B{name}"),  # never one of the links themselves
}
OWN_ATTRS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "bridge": {
        "stp": st.booleans(),
        "mcast_snooping": st.booleans(),
        "priority": U16,
        "group_fwd_mask": U16,
        "vlan_default_pvid": U16,
        **{name: U32 for name in ("forward_delay", "hello_time", "max_age", "ageing")},
    },
    "vxlan": {
        "id": st.integers(0, 0xFFFFFF),
        "port": U16,
        "ttl": U8,
        "tos": U8,
        "ageing": U32,
        "local": IPV4 | IPV6,
        "group": IPV4 | IPV6,
        "dev": DEVICES,
        "created_in": NAMESPACES,
        **{name: st.booleans() for name in ("learning", "proxy", "l2miss", "l3miss")},
    },
    "macvlan": {"mode": st.sampled_from(["private", "vepa", "bridge", "passthru"])},
    "macvtap": {"mode": st.sampled_from(["private", "vepa", "bridge", "passthru"])},
    "ifb": {},
}
PORT_ATTRS = {name: st.booleans() for name in PORT_NAMES} | {
    "cost": st.integers(1, 65535),
    "priority": st.integers(0, 63),
    "mcast_router": st.integers(0, 2),
}


@st.composite
def links(draw: st.DrawFn) -> Fact:
    """A link that one RTM_NEWLINK makes."""
    kind = draw(st.sampled_from(sorted(OWN_ATTRS)))
    needed: dict[str, Any] = {"kind": st.just(kind)}
    if kind in ("macvlan", "macvtap"):
        needed["parent"] = DEVICES
    attrs = draw(st.fixed_dictionaries(needed, optional={**COMMON, **OWN_ATTRS[kind]}))
    return Fact(link(draw(NAMESPACES), draw(IFNAMES)), attrs)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Fact, Fact]:
    """Both ends of a veth pair."""
    a, b = draw(st.tuples(DEVICES, DEVICES).filter(lambda ends: ends[0] != ends[1]))
    settings = st.fixed_dictionaries({"kind": st.just("veth")}, optional=COMMON)
    return (
        Fact(link(*a), {**draw(settings), "peer": b}),
        Fact(link(*b), {**draw(settings), "peer": a}),
    )


def made(requests: Sequence[Any]) -> Iterator[Rtnl]:
    for request in requests:
        yield request() if callable(request) else request


# What is built


@given(links())
def test_making_a_link_has_the_bytes_that_pyroute2_makes(fact: Fact) -> None:
    attrs, env = fact.attrs, Env()
    kind = LINK_KINDS[attrs["kind"]]
    home = attrs["parent"][0] if "parent" in attrs else attrs.get("created_in", fact.ref.ns)
    requests = list(made(LINK.encode(Op(CREATE, fact.ref, fact, None), env)))
    shown = fact
    afterwards: Attrs = []
    if attrs["kind"] == "bridge" and "mac" not in attrs:  # else it would take after its ports
        mac = wire.attributes(requests[0].body, wire.IFINFOMSG.size)[1]
        assert len(mac) == 6 and mac[0] & 3 == 2, "locally administered, of one station"
        shown = fact._replace(attrs={**attrs, "mac": mac.hex(":")})
    if attrs["kind"] == "bridge" and "mtu" in attrs:  # only a change of it makes the bridge keep it
        other = attrs["mtu"] + (1 if attrs["mtu"] < 65535 else -1)
        shown = fact._replace(attrs={**shown.attrs, "mtu": other})
        afterwards.append(("IFLA_MTU", attrs["mtu"]))
    if "alias" in attrs:
        afterwards.append(("IFLA_IFALIAS", attrs["alias"]))
    index = env.index(fact.ref.ns, fact.ref.key[0])
    expected = first(shown, env, home, kind.one_queue) + master_of(fact, env)
    expected += [("IFLA_LINK", env.index(*attrs["parent"]))] if "parent" in attrs else []
    expected += info(attrs["kind"], own_data(fact, attrs, env))
    body = pyroute2_body(index, expected, up=True if attrs.get("up") else None)
    assert requests[0]._replace(body=plain(requests[0].body)) == Rtnl(
        home, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body
    )
    rest = [Rtnl(fact.ref.ns, RTM_NEWLINK, 0, pyroute2_body(index, afterwards))] if afterwards else []
    assert requests[1:] == rest


@given(pairs())
def test_a_veth_pair_is_made_once_by_the_end_that_leads(ends: tuple[Fact, Fact]) -> None:
    env = Env(*ends)
    assert leads(*ends) != leads(*ends[::-1])
    main, other = ends if leads(*ends) else ends[::-1]
    requests = list(made(LINK.encode(Op(CREATE, main.ref, main, None), env)))
    home = HOST if HOST in (main.ref.ns, other.ref.ns) else main.ref.ns
    indexes = [env.index(end.ref.ns, end.ref.key[0]) for end in (main, other)]
    peer = {"index": indexes[1], "flags": 0, "change": 0, "attrs": [list(p) for p in first(other, env, home)]}
    expected = first(main, env, home) + master_of(main, env) + info("veth", [("VETH_INFO_PEER", peer)])
    body = pyroute2_body(indexes[0], expected, up=True if main.attrs.get("up") else None)
    assert requests[0]._replace(body=plain(requests[0].body)) == Rtnl(
        home, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body
    )
    left = list(made(LINK.encode(Op(CREATE, other.ref, other, None), env)))
    attrs = master_of(other, env) + [("IFLA_IFALIAS", other.attrs[n]) for n in ("alias",) if n in other.attrs]
    up = True if other.attrs.get("up") else None
    assert left == ([Rtnl(other.ref.ns, RTM_NEWLINK, 0, pyroute2_body(indexes[1], attrs, up))] if attrs or up else [])
    assert link(*main.attrs["peer"]) not in set(LINK.requires(main, View(env.facts)))
    assert main.ref in set(LINK.requires(other, View(env.facts)))


@given(links().flatmap(lambda fact: st.tuples(st.just(fact), st.sets(st.sampled_from(sorted(fact.attrs))))))
def test_an_update_touches_what_it_is_told_to_and_nothing_else(case: tuple[Fact, set[str]]) -> None:
    fact, names = case
    names -= {"kind", "parent", "created_in"}
    env = Env()
    index = env.index(fact.ref.ns, "before")
    old = Fact(link(fact.ref.ns, "before"), {})
    requests = list(made(LINK.encode(Op(UPDATE, fact.ref, fact, old, (*sorted(names), OWNER)), env)))
    changed = {name: fact.attrs[name] for name in names}
    expected = [*settings_of(changed), ("IFLA_GROUP", MARK)]
    expected += [("IFLA_IFNAME", fact.ref.key[0])] if fact.ref.key[0] != "before" else []
    expected += [("IFLA_IFALIAS", changed["alias"])] if "alias" in changed else []
    if "master" in changed:
        expected += master_of(fact, env) or [("IFLA_MASTER", 0)]
    if data := own_data(fact, changed, env):
        expected += info(fact.attrs["kind"], data)
    body = pyroute2_body(index, expected, changed.get("up"))
    assert [r._replace(body=plain(r.body)) for r in requests] == [Rtnl(fact.ref.ns, RTM_NEWLINK, 0, body)]
    assert env.indexes[fact.ref.ns, fact.ref.key[0]] == index


@given(links())
def test_an_update_of_nothing_sends_nothing(fact: Fact) -> None:
    assert list(LINK.encode(Op(UPDATE, fact.ref, fact, fact, ()), Env())) == []


def test_deleting_is_by_index() -> None:
    env = Env()
    index = env.assign("web", "eth0")
    gone = Fact(link("web", "eth0"), {})
    assert list(LINK.encode(Op(DELETE, gone.ref, None, gone), env)) == [
        Rtnl("web", RTM_DELLINK, 0, pyroute2_body(index, []))
    ]


def test_a_tap_is_made_by_its_driver_and_then_set() -> None:
    fact = Fact(
        link("web", "tap0"),
        {"kind": "tap", "mtu": 1400, "mac": "02:00:00:00:00:01", "master": "br0", "user": 7, "up": True},
    )
    env = Env()
    making, setting = LINK.encode(Op(CREATE, fact.ref, fact, None), env)
    assert making == Tun("web", "tap0", "tap", 0x1000, 7, None)
    assert env.indexes == {}, "its index is asked for when it is there"
    assert callable(setting)
    attrs = [*settings_of(fact.attrs), ("IFLA_GROUP", MARK), ("IFLA_MASTER", env.index("web", "br0"))]
    assert setting() == Rtnl("web", RTM_NEWLINK, 0, pyroute2_body(env.index("web", "tap0"), attrs, up=True))


@pytest.mark.parametrize("attrs", [{}, {"kind": "team"}])
def test_what_cannot_be_made_says_so(attrs: dict[str, Any]) -> None:
    fact = Fact(link(HOST, "eth0"), attrs)
    with pytest.raises(KernelError):
        LINK.encode(Op(CREATE, fact.ref, fact, None), Env())


def test_a_foreign_link_that_is_put_back_gets_its_group_again() -> None:
    fact = Fact(link(HOST, "br0"), {"kind": "bridge", "_group": 5}, FOREIGN)
    (request,) = made(LINK.encode(Op(CREATE, fact.ref, fact, None), Env()))
    assert pyroute2_read(request.body).get_attr("IFLA_GROUP") == 5


@given(st.fixed_dictionaries({}, optional=PORT_ATTRS))
def test_port_settings_have_the_bytes_that_pyroute2_makes(attrs: dict[str, Any]) -> None:
    fact, env = Fact(Ref("port", "web", ("p0",)), attrs), Env()
    data = [[nla, int(attrs[name])] for name, nla in PORT_NAMES.items() if name in attrs]
    slave = {"attrs": [["IFLA_INFO_SLAVE_KIND", "bridge"], ["IFLA_INFO_SLAVE_DATA", {"attrs": data}]]}
    expected = [pyroute2_body(env.index("web", "p0"), [("IFLA_LINKINFO", slave)])] if data else []
    requests = PORT.encode(Op(CREATE, fact.ref, fact, None), env)
    assert [plain(request.body) for request in made(requests)] == expected


@pytest.mark.parametrize("up", [True, False, None])
def test_a_namespace_is_made_with_its_mark(up: bool | None) -> None:
    fact = Fact(namespace("web"), {} if up is None else {"up": up})
    (request,) = NAMESPACE.encode(Op(CREATE, fact.ref, fact, None), Env())
    setup = message(RTM_NEWLINK, 0, 1, pyroute2_body(1, [("IFLA_GROUP", MARK)], up))
    assert request == Netns("create", "web", None, setup)


def test_a_namespace_that_is_attached_keeps_its_mark_and_is_only_detached() -> None:
    fact = Fact(namespace("web"), {"from": {"pid": 1310}})
    assert NAMESPACE.encode(Op(CREATE, fact.ref, fact, None), Env()) == [Netns("attach", "web", {"pid": 1310})]
    assert NAMESPACE.encode(Op(DELETE, fact.ref, None, fact), Env()) == [Netns("detach", "web")]
    own = Fact(fact.ref, {"up": True}, OWN)
    assert NAMESPACE.encode(Op(DELETE, own.ref, None, own), Env()) == [Netns("delete", "web")]


# What is read


class Reading:
    """A view of one namespace with the names that indexes have in it."""

    ns, mark = "web", MARK

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = names

    def ifname(self, index: int) -> str | None:
        return self.names.get(index)


def decode(body: bytes, names: Mapping[int, str]) -> list[Fact]:
    return list(LINK.decode(RTM_NEWLINK, body, 0, len(body), Reading(names)))


@given(links(), st.sampled_from([MARK, 0, 7]))
def test_what_pyroute2_wrote_is_read(fact: Fact, group: int) -> None:
    attrs, env = fact.attrs, Env()
    generic = [("IFLA_IFNAME", fact.ref.key[0]), *settings_of(attrs), ("IFLA_GROUP", group), *master_of(fact, env)]
    generic += [("IFLA_IFALIAS", attrs["alias"])] if "alias" in attrs else []
    body = pyroute2_body(77, generic + info(attrs["kind"], own_data(fact, attrs, env)), up=attrs.get("up"))
    (read,) = decode(body, {index: name for (_, name), index in env.indexes.items()})
    assert read.ref == link("web", fact.ref.key[0])
    assert read.origin == (OWN if group == MARK else FOREIGN)
    elsewhere = ("dev", "parent", "created_in")  # join's
    stated = Fact(read.ref, {name: value for name, value in attrs.items() if name not in elsewhere})
    assert LINK.compare(stated, read) == ()
    assert read.attrs["_index"] == 77


@given(st.fixed_dictionaries(PORT_ATTRS), st.sampled_from(["veth", "vxlan"]))
def test_port_settings_that_pyroute2_wrote_are_read(attrs: dict[str, Any], kind: str) -> None:
    data = [[nla, int(attrs[name])] for name, nla in PORT_NAMES.items()]
    inner = [["IFLA_INFO_KIND", kind], ["IFLA_INFO_SLAVE_KIND", "bridge"], ["IFLA_INFO_SLAVE_DATA", {"attrs": data}]]
    body = pyroute2_body(7, [("IFLA_IFNAME", "p0"), ("IFLA_GROUP", MARK), ("IFLA_LINKINFO", {"attrs": inner})])
    facts = decode(body, {})
    default = all(port.DEFAULTS[name] == value for name, value in attrs.items() if name != "cost")
    if kind == "veth" and default and attrs["cost"] == 2:
        assert len(facts) == 1
        return
    desired = Fact(Ref("port", "web", ("p0",)), attrs)
    assert facts[1].ref == desired.ref
    assert PORT.compare(desired, facts[1]) == ()
    assert facts[1].origin == (FOREIGN if default and kind != "veth" else OWN)
    unstated = {name for name, value in port.DEFAULTS.items() if attrs[name] != value}
    unstated |= {"cost"} if kind == "veth" and attrs["cost"] != 2 else set()
    assert set(PORT.compare(Fact(desired.ref, {}), facts[1])) == unstated


def test_deleting_port_settings_puts_the_defaults_back() -> None:
    old = Fact(Ref("port", "web", ("p0",)), {**port.DEFAULTS, "hairpin": True, "cost": 9, "_cost": 2})
    (request,) = made(PORT.encode(Op(DELETE, old.ref, None, old), Env()))
    data = pyroute2_read(request.body).get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA")
    assert {name: data.get_attr(nla) for name, nla in PORT_NAMES.items()} == {**port.DEFAULTS, "cost": 2}


def test_lo_tells_of_its_namespace_and_is_nobodys() -> None:
    body = pyroute2_body(1, [("IFLA_IFNAME", "lo"), ("IFLA_GROUP", MARK)], up=True)
    made_by_us, lo = decode(body, {})
    assert made_by_us == Fact(namespace("web"), {"up": True}, OWN)
    assert (lo.ref, lo.origin) == (link("web", "lo"), FOREIGN)


@given(st.binary(max_size=200))
def test_malformed_messages_do_no_harm(noise: bytes) -> None:
    for body in (noise, pyroute2_body(7, [("IFLA_IFNAME", "p0")]) + noise):
        for fact in decode(body, {}):
            assert fact.ref.kind in ("link", "port", "namespace")


@given(st.sampled_from(sorted(OWN_ATTRS)), st.dictionaries(st.integers(1, 20), st.binary(max_size=6)))
def test_attributes_of_the_wrong_size_do_no_harm(kind: str, noise: dict[int, bytes]) -> None:
    data = b"".join(wire.attr(nla, value) for nla, value in noise.items())
    linkinfo = wire.nest(18, wire.attr_str(1, kind), wire.nest(2, data), wire.attr_str(4, "bridge"), wire.nest(5, data))
    facts = decode(pyroute2_body(7, [("IFLA_IFNAME", "p0")]) + linkinfo, {})
    assert facts[0].attrs["kind"] == kind


@given(links(), st.data())
def test_messages_cut_short_do_no_harm(fact: Fact, data: st.DataObject) -> None:
    request = next(made(LINK.encode(Op(CREATE, fact.ref, fact, None), Env())))
    cut = request.body[: data.draw(st.integers(0, len(request.body)))]
    found = decode(cut, {})
    assert [one.ref.kind for one in found] in ([], ["link"], ["namespace", "link"])  # lo tells of its namespace


# Real dumps

COMMANDS = """
link add br0 address 02:00:00:00:00:99 type bridge stp_state 1 priority 4096
link add p0 txqueuelen 77 type veth peer name p1 netns codec-links
link set p0 master br0 up alias "a port"
link set p0 type bridge_slave hairpin on isolated on
link add vx0 mtu 1400 type vxlan id 42 dev p0 local 192.0.2.1 dstport 4789 ttl 9 nolearning proxy
link add vx6 type vxlan id 43 local 2001:db8::1 dstport 8472
link add q0 type veth peer name q1
link add mv0 link q0 type macvlan mode private
link add i0 group 5 type ifb
tuntap add t0 mode tap user 1000 vnet_hdr
"""


def dump() -> list[bytes]:
    """The bodies of an RTM_GETLINK dump of this namespace."""
    found: list[bytes] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.send(message(RTM_GETLINK, NLM_F_DUMP, 1, bytes(16)))
        while True:
            data, offset = sock.recv(1 << 20), 0
            while offset < len(data):
                size, kind = struct.unpack_from("=IH", data, offset)
                if kind != RTM_NEWLINK:
                    return found
                found.append(data[offset + HEADER_SIZE : offset + size])
                offset += (size + 3) & ~3


def oracle(msg: Any, names: Mapping[int, str]) -> dict[str, Any]:
    """What pyroute2 reads of the attributes that every link has."""
    master = msg.get_attr("IFLA_MASTER")
    found = {
        "up": bool(msg["flags"] & 1),
        "master": names[master] if master else None,
        "mtu": msg.get_attr("IFLA_MTU"),
        "txqueuelen": msg.get_attr("IFLA_TXQLEN"),
        "alias": msg.get_attr("IFLA_IFALIAS") or "",
        "_index": msg["index"],
    }
    optional = {
        "mac": msg.get_attr("IFLA_ADDRESS"),
        "kind": msg.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND"),
        "_netnsid": msg.get_attr("IFLA_LINK_NETNSID"),
        "_group": msg.get_attr("IFLA_GROUP") or None,
    }
    return found | {name: value for name, value in optional.items() if value is not None}


@pytest.mark.live
def test_real_dumps_are_read_as_pyroute2_reads_them() -> None:
    subprocess.run(["ip", "netns", "add", "codec-links"], check=True)
    try:
        subprocess.run(["ip", "-batch", "-"], input=COMMANDS, text=True, check=True)
        bodies = dump()
    finally:
        subprocess.run(["ip", "-batch", "-", "-force"], input=REMOVAL, text=True, check=True)
    messages = [pyroute2_read(body) for body in bodies]
    names = {msg["index"]: msg.get_attr("IFLA_IFNAME") for msg in messages}
    facts = {}
    for body, msg in zip(bodies, messages, strict=True):
        for fact in decode(body, names):
            facts[fact.ref.kind, *fact.ref.key] = fact
        attrs = facts["link", names[msg["index"]]].attrs
        expected = oracle(msg, names)
        expected["kind"] = "tap" if names[msg["index"]] == "t0" else expected.get("kind")
        assert {name: attrs.get(name) for name in expected} == expected
        kind = LINK_KINDS.get(attrs.get("kind", ""))
        data = msg.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
        for name, nla in NAMES.get(kind.name if kind else "", {}).items():
            told = data.get_attr(nla)
            assert attrs.get(name) == told or (name.startswith("vlan_") and not told), name  # there may be none
    hairpin = facts["port", "p0"].attrs
    assert (hairpin["hairpin"], hairpin["isolated"], hairpin["learning"]) == (True, True, True)
    assert facts["link", "vx0"].attrs["local"] == "192.0.2.1"
    assert facts["link", "vx6"].attrs["local"] == "2001:db8::1"
    assert facts["link", "t0"].attrs["user"] == 1000
    indexes = {name: index for index, name in names.items()}
    assert facts["link", "vx0"].attrs["_link"] == indexes["p0"]
    join = link_decode.join
    join(facts["link", "mv0"], lambda ns, index: names.get(index), lambda ns, nsid: None)
    join(facts["link", "p0"], lambda ns, index: {("far", 7): "p1"}.get((ns, 7)), lambda ns, nsid: "far")
    assert facts["link", "mv0"].attrs["parent"] == ("web", "q0")
    assert facts["link", "p0"].attrs["peer"] == ("far", "p1")


@pytest.mark.parametrize("on", [False, True])
def test_whether_a_bridge_heeds_vlans_is_told_with_their_protocol(on: bool) -> None:
    """Without it the kernel cannot keep them apart, and the word means nothing."""
    for data, told in (([("IFLA_BR_VLAN_PROTOCOL", 0x8100)], on), ([], None)):
        body = pyroute2_body(7, [("IFLA_IFNAME", "br0"), *info("bridge", [("IFLA_BR_VLAN_FILTERING", on), *data])])
        (fact,) = decode(body, {7: "br0"})
        assert fact.attrs.get("vlan_filtering") == told


REMOVAL = (
    "\n".join(f"link del {name}" for name in ("vx0", "vx6", "mv0", "i0", "t0", "p0", "q0", "br0"))
    + "\nnetns del codec-links\n"
)
