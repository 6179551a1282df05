"""Names that lead to other namespaces than they did: what is known of the former ones goes by other names from then on.

`homes`, here and below: what a recorded namespace goes by now, by what it went by; empty for one that is gone.
"""

from __future__ import annotations

from collections.abc import Mapping

from topo.facts import Desired, Facts, Ref, lasting, namespace


def stated(previous: Desired, homes: Mapping[str, str]) -> Desired:
    """What the last apply stated, in each of the namespaces in which it, or a run that was killed since, made it."""
    places: dict[str, list[str]] = {}
    for was, now in homes.items():
        places.setdefault(lasting(was), []).extend([now] if now else [])

    def at(ref: Ref) -> list[Ref]:
        if ref.ns not in places or ref == namespace(ref.ns):
            return [ref]
        return [ref._replace(ns=ns) for ns in places[ref.ns]]

    return previous._replace(
        facts={new: fact._replace(ref=new) for ref, fact in previous.facts.items() for new in at(ref)},
        external=frozenset(new for ref in previous.external for new in at(ref)),
        take_over={
            new: taken
            for bridge, nic in previous.take_over.items()
            for new, taken in zip(at(bridge), at(nic), strict=True)
        },
    )


def originals(restore: Facts, homes: Mapping[str, str]) -> Facts:
    """What is to be put back, where that still is."""
    found: Facts = {}
    for ref, fact in restore.items():
        if ns := homes.get(ref.ns, ref.ns):
            new = ref._replace(ns=ns)
            found[new] = fact._replace(ref=new)
    return found


def recorded(namespaces: Mapping[str, int], homes: Mapping[str, str]) -> dict[str, int]:
    """The recorded namespaces, by what they go by now."""
    return {now: inode for was, inode in namespaces.items() if (now := homes.get(was, was))}
