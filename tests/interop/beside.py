"""A daemon that stands beside topo for a module of tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from sandbox.leaks import PRISTINE, Pristine

RUN = Path("/run")
_COVER = RUN / "cover"
_COVERED = (Path("/etc"), Path("/var"))


class Daemon(Protocol):
    """What is started for a module: `up` starts it, `down` ends it and takes its files and mounts away."""

    def up(self) -> None: ...

    def down(self) -> None: ...


class _Beside(Pristine):
    """The sandbox with the daemon up. Where a test leaves something, the daemon is started anew."""

    def __init__(self, daemon: Daemon, bare: Pristine) -> None:
        self.daemon, self.bare = daemon, bare
        super().__init__()

    def sweep(self) -> None:
        self.daemon.down()
        self.bare.sweep()
        self.daemon.up()
        self.state = type(self)(self.daemon, self.bare).state


@contextmanager
def beside(config: pytest.Config, daemon: Daemon) -> Iterator[None]:
    """`daemon` is up meanwhile. Each test is held to the sandbox as it was with the daemon there; afterwards the
    sandbox is bare again: what a daemon leaves behind by design (Docker: docker0, its rules, ip_forward) is swept.
    What it writes to /etc and /var never reaches the machine.

    Use it in fixtures of module scope.
    """
    if PRISTINE not in config.stash or os.geteuid() != 0 or _in_user_namespace():
        pytest.fail("the interop tests need root: sudo ./tests/run, or sudo python -m pytest -m interop", False)
    bare = config.stash[PRISTINE]
    files = set(RUN.iterdir())
    outermost = not _COVER.exists()
    try:
        if outermost:
            _cover()
        daemon.up()
        config.stash[PRISTINE] = _Beside(daemon, bare)
        yield
    finally:
        config.stash[PRISTINE] = bare
        daemon.down()
        bare.sweep()
        if outermost:
            _uncover()
        for path in set(RUN.iterdir()) - files:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    left: dict[str, Any] = bare.left()
    assert left == {}, f"{type(daemon).__name__} left {left}"


def _cover() -> None:
    """What a daemon writes into directories of the machine's (a key, caches) goes into the sandbox's memory."""
    for place in _COVERED:
        upper, work = _COVER / place.name / "upper", _COVER / place.name / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        options = f"lowerdir={place},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", str(place)], check=True)


def _uncover() -> None:
    for place in _COVERED:
        if place.is_mount():
            subprocess.run(["umount", "-l", str(place)], check=True)


def _in_user_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]
