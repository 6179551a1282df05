"""What the kernel takes down with something else: a state with one of everything, and changes to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.snapshot import read_json

from conformance.case import INNER, OTHER, a_bridge, a_pair, an_address, spaces
from conformance.witness import links
from topo.facts import Fact, Facts, Ref, link, namespace

_FLOOD = "00:00:00:00:00:00"


def a_route(dst: str, **attrs: Any) -> Fact:
    family, metric = (6, 1024) if ":" in dst else (4, 0)
    whole = {"type": "unicast", "gateway": None, "dev": None, "nexthops": None, "onlink": False, "src": None}
    return Fact(Ref("route", INNER, (family, 254, dst, metric)), {**whole, "mtu": None, **attrs})


def _neighbour(ip: str) -> Fact:
    return Fact(Ref("neighbour", INNER, ("c0", ip)), {"lladdr": "02:00:00:00:0e:01"})


def _fdb(ifname: str, dst: str) -> Fact:
    return Fact(Ref("fdb", INNER, (ifname, _FLOOD, dst)), {"dst": dst})


def _link(ifname: str, **attrs: Any) -> Fact:
    return Fact(link(INNER, ifname), {"up": True, "master": None, **attrs})


def everything() -> Facts:
    """One of everything that can go with something else, in one namespace; the host has nothing."""
    hops = (("10.9.0.254", "c0", 1, False), ("10.9.5.254", "b0", 1, False))
    facts = [
        *spaces(INNER),
        *a_pair(INNER, "c0", mtu=1500),
        a_bridge(INNER, "b0"),
        a_bridge(INNER, "b1"),
        *a_pair(INNER, "d0", master="b0"),
        Fact(Ref("port", INNER, ("d0",)), {"hairpin": True}),
        *(an_address(INNER, "c0", ip) for ip in ("10.9.0.1/24", "10.9.0.2/24", "10.9.9.1/24", "fd09::1/64")),
        an_address(INNER, "b0", "10.9.5.1/24"),
        an_address(OTHER, "c0-peer", "10.9.0.254/24"),
        a_route("10.8.0.0/16", gateway="10.9.0.254", dev="c0"),
        a_route("10.7.0.0/16", dev="c0"),
        a_route("10.6.0.0/16", type="blackhole"),
        a_route("10.5.0.0/16", nexthops=hops),
        a_route("10.4.0.0/16", gateway="10.9.5.254", dev="b0", src="10.9.0.2"),
        a_route("fd08::/64", gateway="fd09::254", dev="c0"),
        a_route("fd07::/64", dev="c0"),
        _neighbour("10.9.0.77"),
        _neighbour("fd09::77"),
        _link("m0", kind="macvlan", parent=(INNER, "c0"), mode="bridge", mtu=1500),
        an_address(INNER, "m0", "10.9.7.1/24"),
        an_address(INNER, "m0", "fd0a::1/64"),
        _link("v0", kind="vxlan", id=7, port=4790, learning=True, local="10.9.0.1", dev=(INNER, "c0")),
        _fdb("v0", "10.9.0.9"),
        _link("v1", kind="vxlan", id=8, port=4791, learning=True, local="10.9.0.1", created_in=OTHER),
        _fdb("v1", "10.9.0.8"),
    ]
    return {fact.ref: fact for fact in facts}


def _without(*refs: Ref) -> Callable[[Facts], Facts]:
    return lambda facts: {ref: fact for ref, fact in facts.items() if ref not in refs}


def _with(ref: Ref, **attrs: Any) -> Callable[[Facts], Facts]:
    return lambda facts: {**facts, ref: facts[ref]._replace(attrs={**facts[ref].attrs, **attrs})}


def _address(address: str) -> Ref:
    return Ref("address", INNER, ("c0", address))


def _no_bridge(facts: Facts) -> Facts:
    return _without(link(INNER, "b0"))(_with(link(INNER, "d0"), master=None)(facts))


_C0 = link(INNER, "c0")

CHANGES: dict[str, Callable[[Facts], Facts]] = {
    "link-down": _with(_C0, up=False),
    "bridge-down": _with(link(INNER, "b0"), up=False),
    "mac": _with(_C0, mac="02:00:00:00:0e:77"),
    "mtu": _with(_C0, mtu=1400),
    "mtu-too-small-for-ipv6": _with(_C0, mtu=1279),
    "master": _with(link(INNER, "d0"), master="b1"),
    "no-master": _with(link(INNER, "d0"), master=None),
    "primary-address": _without(_address("10.9.0.1/24")),
    "secondary-address": _without(_address("10.9.0.2/24")),
    "one-subnet": _without(_address("10.9.0.1/24"), _address("10.9.0.2/24")),
    "last-ipv4-address": _without(*map(_address, ("10.9.0.1/24", "10.9.0.2/24", "10.9.9.1/24"))),
    "ipv6-address": _without(_address("fd09::1/64")),
    "bridge": _no_bridge,
    "veth": _without(_C0, link(OTHER, "c0-peer")),
    "veth-replaced": _with(_C0, kind="bridge"),
    "macvlan": _without(link(INNER, "m0")),
    "vxlan-replaced": _with(link(INNER, "v0"), id=9),
    "namespace": lambda facts: {ref: fact for ref, fact in facts.items() if ref.ns != INNER},
    "namespace-of-a-socket": _without(namespace(OTHER)),
}


def objects(ns: str) -> set[Ref]:
    """The refs of what iproute2 shows in a namespace, of the kinds that can go with something else."""
    found: set[Ref] = set()
    for name, entry in links(ns).items():
        if name == "lo":
            continue
        found.add(link(ns, name))
        found |= {
            Ref("address", ns, (name, f"{a['local']}/{a['prefixlen']}"))
            for a in entry["addr_info"]
            if not a["local"].startswith("fe80")
        }
        if entry.get("linkinfo", {}).get("info_slave_data", {}).get("hairpin"):
            found.add(Ref("port", ns, (name,)))
    return found | set(_routes(ns)) | set(_neighbours(ns))


def _routes(ns: str) -> set[Ref]:
    found = set()
    for family, bits in ((4, 32), (6, 128)):
        for route in read_json(ns, "ip", f"-{family}", "-N", "-j", "route"):
            if str(route.get("protocol")) == "116":
                dst = route["dst"] if "/" in route["dst"] else f"{route['dst']}/{bits}"
                found.add(Ref("route", ns, (family, 254, dst, route.get("metric", 0))))
    return found


def lame(ns: str) -> set[Ref]:
    """IPv4 routes that have lost one of several next hops: they stay, but are to be made again."""
    routes = read_json(ns, "ip", "-4", "-j", "route")
    dead = [route for route in routes if any("dead" in hop["flags"] for hop in route.get("nexthops", ()))]
    return {Ref("route", ns, (4, 254, route["dst"], route.get("metric", 0))) for route in dead}


def _neighbours(ns: str) -> set[Ref]:
    neighbours = read_json(ns, "ip", "-j", "neigh", "show", "nud", "permanent")
    found = {Ref("neighbour", ns, (entry["dev"], entry["dst"])) for entry in neighbours}
    entries = [e for e in read_json(ns, "bridge", "-j", "fdb") if e["mac"] == _FLOOD and "dst" in e]
    return found | {Ref("fdb", ns, (entry["ifname"], _FLOOD, entry["dst"])) for entry in entries}
