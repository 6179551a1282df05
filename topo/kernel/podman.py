"""Podman's containers by its state on disk: it keeps no daemon, and its socket answers only where one is wanted.

What is read here is of containers/storage (containers-storage.conf(5)) and conmon: names and ids of containers in
`GRAPHROOT/*-containers/containers.json`, and under the id, in `RUNROOT/*-containers/ID/userdata`, the pids of the
container's first process and of the conmon that watches it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_SETTINGS: Final = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")  # the first that is there
_GRAPHROOT: Final = "/var/lib/containers/storage"
_RUNROOT: Final = "/run/containers/storage"
_LISTS: Final = ("*-containers/containers.json", "*-containers/volatile-containers.json")


def find(container: str) -> int | None:
    """The pid of a container by its name or the beginning of its id; 0 where it is not running, None for none such.

    Raises OSError and ValueError where the state cannot be read.
    """
    graphroot, runroot = roots()
    ids = _ids(container, list(_listed(graphroot, runroot)))
    if not ids:
        return None
    pids = [_pid(directory) for directory in runroot.glob(f"*-containers/{ids[0]}/userdata")]
    return max(pids, default=0)


def roots() -> tuple[Path, Path]:
    """Where Podman of this user's keeps images and containers, and what lives until a reboot."""
    import tomllib

    settings: dict[str, Any] = {}
    for path in [os.environ["CONTAINERS_STORAGE_CONF"]] if "CONTAINERS_STORAGE_CONF" in os.environ else _SETTINGS:
        if Path(path).exists():
            settings = tomllib.loads(Path(path).read_text()).get("storage", {})
            break
    return Path(settings.get("graphroot") or _GRAPHROOT), Path(settings.get("runroot") or _RUNROOT)


def _listed(*roots: Path) -> Iterator[dict[str, Any]]:
    for root in roots:
        for pattern in _LISTS:
            for path in root.glob(pattern):
                yield from json.loads(path.read_text())


def _ids(container: str, listed: list[dict[str, Any]]) -> list[str]:
    """Ids of containers that are meant: a name goes before an id, and the beginning of an id must be of one only."""
    named = [str(entry["id"]) for entry in listed if container in (entry.get("names") or ())]
    begun = sorted({str(entry["id"]) for entry in listed if str(entry["id"]).startswith(container)})
    if not named and len(begun) > 1:
        raise ValueError(f"{len(begun)} containers have ids that begin with {container}")
    return named or begun


def _pid(directory: Path) -> int:
    """The first process of a container, or 0. Both files outlive what they name: a pid counts whose parent is conmon,
    as that is what no other process that got the same pid later will have."""
    try:
        pid, conmon = (int((directory / name).read_text()) for name in ("pidfile", "conmon.pid"))
        stat = Path(f"/proc/{pid}/stat").read_text()  # proc_pid_stat(5): pid (comm) state ppid
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return 0
    state, parent = stat.rpartition(")")[2].split()[:2]
    return pid if int(parent) == conmon and state not in "ZX" else 0
