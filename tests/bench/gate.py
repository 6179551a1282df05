"""The bounds that the project holds itself to (issue "As fast as the kernel"), and whether they are reached.

`most` is the aim. `held` is what is reached today with some room: the test of the bounds holds that, so that nothing
gets slower unseen.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, NamedTuple

from .lab import Lab
from .measuring import Samples
from .running import Results

SIZE: Final = 1000
_START: Final = 0.220  # seconds of CPU that a whole process may take beside what it does
_MEMORY, _MEMORY_EACH = 70.0, 8 / 1024  # MB, and for each namespace
_ANY = 99.0  # what is the kernel's doing is not held


class Bound(NamedTuple):
    """`action` takes at most `most` times what `bases` take together, and at most `held` times, with `extra` seconds."""

    action: str
    bases: tuple[str, ...]
    most: float
    held: float
    extra: float = 0.0


_MADE, _READ, _GONE = ("floor make", "floor read"), ("floor read",), ("floor read", "floor delete")
NAMESPACES: Final = (
    Bound("api apply", _MADE, 1.4, 1.8),
    Bound("cli apply", _MADE, 1.8, 2.6),
    Bound("api noop", _READ, 2.0, 2.2),
    Bound("api diff", _READ, 2.0, 2.2),
    Bound("cli noop", _READ, 2.0, 2.6, _START),
    Bound("cli diff", _READ, 2.0, 2.6, _START),
    Bound("api change", ("api noop",), 1.1, 1.3),
    Bound("api destroy", _GONE, 1.3, 1.7),
    Bound("cli destroy", _GONE, 1.3, 2.4, _START),
)


def _entries(*held: float) -> tuple[Bound, ...]:
    actions = (("apply", _MADE), ("noop", _READ), ("diff", _READ), ("change", _READ), ("destroy", _GONE))
    return tuple(Bound(f"api {name}", base, 2.0, most) for (name, base), most in zip(actions, held, strict=True))


ENTRIES: Final = {"overlay": _entries(4, 9, 9, 16, 16), "nat": _entries(8, 18, 18, 32, 12)}
"""By the kind of the lab."""


class Verdict(NamedTuple):
    """`cpu` and `wall` are ratios of median CPU times and of the best wall times, or, where `wall` is None, `cpu` is a
    figure of its own in `unit`. Other work on the machine does not enter CPU times; wall tells of waiting too, but says
    nothing where others held the CPUs or the kernel's one lock for networking. So it counts only where `clock` says
    that the machine was quiet."""

    what: str
    most: float
    held: float
    cpu: float
    wall: float | None = None
    clock: bool = False
    unit: str = ""
    least: bool = False  # the bound is a lower one

    def _holds(self, bound: float) -> bool:
        if self.least:
            return self.cpu >= bound
        return self.cpu <= bound and (self.wall is None or self.wall <= bound or not self.clock)

    @property
    def good(self) -> bool:
        return self._holds(self.most)

    @property
    def kept(self) -> bool:
        """Whether it is no worse than it was."""
        return self._holds(self.held)

    def __str__(self) -> str:
        word = "within" if self.good else "NOT within"
        figure = f"{self.cpu:.4g}{self.unit}" if self.unit else f"{self.cpu:.2f}"
        if self.wall is not None:
            figure += f" by CPU time, {self.wall:.2f} by the clock" + ("" if self.clock else " (busy: does not count)")
        return f"{self.what}: {word} {'at least ' * self.least}{self.most:.4g}{self.unit}: {figure}"


def quiet() -> bool:
    """Whether the machine has little else to do; asked before measuring."""
    return os.getloadavg()[0] < (os.cpu_count() or 1) / 2


def verdicts(lab: Lab, results: Results, clock: bool) -> list[Verdict]:
    """One per bound whose action was measured. `clock`: whether the machine was quiet before."""
    many = lab.unit == "namespaces"
    found = [
        _verdict(bound, results, clock)
        for bound in (NAMESPACES if many else ENTRIES[lab.kind])
        if _measured(bound, results)
    ]
    if not many:
        loaded = [_verdict(bound, results, clock, True) for bound in ENTRIES[lab.kind][:4] if _measured(bound, results)]
        return found + loaded + [_sent(results["api change"])] * ("api change" in results)
    if "cli apply" in results and "ip make" in results:
        times = results["ip make"].wall() / results["cli apply"].wall()
        found.append(Verdict("ip -batch / topo apply, by the clock", 5.0, 2.0, times, least=True))
    return found + list(_finished(results, clock)) + list(_memory(lab, results))


def _measured(bound: Bound, results: Results) -> bool:
    return all(name in results for name in (bound.action, *bound.bases))


def _verdict(bound: Bound, results: Results, clock: bool, loaded: bool = False) -> Verdict:
    mine, low = results[bound.action], [results[base] for base in bound.bases]
    cpu = ((mine.loaded() if loaded else mine.cpu()) - bound.extra) / sum(s.cpu() for s in low)
    wall = (mine.best() - bound.extra) / sum(s.best() for s in low)
    what = f"{bound.action} / {' + '.join(bound.bases)}" + f" less {bound.extra * 1e3:.0f} ms" * bool(bound.extra)
    if loaded:
        return Verdict(f"{what}, of a file that is loaded", bound.most, bound.held, cpu)
    return Verdict(what, bound.most, bound.held, cpu, wall, clock)


def _finished(results: Results, clock: bool) -> Iterable[Verdict]:
    """Destroying, until the kernel has let go of the last namespace."""
    low = results["floor delete"].finished() + results["floor read"].wall()
    if "api destroy" in results and clock:
        yield Verdict("api destroy, until the kernel is done", 1.3, 2.0, results["api destroy"].finished() / low)


def _memory(lab: Lab, results: Results) -> Iterable[Verdict]:
    peaks = [s.memory() / 1000 * 1.024 for name, s in results.items() if name.startswith(("api", "cli"))]
    if peaks:
        most = _MEMORY + _MEMORY_EACH * lab.size
        yield Verdict("peak memory", most, most * 1.1, max(peaks), unit=" MB")


def _sent(change: Samples) -> Verdict:
    """One entry changed: an element deleted and one added, or one entry replaced."""
    return Verdict("entries touched by changing one", 4, 4, change.sent())


def growth(small: tuple[Lab, Results], large: tuple[Lab, Results]) -> list[Verdict]:
    """Time and memory per namespace of a large lab against those of a smaller one; and against the floor's, as the
    kernel itself needs more for each namespace where there are more of them."""
    found = []
    sizes, both = (small[0].size, large[0].size), (small[1], large[1])
    words = f"per namespace, {sizes[1]} / {sizes[0]}"
    for action, bases in (("api apply", _MADE), ("api noop", _READ), ("api destroy", _GONE), ("cli apply", _MADE)):
        if all(name in results for results in both for name in (action, *bases)):
            mine = _grown([results[action].cpu() for results in both], sizes)
            low = _grown([sum(results[base].cpu() for base in bases) for results in both], sizes)
            found.append(Verdict(f"{action}, {words} (the floor: {low:.2f})", 1.2, _ANY, mine))
            found.append(Verdict(f"{action}, {words}, beyond the floor's", 1.2, 1.4, mine / low))
    if all("api apply" in results for results in both):
        memory = _grown([results["api apply"].memory() for results in both], sizes)
        found.append(Verdict(f"memory, {words}", 1.2, 1.2, memory))
    return found


def _grown(values: list[float], sizes: tuple[int, int]) -> float:
    return (values[1] / sizes[1]) / (values[0] / sizes[0])


def starting(found: dict[str, Samples]) -> list[Verdict]:
    imports = found["imports"].cpu()
    rows = [
        Verdict(f"topo {name}, whole process / the imports", 1.4, 1.4, found[name].cpu() / imports)
        for name in ("validate", "diff", "noop")
    ]
    return rows + [Verdict(name, 60, 75, found[name].cpu() * 1e3, unit=" ms") for name in ("help", "completion")]


def planning(half: float, whole: float) -> list[Verdict]:
    """Seconds of CPU for plans of 25,000 and 50,000 objects."""
    return [
        Verdict("a plan of 50,000 objects", 3.0, 6.0, whole, unit=" s"),
        Verdict("a plan of 50,000 objects / one of 25,000", 2.2, 2.6, whole / half),
    ]
