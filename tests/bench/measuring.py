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
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Sample(NamedTuple):
    """One measurement. `cpu`: user and system time of the process and of what it started, without the kernel's own
    threads. `finished`: until the kernel was done with what it does later, where that was waited for. `loading`: CPU
    time, of `cpu`, for the text of the file. All seconds. `sent`: what the kernel announced that was changed."""

    wall: float
    cpu: float
    memory: int  # peak resident set, KiB
    finished: float = 0.0
    loading: float = 0.0
    sent: int = 0


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

    def loaded(self) -> float:
        """CPU time without that for the text of the file."""
        return statistics.median(sample.cpu - sample.loading for sample in self)

    def sent(self) -> int:
        return max(sample.sent for sample in self)


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
    return process("bench.worker", *arguments)


def process(module: str, *arguments: object) -> Sample:
    """Run a module that prints its Sample in a fresh interpreter."""
    return Sample(*launched(module, *arguments))


def launched(module: str, *arguments: object) -> Any:
    """What a module prints as JSON, run in a fresh interpreter."""
    with background(module, *arguments) as running:
        out, _ = running.communicate()
    if running.returncode:
        raise RuntimeError(f"{module} {' '.join(map(str, arguments))}: exit {running.returncode}\n{out}")
    return json.loads(out.splitlines()[-1])


def background(module: str, *arguments: object) -> subprocess.Popen[str]:
    """A module that runs in a fresh interpreter."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, text=True)


def command_line(arguments: Sequence[object]) -> Sample:
    """Run the command `topo` as a whole process."""
    return python("-m", "topo", *arguments)


def python(*arguments: object, **variables: str) -> Sample:
    """Run Python as a whole process, with `variables` in its environment."""
    command = [sys.executable, *map(str, arguments)]
    wall = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=_environment() | variables, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - wall
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code:
        raise RuntimeError(f"{' '.join(command[1:])}: exit {code}")
    return Sample(took, used.ru_utime + used.ru_stime, used.ru_maxrss)


@cache
def _environment() -> dict[str, str]:
    """Compiled files are kept, as those of an installed program are; apart from the sources, and only for this run."""
    compiled = tempfile.mkdtemp(prefix="topo-bench-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(ROOT / "tests"), "PYTHONPYCACHEPREFIX": compiled}
    everything = (
        "import compileall, networkx, topo.cli.main, topo.api, bench.worker, bench.planning, bench.dataplane\n"
        "compileall.compile_dir('topo', quiet=1)"  # also what is imported when it is first needed
    )
    subprocess.run([sys.executable, "-c", everything], cwd=ROOT, env=environment, check=True)
    return environment
