"""Renames: live links of this topology that the file gives another name keep their ifindex and all that sits on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final

from topo.facts import BELOW, ON_LINK, OWN, Fact, Facts, Live, Ref, link
from topo.planning.compare import replaced

Names = dict[Ref, Ref]
"""Live link -> the name that it is to have."""

Pair = tuple[Ref, Ref]
_NO_RENAME: Final = frozenset({"", "veth", "vxcan", "netkit"})  # pairs have a matching of their own


def renames(goal: Facts, live: Live, absent: Iterable[Ref], extra: Iterable[Ref]) -> Names:
    """Which live links are to be renamed.

    `absent`: what is desired and not live; `extra`: what is live and not desired. A name that
    is taken in the live state is never renamed to, so that renames do not depend on each other.
    """
    free = {ref: goal[ref] for ref in absent if ref.kind == "link"}
    if not free:
        return {}
    spare = {ref: live.facts[ref] for ref in extra if ref.kind == "link" and live.facts[ref].origin == OWN}
    if not spare:
        return {}
    return {**_pairs(goal, live, free, spare), **_singles(live, free, spare)}


def _pairs(goal: Facts, live: Live, free: Facts, spare: Facts) -> Names:
    """Pairs between the same two namespaces: those that share an end first, then a master, then in order."""
    names: Names = {}
    wanted = _ends(free, goal)
    for signature in (_shared, _masters, _namespaces):
        offers: dict[Hashable, deque[Pair]] = {}
        for pair in _ends(spare, live.facts):
            if not any(end in names for end in pair):
                for key in signature(pair, live.facts):
                    offers.setdefault(key, deque()).append(pair)
        left = []
        for pair in wanted:
            found = _first_fit(pair, signature(pair, goal), offers, names, live)
            names.update(found)
            if not found:
                left.append(pair)
        wanted = left
    return {old: new for old, new in names.items() if old != new}


def _ends(some: Facts, everything: Facts) -> list[Pair]:
    """The pairs that have an end in `some`, each once."""
    pairs: dict[frozenset[Ref], Pair] = {}
    for ref, fact in some.items():
        peer = fact.attrs.get("peer")
        if peer and (other := link(*peer)) in everything:
            pairs.setdefault(frozenset((ref, other)), (ref, other))
    return list(pairs.values())


def _spaces(pair: Pair) -> tuple[str, ...]:
    return tuple(sorted(end.ns for end in pair))


def _shared(pair: Pair, facts: Facts) -> list[Hashable]:
    return [(_spaces(pair), end) for end in pair]


def _masters(pair: Pair, facts: Facts) -> list[Hashable]:
    masters = sorted((end.ns, facts[end].attrs["master"]) for end in pair if facts[end].attrs.get("master"))
    return [(_spaces(pair), tuple(masters))] if masters else []


def _namespaces(pair: Pair, facts: Facts) -> list[Hashable]:
    return [_spaces(pair)]


def _first_fit(
    pair: Pair, keys: Iterable[Hashable], offers: dict[Hashable, deque[Pair]], names: Names, live: Live
) -> Names:
    for key in keys:
        queue = offers.get(key)
        while queue:
            offer = queue.popleft()
            found = {} if any(end in names for end in offer) else _fit(offer, pair, live)
            if found:
                return found
    return {}


def _fit(have: Pair, want: Pair, live: Live) -> Names:
    """Which end of `have` becomes which of `want`; empty where they do not fit."""
    for first, second in (want, want[::-1]):
        if have[0].ns != first.ns or have[1].ns != second.ns:
            continue
        if all(old == new or new not in live for old, new in ((have[0], first), (have[1], second))) and (
            have[0].ns != have[1].ns
            or not {have[0], have[1]} & {first, second}
            or have[0] == first
            or have[1] == second
        ):
            return {have[0]: first, have[1]: second}
    return {}


def _singles(live: Live, free: Facts, spare: Facts) -> Names:
    """A bridge, vxlan, macvlan, ... that is the only one of its kind to go, where one of it is to come."""
    wanted, offered = _by_kind(free), _by_kind(spare)
    names: Names = {}
    for key, new in wanted.items():
        old = offered.get(key, [])
        if len(old) == len(new) == 1:
            rekeyed = _moved(spare[old[0]], {old[0]: new[0]})
            if not replaced(free[new[0]], rekeyed):
                names[old[0]] = new[0]
    return names


def _by_kind(links: Facts) -> dict[tuple[str, str], list[Ref]]:
    found: dict[tuple[str, str], list[Ref]] = {}
    for ref, fact in links.items():
        kind = fact.attrs.get("kind") or ""
        if kind not in _NO_RENAME:
            found.setdefault((ref.ns, kind), []).append(ref)
    return found


def rekeyed(live: Live, names: Names) -> Live:
    """The live state as it is told after the renames. A renamed link's fact keeps its old ref, under the new key."""
    if not names:
        return live
    facts: Facts = {}
    for ref, fact in live.facts.items():
        moved = _moved(fact, names)
        if ref in names:
            facts[names[ref]] = moved._replace(ref=ref)
        else:
            facts[moved.ref] = moved
    return Live(facts)


def renamed(ref: Ref, names: Names) -> Ref:
    """The ref of a fact after the renames."""
    return _moved(Fact(ref, {}), names).ref


def _moved(fact: Fact, names: Names) -> Fact:
    """`fact` with every mention of a renamed link changed."""
    ref = fact.ref
    ns = ref.ns

    def name(ifname: Any) -> Any:
        new = names.get(Ref("link", ns, (ifname,)))
        return new.key[0] if new else ifname

    if ref.kind == "link":
        return Fact(names.get(ref, ref), _moved_link(fact.attrs, ns, names, name), fact.origin)
    if ref.kind in ON_LINK:
        return fact._replace(ref=Ref(ref.kind, ns, (name(ref.key[0]), *ref.key[1:])))
    if ref.kind in ("route", "nexthop"):
        hops = fact.attrs.get("nexthops")
        if hops:
            hops = tuple((hop[0], name(hop[1]), *hop[2:]) for hop in hops)
        attrs = {**fact.attrs, "nexthops": hops} if "nexthops" in fact.attrs else dict(fact.attrs)
        if attrs.get("dev"):
            attrs["dev"] = name(attrs["dev"])
        return fact._replace(attrs=attrs)
    if ref.kind == "sysctl":
        parts = ref.key[0].split("/")
        if len(parts) > 4 and parts[2] in ("conf", "neigh"):
            parts[3] = name(parts[3])
        return fact._replace(ref=Ref("sysctl", ns, ("/".join(parts),)))
    return fact


def _moved_link(attrs: dict[str, Any], ns: str, names: Names, name: Callable[[Any], Any]) -> dict[str, Any]:
    changed = dict(attrs)
    if changed.get("master"):
        changed["master"] = name(changed["master"])
    for below in (*BELOW, "link", "primary"):
        value = changed.get(below)
        if isinstance(value, tuple) and (new := names.get(link(*value))):
            changed[below] = (new.ns, *new.key)
    return changed
