"""The cases of links, one for each kind of link."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from conformance.case import MARK, OTHER, Case, State, a_bridge, each, spaces, underlay
from topo.facts import HOST, Fact, link, namespace

_ONE, _TWO, _BY_HAND = "02:00:00:00:0c:01", "02:00:00:00:0c:02", "02:00:00:00:0c:77"

_COMMON: dict[str, tuple[State, ...]] = {
    **each("up", True, False),
    **each("mtu", 1400, 1300, 1500),
    **each("mac", _ONE, _TWO),
    **each("txqueuelen", 700, 300),
    **each("alias", "one", "two words", ""),
    **each("master", None, "b0", "b1"),
}
_COMMON_BY_HAND = {
    "up": ("ip link set c0 down",),
    "mtu": ("ip link set c0 mtu 1350",),
    "mac": (f"ip link set c0 address {_BY_HAND}",),
    "txqueuelen": ("ip link set c0 txqueuelen 123",),
    "alias": ("ip link set c0 alias by-hand",),
    "master": ("ip link set c0 master b1",),
}


def link_cases(ns: str) -> list[Case]:
    """Every kind of link, in this namespace."""
    cases = [_veth(ns), _bridge(ns), _vxlan(ns), _macvlan(ns, "macvlan"), _macvlan(ns, "macvtap")]
    cases += [_tun(ns, "tun"), _tun(ns, "tap"), _ifb(ns)]
    return [*cases, _existing()] if ns == HOST else cases


def link_case(
    ns: str,
    kind: str,
    attrs: dict[str, Any],
    own: dict[str, tuple[State, ...]],
    by_hand: Mapping[str, tuple[str, ...]],
    cannot: dict[str, str] | None = None,
    around: tuple[Fact, ...] = (),
    **more: Any,
) -> Case:
    cannot = cannot or {}
    common = {name: states for name, states in _COMMON.items() if name not in cannot and name not in own}
    """A case of a link c0 of this kind, with the states that every link has and what is its own."""
    return Case(
        "link",
        Fact(link(ns, "c0"), {"kind": kind, "up": True, "master": None, **attrs}),
        {**common, **own},
        {**{name: words for name, words in _COMMON_BY_HAND.items() if name in common}, **by_hand},
        ("ip link del c0",),
        (*spaces(ns), *(() if "master" in cannot else (a_bridge(ns, "b0"), a_bridge(ns, "b1"))), *around),
        kind,
        cannot,
        **more,
    )


def again(words: str) -> tuple[str, ...]:
    """It is deleted and made another way, under the topology's own mark."""
    return "ip link del c0", f"ip link add c0 group {MARK} {words}", "ip link set c0 up"


def changes(kind: str, **words: str) -> dict[str, tuple[str, ...]]:
    """For each attribute, what `ip link set c0 type KIND` is told to take it out of its first state."""
    return {name: (f"ip link set c0 type {kind} {text}",) for name, text in words.items()}


def _veth(ns: str) -> Case:
    return pair(ns, "veth", {}, {}, {}, full=False)


def pair(
    ns: str,
    kind: str,
    made: dict[str, Any],
    own: dict[str, tuple[State, ...]],
    by_hand: Mapping[str, tuple[str, ...]],
    no: dict[str, str] | None = None,
    full: bool = True,
) -> Case:
    """An end of a pair; what is fixed for both is in `made`."""

    def peer(fact: Fact) -> Iterable[Fact]:
        both = {name: value for name, value in fact.attrs.items() if name in ("mode",)}
        other = {"kind": kind, "up": True, "master": None, "peer": (ns, "c0"), **both}
        return [Fact(link(*fact.attrs["peer"]), other)]

    by_hand = {"peer": (f"{OTHER}: ip link set c1 down", f"{OTHER}: ip link set c1 name c9")} | dict(by_hand)
    own = {**each("peer", (OTHER, "c1"), (ns, "c1")), **own}  # another name alone would be a renaming
    return link_case(ns, kind, {"peer": (OTHER, "c1"), **made}, own, by_hand, no, beside=peer, full=full)


def _bridge(ns: str) -> Case:
    own = {
        **each("stp", False, True),
        **each("forward_delay", 1400, 700),
        **each("hello_time", 300, 400),
        **each("max_age", 1000, 1800),
        **each("ageing", 10000, 20000),
        **each("priority", 4096, 8192),
        **each("group_fwd_mask", 8, 16384, 0),
        **each("mcast_snooping", False, True),
        **each("mcast_router", 2, 0, 1),
        **each("mcast_querier", False, True),
        **each("mcast_query_use_ifaddr", False, True),
        **each("mcast_query_intvl", 5000, 6000),
        **each("mcast_igmp_version", 3, 2),
        **each("mcast_mld_version", 2, 1),
    }
    words = {
        "stp": "stp_state 1",
        "forward_delay": "forward_delay 900",
        "hello_time": "hello_time 500",
        "max_age": "max_age 900",
        "ageing": "ageing_time 5000",
        "priority": "priority 12288",
        "group_fwd_mask": "group_fwd_mask 16",
        "mcast_snooping": "mcast_snooping 1",
        "mcast_router": "mcast_router 1",
        "mcast_querier": "mcast_querier 1",
        "mcast_query_use_ifaddr": "mcast_query_use_ifaddr 1",
        "mcast_query_intvl": "mcast_query_interval 7000",
        "mcast_igmp_version": "mcast_igmp_version 2",
        "mcast_mld_version": "mcast_mld_version 1",
    }
    by_hand = {name: (f"ip link set c0 type bridge {text}",) for name, text in words.items()}
    return link_case(ns, "bridge", {}, own, by_hand, {"master": "a bridge is no port of another (ELOOP)"})


