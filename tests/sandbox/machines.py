"""Several hosts on one wire, each with a network namespace and a /run of its own, for topologies of more than one host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.host import ROOT, Host, Result

_READY = "ready"
_START = (
    "mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && mkdir -m 755 /run/netns && "
    "mount -t tmpfs tmpfs /run/netns && mount --make-shared /run/netns && ip link set lo up && "
    f"echo {_READY} && exec sleep infinity"
)


class Machine:
    """One host: a process that holds its namespaces, which end with it.

    `home` is its network namespace and `ns(NAME)` one in its /run/netns, both as the witnesses of `Host` take them.
    """

    def __init__(self, host: Host) -> None:
        process = host.start("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _START)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == _READY
        self.pid = process.pid
        self.home = f"/proc/{self.pid}/ns/net"

    def path(self, path: str) -> Path:
        """An absolute path of this host, as seen from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    def ns(self, name: str) -> str:
        return str(self.path(f"/run/netns/{name}"))

    def namespaces(self) -> set[str]:
        return {entry.name for entry in self.path("/run/netns").iterdir()}

    def topo(self, *arguments: str | Path) -> Result:
        """Run the command line on this host."""
        inside = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--"]
        done = subprocess.run(
            [*inside, sys.executable, "-m", "topo", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=os.environ | {"TOPO_DEBUG": "1", "PYTHONPATH": str(ROOT)},
        )
        assert "internal error" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str | Path) -> Result:
        """Run the command line, which must exit 0."""
        result = self.topo(*arguments)
        if result.code:
            pytest.fail(f"topo {' '.join(map(str, arguments))}: exit {result.code}\n{result.text}", pytrace=False)
        return result


class Wire:
    """The network between machines: a topology of the sandbox's own host, made by topo as well."""

    def __init__(self, host: Host, text: str, *names: str) -> None:
        """`text` is the topology's, named wire; each of its namespaces in `names` is a machine."""
        self.host = host
        self.machines = {name: Machine(host) for name in names}
        pids = {name: f"{{ from: {{ pid: {machine.pid} }} }}" for name, machine in self.machines.items()}
        spaces = "".join(f"  {name}: {source}\n" for name, source in pids.items())
        file = host.file(f"{text}namespaces:\n{spaces}", "wire.yaml")
        host.ok("apply", file)

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def close(self) -> None:
        self.host.ok("destroy", "wire")
