"""Namespaces that someone else made: from the `from` of a file to a descriptor."""

from __future__ import annotations

import errno
import json
import os
from typing import Any, Final

from topo.errors import InputError
from topo.kernel import netns

_ENGINES: Final = {
    "docker": ("/var/run/docker.sock", "/containers/{}/json"),
    "podman": ("/run/podman/podman.sock", "/v4.0.0/libpod/containers/{}/json"),
}
_TIMEOUT: Final = 10.0  # seconds that an engine may take to answer


def open_source(source: dict[str, Any], home: int) -> int:
    """A descriptor of the namespace that `source` names: {"pid": 1310}, {"path": ...}, {"name": ...}, {"docker": ...}.

    `home` is a descriptor of topo's own. Raises InputError that says which is missing, and why.
    """
    ((how, value),) = source.items()
    if how in _ENGINES:
        pid = container_pid(how, str(value))
        fd = _open(f"/proc/{pid}/ns/net", f"the network namespace of {how} container {value!r} (pid {pid})")
    elif how == "pid":
        fd = _open(f"/proc/{int(value)}/ns/net", f"the network namespace of pid {value}")
    elif how == "name":
        fd = _open(netns.path(str(value)), f"the namespace {value!r} in {netns.DIRECTORY}")
    else:
        fd = _open(str(value), f"the namespace at {value}")
    if netns.inode(fd) == netns.inode(home):
        os.close(fd)
        raise InputError(f"{how} {value!r} has no network namespace of its own: it shares the host's")
    return fd


def _open(path: str, what: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        why = {errno.ENOENT: "there is none", errno.ESRCH: "there is none"}.get(error.errno or 0, error.strerror)
        raise InputError(f"{what}: {why}") from None
    if not netns.is_namespace(fd):
        os.close(fd)
        raise InputError(f"{what}: {path} is no network namespace")
    return fd


def container_pid(engine: str, container: str) -> int:
    """The pid of a running container, asked of its engine, or from Podman's state on disk. Raises InputError."""
    where, template = _ENGINES[engine]
    try:
        pid, status = _asked(engine, container, where, template)
    except OSError as error:
        if engine != "podman":
            raise InputError(f"{engine} container {container!r}: no answer at {where}: {error}") from None
        pid, status = _podman(container), "stopped"
    if pid <= 0:
        raise InputError(f"{engine} container {container!r} is not running ({status}): apply again when it is")
    return pid


def _asked(engine: str, container: str, where: str, template: str) -> tuple[int, str]:
    """The pid, 0 where it is not running, and the state in the engine's word. Raises InputError, OSError."""
    from urllib.parse import quote

    from topo.kernel.engines import UnixConnection  # with it comes all of http.client, which few files need

    connection = UnixConnection(where, _TIMEOUT)
    try:
        connection.request("GET", template.format(quote(container, safe="")))
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status == 404:
        raise InputError(f"{engine} has no container {container!r}")
    try:
        state = json.loads(body)["State"]
        return int(state["Pid"]), str(state.get("Status", "stopped"))
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{engine} container {container!r}: unexpected answer ({answer.status})") from None


def _podman(container: str) -> int:
    """The pid, 0 where it is not running. Raises InputError."""
    from topo.kernel import podman

    try:
        pid = podman.find(container)
    except (OSError, ValueError) as error:
        raise InputError(f"podman container {container!r}: {error}") from None
    if pid is None:
        raise InputError(f"podman has no container {container!r} ({' and '.join(map(str, podman.roots()))})")
    return pid
