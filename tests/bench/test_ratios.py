"""What is reached today, on the real kernel, with some room: gate.py's `held`. The aims are printed only."""

from __future__ import annotations

import pytest

from . import dataplane, gate, planning, starting
from .gate import Verdict, quiet, verdicts
from .running import Bench, table

pytestmark = [pytest.mark.bench, pytest.mark.live, pytest.mark.timeout(900)]


def _kept(found: list[Verdict]) -> None:
    print(*found, sep="\n")
    assert found
    assert all(verdict.kept for verdict in found), "\n".join(f"{v} (held: {v.held:g})" for v in found if not v.kept)


def test_the_star_and_its_growth() -> None:
    clock = quiet()
    few, many = (Bench("star", size, 3, ("floor", "api")) for size in (100, gate.SIZE))
    small, large = few.run(), many.run()
    print(f"\n{table(large)}")
    _kept(verdicts(many.lab, large, clock) + gate.growth((few.lab, small), (many.lab, large)))


@pytest.mark.parametrize("kind", ["nat", "overlay"])
def test_a_thousand_entries(kind: str) -> None:
    clock = quiet()
    bench = Bench(kind, gate.SIZE, 3, ("floor", "api"))
    results = bench.run()
    print(f"\n{table(results)}")
    _kept(verdicts(bench.lab, results, clock))


def test_the_start_of_a_process() -> None:
    _kept(gate.starting(starting.measure(5)))


def test_a_plan_without_a_kernel() -> None:
    _kept(gate.planning(planning.measure(25_000).cpu(), planning.measure(50_000).cpu()))


def test_published_ports_cost_no_packets() -> None:
    _kept(dataplane.verdicts(dataplane.measure()))
