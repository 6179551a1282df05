"""The bounds that the project holds itself to at a thousand namespaces."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from .running import Results

SIZE: Final = 1000
MOST: Final = 3.0  # times the floor


class Bound(NamedTuple):
    """`action` takes at most MOST times what the floors in `bases` take together."""

    action: str
    bases: tuple[str, ...]


BOUNDS: Final = (
    Bound("api apply", ("floor make",)),  # it reads what is there first, and all of it again to verify
    Bound("api noop", ("floor read",)),
    Bound("api diff", ("floor read",)),
    Bound("api destroy", ("floor delete",)),
    Bound("cli apply", ("floor make",)),
    Bound("cli destroy", ("floor delete",)),
)


def quiet() -> bool:
    """Whether the machine has little else to do; asked before measuring."""
    return os.getloadavg()[0] < (os.cpu_count() or 1) / 2


class Verdict(NamedTuple):
    """Ratios to the floor: of median CPU times, and of the best wall times. Other work on the machine does not enter
    the first; the second tells of waiting too, but says nothing where others held the CPUs or the kernel's one lock
    for networking. So it counts only where `clock` says that the machine was quiet."""

    action: str
    cpu: float
    wall: float
    clock: bool

    @property
    def good(self) -> bool:
        return self.cpu <= MOST and (self.wall <= MOST or not self.clock)

    def __str__(self) -> str:
        words = "within" if self.good else "NOT within"
        busy = "" if self.clock else " (a busy machine: does not count)"
        return f"{self.action}: {words} {MOST:g} of the floor: {self.cpu:.2f} by CPU time, {self.wall:.2f} by the clock{busy}"


def verdicts(results: Results, clock: bool) -> list[Verdict]:
    """One per bound whose action was measured. `clock`: whether the machine was quiet before."""
    found = []
    for action, bases in BOUNDS:
        if action in results and all(base in results for base in bases):
            mine, low = results[action], [results[base] for base in bases]
            cpu, wall = mine.cpu() / sum(s.cpu() for s in low), mine.best() / sum(s.best() for s in low)
            found.append(Verdict(action, cpu, wall, clock))
    return found
