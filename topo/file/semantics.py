"""What can be wrong although every entry is right: rings, addresses and VNIs that are there twice."""

from __future__ import annotations

from typing import Any

from topo.facts import Ref, link
from topo.file.scope import Loc, Scope, Space, elsewhere, path, shown
from topo.kinds.link_kinds import LINK_KINDS


def check(scope: Scope) -> None:
    for space in scope.spaces.values():
        _addresses(scope, space)
    _vnis(scope)
    _siblings(scope)
    _rings(scope)
    _ingresses(scope)
    if scope.any_down:
        _routes(scope)


def _routes(scope: Scope) -> None:
    """No route leads out of an interface that is down: the kernel refuses it (ENETDOWN)."""
    for ref, (_, attrs, _) in scope.facts.items():
        if ref[0] != "route":
            continue
        hops = attrs.get("nexthops") or ((None, attrs.get("dev")),)
        for dev in dict.fromkeys(hop[1] for hop in hops if hop[1]):
            out = scope.facts.get(Ref("link", ref.ns, (dev,)))
            if out is not None and out.attrs.get("up") is False:
                message = (
                    f"the route to {ref.key[2]} leads out of {shown(scope.spaces[ref.ns], dev)}, which has `up: false`"
                )
                scope.problems.add(
                    scope.stated_at.get(ref, ()), message, "leave out one of the two: the kernel takes no route there"
                )


def _addresses(scope: Scope, space: Space) -> None:
    """One address stands once in a namespace, and there in each VRF."""
    pairs = space.linked + space.own if space.own else space.linked
    if len(pairs) < 2:
        return
    first: dict[tuple[str, int | None], str] = {}
    for ifname, text in pairs:
        address = text.partition("/")[0]
        place = address, scope.tables.get(Ref("link", space.name, (ifname,)))
        if place in first:
            other = first[place]
            here, there = space.links[ifname], space.links[other]
            message = f"{address} is there twice in namespace {space.name!r}, on {other} and {ifname}"
            scope.problems.add(here, message + elsewhere(there, here))
        first.setdefault(place, ifname)


def _vnis(scope: Scope) -> None:
    """A UDP socket (port and family, in one namespace) knows a VNI once (vxlan_vni_in_use in drivers/net/vxlan)."""
    first: dict[tuple[str, int, int, bool], Ref] = {}
    many: dict[Ref, list[int]] = {}
    for ref in scope.facts:
        if ref[0] == "vni":
            many.setdefault(link(ref.ns, ref.key[0]), []).append(ref.key[1])
    for ref, (_, attrs, _) in scope.facts.items():
        if ref[0] != "link" or attrs.get("kind") != "vxlan":
            continue
        six = ":" in (attrs.get("local") or attrs.get("group") or "")
        for number in [attrs["id"]] if "id" in attrs else many.get(ref, ()):
            other = first.setdefault((attrs.get("created_in", ref.ns), attrs["port"], number, six), ref)
            if other is not ref:
                here, there = _declared(scope, ref), _declared(scope, other)
                message = (
                    f"VNI {number} is used twice on UDP port {attrs['port']}, by {other} too, first at {path(there)}"
                )
                scope.problems.add((*here, "id" if "id" in attrs else "vnis"), message)


def _siblings(scope: Scope) -> None:
    """What all links of one kind on one device have in common is stated the same for each."""
    first: dict[tuple[str, Any, str], Ref] = {}
    for ref, fact in scope.facts.items():
        kind = LINK_KINDS.get(fact.attrs.get("kind", "")) if ref[0] == "link" else None
        if kind is None or not kind.shared:
            continue
        for name in sorted(kind.shared):
            below = fact.attrs[kind.below]
            other = first.setdefault((kind.name, below, name), ref)
            if (have := scope.facts[other].attrs.get(name)) != (want := fact.attrs.get(name)):
                place = path(_declared(scope, other))
                message = f"all {kind.name}s on {below[1]} have one `{name}`: {have} at {place}, {want} here"
                scope.problems.add((*_declared(scope, ref), name), message)


def _ingresses(scope: Scope) -> None:
    """What comes in is led to an ifb beside it: only these send it on from there (drivers/net/ifb.c)."""
    for ref, loc in scope.ingresses.items():
        to = scope.facts[ref].attrs["to"]
        below = Ref("link", ref.ns, (to,))
        if below in scope.external and to != ref.key[0]:
            continue  # which one that is turns out
        if below not in scope.facts:
            scope.problems.add(
                loc, f"{ref.ns} has no interface {to}", f"`interfaces: {{ {to}: {{ kind: ifb }} }}` makes one"
            )
        elif to == ref.key[0] or scope.facts[below].attrs.get("kind") != "ifb":
            scope.problems.add(loc, f"{to} is no ifb that could take what comes in by {ref.key[0]}")


def _declared(scope: Scope, ref: Ref) -> Loc:
    return scope.spaces[ref.ns].links.get(ref.key[0], ())


def _rings(scope: Scope) -> None:
    """Nothing lies over itself: a bridge over its ports, a macvlan over its parent, a vxlan over its underlay's device."""
    lower: dict[Ref, list[Ref]] = {ref: [below] for ref, (below, _) in scope.below.items()}
    for port, (bridge, _) in scope.masters.items():
        lower.setdefault(Ref("link", bridge.space.name, (bridge.name,)), []).append(port)
    done: set[Ref] = set()
    for start in lower:
        way: list[Ref] = []
        stack = [(start, 0)]
        while stack:
            ref, depth = stack.pop()
            del way[depth:]
            if ref in way:
                _ring(scope, way[way.index(ref) :])
                return
            if ref in done:
                continue
            way.append(ref)
            below = lower.get(ref, ())
            stack += [(other, depth + 1) for other in below]
            if not below:
                done.add(ref)


def _ring(scope: Scope, ring: list[Ref]) -> None:
    words = []
    for ref in (*ring, ring[0]):
        fact = scope.facts.get(ref)
        kind = fact.attrs.get("kind", "interface") if fact else "interface"
        words.append(f"{kind} {shown(scope.spaces[ref.ns], ref.key[0])}")
    scope.problems.add(_declared(scope, ring[0]), f"these lie over each other in a ring: {' over '.join(words)}")
