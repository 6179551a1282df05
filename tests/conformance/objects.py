"""The cases of everything but links."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from conformance.case import INNER, OTHER, TOPOLOGY, Case, State, a_bridge, a_pair, an_address, each, spaces, underlay
from conformance.wireguard import wireguard_cases
from topo.facts import HOST, Fact, Ref, link, namespace
from topo.kinds import mdb, nft
from topo.kinds.address import FOREVER
from topo.kinds.nft import FirewallChain, FirewallRule, Interface, Masquerade, Match, Publish, Rules
from topo.kinds.port import DEFAULTS
from topo.kinds.route import of_tos
from topo.kinds.rule import key as rule_key
from topo.kinds.shaping import canonical

_MAC = "02:00:00:00:0d:01"


def object_cases(ns: str) -> dict[str, Case]:
    """By a name of their own: several of one kind, where one object cannot have it all."""
    cases = {
        "port": _port(ns),
        "bridge-vlan": _bridge_vlan(ns, "c0"),
        "bridge-vlan-self": _bridge_vlan(ns, "b0", "self"),
        "vlan-state": _vlan_state(ns, "c0"),
        "vlan-state-self": _vlan_state(ns, "b0", "self"),
        "bridge-vlan-aware": _aware(ns),
        "bridge-vlan-tunnels": _tunnels(ns),
        "mdb": _mdb(ns),
        "address": _address(ns, "10.9.7.{}/{}"),
        "address-ipv6": _address(ns, "fd09:7::{}/{}"),
        "route": _route(ns),
        "route-ipv6": _route_ipv6(ns),
        "route-mpls": _route_mpls(ns),
        "nexthop": _nexthop(ns),
        "nexthop-ipv6": _nexthop_ipv6(ns),
        "nexthop-group": _nexthop_group(ns),
        "rule": _rule(ns, 4),
        "rule-ipv6": _rule(ns, 6),
        "neighbour": _neighbour(ns, "10.9.0.77"),
        "neighbour-ipv6": _neighbour(ns, "fd09::77"),
        "fdb": _fdb(ns),
        "fdb-flood": _fdb_flood(ns),
        "fdb-in-vnis": _fdb_in_vnis(ns),
        "vni": _vni(ns),
        "inet6": _inet6(ns),
        "sysctl": _sysctl(ns, "net/ipv4/conf/c0/rp_filter"),
        "sysctl-of-the-namespace": _sysctl(ns, "net/ipv4/tcp_syncookies"),
        "tbf": _tbf(ns),
        "htb": _htb(ns),
        "shaping-class": _shaping_class(ns),
        "shaping-filter": _shaping_filter(ns),
        "ingress": _ingress(ns),
        "netem": _netem(ns),
        "fq_codel": _fq_codel(ns),
        "cake": _cake(ns),
        "nft": _nft(ns),
        **wireguard_cases(ns),
    }
    return cases if ns == HOST else {"namespace": _namespace(), "namespace-attached": _attached(), **cases}


def _namespace() -> Case:
    return Case(
        "namespace",
        Fact(namespace("c"), {"up": True}),
        each("up", True, False),
        {"up": ("ip link set lo down",)},
        ("host: ip netns del c",),
        spaces(INNER),
    )


def _attached() -> Case:
    sources = [{"path": "/run/netns/x1"}, {"path": "/run/netns/x2"}, {"share": OTHER}]
    return Case(
        "namespace",
        Fact(namespace("c"), {}),
        each("from", *sources),
        {"from": ("host: ip netns del c",)},  # one that leads elsewhere is another's: tests/live/test_reattach.py
        ("host: ip netns del c",),
        spaces(INNER),
        before=("ip netns add x1", "ip netns add x2"),
        after=("ip netns del x1", "ip netns del x2"),
    )


def _port(ns: str) -> Case:
    also = {"cost": 7}
    values = {name: (not default, default) for name, default in DEFAULTS.items() if isinstance(default, bool)}
    attributes: dict[str, tuple[State, ...]] = {}
    for name, pair in values.items():
        attributes.update(each(name, *pair, also=also))
    attributes.update(each("priority", 16, 8, 32, also=also))
    attributes.update(each("mcast_router", 2, 0, 1, also=also))
    attributes.update(each("cost", 7, 9))
    words = {name: f"{name} {'off' if pair[0] else 'on'}" for name, pair in values.items()}
    words |= {"priority": "priority 40", "cost": "cost 11", "mcast_router": "mcast_router 1"}
    words["fast_leave"] = words["fast_leave"].replace("fast_leave", "fastleave")
    return Case(
        "port",
        Fact(Ref("port", ns, ("c0",)), {}),
        attributes,
        {name: (f"ip link set c0 type bridge_slave {text}",) for name, text in words.items()},
        ("ip link set c0 nomaster", "ip link set c0 master b0"),
        (*spaces(ns), a_bridge(ns, "b0"), *a_pair(ns, master="b0")),
    )


def _bridge_vlan(ns: str, *key: str) -> Case:
    of = f"dev {key[0]} self" if len(key) > 1 else f"dev {key[0]}"
    return Case(
        "bridge_vlan",
        Fact(Ref("bridge_vlan", ns, key), {"pvid": 0, "untagged": "", "tagged": ""}),
        {
            "pvid": (
                {"pvid": 10, "untagged": "10"},
                {"pvid": 20, "untagged": "10", "tagged": "20"},
                {"untagged": "10", "tagged": "20"},
                {"pvid": 1, "tagged": "1"},
            ),
            "untagged": ({"untagged": "7-9"}, {"untagged": "8,100-102,4094"}, {}),
            "tagged": ({"tagged": "7-9"}, {"tagged": "8,100-102,4094"}, {"pvid": 5, "untagged": "5", "tagged": "1-4"}),
        },
        {
            "pvid": (f"bridge vlan add {of} vid 30 pvid untagged",),
            "untagged": (f"bridge vlan add {of} vid 8",),
            "tagged": (f"bridge vlan del {of} vid 8",),
        },
        (f"bridge vlan add {of} vid 1 pvid untagged", f"bridge vlan del {of} vid 10"),
        (*spaces(ns), a_bridge(ns, "b0", vlan_filtering=True, vlan_default_pvid=1), *a_pair(ns, master="b0")),
        full=True,
    )


def _vlan_state(ns: str, *key: str) -> Case:
    states = ("blocking", "learning", "listening", "disabled")
    of = f"dev {key[0]} self" if len(key) > 1 else f"dev {key[0]}"
    ground = (*spaces(ns), a_bridge(ns, "b0", vlan_filtering=True, vlan_default_pvid=1), *a_pair(ns, master="b0"))
    vlans = Fact(Ref("bridge_vlan", ns, key), {"pvid": 0, "untagged": "", "tagged": "10-12"})
    return Case(
        "vlan_state",
        Fact(Ref("vlan_state", ns, (key[0], 11)), {"state": "blocking"}),
        each("state", *states),
        {"state": (f"bridge vlan set {of} vid 11 state disabled",)},
        (f"bridge vlan set {of} vid 11 state forwarding",),
        (*ground, vlans),
        full=True,
    )


def _tunnels(ns: str) -> Case:
    """The VNIs that VLANs stand for, of a VXLAN that has many."""
    ref, ground = Ref("bridge_vlan", ns, ("c0",)), (*spaces(ns), *underlay(ns))
    port = Fact(Ref("port", ns, ("c0",)), {"vlan_tunnel": True})
    bridge = a_bridge(ns, "b0", vlan_filtering=True, vlan_default_pvid=1)
    return Case(
        "bridge_vlan",
        Fact(ref, {"pvid": 0, "untagged": "", "tagged": "10,20-23"}),
        each("tunnels", "10:1000,20-22:2000-2002", "20-23:2001-2004", "10:1000,20:2003,21:2002", None),
        {"tunnels": ("bridge vlan del dev c0 vid 20 tunnel_info id 2000",)},
        (
            "bridge vlan add dev c0 vid 1 pvid untagged",
            "bridge vlan del dev c0 vid 10",
            "bridge vlan del dev c0 vid 20-23",
        ),
        (*ground, bridge, _with_vnis(_vxlan(ns), master="b0"), port),
        full=True,
    )


def _with_vnis(vxlan: Fact, **attrs: Any) -> Fact:
    """The device, for many VNIs."""
    own = {name: value for name, value in vxlan.attrs.items() if name != "id"}
    return vxlan._replace(attrs={**own, "external": True, "vnifilter": True, **attrs})


def _mdb(ns: str) -> Case:
    """All of it is its key."""
    keys = [mdb.key("c0", group) for group in ("239.1.1.1", "239.1.1.2", "ff05::7", "01:00:5e:7f:00:09")]
    keys.append(mdb.key("c0", "239.1.1.1", "10.0.0.1"))
    gone = "bridge mdb del dev b0 port c0 grp 239.1.1.1 permanent"

    def at(attrs: dict[str, Any]) -> Fact:
        return Fact(Ref("mdb", ns, attrs.pop("key")), attrs)

    return Case(
        "mdb",
        Fact(Ref("mdb", ns, keys[0]), {"key": keys[0]}),
        each("key", *keys),
        {"key": (gone, "bridge mdb add dev b0 port c0 grp 239.1.1.9 permanent")},
        (gone,),
        (*spaces(ns), a_bridge(ns, "b0"), *a_pair(ns, master="b0")),
        at=at,
    )


def _aware(ns: str) -> Case:
    """What a bridge has only where the kernel can keep VLANs apart, beside what every bridge has."""
    words = {"vlan_filtering": "1", "vlan_protocol": "802.1ad", "vlan_default_pvid": "30"}
    return Case(
        "link",
        Fact(link(ns, "c0"), {"kind": "bridge", "up": True, "master": None}),
        {
            **each("vlan_filtering", False, True),
            **each("vlan_protocol", "802.1Q", "802.1ad"),
            **each("vlan_default_pvid", 1, 20, 0),
        },
        {name: (f"ip link set c0 type bridge {name} {value}",) for name, value in words.items()},
        ("ip link del c0",),
        spaces(ns),
        "bridge",
        full=True,
    )


def _address(ns: str, form: str) -> Case:
    """`nodad` is for making it only."""
    first, length = form.format(1, 64 if ":" in form else 24), 64 if ":" in form else 24
    keys = [first, form.format(2, length), form.format(1, length + 1), form.format(1, 128 if ":" in form else 32)]

    def at(attrs: dict[str, Any]) -> Fact:
        peer = (f"peer {attrs['_peer']}",) if "_peer" in attrs else ()
        return Fact(Ref("address", ns, ("c0", attrs.pop("address"), *peer)), attrs)

    pairs = _LIFETIMES + (((FOREVER, 800),) if ":" in form else ())
    lifetimes = (*({"valid_lft": valid, "preferred_lft": preferred} for valid, preferred in pairs), {})
    attributes = {
        **each("address", *keys),
        "_peer": ({}, {"_peer": form.format(9, "").rstrip("/")}, {"_peer": form.format(10, "").rstrip("/")}),
        **each("metric", 5, 6, 7 if ":" in form else 0),
        "valid_lft": lifetimes,
        "preferred_lft": lifetimes[1:],
        **each("noprefixroute", False, True),
    }
    by_hand: dict[str, tuple[str, ...]] = {
        "address": (f"ip address del {first} dev c0", f"ip address add {form.format(7, length)} dev c0")
    }
    drift = {
        "_peer": by_hand["address"],
        "metric": (f"ip address change {first} dev c0 metric 9",),
        "valid_lft": (f"ip address change {first} dev c0 valid_lft 99999 preferred_lft 4000",),
        "preferred_lft": (f"ip address change {first} dev c0 valid_lft forever preferred_lft forever",),
        "noprefixroute": (f"ip address del {first} dev c0", f"ip address add {first} dev c0 noprefixroute"),
    }
    if ":" in form:
        attributes |= {**each("nodad", True, False), **each("home", False, True), **each("mngtmpaddr", False, True)}
        drift |= {name: (f"ip address change {first} dev c0 {name}",) for name in ("home", "mngtmpaddr")}
    else:
        attributes |= {
            **each("label", "c0:one", "c0:two", "c0"),
            **each("scope", "global", "link", "site", "host"),
            **each("broadcast", "10.9.7.255", "10.9.7.254", None),
        }
        again = f"ip address del {first} dev c0", f"ip address add {first} dev c0"
        drift |= {"label": (again[0], f"{again[1]} label c0:three"), "scope": (again[0], f"{again[1]} scope 77")}
        drift["broadcast"] = again
    by_hand |= drift
    base = {"address": first} | ({"nodad": True} if ":" in form else {})
    return Case(
        "address",
        Fact(Ref("address", ns, ("c0", first)), base),
        attributes,
        by_hand | ({"nodad": (f"ip address del {first} dev c0",)} if ":" in form else {}),
        (f"ip address del {first} dev c0",),
        (*spaces(ns), *a_pair(ns)),
        at=at,
        unseen=frozenset({"nodad"}),
    )


_LIFETIMES: Final = ((9000, 5000), (FOREVER, 0), (900, 0))


_HOP: dict[str, Any] = {
    "family": 4, "gateway": None, "dev": None, "onlink": False, "blackhole": False, "group": None, "type": None,
}  # fmt: skip


def _hop(ns: str, number: int, **attrs: Any) -> Fact:
    return Fact(Ref("nexthop", ns, (number,)), {**_HOP, **attrs})


_UNICAST: dict[str, Any] = {"type": "unicast", "nexthops": None, "onlink": False, "src": None, "mtu": None}
_NOWHERE = {"gateway": None, "dev": None}


def _route_case(ns: str, family: int, base: dict[str, Any], own: dict[str, tuple[State, ...]]) -> Case:
    """`to`, `table`, `metric` and `tos` stand for what is in the key."""
    dst = "10.8.0.0/16" if family == 4 else "fd08::/64"
    gone = f"ip -{family} route del {dst} table 254"

    def at(attrs: dict[str, Any]) -> Fact:
        to, table, metric, tos = attrs.pop("to"), attrs.pop("table"), attrs.pop("metric"), attrs.pop("tos", 0)
        more = {"_tos": tos} if tos else {}
        return Fact(Ref("route", ns, (family, table, to, metric, *of_tos(tos))), attrs | more)

    metric = 0 if family == 4 else 1024
    other = "10.8.0.0/17" if family == 4 else "fd08::/65"
    common = {
        **each("to", dst, other, "0.0.0.0/0" if family == 4 else "::/0"),
        **each("table", 254, 100, 1000),
        **each("metric", metric, metric + 5),
    }
    via = f"{base['gateway']} dev u0"
    made = f"ip -{family} route add {dst} via {via} mtu 1399"
    by_hand: dict[str, tuple[str, ...]] = {name: (gone, made) for name in (*common, *own)}
    if family == 4:
        by_hand["tos"] = (f"{gone} tos 0x10", made)
    by_hand["onlink"] = (gone, f"ip -{family} route add {dst} via {via}")
    by_hand["dev"] = by_hand["type"] = (gone, f"ip -{family} route add prohibit {dst}")
    by_hand["gateway"] = (f"ip -{family} route replace {dst} dev u0",)
    return Case(
        "route",
        Fact(Ref("route", ns, (family, 254, dst, metric)), {**base, "to": dst, "table": 254, "metric": metric}),
        {**common, **own},
        by_hand,
        (gone,),
        (*spaces(ns), *underlay(ns), *(_hop(ns, number, family=family, blackhole=True) for number in (3, 4))),
        at=at,
    )


def _types(*more: str) -> tuple[State, ...]:
    none = ({"type": name, **_NOWHERE} for name in ("blackhole", "unreachable", "prohibit", "throw"))
    here = ({"type": name, "gateway": None, "dev": "u0", "table": 100} for name in ("local", *more))
    return ({"type": "unicast"}, *none, *here)


_METRICS: dict[str, tuple[State, ...]] = {
    **each("advmss", 1000, 1100, None),
    **each("hoplimit", 9, 10),
    **each("initcwnd", 30, 31),
    **each("initrwnd", 30, 31),
    **each("window", 3000, 3001),
    **each("cwnd", 30, 31),
    **each("ssthresh", 30, 31),
    **each("reordering", 5, 6),
    **each("rtt", 800, 808),
    **each("rttvar", 400, 404),
    **each("rto_min", 30, 40),
    **each("quickack", 1, None),
    **each("fastopen_no_cookie", 1, None),
    **each("congctl", "cubic", "reno"),
    **each("features", ("ecn",), None),
    **each("lock", ("mtu",), ("mtu", "advmss"), None, also={"mtu": 1300, "advmss": 1000}),
}


def _route(ns: str) -> Case:
    base = {**_UNICAST, "gateway": "10.9.0.254", "dev": "u0"}
    one = (("10.9.0.254", "u0", 1, False), ("10.9.0.253", "u0", 2, False))
    two = (("10.9.0.254", "u0", 1, False), ("10.9.5.253", "u5", 1, False))
    three = (("192.0.2.7", "u0", 7, True), ("fd09:5::7", "u5", 1, False, "ip6 id 7 dst fd00::2 hoplimit 9 tc 4"))
    own: dict[str, tuple[State, ...]] = {
        "type": _types("broadcast", "multicast"),
        **each("gateway", "10.9.0.254", "10.9.0.253", None, "fd09::254"),
        "dev": (base, {"dev": "u5", "gateway": None}, {"dev": "u0", "gateway": None}),
        "nexthops": ({}, *({"nexthops": hops, **_NOWHERE} for hops in (one, two, three))),
        "onlink": ({"onlink": True}, {"onlink": False}, {"onlink": True, "gateway": "192.0.2.1"}),
        **each("src", "10.9.0.1", "10.9.0.9", None),
        **each("mtu", 1300, 1200, None),
        **each("tos", 16, 8, 0),
        **each("realms", 7, 5 << 16 | 7, None),
        "scope": ({"scope": None}, {"scope": "site"}, {"scope": "host", "gateway": None}),
        "nhid": ({}, {"nhid": 3, **_NOWHERE}, {"nhid": 4, **_NOWHERE}),
        **each("encap", "ip id 7 dst 10.0.0.2 ttl 9", "ip dst 10.0.0.2 tos 8", "seg6 mode encap segs fd09::7", None),
        **_METRICS,
    }
    return _route_case(ns, 4, base, own)


_LOCAL = ("seg6local action End", "seg6local action End.T table 254", "seg6local action End.DX4 nh4 10.9.0.2")


def _route_ipv6(ns: str) -> Case:
    base = {**_UNICAST, "gateway": "fd09::254", "dev": "u0"}
    one = (("fd09::254", "u0", 1, False), ("fd09::253", "u0", 2, False))
    two = (("fd09::254", "u0", 1, False), ("fd09:5::253", "u5", 3, False))
    own: dict[str, tuple[State, ...]] = {
        "type": _types("anycast"),
        **each("gateway", "fd09::254", "fd09::253", None),
        "dev": (base, {"dev": "u5", "gateway": None}),
        "nexthops": ({}, *({"nexthops": hops, **_NOWHERE} for hops in (one, two))),
        "onlink": ({"onlink": True, "gateway": "fd77::1"}, {}),
        **each("src", "fd09::1", "fd09::9", None),
        **each("mtu", 1300, 1290, None),
        **each("encap", "seg6 mode inline segs fd09::7,fd09::8", "seg6 mode encap segs fd09::7", *_LOCAL, None),
        **each("pref", "high", "low", None),
        "nhid": ({}, {"nhid": 3, **_NOWHERE}, {"nhid": 4, **_NOWHERE}),
        **{name: _METRICS[name] for name in ("advmss", "hoplimit", "congctl", "lock")},  # all are one code for both
    }
    return _route_case(ns, 6, base, own)


def _route_mpls(ns: str) -> Case:
    case = _route_case(
        ns,
        4,
        {**_UNICAST, "gateway": "10.9.0.254", "dev": "u0"},
        each("encap", "mpls 100/200", "mpls 16", "mpls 7 ttl 9", None),
    )
    own = {"encap": case.attributes["encap"]}
    return dataclasses.replace(case, attributes=own, by_hand={"encap": case.by_hand["encap"]}, full=True)


def ends(ns: str) -> tuple[Fact, ...]:
    """Two devices with a carrier, with addresses of both families, and nexthops over the first."""
    found = [*spaces(ns), *a_pair(ns, "c0"), *a_pair(ns, "c1")]
    for ifname, four, six in (("c0", "10.9.0", "fd09:"), ("c1", "10.9.5", "fd09:5:")):
        found += [an_address(ns, ifname, f"{four}.1/24"), an_address(ns, ifname, f"{six}:1/64")]
    for number in (7, 8, 9):
        found.append(_hop(ns, number, gateway=f"10.9.0.{number}", dev="c0"))
    return (*found, _hop(ns, 6, blackhole=True))


def _nexthop_case(ns: str, base: dict[str, Any], own: dict[str, tuple[State, ...]], again: str) -> Case:
    """A route has it, which goes with it, and stays as it is where it is changed in place."""

    def route(fact: Fact) -> list[Fact]:
        family = fact.attrs["family"] or 4
        to, metric = ("10.8.0.0/16", 0) if family == 4 else ("fd08::/64", 1024)
        attrs = {"type": "unicast", "src": None, "mtu": None, "nhid": 20}
        return [Fact(Ref("route", ns, (family, 254, to, metric)), attrs)]

    return Case(
        "nexthop",
        Fact(Ref("nexthop", ns, (20,)), {**_HOP, **base}),
        own,
        dict.fromkeys(own, (f"ip nexthop replace id 20 {again}",)),
        ("ip nexthop del id 20",),
        ends(ns),
        beside=route,
    )


def _nexthop(ns: str) -> Case:
    base = {"gateway": "10.9.0.254", "dev": "c0"}
    group = {"family": None, "gateway": None, "dev": None, "type": "mpath", "group": "7/8,3"}
    own: dict[str, tuple[State, ...]] = {
        **each("gateway", "10.9.0.254", "10.9.0.253", None),
        "dev": ({}, {"dev": "c1", "gateway": "10.9.5.254"}, {"dev": "c1", "gateway": None}),
        "onlink": ({"onlink": True, "gateway": "192.0.2.1"}, {}),
        "blackhole": ({}, {"blackhole": True, "gateway": None, "dev": None}),
        "family": ({}, {"family": 6, "gateway": "fd09::254"}),
        **each("encap", "ip id 7 dst 10.0.0.2 ttl 9", "seg6 mode encap segs fd09::7", None),
        "group": ({}, group),
    }
    return _nexthop_case(ns, base, own, "via 10.9.0.77 dev c0")


def _nexthop_ipv6(ns: str) -> Case:
    base = {"family": 6, "gateway": "fd09::254", "dev": "c0"}
    own: dict[str, tuple[State, ...]] = {
        **each("gateway", "fd09::254", "fd09::253", None),
        "dev": ({}, {"dev": "c1", "gateway": "fd09:5::254"}, {"dev": "c1", "gateway": None}),
        "onlink": ({"onlink": True, "gateway": "fd77::1"}, {}),
        "blackhole": ({}, {"blackhole": True, "gateway": None, "dev": None}),
        **each("encap", "seg6 mode encap segs fd09::7", *_LOCAL, None),
    }
    return _nexthop_case(ns, base, own, "via fd09::77 dev c0")


def _nexthop_group(ns: str) -> Case:
    base = {"family": None, "type": "mpath", "group": "7/8"}
    resilient = {"type": "resilient", "buckets": 32}
    own: dict[str, tuple[State, ...]] = {
        "group": ({}, {"group": "7,3/8,256/9"}, {"group": "6"}, {"group": "9"}),
        "type": ({}, {"type": "resilient", "buckets": 32}),
        **each("buckets", 32, 64, also=resilient),
        **each("idle_timer", 3000, 4000, 0, also=resilient),
        **each("unbalanced_timer", 3000, 4000, 0, also=resilient),
    }
    case = _nexthop_case(ns, base, own, "group 9")
    words = "ip nexthop replace id 20 group 7/8 type resilient buckets 32 {} 50"
    by_hand = {name: (words.format(name),) for name in ("idle_timer", "unbalanced_timer")}
    remade = ("ip nexthop del id 20", "ip nexthop add id 20 group 7/8 type resilient buckets 16")
    return dataclasses.replace(case, by_hand={**case.by_hand, "type": remade, "buckets": remade, **by_hand})


def _rule(ns: str, family: int) -> Case:
    """All of it is its key."""

    def at(attrs: dict[str, Any]) -> Fact:
        return Fact(Ref("rule", ns, rule_key(family, attrs.pop("priority"), attrs)), attrs)

    one, two = ("10.0.0.0/8", "10.1.0.0/16") if family == 4 else ("fd00::/16", "fd01::/24")
    mark = {"fwmark": 3}
    table = {"table": 100}
    attributes: dict[str, tuple[State, ...]] = {
        **each("priority", 500, 501),
        "action": (table, *({"action": name} for name in ("blackhole", "unreachable", "prohibit", "nop"))),
        **each("goto", 600, 700, also={"action": "goto"}),
        "l3mdev": ({"l3mdev": True}, table),
        **each("tun_id", 7, 1 << 40, also=table),
        **each("table", 100, 1000, 254),
        **each("from", one, two, also=table),
        **each("to", one, two, also=table),
        **each("iif", "lo", "u0", also=table),
        **each("oif", "lo", "u0", also=table),
        **each("fwmark", 3, 4, 0, also=table),
        **each("fwmask", 0xFF, 0xF, also={**mark, **table}),
        **each("ipproto", 6, 17, also=table),
        **each("sport", (1, 5), (7, 7), also={"ipproto": 6, **table}),
        **each("dport", (1, 5), (7, 7), also={"ipproto": 6, **table}),
        **each("tos", 4, 8, also=table),
        **each("realms", 7, 5 << 16 | 7, also=table),
        "invert": ({"invert": True, "from": one, **table}, {"from": one, **table}),
        **each("suppress_prefixlength", 0, 8, also=table),
        **each("suppress_ifgroup", 3, 8, also=table),
        **each("uidrange", (1, 5), (7, 7), also=table),
    }
    delete = f"ip -{family} rule del pref 500"
    attributes["priority"] = ({"priority": 500, **table}, {"priority": 501, **table})
    if family == 6:  # the rest is one code for both
        attributes = {name: attributes[name] for name in ("from", "to", "invert", "action", "l3mdev", "goto")}
    return Case(
        "rule",
        Fact(Ref("rule", ns, ()), {"priority": 500, "action": "to_table"}),
        attributes,
        dict.fromkeys(attributes, (delete, f"ip -{family} rule add pref 500 from {two} lookup 99")),
        (delete,),
        (*spaces(ns), *underlay(ns)),
        at=at,
    )


def _neighbour(ns: str, ip: str) -> Case:
    return Case(
        "neighbour",
        Fact(Ref("neighbour", ns, ("u0", ip)), {}),
        each("lladdr", _MAC, "02:00:00:00:0d:02"),
        {"lladdr": (f"ip neigh replace {ip} dev u0 lladdr 02:00:00:00:0d:77 nud permanent",)},
        (f"ip neigh del {ip} dev u0",),
        (*spaces(ns), *underlay(ns)),
    )


def _vxlan(ns: str) -> Fact:
    attrs = {"kind": "vxlan", "up": True, "master": None, "id": 7, "port": 4790, "learning": True, "local": "10.9.0.1"}
    return Fact(link(ns, "c0"), attrs)


def _fdb(ns: str) -> Case:
    replace = f"bridge fdb replace {_MAC} dev c0 dst 10.9.0.2"
    return Case(
        "fdb",
        Fact(Ref("fdb", ns, ("c0", _MAC, "")), {"dst": "10.9.0.2"}),
        {
            **each("dst", "10.9.0.2", "10.9.0.3"),
            "port": ({"port": 9999}, {"port": 9998}, {}),
            "vni": ({"vni": 77}, {"vni": 78}, {}),
        },
        {
            "dst": (replace.replace("0.2", "0.8"),),
            "port": (f"{replace} port 9000",),
            "vni": (f"{replace} vni 70",),
        },
        (f"bridge fdb del {_MAC} dev c0",),
        (*spaces(ns), *underlay(ns), _vxlan(ns)),
    )


def _fdb_flood(ns: str) -> Case:
    """Entries to flood to stand side by side, told apart by `dst`."""
    zeros = "00:00:00:00:00:00"

    def at(attrs: dict[str, Any]) -> Fact:
        return Fact(Ref("fdb", ns, ("c0", zeros, attrs["dst"])), attrs)

    delete = f"bridge fdb del {zeros} dev c0 dst 10.9.0.2"
    return Case(
        "fdb",
        Fact(Ref("fdb", ns, ("c0", zeros, "10.9.0.2")), {"dst": "10.9.0.2"}),
        {
            **each("dst", "10.9.0.2", "10.9.0.3"),
            "port": ({"port": 9999}, {"port": 9998}, {}),
            "vni": ({"vni": 77}, {"vni": 78}, {}),
        },
        {
            "dst": (delete, f"bridge fdb append {zeros} dev c0 dst 10.9.0.8"),
            "port": (f"{delete} port 9999", f"bridge fdb append {zeros} dev c0 dst 10.9.0.2"),
            "vni": (f"{delete} vni 77", f"bridge fdb append {zeros} dev c0 dst 10.9.0.2"),
        },
        (delete,),
        (*spaces(ns), *underlay(ns), _vxlan(ns)),
        at=at,
    )


def _fdb_in_vnis(ns: str) -> Case:
    """Where each VNI of a device has entries of its own."""
    zeros, vnis = "00:00:00:00:00:00", [Fact(Ref("vni", ns, ("c0", number)), {"group": None}) for number in (100, 200)]

    def at(attrs: dict[str, Any]) -> Fact:
        return Fact(Ref("fdb", ns, ("c0", *attrs.pop("of"))), attrs)

    places = ((zeros, "10.9.0.2", "src_vni 100"), (zeros, "10.9.0.2", "src_vni 200"), (_MAC, "", "src_vni 100"))
    delete = f"bridge fdb del {zeros} dev c0 dst 10.9.0.2 src_vni 100"
    return Case(
        "fdb",
        at({"dst": "10.9.0.2", "of": places[0]}),
        {"of": tuple({"dst": "10.9.0.2", "of": place} for place in places)},
        {"of": (delete, f"bridge fdb append {zeros} dev c0 dst 10.9.0.8 src_vni 100")},
        (delete,),
        (*spaces(ns), *underlay(ns), _with_vnis(_vxlan(ns)), *vnis),
        at=at,
    )


def _inet6(ns: str) -> Case:
    return Case(
        "inet6",
        Fact(Ref("inet6", ns, ("c0",)), {"addrgenmode": "none", "token": None}),
        {**each("addrgenmode", "none", "eui64", "random"), **each("token", "::7", "::8", None)},
        {"addrgenmode": ("ip link set c0 addrgenmode random",), "token": ("ip token set ::9 dev c0",)},
        (),
        (*spaces(ns), *a_pair(ns)),
    )


def _vni(ns: str) -> Case:
    below = {"dev": (ns, "u0")}
    return Case(
        "vni",
        Fact(Ref("vni", ns, ("c0", 100)), {"group": None}),
        each("group", None, "239.1.1.1", "239.1.1.2"),
        {"group": ("bridge vni add dev c0 vni 100 group 239.1.1.9",)},
        ("bridge vni delete dev c0 vni 100",),
        (*spaces(ns), *underlay(ns), _with_vnis(_vxlan(ns), **below)),
    )


def _sysctl(ns: str, path: str) -> Case:
    return Case(
        "sysctl",
        Fact(Ref("sysctl", ns, (path,)), {}),
        each("value", "2", "0", "1"),
        {"value": (f"sysctl -qw {path}=1",)},
        (),
        (*spaces(ns), *a_pair(ns)),
    )


def _shaping(ns: str, base: dict[str, Any], attributes: dict[str, tuple[State, ...]], by_hand: dict[str, str]) -> Case:
    def at(attrs: dict[str, Any]) -> Fact:
        if attrs["kind"] == "htb":
            attrs = {k: v for k, v in attrs.items() if k != "latency"}
        if attrs["kind"] == "tbf":
            attrs = {k: v for k, v in attrs.items() if k != "delay"}
        return Fact(Ref("shaping", ns, ("c0",)), canonical(attrs))

    return Case(
        "shaping",
        Fact(Ref("shaping", ns, ("c0",)), base),
        attributes,
        {name: (words,) for name, words in by_hand.items()},
        ("tc qdisc del dev c0 root",),
        (*spaces(ns), *a_pair(ns)),
        at=at,
    )


def _tbf(ns: str) -> Case:
    base = {"kind": "tbf", "rate": 1_250_000, "burst": 20480, "latency": 50_000}
    replace = "tc qdisc replace dev c0 root tbf rate {} burst {} latency {}"
    return _shaping(
        ns,
        base,
        {
            "kind": ({}, {"kind": "htb", "ceil": 2_500_000, "cburst": 20480}),
            **each("rate", 1_250_000, 125_000_000, 6_250_000_000),
            **each("burst", 20480, 40960),
            **each("latency", 50_000, 10_000),
        },
        {
            "kind": "tc qdisc replace dev c0 root pfifo",
            "rate": replace.format("1mbit", "20k", "50ms"),
            "burst": replace.format("10mbit", "60k", "50ms"),
            "latency": replace.format("10mbit", "20k", "70ms"),
        },
    )


def _ingress(ns: str) -> Case:
    return Case(
        "ingress",
        Fact(Ref("ingress", ns, ("c0",)), {"to": "i0"}),
        each("to", "i0", "i1"),
        {"to": ("tc filter del dev c0 ingress",)},
        ("tc qdisc del dev c0 ingress",),
        (
            *spaces(ns),
            *a_pair(ns),
            *(Fact(link(ns, name), {"kind": "ifb", "up": True, "master": None}) for name in ("i0", "i1")),
        ),
    )


def _htb(ns: str) -> Case:
    base = {"kind": "htb", "rate": 1_250_000, "burst": 20480, "ceil": 125_000_000, "cburst": 40960}
    change = "tc class change dev c0 classid 1:1 htb rate {} ceil {} burst {} cburst {}"
    return _shaping(
        ns,
        base,
        {
            **each("rate", 1_250_000, 2_500_000, 6_250_000_000),
            **each("burst", 20480, 30720),
            **each("ceil", 125_000_000, 250_000_000),
            **each("cburst", 40960, 81920),
        },
        {
            "rate": change.format("5mbit", "1gbit", "20k", "40k"),
            "burst": change.format("10mbit", "1gbit", "25k", "40k"),
            "ceil": change.format("10mbit", "3gbit", "20k", "40k"),
            "cburst": "tc class change dev c0 classid 1:1 htb rate 10mbit ceil 1gbit burst 20k cburst 70k",
        },
    )


def _with_classes(ns: str) -> tuple[Fact, ...]:
    root = {"kind": "htb", "rate": 12_500_000, "burst": 125_000, "ceil": 12_500_000, "cburst": 125_000}
    ref = Ref("shaping", ns, ("c0",))
    return (*spaces(ns), *a_pair(ns), Fact(ref, canonical(root)))


def _shaping_class(ns: str) -> Case:
    base = {"rate": 1_250_000, "ceil": 2_500_000, "burst": 20480, "cburst": 40960, "prio": 1}
    values = {
        "rate": (1_250_000, 2_500_000), "ceil": (2_500_000, 5_000_000), "burst": (20480, 30720), "cburst": (40960, 81920),
        "prio": (1, 0, 7),
    }  # fmt: skip
    change = "tc class change dev c0 parent 1:1 classid 1:a htb rate {} ceil 20mbit burst {} cburst {} prio {}"
    by_hand = {
        "rate": (change.format("5mbit", "20k", "40k", 1),), "burst": (change.format("10mbit", "25k", "40k", 1),),
        "cburst": (change.format("10mbit", "20k", "70k", 1),), "prio": (change.format("10mbit", "20k", "40k", 5),),
        "ceil": (change.format("10mbit", "20k", "40k", 1).replace("20mbit", "30mbit"),),
    }  # fmt: skip

    def at(attrs: dict[str, Any]) -> Fact:
        kept = canonical({"kind": "htb", **{name: value for name, value in attrs.items() if name != "prio"}})
        kept.pop("kind")
        return Fact(Ref("shaping_class", ns, ("c0", 10)), {**kept, "prio": attrs["prio"]})

    own = {name: each(name, *found)[name] for name, found in values.items()}
    return Case("shaping_class", at(base), own, by_hand, ("tc class del dev c0 classid 1:a",), _with_classes(ns), at=at)


def _shaping_filter(ns: str) -> Case:
    leaves = [
        Fact(
            Ref("shaping_class", ns, ("c0", number)),
            {"rate": 1_250_000, "ceil": 1_250_000, "burst": 20480, "cburst": 20480},
        )
        for number in (10, 20)
    ]
    leaves = [
        leaf._replace(
            attrs={**{k: v for k, v in canonical({"kind": "htb", **leaf.attrs}).items() if k != "kind"}, "prio": 0}
        )
        for leaf in leaves
    ]
    again = (
        "tc filter del dev c0 parent 1:0 pref 7",
        "tc filter add dev c0 parent 1:0 pref 7 protocol ip u32 match ip {} flowid 1:{}",
    )
    return Case(
        "shaping_filter",
        Fact(Ref("shaping_filter", ns, ("c0", 7)), {"match": "ip dscp 46", "class": 10}),
        {**each("match", *MATCHES), **each("class", 10, 20)},
        {
            "match": (again[0], again[1].format("dport 99 0xffff", "a")),
            "class": (again[0], again[1].format("dsfield 0xb8 0xfc", "14")),
        },
        ("tc filter del dev c0 parent 1:0 pref 7",),
        (*_with_classes(ns), *leaves),
    )


MATCHES: Final = (
    "ip dscp 46", "all", "ip", "ip src 10.0.0.0/9 dst 10.0.0.7/32 proto 6 sport 53 dport 80", "ip6 proto 17 dport 80",
    "ip6 src fd00::/65 dst fd00::7/128 dscp 46",
)  # fmt: skip


def _netem(ns: str) -> Case:
    base = {"kind": "netem", "delay": 50_000}
    values: dict[str, tuple[Any, ...]] = {
        "delay": (50_000, 100, 270_000_000),  # tc shows 274 seconds at most
        "jitter": (0, 5000),
        "loss": (0, 1, ("gemodel", 1, 10, 70, 0.1), ("state", 1, 90, 2, 95, 0.5)),
        "duplicate": (0, 2.5),
        "reorder": (0, 25),
        "corrupt": (0, 0.1),
        "rate": (0, 1_250_000, 6_250_000_000),
        "limit": (1000, 77),
    }
    own: dict[str, tuple[State, ...]] = {name: tuple({name: value} for value in of) for name, of in values.items()}
    own |= each("gap", 1, 5, also={"reorder": 25})
    own |= each("distribution", "normal", "uniform", "pareto", "paretonormal", also={"jitter": 5000})
    own["kind"] = ({}, {"kind": "tbf", "rate": 1_250_000, "burst": 20480, "latency": 50_000})
    for name, also in (("delay", "jitter"), *((name, name) for name in ("loss", "duplicate", "reorder", "corrupt"))):
        own |= each(f"{name}_correlation", 0, 30, also={also: 2000 if also == "jitter" else 2})
    replace = "tc qdisc replace dev c0 root netem "
    by_hand = dict.fromkeys(own, replace + "delay 7ms") | {
        **{name: replace + f"delay 50ms {name} 3%" for name in ("loss", "duplicate", "reorder", "corrupt")},
        **{f"{name}_correlation": replace + f"delay 50ms {name} 2% 40%" for name in ("loss", "corrupt")},
        "duplicate_correlation": replace + "delay 50ms 1ms 5% duplicate 2% 40%",  # tc sends that one with others only
        "jitter": replace + "delay 50ms 3ms",
        "distribution": replace.replace("netem", "handle 7 netem") + "delay 50ms 5ms distribution pareto",
        "limit": replace + "delay 50ms limit 99",
        "rate": replace + "delay 50ms rate 1mbit 14",
        "kind": "tc qdisc replace dev c0 root fq_codel",
        "gap": replace + "delay 50ms reorder 25% gap 9",
    }
    case = _shaping(ns, base, own, by_hand)
    return dataclasses.replace(case, full=True)


def _fq_codel(ns: str) -> Case:
    values: dict[str, tuple[Any, ...]] = {
        "limit": (10_240, 500),
        "target": (5000, 20_000),
        "interval": (100_000, 300_000),
        "ecn": (True, False),
        "flows": (1024, 64),
        "quantum": (1514, 300),
        "memory_limit": (32 << 20, 4 << 20),
    }
    own: dict[str, tuple[State, ...]] = {name: tuple({name: value} for value in of) for name, of in values.items()}
    own["kind"] = ({}, {"kind": "tbf", "rate": 1_250_000, "burst": 20480, "latency": 50_000})
    whole = "tc qdisc replace dev c0 root fq_codel limit 10240 target 5ms interval 100ms ecn quantum 1514 "
    by_hand = {
        "limit": whole + "limit 77",
        "target": whole + "target 7ms",
        "interval": whole + "interval 70ms",
        "ecn": whole + "noecn",
        "flows": whole.replace("fq_codel", "handle 7 fq_codel") + "flows 16",  # which it takes once
        "quantum": whole + "quantum 400",
        "memory_limit": whole + "memory_limit 1mb",
        "kind": "tc qdisc replace dev c0 root pfifo",
    }
    return dataclasses.replace(_shaping(ns, {"kind": "fq_codel"}, own, by_hand), full=True)


def _cake(ns: str) -> Case:
    values: dict[str, tuple[Any, ...]] = {
        "rate": (0, 1_250_000, 6_250_000_000),
        "rtt": (100_000, 30_000),
        "diffserv": ("diffserv3", "besteffort", "precedence", "diffserv4", "diffserv8"),
        "flowmode": ("triple-isolate", "flowblind", "srchost", "dual-dsthost", "flows"),
        "nat": (False, True),
        "wash": (False, True),
        "ingress": (False, True),
        "ack_filter": ("off", "on", "aggressive"),
        "atm": ("noatm", "atm", "ptm"),
        "overhead": (None, 18, 0, -4),
        "mpu": (0, 64),
        "memory_limit": (0, 4 << 20),
    }
    own: dict[str, tuple[State, ...]] = {name: tuple({name: value} for value in of) for name, of in values.items()}
    own["kind"] = ({}, {"kind": "tbf", "rate": 1_250_000, "burst": 20480, "latency": 50_000})
    change = "tc qdisc change dev c0 root cake "
    by_hand = {
        "rate": change + "bandwidth 1mbit",
        "rtt": change + "rtt 50ms",
        "diffserv": change + "diffserv8",
        "flowmode": change + "dsthost",
        "nat": change + "nat",
        "wash": change + "wash",
        "ingress": change + "ingress",
        "ack_filter": change + "ack-filter",
        "atm": change + "atm",
        "overhead": change + "overhead 30",
        "mpu": change + "mpu 80",
        "memory_limit": change + "memlimit 1mb",
        "kind": "tc qdisc replace dev c0 root pfifo",
    }
    return dataclasses.replace(_shaping(ns, {"kind": "cake"}, own, by_hand), full=True)


def _nft(ns: str) -> Case:
    def rules(**more: Any) -> State:
        found = {"masquerade": (Masquerade(("10.9.0.0/24",), Interface("c0", negate=True)),), **more}
        return nft.fact(TOPOLOGY, ns, Rules(**found)).attrs

    def publish(*ports: int) -> State:
        return rules(publish=tuple(Publish((p, p), (80, 80), "10.9.0.2", via="c0") for p in ports))

    drop = FirewallChain("forward", "drop", (FirewallRule(Match(protocol="tcp", dport=((22, 22),)), "accept"),))
    table = f"inet topo-{TOPOLOGY}"
    return Case(
        "nft",
        Fact(Ref("nft", ns, ("inet", f"topo-{TOPOLOGY}")), {}),
        {
            "sets": (publish(8080), publish(8080, 8081), publish(8082)),
            "chains": (rules(), rules(firewall=(drop,)), rules(snat=(nft.Snat("10.9.0.1", ("10.9.9.0/24",)),))),
        },
        {
            "sets": (f"nft flush map {table} publish_tcp4_addr",),
            "chains": (f"nft add rule {table} nat_postrouting ip saddr 10.3.0.0/16 accept",),
        },
        (f"nft delete table {table}",),
        (*spaces(ns), *a_pair(ns), an_address(ns, "c0", "10.9.0.1/24")),
    )
