"""Killed at every step, and at any moment: what is there can be finished, gone back from, or removed."""

from __future__ import annotations

import os

import pytest
from sandbox.host import Host

from faults.figures import FIGURES
from faults.killed import EACH, MORE, PHASES, Bench, chosen, moments, ways
from faults.labs import labs
from faults.running import ok
from faults.world import World

WHOLE = set() if os.environ.get("TOPO_FAULTS_LESS") else {"star"}  # killed at each step in the short form, too
EVERY = 1 if EACH else 9 if os.environ.get("TOPO_FAULTS_LESS") else 5
RANDOM = 100 if MORE else 2


@pytest.mark.timeout(7200 if EACH else 900)
@pytest.mark.parametrize("name", labs())
def test_killed(host: Host, name: str) -> None:
    bench = Bench(World(host, labs()[name]))
    for number, phase in enumerate(PHASES):
        steps = bench.steps(phase)
        every = 1 if name in WHOLE else EVERY
        for at in chosen(steps, every, number):
            for way in ways(phase) if MORE else (ways(phase)[at // every % len(ways(phase))],):
                what = f"{name}: {phase.name} killed at {at} ({steps[at - 1] if at <= len(steps) else 'the end'}), then to {way}"
                ended = bench.kill(phase, at)
                assert ended.killed == (at <= len(steps)), f"{what}: {ended}"
                bench.recover(way, what)
                FIGURES.count("killed at a step", name, left=len(bench.problems))
        bench.to(phase.before)
        longest = ok(*bench.words(phase)).seconds
        bench.at = "?"
        for index, moment in enumerate(moments(RANDOM, longest, f"{name} {phase.name}")):
            way = ways(phase)[index % len(ways(phase))]
            bench.kill(phase, after=moment)
            bench.recover(way, f"{name}: {phase.name} killed after {moment:.4f} s, then to {way}")
            FIGURES.count("killed at a moment", name, left=len(bench.problems))
    bench.to("none")
    host.close()
    bench.world.clear()
    assert not bench.problems, "\n".join(bench.problems)
