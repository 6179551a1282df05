"""Run a program inside a namespace, as `ip netns exec` does it (ip-netns(8))."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from topo.errors import InputError, KernelError
from topo.kernel.netns import CLONE_NEWNS, MNT_DETACH, MS_BIND, MS_REC, mount, setns, umount, unshare
from topo.kernel.privileges import require

MS_RDONLY: Final = 1  # linux/mount.h
MS_SLAVE: Final = 0x80000

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127


def enter(path: str) -> None:
    """Move this thread into the network namespace at `path`, with a mount namespace of its own that fits it.

    There `/sys` describes the namespace, and the files of `/etc/netns/NAME` lie over those in `/etc`, NAME
    being the last part of `path`. Mounts made outside later still come in; none made here goes out.
    Raises InputError where there is no such namespace, UnsupportedError without the privilege, KernelError where
    the kernel refuses.
    """
    require("entering a namespace")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    try:
        setns(fd)
        unshare(CLONE_NEWNS)
        mount("", "/", "none", MS_SLAVE | MS_REC)
        _mount_sys(Path(path).name)
        _bind_etc(Path("/etc/netns", Path(path).name))
    except OSError as error:
        raise KernelError(error.errno or 0, doing=f"entering {path}") from None
    finally:
        os.close(fd)


def _mount_sys(name: str) -> None:
    """A fresh sysfs, for it shows the devices of the namespace in which it was mounted."""
    flags = 0
    try:
        umount("/sys", MNT_DETACH)
    except OSError:
        # Something holds it: it is covered, and a read-only one must stay read-only (user namespaces).
        if os.statvfs("/sys").f_flag & os.ST_RDONLY:
            flags = MS_RDONLY
    mount(name, "/sys", "sysfs", flags)


def _bind_etc(directory: Path) -> None:
    if not directory.is_dir():
        return
    for source in directory.iterdir():
        target = Path("/etc", source.name)
        if target.exists():
            mount(str(source), str(target), "none", MS_BIND)


def execute(path: str | None, command: Sequence[str], extra: Mapping[str, str] | None = None) -> NoReturn:
    """Become `command` inside the namespace at `path` (None: where this process is); `extra` is added to its environment.

    Where the command cannot be started, raises SystemExit with 127 (not found) or 126, as env(1) does.
    Raises as `enter` does.
    """
    if path is not None:
        enter(path)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and a child would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), {**os.environ, **(extra or {})})
    except OSError as error:
        os.write(2, f"topo: {command[0]}: {error.strerror}\n".encode())
        raise SystemExit(NOT_FOUND if error.errno == 2 else NOT_EXECUTABLE) from None
