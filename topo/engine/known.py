"""What is known of a topology before its run: its record, and what the last runs stated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from topo.engine import record as records
from topo.engine.record import DamagedError, Record
from topo.errors import InputError, TopoError
from topo.facts import HOST, Desired, Facts, Ref, namespace, parts
from topo.file.earlier import other_version
from topo.file.lowering import lower
from topo.file.model import Topology
from topo.planning.ownership import BY_PROTOCOL


class Lowered:
    """What a run has lowered, and the record that it has read: no document is lowered twice, nor a record taken apart."""

    def __init__(self, *known: Desired | None) -> None:
        self._known = [desired for desired in known if desired is not None and desired.document]
        self._same: dict[int, dict[str, Any]] = {}  # what was asked for last of each, by its identity
        self._read: tuple[str, bytes, Record | None] = ("", b"", None)

    def __call__(self, document: dict[str, Any]) -> Desired:
        """Raises ValueError or TopoError for a document of another version of topo."""
        for desired in self._known:
            if document is self._same.get(id(desired)) or desired.document == document:
                self._same[id(desired)] = document
                return desired
        like = (found for desired in self._known if (found := other_version(desired, document)))
        self._known.append(next(like, None) or self._shared(lower(Topology.model_validate(document))))
        return self._known[-1]

    def record(self, name: str) -> Record | None:
        """As `record.load`, each time from the file."""
        text = records.content(name)
        if text is None:
            return None
        if self._read[:2] != (name, text):
            self._read = (name, text, records.understood(name, text))
        return self._read[2]

    def _shared(self, found: Desired) -> Desired:
        """`found`, with facts that are known already in place of equal ones: to hold both takes memory."""
        for desired in self._known:
            mine = desired.facts.get
            both = ((mine(ref), fact) for ref, fact in found.facts.items())
            facts = {kept[0]: kept for have, fact in both if (kept := have if have == fact else fact)}
            found = found._replace(facts=facts)
        return found


def of(name: str, home: int, lowered: Lowered) -> tuple[Record | None, Desired | None, list[str]]:
    """The record of a topology, what it says was applied, and warnings about it.

    Raises InputError where it was applied from another network namespace.
    """
    try:
        record = lowered.record(name)
    except DamagedError as error:
        return None, None, [f"{error}; going by the marks in the kernel"]
    if record is None:
        return None, None, []
    if record.home != home:
        raise InputError(
            f"{name} was applied from another network namespace (inode {record.home}): run topo there, or, if that "
            f"namespace is gone, remove {records.DIRECTORY}/{name}.json"
        )
    previous = stated(record, lowered)
    if previous is None:
        return record, None, [f"the record of {name} is of another version of topo; going by the marks in the kernel"]
    return record, previous, []


def stated(record: Record, lowered: Lowered) -> Desired | None:
    """All that runs of this topology may have made, what was applied over what is pending; None where it makes no sense."""
    found = _statements(record, lowered)
    if found is None:
        return None
    return reduce(together, found, Desired(record.topology, {})) if len(found) != 1 else found[0]


def _statements(record: Record, lowered: Lowered) -> list[Desired] | None:
    """What is pending, and what was applied; None where it makes no sense."""
    try:
        return [lowered(doc) for doc in (record.pending, record.applied) if doc is not None]
    except (ValueError, TopoError):
        return None


def together(one: Desired, other: Desired) -> Desired:
    """What either states, `other` over `one`."""
    return other._replace(
        facts={**one.facts, **other.facts},
        external=one.external | other.external,
        take_over={**one.take_over, **other.take_over},
    )


def earlier(record: Record | None, previous: Desired | None, lowered: Lowered) -> Sequence[Desired]:
    """What may have been applied, each by itself: a run that was killed may have left two."""
    if record is not None and record.pending is not None:
        return _statements(record, lowered) or ()
    return () if previous is None else (previous,)


def heirs(desired: Desired, restore: Facts, previous: Desired | None) -> dict[Ref, str]:
    """Who else states a sysctl that `desired` no longer does: it stays, and its original passes to that record."""
    left = {ref for ref in restore if ref.kind == "sysctl" and ref not in desired.facts}
    left = {ref for ref in left if not _makes(previous, ref.ns)}
    found: dict[Ref, str] = {}
    for name in records.names() if left else ():
        if name == desired.name:
            continue
        try:
            other = records.load(name)
        except DamagedError:
            continue
        others = stated(other, Lowered()) if other else None
        if others:
            found.update((ref, name) for ref in left if ref in others.facts)
    return found


def _makes(stated: Desired | None, ns: str) -> bool:
    """Whether a namespace is one that this topology makes itself, in which no other one has a say."""
    fact = stated.facts.get(namespace(ns)) if stated else None
    return fact is not None and "from" not in fact.attrs


def unrecorded(doubtful: Desired) -> Desired:
    """Of what a file states, that which bears topo's number or name where it was applied: safe to take for ours. Without
    its document, as what was applied may have been another one."""
    kinds = BY_PROTOCOL | {"namespace", "nft", "link"}
    return doubtful._replace(
        facts={ref: fact for ref, fact in doubtful.facts.items() if ref.kind in kinds}, document={}
    )


def touches_host(desired: Desired | None) -> bool:
    """Whether a run of this could meet another topology's: in the host's namespace, or in one that others made."""
    if desired is None:
        return False
    few, tables = parts(desired.facts)
    return any(ns == HOST for _, ns in tables) or any(
        ref.ns == HOST or (ref.kind == "namespace" and "from" in fact.attrs) for ref, fact in few.items()
    )
