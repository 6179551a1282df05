"""Killing a lab's runs at chosen steps, and what has to be possible after each."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from faults.running import Ended, ok, run
from faults.seams import KILL, Fault
from faults.world import Seen, World, like

MORE: Final = bool(os.environ.get("TOPO_FAULTS_MORE"))
EACH: Final = MORE or bool(os.environ.get("TOPO_FAULTS_EACH"))
"""Whether it is tried at each step of each lab; at some of them else."""
SEED: Final = int(os.environ.get("TOPO_FAULTS_SEED", "5"))


class Phase(NamedTuple):
    """One run to be killed: what is applied before it, and its words."""

    name: str
    before: str  # none, first
    words: tuple[str, ...]  # `first` and `second` stand for the files, `name` for the topology


PHASES: Final = (
    Phase("apply", "none", ("apply", "first")),
    Phase("edit", "first", ("apply", "second")),
    Phase("destroy", "first", ("destroy", "name")),
)


class Bench:
    """A lab with what its runs lead to when nothing goes wrong."""

    def __init__(self, world: World, states: Sequence[str] = ("first", "second")) -> None:
        self.world = world
        self.at = "none"
        self.seen: dict[str, Seen] = {"none": world.before}
        self.problems: list[str] = []
        for state in states:
            self.to(state)
            self.seen[state] = world.settled()
        self.to("none")
        self.expect("none", "never killed")

    def wrong(self, what: str) -> None:
        self.problems.append(what)
        print(what, file=sys.stderr, flush=True)

    def words(self, phase: Phase) -> list[str]:
        files = {"first": str(self.world.first), "second": str(self.world.second), "name": self.world.name}
        return [files.get(word, word) for word in phase.words]

    def to(self, state: str) -> Ended | None:
        """Bring the lab there, with nothing in the way."""
        if self.at == state:
            return None
        self.at = "?"
        files = {"first": self.world.first, "second": self.world.second}
        ended = ok("apply", files[state]) if state in files else ok("destroy", self.world.name)
        self.at = state
        return ended

    def expect(self, state: str, what: str, but_for: str = "") -> None:
        """The host is as it is whenever `state` is reached; `but_for` lines that begin so."""
        form = dict if state == "none" else like
        differences = self.world.differs(self.seen[state], form)
        if but_for:
            differences = [line for line in differences if not line[2:].startswith(but_for)]
        if differences:
            self.wrong(f"{what}: not as in {state}:\n    " + "\n    ".join(differences))

    def steps(self, phase: Phase) -> list[str]:
        """The steps of an undisturbed run."""
        self.to(phase.before)
        ended = ok(*self.words(phase))
        self.at = "?"
        return ended.steps

    def kill(self, phase: Phase, at: int = 0, after: float | None = None) -> Ended:
        self.to(phase.before)
        self.at = "?"
        return run(*self.words(phase), fault=Fault(KILL, {at}) if at else Fault(), after=after)

    def recover(self, state: str, what: str) -> None:
        """After a kill: reach `state`, and see that it is so."""
        try:
            listed = ok("list")
            assert "damaged" not in listed.text, listed.text
            self.to(state)
            if state != "none":
                ok("diff", self.world.first if state == "first" else self.world.second)
        except AssertionError as error:
            self.wrong(f"{what}: {error}")
            self.force()
            return
        self.expect(state, what)

    def force(self) -> None:
        """Back to nothing, by file where the name does not do."""
        self.at = "?"
        run("destroy", self.world.second)
        run("destroy", self.world.first)
        run("destroy", self.world.name)
        if left := self.world.as_before():
            raise AssertionError("\n".join([*self.problems, "and it cannot be removed:", *left]))
        self.at = "none"


def ways(phase: Phase) -> tuple[str, ...]:
    """Where to go from a run that was killed."""
    return ("none", "second", "first") if phase.name == "edit" else ("none", "first")


def chosen(steps: Sequence[str], every: int, start: int) -> Iterator[int]:
    """Steps to be killed at, counted from 1, one beyond the last among them."""
    return iter(range(1 + start % every, len(steps) + 2, every))


def moments(number: int, longest: float, seed: str) -> list[float]:
    """Moments in between, in seconds from the start."""
    source = random.Random(f"{SEED} {seed}")
    return sorted(source.uniform(0, longest) for _ in range(number))
