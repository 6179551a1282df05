"""The bounds that the project holds itself to at a thousand namespaces."""

from __future__ import annotations

from typing import Final, NamedTuple

from .running import Results

SIZE: Final = 1000
MOST: Final = 3.0  # times the floor


class Bound(NamedTuple):
    """`action` takes at most MOST times what the floors in `bases` take together."""

    action: str
    bases: tuple[str, ...]


BOUNDS: Final = (
    Bound("api apply", ("floor make", "floor read")),  # it reads what is there first, and again to verify
    Bound("api noop", ("floor read",)),
    Bound("api diff", ("floor read",)),
    Bound("api destroy", ("floor delete",)),
)


class Verdict(NamedTuple):
    """Ratios to the floor, by CPU time and by the clock. The clock tells of the machine's other work too, CPU time
    not of waiting; what is slow by both is topo's own fault."""

    action: str
    cpu: float
    wall: float

    @property
    def good(self) -> bool:
        return min(self.cpu, self.wall) <= MOST

    def __str__(self) -> str:
        words = "within" if self.good else "NOT within"
        return f"{self.action}: {self.wall:.2f} of the floor by the clock, {self.cpu:.2f} by CPU time; {words} {MOST:g}"


def verdicts(results: Results) -> list[Verdict]:
    """One per bound whose action was measured."""
    found = []
    for action, bases in BOUNDS:
        if action in results and all(base in results for base in bases):
            mine, low = results[action], [results[base] for base in bases]
            cpu, wall = mine.cpu() / sum(s.cpu() for s in low), mine.wall() / sum(s.wall() for s in low)
            found.append(Verdict(action, cpu, wall))
    return found
