"""`python -m tests.kernels.tier [OPTIONS] [-- PYTEST ARGUMENTS]`: the live tier under another kernel, in machines side by side.

Time travels in them (Documentation/virt/uml/user_mode_linux_howto_v2.rst, `time-travel`): who sleeps wakes at once where nobody
else has anything to do, so waiting is free. Not `time-travel=inf-cpu`, in which what is computed takes no time either: who
reads a sysctl while another holds the RTNL tries again for ever (restart_syscall), and without time nobody takes his place.
The few tests that need a time that passes get a machine of their own (tests/kernels/unfit.py). A kernel without all that
runs them with its own time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from typing import IO, Final, NamedTuple

from .machine import DEFAULT

MARKS: Final = "live and not bench and not interop and not slow and not faults"
_TRAVELLING: Final = ("-a", "time-travel")
_NOTHING_COLLECTED: Final = 5
_LIMIT: Final = "4500"
"""Seconds that a machine may take, by our clock: pytest's own limit for a test is of no use where time stands still."""
_LAST: Final = 8  # lines that are shown of a part that passed


class _Part(NamedTuple):
    """One machine's part."""

    name: str
    process: subprocess.Popen[bytes]
    words: IO[bytes]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels.tier", description=__doc__)
    parser.add_argument("-k", "--kernel", default="", help="7.2-tt (the default), 7.2-full, 6.12-tt ...")
    parser.add_argument("-n", "--machines", type=int, default=os.cpu_count() or 1, help="how many run side by side")
    parser.add_argument("-m", "--memory", default="3G", help="of each of them")
    parser.add_argument("pytest", nargs="*")
    asked = parser.parse_args()
    kernel = asked.kernel or DEFAULT.replace("-full", "-tt")
    code = _ready(kernel)
    if code:
        return code
    began = time.monotonic()
    shares = [f"{number + 1}/{asked.machines}" for number in range(asked.machines)]
    jobs: list[tuple[str, tuple[str, ...], tuple[str, ...]]]
    if kernel.endswith("-tt"):
        jobs = [(f"share {share}", _TRAVELLING, ("--time", "travels", "--share", share)) for share in shares]
        jobs.append(("with a time that passes", (), ("--time", "only-passes")))
    else:
        jobs = [(f"share {share}", (), ("--share", share)) for share in shares]
    ours = sorted(os.sched_getaffinity(0))
    parts = [
        _start(name, kernel, asked.memory, ours[number % len(ours)], machine, [*pytest, *asked.pytest])
        for number, (name, machine, pytest) in enumerate(jobs)
    ]
    codes = [_ended(part) for part in parts]
    print(f"tests.kernels: {kernel}: {time.monotonic() - began:.0f} s", flush=True)
    return 0 if 0 in codes and {*codes} <= {0, _NOTHING_COLLECTED} else max(codes)


def _ready(kernel: str) -> int:
    """See that there is the kernel before the parts need it, and build it where there is none."""
    return subprocess.run([sys.executable, "-m", "tests.kernels", "-k", kernel, "--", "true"], check=False).returncode


def _start(name: str, kernel: str, memory: str, cpu: int, machine: tuple[str, ...], more: list[str]) -> _Part:
    """Start a part, its machine on our processor `cpu`."""
    under = ["taskset", "-c", str(cpu), sys.executable, "-m", "tests.kernels", "-k", kernel, "-m", memory, "-t", _LIMIT]
    under += ["-e", "PYTHONDONTWRITEBYTECODE="]
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.kernels.unfit",
        "--color=no",
        "-v",  # which test it was where a machine does not end
        "-m",
        MARKS,
    ]
    words = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the machine has ended
    process = subprocess.Popen(
        [*under, *machine, "--", *tests, *more],
        stdout=words,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    print(f"tests.kernels: {kernel}, {name}: begun; its words come when it is done", flush=True)
    return _Part(name, process, words)


def _ended(part: _Part) -> int:
    code = part.process.wait()
    part.words.seek(0)
    print(f"=== {part.name}", flush=True)
    words = part.words.read().splitlines(keepends=True)
    sys.stdout.buffer.writelines(words[-_LAST:] if code in (0, _NOTHING_COLLECTED) else words)
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
