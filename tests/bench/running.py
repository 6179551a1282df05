"""The benchmark itself: every contender builds the same lab in turn, again and again, and is compared with the floor."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from . import netlink
from .lab import Lab
from .measuring import Sample, Samples, command_line, worker
from .worker import LABS

# Seconds for what goes on in a lab that was just built: duplicate address detection, multicast reports, router
# solicitations. With a thousand namespaces that keeps the kernel busy for eight seconds, and reading takes 2-5 times as long.
REST: Final = 1.0
REST_EACH: Final = 0.009
PAUSE: Final = 0.3
ONE_BY_ONE: Final = 100  # the largest lab that is built by a process for each command as well


class Row(NamedTuple):
    """One line of the result: what was measured, and the floors that it is compared with."""

    title: str
    action: str
    base: tuple[str, ...] = ()


_MADE, _READ, _GONE = ("floor make", "floor read"), ("floor read",), ("floor read", "floor delete")
ROWS: Final = (
    Row("floor: making", "floor make"),
    Row("floor: reading", "floor read"),
    Row("floor: deleting", "floor delete"),
    Row("one process per command: making", "one make", _MADE),
    Row("ip -batch, bridge -batch, nft -f: making", "ip make", _MADE),
    Row("ip -batch: deleting", "ip delete", _GONE),
    Row("apply, running process", "api apply", _MADE),
    Row("apply, nothing to do, running process", "api noop", _READ),
    Row("diff, running process", "api diff", _READ),
    Row("apply, one thing changed, running process", "api change", _READ),
    Row("destroy, running process", "api destroy", _GONE),
    Row("topo apply", "cli apply", _MADE),
    Row("topo apply, nothing to do", "cli noop", _READ),
    Row("topo diff", "cli diff", _READ),
    Row("topo apply, one thing changed", "cli change", _READ),
    Row("topo destroy", "cli destroy", _GONE),
)
Results = dict[str, Samples]


class Bench:
    """Measures one lab of one size. `contenders`: some of floor, ip, api and cli."""

    def __init__(self, kind: str, size: int, repetitions: int, contenders: tuple[str, ...]) -> None:
        self.lab: Lab = LABS[kind](size)
        self.repetitions, self.contenders = repetitions, contenders
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
        self._keep(what, worker(action, self.lab.kind, self.lab.size))

    def _begin(self) -> None:
        netlink.finished()
        time.sleep(PAUSE)

    def _built(self) -> None:
        self.lab.check()
        time.sleep(REST + REST_EACH * len(self.lab.namespaces()))

    def _floor(self) -> None:
        self._begin()
        self._worker("floor make", "floor_make")
        self._built()
        self._worker("floor read", "floor_read")
        self._worker("floor delete", "floor_delete")
        self.lab.check_gone()

    def _ip(self) -> None:
        if len(self.lab.namespaces()) <= ONE_BY_ONE and self.lab.size <= ONE_BY_ONE:
            self._begin()
            self._worker("one make", "one_make")
            self.lab.check()
            worker("ip_delete", self.lab.kind, self.lab.size)
        self._begin()
        self._worker("ip make", "ip_make")
        self._built()
        self._worker("ip delete", "ip_delete")
        self.lab.check_gone()

    def _api(self) -> None:
        self._begin()
        self._worker("api apply", "api_apply")
        self._built()
        for what, action in (("api noop", "api_apply"), ("floor read", "floor_read"), ("api diff", "api_diff")):
            self._worker(what, action)
        self._worker("api change", "api_change")
        self.lab.check(changed=True)
        self._worker("api destroy", "api_destroy")
        self.lab.check_gone()

    def _cli(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            lab, changed = Path(directory, "lab.yaml"), Path(directory, "changed.yaml")
            lab.write_text(self.lab.text())
            changed.write_text(self.lab.text(changed=True))
            self._begin()
            self._keep("cli apply", command_line(["apply", lab]))
            self._built()
            self._keep("cli noop", command_line(["apply", lab]))
            self._worker("floor read", "floor_read")
            self._keep("cli diff", command_line(["diff", lab]))
            self._keep("cli change", command_line(["apply", changed]))
            self.lab.check(changed=True)
            begun = time.perf_counter()
            sample = command_line(["destroy", self.lab.name])
            netlink.finished()
            self._keep("cli destroy", sample._replace(finished=time.perf_counter() - begun))
            self.lab.check_gone()


def table(results: Results) -> str:
    """The results as Markdown: medians, the best wall time, and the ratios of best wall and median CPU to the floor."""
    lines = [
        "| | wall, ms | best | of the floor | CPU, ms | of the floor | peak, MiB |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for title, action, base in ROWS:
        if (mine := results.get(action)) is None:
            continue
        wall = milliseconds(mine.wall())
        if finished := mine.finished():
            wall += f" ({milliseconds(finished)})"
        low = [results[name] for name in base if name in results]
        ratios = ["", ""]
        if low:
            ratios = [
                f"{mine.best() / sum(s.best() for s in low):.2f}",
                f"{mine.cpu() / sum(s.cpu() for s in low):.2f}",
            ]
        cpu = milliseconds(mine.cpu())
        if loading := mine.cpu() - mine.loaded():
            cpu += f" ({milliseconds(loading)})"
        row = (title, wall, milliseconds(mine.best()), ratios[0], cpu, ratios[1], f"{mine.memory() / 1024:.0f}")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}" if seconds < 0.01 else f"{seconds * 1e3:.0f}"
