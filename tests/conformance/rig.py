"""Drives the engine with facts instead of files.

The record keeps a file's document, from which the facts are lowered again. Here the document is a number under which
the facts are remembered; all else of the engine, and the kernel, is as it is in earnest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from conformance.case import TOPOLOGY, Case
from topo.changes import CREATE, Change, Op
from topo.engine import apply as engine
from topo.engine import known
from topo.engine.apply import KernelLike, State
from topo.facts import HOST, Desired, Fact, Facts, Live, link
from topo.kernel.outcome import Outcome, Progress
from topo.planning.touched import Touched


class _Documents:
    """Stands where the engine makes a document into a topology, and that into facts."""

    def __init__(self) -> None:
        self.known: list[Desired] = []

    def model_validate(self, document: dict[str, Any]) -> dict[str, Any]:
        return document

    def __call__(self, document: dict[str, Any]) -> Desired:
        number: int = document["number"]
        return self.known[number]

    def keep(self, desired: Desired) -> Desired:
        for kept in self.known:
            if (kept.facts, kept.external) == (desired.facts, desired.external):
                return kept
        numbered = desired._replace(document={"number": len(self.known)})
        self.known.append(numbered)
        return numbered


class Rig:
    """One kernel and one topology."""

    def __init__(self, kernel: KernelLike, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel = kernel
        self.documents = _Documents()
        monkeypatch.setattr(known, "Topology", self.documents)
        monkeypatch.setattr(known, "lower", self.documents)

    def desired(self, case: Case, fact: Fact | None) -> Desired:
        """What is around, and the object in this state, or without it."""
        facts = case.whole(fact)
        external = frozenset({fact.ref}) if case.external and fact else frozenset()
        return self.documents.keep(Desired(TOPOLOGY, facts, external))

    def desired_facts(self, facts: Facts) -> Desired:
        return self.documents.keep(Desired(TOPOLOGY, facts))

    def prepare(self, desired: Desired) -> State:
        return engine.prepare(self.kernel, desired)

    def differences(self, desired: Desired) -> tuple[Change, ...]:
        return self.prepare(desired).plan.changes

    def apply(self, desired: Desired, kernel: KernelLike | None = None) -> tuple[Change, ...]:
        """Apply, which must leave no difference; the changes that were made."""
        made = engine.apply(kernel or self.kernel, desired).plan.changes
        assert self.differences(desired) == ()
        return made

    def apply_case(self, case: Case, fact: Fact | None) -> tuple[Change, ...]:
        return self.apply(self.desired(case, fact))

    def destroy(self) -> None:
        engine.destroy(self.kernel, TOPOLOGY)


class Refusing:
    """A kernel that, once, gets one op more than it was to have, behind the first `after` stages: one that it refuses,
    because the name is taken."""

    def __init__(self, kernel: KernelLike, after: int | None = None) -> None:
        self.kernel, self.after, self.done = kernel, after, False
        self.refused: list[Op] = []

    def begin(self, desired: Desired, earlier: Sequence[Desired], recorded: Mapping[str, int]) -> dict[str, str]:
        return self.kernel.begin(desired, earlier, recorded)

    def told(self, desired: Desired) -> Desired:
        return self.kernel.told(desired)

    def read(self, desired: Desired, previous: Desired | None) -> Live:
        return self.kernel.read(desired, previous)

    def reread(self, known: Live, where: Touched, desired: Desired, previous: Desired | None) -> Live:
        return self.kernel.reread(known, where, desired, previous)

    def require(self, changes: Sequence[Change], desired: Desired) -> None:
        self.kernel.require(changes, desired)

    def warnings(self, desired: Desired, changes: Sequence[Change]) -> list[str]:
        return self.kernel.warnings(desired, changes)

    def inodes(self, desired: Desired) -> dict[str, int]:
        return self.kernel.inodes(desired)

    def sweep(self, names: Iterable[str], topology: str) -> None:
        self.kernel.sweep(names, topology)

    def home(self) -> int:
        return self.kernel.home()

    def reset(self) -> None:
        self.kernel.reset()

    def execute(self, stages: Sequence[Sequence[Op]], desired: Desired, progress: Progress | None = None) -> Outcome:
        if self.done:
            return self.kernel.execute(stages, desired, progress)
        self.done = True
        taken = link(HOST, "lo")
        refused = Op(CREATE, taken, Fact(taken, {"kind": "bridge", "master": None}), None)
        count = len(stages) if self.after is None else self.after
        outcome = self.kernel.execute([*stages[:count], [refused], *stages[count:]], desired, progress)
        self.refused = [op for op, _ in outcome.failed]
        return outcome
