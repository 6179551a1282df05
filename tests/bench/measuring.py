"""Measurements: wall, CPU and peak memory of one action, each in a process of its own."""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Sample(NamedTuple):
    """One measurement. `cpu`: user and system time of the process and of what it started, without the kernel's own
    threads. `finished`: until the kernel was done with what it does later, where that was waited for. All seconds."""

    wall: float
    cpu: float
    memory: int  # peak resident set, KiB
    finished: float = 0.0


class Samples(list[Sample]):
    """The repetitions of one action: their medians, which one disturbed repetition does not move."""

    def wall(self) -> float:
        return statistics.median(sample.wall for sample in self)

    def cpu(self) -> float:
        return statistics.median(sample.cpu for sample in self)

    def best(self) -> float:
        """The least wall time: that of the repetition which the machine's other work disturbed least."""
        return min(sample.wall for sample in self)

    def finished(self) -> float:
        return statistics.median(sample.finished for sample in self)

    def memory(self) -> float:
        return statistics.median(sample.memory for sample in self)


def clocked(action: Callable[[], object], afterwards: Callable[[], object] | None = None) -> Sample:
    """Measure `action` in this process; `afterwards` waits until it is really finished."""
    gc.collect()
    cpu, wall = _cpu(), time.perf_counter()
    action()
    took, used = time.perf_counter() - wall, _cpu() - cpu
    memory = _peak()
    if afterwards:
        afterwards()
    return Sample(took, used, memory, time.perf_counter() - wall if afterwards else 0.0)


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _peak() -> int:
    """KiB. VmHWM belongs to the program that runs; ru_maxrss would be that of the process it was forked from."""
    with open("/proc/self/status", encoding="ascii") as status:
        own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def worker(*arguments: object) -> Sample:
    """Run one action of worker.py in a fresh interpreter."""
    command = [sys.executable, "-m", "bench.worker", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: exit {done.returncode}\n{done.stdout}")
    return Sample(*json.loads(done.stdout.splitlines()[-1]))


def command_line(arguments: Sequence[object], expected: int = 0) -> Sample:
    """Run the command `topo` as a whole process."""
    command = [sys.executable, "-m", "topo", *map(str, arguments)]
    wall = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - wall
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code != expected:
        raise RuntimeError(f"topo {' '.join(map(str, arguments))}: exit {code}")
    return Sample(took, used.ru_utime + used.ru_stime, used.ru_maxrss)


@cache
def _environment() -> dict[str, str]:
    """Compiled files are kept, as those of an installed program are; apart from the sources, and only for this run."""
    compiled = tempfile.mkdtemp(prefix="topo-bench-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(ROOT / "tests"), "PYTHONPYCACHEPREFIX": compiled}
    everything = "import networkx, topo.cli.main, topo.api, topo.planning.plan, bench.worker"
    subprocess.run([sys.executable, "-c", everything], cwd=ROOT, env=environment, check=True)
    return environment
