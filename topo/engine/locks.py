"""Locks: one per topology, and one per host for those that touch what they share (flock(2)).

The kernel lets a lock go when its holder dies, so none is ever stale; the file says who has it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from topo.engine import record
from topo.errors import KernelError, LockError, shown

PATIENCE: Final = 30.0
"""Seconds to wait for another run."""
_PAUSE: Final = 0.05


@contextmanager
def held(names: Sequence[str], doing: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold these locks, taken in one order everywhere so that no two runs wait for each other.

    Raises LockError, with who has it, when `patience` seconds have passed.
    """
    record.prepare()
    try:
        with ExitStack() as stack:
            for name in sorted(set(names)):
                stack.enter_context(_held(name, doing, patience))
            yield
    finally:
        _sweep()
        record.tidy()


@contextmanager
def _held(name: str, doing: str, patience: float) -> Iterator[None]:
    path = str(record.DIRECTORY / f".{name}.lock")
    fd = _acquire(path, name, patience)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"pid {os.getpid()}, {doing}".encode(), 0)
        yield
    finally:
        with suppress(OSError):  # a file that stays is no lock
            os.unlink(path)
        os.close(fd)


def _acquire(path: str, name: str, patience: float) -> int:
    deadline = time.monotonic() + patience
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:  # the run before this one tidied the directory away
            record.prepare()
            continue
        except OSError as error:
            raise KernelError(error.errno or 0, doing=f"opening the lock {path}") from None
        if _locked(fd) and _same(fd, path):
            return fd
        holder = os.pread(fd, 256, 0).decode(errors="replace")
        os.close(fd)
        if time.monotonic() >= deadline:
            by = f" by {shown(holder)}" if holder else ""
            raise LockError(f"{name} is held{by}; waited {patience:g} s, nothing was touched")
        time.sleep(_PAUSE)


def _sweep() -> None:
    """Remove the files of locks whose holders were killed: who takes such a lock is held up by nothing, but they would stay."""
    with suppress(OSError):
        for path in record.DIRECTORY.glob(".*.lock"):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _locked(fd) and _same(fd, str(path)):
                    os.unlink(path)
            finally:
                os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _same(fd: int, path: str) -> bool:
    """Whether the file is still there: the holder before removes it."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (mine.st_dev, mine.st_ino) == (found.st_dev, found.st_ino)
