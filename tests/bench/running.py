"""The benchmark itself: every contender builds the same lab in turn, again and again, and is compared with the floor."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from . import floor
from .lab import Star
from .measuring import Sample, Samples, command_line, worker
from .worker import CHANGED_MTU

# Seconds for what goes on in a lab that was just built: duplicate address detection, multicast reports, router
# solicitations. With a thousand namespaces that keeps the kernel busy for eight seconds, and reading takes 2-5 times as long.
REST: Final = 1.0
REST_EACH: Final = 0.009
PAUSE: Final = 0.3


class Row(NamedTuple):
    """One line of the result: what was measured, and the floor that it is compared with."""

    title: str
    action: str
    base: str


ROWS: Final = (
    Row("floor: making", "floor make", "floor make"),
    Row("floor: reading", "floor read", "floor read"),
    Row("floor: deleting", "floor delete", "floor delete"),
    Row("ip -batch: making", "ip make", "floor make"),
    Row("ip -batch: deleting", "ip delete", "floor delete"),
    Row("apply, running process", "api apply", "floor make"),
    Row("apply, nothing to do, running process", "api noop", "floor read"),
    Row("diff, running process", "api diff", "floor read"),
    Row("apply, one attribute changed, running process", "api change", "floor read"),
    Row("destroy, running process", "api destroy", "floor delete"),
    Row("topo apply", "cli apply", "floor make"),
    Row("topo apply, nothing to do", "cli noop", "floor read"),
    Row("topo diff", "cli diff", "floor read"),
    Row("topo apply, one attribute changed", "cli change", "floor read"),
    Row("topo destroy", "cli destroy", "floor delete"),
)
Results = dict[str, Samples]


class Bench:
    """Measures one size of the lab. `contenders`: some of floor, ip, api and cli."""

    def __init__(self, size: int, repetitions: int, contenders: tuple[str, ...]) -> None:
        self.star, self.repetitions, self.contenders = Star(size), repetitions, contenders
        self.results: Results = {}

    def run(self) -> Results:
        """Each repetition is one turn of every contender. Raises AssertionError where one did not build the lab."""
        turns: dict[str, Callable[[], None]] = {
            "floor": self._floor,
            "ip": self._ip,
            "api": self._api,
            "cli": self._cli,
        }
        for _ in range(self.repetitions):
            for name in self.contenders:
                turns[name]()
        return self.results

    def _keep(self, what: str, sample: Sample) -> None:
        self.results.setdefault(what, Samples()).append(sample)

    def _worker(self, what: str, action: str) -> None:
        self._keep(what, worker(action, self.star.size))

    def _begin(self) -> None:
        floor.finished()
        time.sleep(PAUSE)

    def _built(self, mtu: int = 1500) -> None:
        self.star.check(mtu)
        time.sleep(REST + REST_EACH * self.star.size)

    def _floor(self) -> None:
        self._begin()
        self._worker("floor make", "floor_make")
        self._built()
        self._worker("floor read", "floor_read")
        self._worker("floor delete", "floor_delete")
        self.star.check_gone()

    def _ip(self) -> None:
        self._begin()
        self._worker("ip make", "ip_make")
        self._built()
        self._worker("ip delete", "ip_delete")
        self.star.check_gone()

    def _api(self) -> None:
        self._begin()
        self._worker("api apply", "api_apply")
        self._built()
        for what, action in (("api noop", "api_apply"), ("floor read", "floor_read"), ("api diff", "api_diff")):
            self._worker(what, action)
        self._worker("api change", "api_change")
        self.star.check(CHANGED_MTU)
        self._worker("api destroy", "api_destroy")
        self.star.check_gone()

    def _cli(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            lab, changed = Path(directory, "lab.yaml"), Path(directory, "changed.yaml")
            lab.write_text(self.star.text())
            changed.write_text(self.star.text(CHANGED_MTU))
            self._begin()
            self._keep("cli apply", command_line(["apply", lab]))
            self._built()
            self._keep("cli noop", command_line(["apply", lab]))
            self._worker("floor read", "floor_read")
            self._keep("cli diff", command_line(["diff", lab]))
            self._keep("cli change", command_line(["apply", changed]))
            self.star.check(CHANGED_MTU)
            begun = time.perf_counter()
            sample = command_line(["destroy", self.star.name])
            floor.finished()
            self._keep("cli destroy", sample._replace(finished=time.perf_counter() - begun))
            self.star.check_gone()


def table(results: Results) -> str:
    """The results as Markdown: medians, the best wall time, and the ratios of best wall and median CPU to the floor."""
    lines = [
        "| | wall, ms | best | of the floor | CPU, ms | of the floor | peak, MiB |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for title, action, base in ROWS:
        if (mine := results.get(action)) is None:
            continue
        wall = f"{mine.wall() * 1e3:.0f}"
        if finished := mine.finished():
            wall += f" ({finished * 1e3:.0f})"
        ratios = (
            [f"{mine.best() / low.best():.2f}", f"{mine.cpu() / low.cpu():.2f}"]
            if (low := results.get(base)) and action != base
            else ["", ""]
        )
        walls = (wall, f"{mine.best() * 1e3:.0f}", ratios[0])
        row = (title, *walls, f"{mine.cpu() * 1e3:.0f}", ratios[1], f"{mine.memory() / 1024:.0f}")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)