def _vxlan(ns: str) -> Case:
    elsewhere = OTHER if ns == HOST else HOST
    base = {"id": 7, "port": 4790, "learning": True, "local": "10.9.0.1"}
    group = {"dev": (ns, "u0")}
    many = {"id": 0, "external": True}
    own = {
        **each("id", 7, 8),
        **each("local", "10.9.0.1", "10.9.0.9", "fd09::1"),
        "group": (
            {"group": "10.9.0.2"},
            {"group": "10.9.0.3"},
            {"group": "239.1.1.1", **group},
            {"group": "fd09::2", "local": "fd09::1"},
            {"group": "ff05::7", "local": "fd09::1", **group},
        ),
        **each("dev", (ns, "u0"), (ns, "u5")),
        **each("port", 4790, 4791),
        **each("learning", True, False),
        **each("proxy", False, True),
        **each("l2miss", False, True),
        **each("l3miss", False, True),
        **each("ttl", 9, 10, 0),
        **each("tos", 4, 8),
        **each("ageing", 100, 200),
        "external": ({"external": False}, many),
        "vnifilter": ({**many, "vnifilter": False}, {**many, "vnifilter": True}),
        **each("created_in", elsewhere, *(() if ns == HOST else (OTHER,))),
    }
    if ns == HOST:
        own["created_in"] = ({"created_in": OTHER}, {"created_in": "q"})
    made = "type vxlan id {} local 10.9.0.1 dstport {}"
    change = "ip link set c0 type vxlan id 7 "
    by_hand = {
        "id": again(made.format(9, 4790)),
        "port": again(made.format(7, 4799)),
        "created_in": again(made.format(7, 4790)),
        **{name: again(f"{made.format(7, 4790)} {name}") for name in ("proxy", "l2miss", "l3miss")},
        "external": again("type vxlan external dstport 4790 local 10.9.0.1"),
        "vnifilter": again("type vxlan external vnifilter dstport 4790 local 10.9.0.1"),
        "local": (change + "local 10.9.0.7",),
        "group": (change + "remote 10.9.0.8",),
        "dev": (change + "dev u5",),
        "learning": (change + "nolearning",),
        "ttl": (change + "ttl 50",),
        "tos": (change + "tos 12",),
        "ageing": (change + "ageing 77",),
    }
    more = (Fact(namespace("q"), {"up": True}),) if ns == HOST else ()
    return link_case(ns, "vxlan", base, own, by_hand, around=(*more, *underlay(ns)))


def _macvlan(ns: str, kind: str) -> Case:
    own = {
        **each("parent", (ns, "u0"), (ns, "u5")),
        **each("mode", "bridge", "private", "vepa", "passthru"),
    }
    by_hand = {
        "parent": again(f"link u5 type {kind} mode bridge"),
        "mode": (f"ip link set c0 type {kind} mode vepa",),
    }
    base = {"parent": (ns, "u0"), "mode": "bridge"}
    no = {"master": "its receive handler is taken (EBUSY)"} if kind == "macvtap" else {}
    return link_case(ns, kind, base, own, by_hand, no, underlay(ns))


def _tun(ns: str, kind: str) -> Case:
    base = {"user": None, "group": None, "pi": False, "vnet_hdr": False, "multi_queue": False}
    own = {
        **each("user", 54321, 54322, None),
        **each("group", 54321, 54322, None),
        **each("pi", False, True),
        **each("vnet_hdr", False, True),
        **each("multi_queue", False, True),
    }
    make = f"ip tuntap add name c0 mode {kind} "
    mark = f"ip link set c0 up group {MARK}"
    words = {"user": "user 54399", "group": "group 54399", "pi": "pi", "vnet_hdr": "vnet_hdr"}
    by_hand = {
        name: ("ip link del c0", make + words.get(name, name), mark)
        for name in ("user", "group", "pi", "vnet_hdr", "multi_queue")
    }
    no = {"mac": "it has no Ethernet", "master": "a bridge takes Ethernet only"} if kind == "tun" else {}
    return link_case(ns, kind, base, own, by_hand, no)


def _ifb(ns: str) -> Case:
    by_hand = {"mac": again(f"address {_BY_HAND} type ifb"), "kind": again("type bridge")}
    return link_case(ns, "ifb", {}, each("kind", "ifb", "bridge"), by_hand)


def _existing() -> Case:
    """A device that was there: its facts state no kind, and it is never made or deleted."""
    common = {"mtu": _COMMON["mtu"], **_COMMON}
    return Case(
        "link",
        Fact(link(HOST, "c0"), {"up": True}),
        common,
        _COMMON_BY_HAND,
        (),
        (*spaces(HOST), a_bridge(HOST, "b0"), a_bridge(HOST, "b1")),
        "existing",
        before=("ip link add c0 type veth peer name c0-peer", "ip link set c0 up", "ip link set c0-peer up"),
        after=("ip link del c0",),
        external=True,
    )
