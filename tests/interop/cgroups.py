"""The cgroups that container engines want, in the sandbox, whose fresh /sys has none of them mounted.

With cgroups v1 what an engine makes stays below the cgroup that this run is in: commands go into a cgroup namespace
(cgroup_namespaces(7)), and the hierarchies are mounted as it sees them.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

PLACE: Final = Path("/sys/fs/cgroup")


def _hierarchies() -> list[str]:
    """The cgroup v1 hierarchies that this process is in, as mount options; none where there is only v2."""
    lines = [line.split(":") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    return [line[1] for line in lines if line[1]]


def within() -> list[str]:
    """What is put before a command that makes cgroups."""
    return ["unshare", "--cgroup", "--"] if _hierarchies() else []


def mount() -> None:
    commands = [["mount", "-t", "cgroup2", "cgroup2", str(PLACE)]]
    if hierarchies := _hierarchies():
        commands = [["mount", "-t", "tmpfs", "tmpfs", str(PLACE)]]
        for options in hierarchies:
            place = str(PLACE / options.removeprefix("name="))
            commands.append(["mkdir", place])
            commands.append([*within(), "mount", "-t", "cgroup", "-o", options, "cgroup", place])
    for command in commands:
        subprocess.run(command, check=True)


def unmount(made: str) -> None:
    """Remove the cgroups named `made`, whose processes have ended, and unmount."""
    for path in PLACE.rglob(made):
        for directory in sorted((d for d in [path, *path.rglob("*")] if d.is_dir()), reverse=True):
            with suppress(OSError):  # a process of it has not ended yet; then an empty cgroup stays
                directory.rmdir()
    subprocess.run(["umount", "-R", str(PLACE)], capture_output=True, check=False)
