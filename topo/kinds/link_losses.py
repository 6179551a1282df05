"""What the kernel takes down when a link changes or goes (tried on Linux 6.18 for each)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from topo.changes import CREATE, UPDATE, Change
from topo.facts import OF_PORTS, Fact, Live, Ref
from topo.kinds.kind import LinkKind
from topo.kinds.link_kinds import LINK_KINDS

_LEAST_IPV6_MTU = 1280


def takes(change: Change, live: Live) -> Iterable[Ref]:
    """The live refs that go with a change of a link, beside what sits on a deleted one.

    Of a deleted link these are the links directly above; what goes with those is for the planner to follow.
    """
    if change.live is None or change.action == CREATE:
        return ()
    if change.action != UPDATE:
        return live.above(change.live.ref)
    return dict.fromkeys(_updated(change, change.live, live))


def _updated(change: Change, have: Fact, live: Live) -> Iterator[Ref]:
    assert change.desired is not None
    want, on = change.desired.attrs, live.on(have.ref)
    names = change.attrs
    if "up" in names and not want["up"]:
        yield from (fact.ref for fact in on if _drops_when_down(fact))
        for above in live.above(have.ref):
            if (fact := live.get(above)) and (kind := _kind(fact)) and kind.sinks(fact):
                yield from (other.ref for other in live.on(above) if _drops_when_down(other))
    if "mac" in names:  # neigh_changeaddr: the permanent ones as well
        yield from (fact.ref for fact in on if fact.ref.kind == "neighbour")
    if "mtu" in names and want["mtu"] < _LEAST_IPV6_MTU:  # addrconf_notify takes the link from IPv6
        yield from (fact.ref for fact in on if _is_ipv6(fact))
        for above in live.above(have.ref):  # those of macvlans follow down
            if (fact := live.get(above)) and fact.attrs.get("parent") and fact.attrs.get("mtu", 0) > want["mtu"]:
                yield from (other.ref for other in live.on(above) if _is_ipv6(other))
    if "master" in names and have.attrs["up"] and _interrupted(have.attrs, want):
        yield from (fact.ref for fact in on if _drops_when_down(fact))
    if "master" in names and have.attrs.get("master"):  # br_del_if: settings and FDB entries of the port
        yield from (f.ref for f in on if f.ref.kind in OF_PORTS or (f.ref.kind == "fdb" and f.ref.key[2] == "master"))
    if "vlan_default_pvid" in names:  # __br_vlan_set_default_pvid: ports that are in the old one go to the new one
        keys = [(*have.ref.key, "self"), *(port.key for port in live.ports(have.ref))]
        yield from (ref for key in keys if (ref := Ref("bridge_vlan", have.ref.ns, key)) in live)


def _kind(fact: Fact) -> LinkKind | None:
    found: LinkKind | None = LINK_KINDS.get(fact.attrs.get("kind", ""))
    return found


def _interrupted(*ends: Mapping[str, Any]) -> bool:
    """Whether a link goes down, if only for a moment, when it changes between these masters."""
    kinds = (LINK_KINDS.get(attrs.get("_port_of", "")) for attrs in ends if attrs.get("master"))
    return any(kind and kind.ports and (kind.ports.down or kind.ports.cycled) for kind in kinds)


def _drops_when_down(fact: Fact) -> bool:
    """Routes, but those with a next hop elsewhere; nexthops; IPv6 addresses; and neighbours, permanent ones as well."""
    kind = fact.ref.kind
    if kind == "route":
        devices = {hop[1] for hop in fact.attrs.get("nexthops") or ()}
        return len(devices) < 2
    return kind in ("neighbour", "nexthop") or (kind == "address" and _is_ipv6(fact))


def _is_ipv6(fact: Fact) -> bool:
    kind, key = fact.ref.kind, fact.ref.key
    if kind == "route":
        return bool(key[0] == 6)
    if kind == "sysctl":
        return str(key[0]).startswith("net/ipv6/")
    return kind in ("address", "neighbour") and ":" in key[1]
