"""Where the changes of a run are to be seen: the namespaces, and within them the tables, that are read again after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from topo.changes import UPDATE, Change
from topo.facts import Desired, Ref, Stated, parts

Touched = Mapping[str, frozenset[str] | None]
"""By namespace the kinds of facts that can have changed; None for all."""

_ALONE: Final = frozenset({"fdb", "neighbour", "route", "rule", "nft"})
"""Kinds of which a change alters nothing but facts of the same kind: none has anything that goes down with it."""

_AROUND: Final = frozenset({"namespace", "link", "port"})
"""What one dump of the links tells, which is always read: names and ownership depend on it."""


def touched(changes: Sequence[Change]) -> Touched:
    """Where these changes are to be seen."""
    found: dict[str, frozenset[str] | None] = {}
    for change in changes:
        refs = (change.ref, *change.takes)
        alone = all(ref.kind in _ALONE for ref in refs)
        for ref in refs:
            known = found.setdefault(ref.ns, _AROUND)
            found[ref.ns] = known | {ref.kind} if alone and known is not None else None
        if change.ref.kind != "link" or (change.action == UPDATE and "peer" not in change.attrs):
            continue
        for fact in (change.desired, change.live):
            ends = (fact.attrs.get(name) for name in ("peer", "parent", "dev")) if fact else ()
            found.update((end[0], None) for end in ends if end)
    return found


def is_in(ref: Ref, where: Touched) -> bool:
    """Whether `ref` is of what is touched."""
    kinds = where.get(ref.ns, frozenset())
    return kinds is None or ref.kind in kinds


def within(desired: Desired, where: Touched) -> Desired:
    """What is stated of what is touched."""
    few, tables = parts(desired.facts)
    facts = Stated({ref: fact for ref, fact in few.items() if is_in(ref, where)})
    for place, table in tables.items():
        if is_in(Ref(*place), where):
            facts.update((fact[0], fact) for fact in table)
    return desired._replace(facts=facts, external=frozenset(ref for ref in desired.external if ref.ns in where))
