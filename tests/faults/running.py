"""Runs of topo's command line in a forked child, where a fault may be waiting; warm, so that thousands are to be had."""

from __future__ import annotations

import gc
import io
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Final, NamedTuple

import deepdiff  # noqa: F401 - what a run imports when it needs it: a child has it from its parent
import networkx  # noqa: F401

from faults.seams import Fault, Seams
from topo import api  # noqa: F401
from topo.cli import main

BOUND: Final = 60.0
"""Seconds that any run may take."""

NONE: Final = Fault()


class Ended(NamedTuple):
    """How a run ended: `code` as a shell has it (137 for SIGKILL), what it said, and the steps that it took."""

    code: int
    text: str
    steps: list[str]
    seconds: float

    @property
    def killed(self) -> bool:
        return self.code == 128 + signal.SIGKILL


class Running(NamedTuple):
    """A run that has begun."""

    child: int
    out: int
    log: int
    fault: Fault
    started: float

    def end(self, after: float | None = None) -> Ended:
        """Wait for it; or kill it, `after` so many seconds."""
        code = _await(self.child, BOUND if after is None else after, late=after is None)
        seconds = time.monotonic() - self.started
        text, steps = _content(self.out), _content(self.log).splitlines()
        assert "Traceback" not in text and "internal error" not in text, f"{self.fault}: {text}\n{steps[-3:]}"
        return Ended(code, text, steps, seconds)


def begin(*arguments: str | Path, fault: Fault = NONE, files: int = 0) -> Running:
    """Begin to run `topo ARGUMENTS`. `files`: how many descriptors it may have, 0 for the customary number."""
    out, log = os.memfd_create("out"), os.memfd_create("log")
    started = time.monotonic()
    child = os.fork()
    if not child:
        _become(tuple(map(str, arguments)), fault, out, log, files)
    return Running(child, out, log, fault, started)


def run(*arguments: str | Path, fault: Fault = NONE, after: float | None = None, files: int = 0) -> Ended:
    """Run `topo ARGUMENTS`. `after`: seconds until it is killed, whatever it is at."""
    return begin(*arguments, fault=fault, files=files).end(after)


def ok(*arguments: str | Path) -> Ended:
    """Run `topo ARGUMENTS`, which must exit 0."""
    ended = run(*arguments)
    assert ended.code == 0, f"topo {' '.join(map(str, arguments))}: exit {ended.code}\n{ended.text}"
    return ended


def _become(arguments: tuple[str, ...], fault: Fault, out: int, log: int, files: int) -> None:
    """In the child: be topo. Never returns."""
    code = 99
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout's
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        os.environ["TOPO_DEBUG"] = "1"
        gc.disable()  # as the command does; and what is shared with the parent stays so
        Seams(fault, log).install()
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        code = main.run(arguments)
    except BaseException:  # noqa: BLE001 - whatever it is, it is said, and the child ends here
        traceback.print_exc()
    finally:
        os._exit(code)


def _await(child: int, seconds: float, late: bool) -> int:
    """Wait, and kill where the time is over; a run that is `late` by that has failed."""
    fd = os.pidfd_open(child)
    deadline = time.monotonic() + seconds
    over = False
    try:
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                break
            left = deadline - time.monotonic()
            if left <= 0 and not over:
                over = True
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            _poll(fd, max(left, 0) if not over else 1.0)
    finally:
        os.close(fd)
    assert not (over and late), f"it hung for {seconds} s"
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _poll(fd: int, seconds: float) -> None:
    import select

    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poller.poll(seconds * 1000)


def _content(fd: int) -> str:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")
