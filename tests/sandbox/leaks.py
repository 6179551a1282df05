"""What a test has left behind, and sweeping it away so that it spoils only the test that left it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sandbox.enter import processes
from sandbox.host import NETNS, until
from sandbox.snapshot import snapshot, sysctls

RECORD = Path("/run/topo")


def _listing(directory: Path) -> list[str]:
    return sorted(str(path) for path in directory.rglob("*")) if directory.is_dir() else []


def _mounts() -> list[str]:
    """Type and place of every mount, but for the bind mount that iproute2 makes of /run/netns itself."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(f"{words[words.index('-') + 1]} {words[4]}" for words in lines if words[4] != str(NETNS))


def state() -> dict[str, Any]:
    """All that a test may touch on the host, in comparable form."""
    return {
        "namespaces": _listing(NETNS),
        "records": _listing(RECORD),
        "mounts": _mounts(),
        "processes": sorted(processes().values()),
        "sysctls": sysctls("host"),
        **snapshot("host"),
    }


class Pristine:
    """The sandbox as it was before the first test."""

    def __init__(self) -> None:
        self.state = state()

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """What is other than at first, by section: (at first, now). Sysctls that came with a module do not count."""
        now = state()
        now["sysctls"] = {path: value for path, value in now["sysctls"].items() if path in self.state["sysctls"]}
        found = {}
        for section, before in self.state.items():
            if now[section] != before:
                found[section] = _only(before, now[section])
        return found

    def left(self) -> dict[str, tuple[Any, Any]]:
        """As `differences`, once what ends by itself (a namespace's devices, a process) has had time to."""
        found: dict[str, tuple[Any, Any]] = {}

        def nothing() -> bool:
            nonlocal found
            found = self.differences()
            return not found

        until(nothing, 5)
        return found

    def sweep(self) -> None:
        """Put the sandbox back by force."""
        for pid in processes():
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, signal.SIGKILL)
        for name in list(NETNS.iterdir()) if NETNS.is_dir() else []:
            subprocess.run(["umount", "-q", str(name)], check=False)
            name.unlink(missing_ok=True)
        shutil.rmtree(RECORD, ignore_errors=True)
        for link in Path("/sys/class/net").iterdir():
            subprocess.run(["ip", "link", "del", link.name], capture_output=True, check=False)
        for command in (
            "nft flush ruleset",
            "ip addr flush dev lo",
            "ip link set lo down mtu 65536",
            "ip link set lo up",
        ):
            subprocess.run(command.split(), capture_output=True, check=False)
        for family in ("-4", "-6"):
            for command in ("rule flush", "rule add pref 32766 lookup main", "route flush table all proto 116"):
                subprocess.run(["ip", family, *command.split()], capture_output=True, check=False)
        subprocess.run(["ip", "-4", "rule", "add", "pref", "32767", "lookup", "default"], check=False)
        now = sysctls("host")
        for path, value in self.state["sysctls"].items():
            if now.get(path) != value:
                Path(path).write_text(value)


PRISTINE = pytest.StashKey[Pristine]()  # where a run keeps it: in `config.stash`


def _only(before: Any, now: Any) -> tuple[Any, Any]:
    """The items of each side that the other has not."""
    if isinstance(before, dict):
        before, now = sorted(map(str, before.items())), sorted(map(str, now.items()))
    return [item for item in before if item not in now], [item for item in now if item not in before]
