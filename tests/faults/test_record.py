"""A run is killed, and its record is lost or damaged as well: the marks in the kernel say what is topo's."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox.host import Host
from sandbox.leaks import RECORD

from faults.figures import FIGURES
from faults.killed import EACH, MORE, PHASES, SEED, Bench
from faults.labs import labs
from faults.running import ok, run
from faults.test_refused import LESS
from faults.world import World

EVERY = 1 if EACH else 12 if LESS else 8
NAMES = [name for name, lab in labs().items() if not lab.lost]
"""Labs that change nothing on things that were there, but for sysctls: nobody knows any more what these were."""

_random = random.Random(SEED)


def _other(**changed: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(_random.randrange(path.stat().st_size))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "cut short": _cut,
    "of an older version": _other(format=0),
    "of another boot": _other(boot="00000000-0000-0000-0000-000000000000"),
    "of a grammar that is not known": _other(applied={"topology": 7}, pending={"sections": []}),
}


@pytest.mark.timeout(7200 if EACH else 900)
@pytest.mark.parametrize("name", NAMES)
def test_record_damaged(host: Host, name: str) -> None:
    bench = Bench(World(host, labs()[name]))
    damages = list(DAMAGE)
    count = 0
    for number, phase in enumerate(PHASES):
        steps = bench.steps(phase)
        for at in range(1 + number, len(steps) + 2, EVERY):
            for damage in damages if MORE else (damages[count % len(damages)],):
                state = ("first", "second", "none")[count // len(damages) % 3]
                count += 1
                bench.kill(phase, at)
                path = RECORD / f"{bench.world.name}.json"
                if path.exists():
                    DAMAGE[damage](path)
                step = steps[min(at, len(steps)) - 1]
                recover(bench, state, f"{name}: {phase.name} killed at {at} ({step}), record {damage}, then to {state}")
                FIGURES.count("killed, and the record lost or damaged", name, len(bench.problems))
    host.close()
    bench.world.clear()
    assert not bench.problems, "\n".join(bench.problems)


def recover(bench: Bench, state: str, what: str) -> None:
    """Apply a file, or none; and destroy by file."""
    world = bench.world
    before = len(bench.problems)
    try:
        ok("list")
        if state != "none":
            ok("apply", world.first if state == "first" else world.second)
            ok("diff", world.first if state == "first" else world.second)
            bench.expect(state, what)
        ok("destroy", world.second if state == "second" else world.first)
    except AssertionError as error:
        bench.wrong(f"{what}: {error}")
        run("destroy", world.second)
    put_back_sysctls(bench)
    bench.expect("none", f"{what}, then destroyed")
    if len(bench.problems) > before:
        bench.force()
    bench.at = "none"


def put_back_sysctls(bench: Bench) -> None:
    for line in bench.world.before["files"]["sysctls"]:
        path, _, value = line.partition(" ")
        if path.endswith(("/ip_forward", "/all/forwarding")) and Path(path).read_text().strip() != value:
            Path(path).write_text(value)
