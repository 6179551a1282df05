"""Warn of what others have on a bridge that goes: it is topo's to delete, and their ports are on no bridge afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from topo.changes import DELETE, REPLACE, Change
from topo.facts import OWN, Live, Ref

_MOST = 5  # names


def warnings(changes: Sequence[Change], live: Live, stated: Collection[Ref]) -> list[str]:
    """One line for each bridge that is deleted, or made anew, with ports that topo neither made nor gives back.
    `stated`: links of others that the file speaks of, or the one before did."""
    gone = {
        (change.live.ref.ns, change.live.ref.key[0])
        for change in changes
        if change.ref[0] == "link" and change.action in (DELETE, REPLACE)
        if change.live and change.live.attrs.get("kind") == "bridge"
    }
    return list(_left(gone, {*stated, *(change.ref for change in changes)}, live)) if gone else []


def _left(gone: set[tuple[str, str]], known: set[Ref], live: Live) -> Iterator[str]:
    for ns, name in sorted(gone):
        ports = [
            fact.ref.key[0]
            for fact in live.of("link")
            if fact.ref.ns == ns and fact.attrs.get("master") == name and fact.origin != OWN and fact.ref not in known
        ]
        if ports:
            more = f" and {len(ports) - _MOST} more" if len(ports) > _MOST else ""
            yield f"bridge {name} goes, and others have ports on it, which stay without a bridge: " + (
                ", ".join(ports[:_MOST]) + more
            )
