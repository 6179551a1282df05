"""Move this process into network, mount and PID namespaces of its own (unshare(2), namespaces(7)).

`enter` forks twice. The process that was called stays outside and waits; a tiny init becomes PID 1 of the new PID
namespace and reaps what is left over; the test run goes on as its child. Whatever a test breaks or forgets, the
machine's own network, mounts and processes are out of its reach, and all of it ends with the run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
INSIDE = "TOPO_TESTS_INSIDE"  # in the environment of what was started inside the sandbox (tests/sandbox/worker.py)

HOW_TO = (
    "the live tests need root (sudo ./tests/run, or sudo python -m pytest), or a kernel that lets you have user "
    "namespaces; deselect them with: python -m pytest -m 'not live and not bench and not slow and not interop and not faults'"
)

OURS: set[int] = set()
"""Processes that serve the tests until the end."""

_libc = ctypes.CDLL(None, use_errno=True)


class CannotEnterError(Exception):
    """The namespaces are not to be had."""


def enter() -> None:
    """Go on in fresh namespaces: /run empty but for netns, /proc and /sys their own, lo up.

    Returns in the new process only. Raises CannotEnterError where this user may not.
    """
    if os.geteuid() != 0:
        _become_root_of_a_user_namespace()
    _unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID)
    init = os.fork()
    if init:
        _stand_by(init)
    _die_with_parent()
    _mount()
    run = os.fork()
    if run:
        _stand_by(run)
    _die_with_parent()


def processes() -> dict[int, str]:
    """PID and command line of every process in the sandbox but init, this one and `OURS`; zombies are init's affair."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (1, os.getpid(), *OURS):
            continue
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found[int(entry.name)] = words
    return found


def _unshare(flags: int) -> None:
    if _libc.unshare(flags):
        number = ctypes.get_errno()
        raise CannotEnterError(f"unshare: {os.strerror(number)}; {HOW_TO}")


def _become_root_of_a_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _stand_by(child: int) -> None:
    """Wait for `child` and end as it ends, reaping whatever else comes along. Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child hears it too, and says what is to be said
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _mount() -> None:
    commands = (
        "mount --make-rprivate /",
        "mount -t proc proc /proc",
        "mount -t sysfs sysfs /sys",
        "mount -t tmpfs tmpfs /run",
        "mkdir -m 755 /run/netns",
        "mount -t tmpfs tmpfs /run/netns",
        "mount --make-shared /run/netns",
        "ip link set lo up",
    )
    for command in commands:
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if done.returncode:
            # Never fall back: without these mounts a test would write to the machine itself.
            os.write(2, f"\nsandbox: {command}: {done.stderr.strip()}; {HOW_TO}\n".encode())
            os._exit(1)
    # as a WireGuard interface that comes up leaves it (wg_open in drivers/net/wireguard/device.c)
    Path("/proc/sys/net/ipv4/conf/all/send_redirects").write_text("0")
