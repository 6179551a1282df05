"""The real Podman in the sandbox: podman, conmon, runc and netavark of the distribution, beside topo.

The fixture `podman` is a `Podman`, an `Engine` as Docker is (tests/interop/containers.py): `podman.run("web")` and so
on. It keeps no daemon; `with podman.service():` its API answers at /run/podman/podman.sock meanwhile. Its bridge,
podman0 (10.88.0.1/16), is there while a container is on it. What it writes is in the sandbox's /run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.enter import processes
from sandbox.host import until

from interop import cgroups
from interop.containers import Engine
from interop.needs import program

SOCKET = Path("/run/podman/podman.sock")
_HOME = Path("/run/podman-data")
_STORAGE = f"""
[storage]
driver = "overlay"
graphroot = "{_HOME}/storage"
runroot = "/run/containers/storage"
[storage.options.overlay]
skip_mount_home = "true" # a mount that stays as long as some podman is still about to end
"""
_CONTAINERS = f"""
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"] # it would ask for more than this run may give
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
tmp_dir = "/run/libpod"
[network]
network_backend = "netavark"
network_config_dir = "{_HOME}/networks"
"""


class Podman(Engine):
    """Podman with a storage of its own."""

    force = ("-f", "-t", "0")

    def __init__(self) -> None:
        super().__init__(program("podman", "podman"), "podman")
        for name, package in (("conmon", "conmon"), ("runc", "runc"), ("netavark", "netavark")):
            program(name, package)
        self.settings = {  # in the environment, where topo finds them as well
            "CONTAINERS_STORAGE_CONF": str(_HOME / "storage.conf"),
            "CONTAINERS_CONF": str(_HOME / "containers.conf"),
        }
        self.env |= self.settings

    def up(self) -> None:
        """Write its configuration, import the image, and use it once: some of its rules and mounts stay."""
        cgroups.mount()
        _HOME.mkdir()
        Path(self.settings["CONTAINERS_STORAGE_CONF"]).write_text(_STORAGE)
        Path(self.settings["CONTAINERS_CONF"]).write_text(_CONTAINERS)
        os.environ |= self.settings
        self.import_image()
        self.run("first").rm()
        assert until(lambda: not any("conmon" in words for words in processes().values())), processes()

    def down(self) -> None:
        """Remove every container, its mounts and files."""
        for name in self.settings:
            os.environ.pop(name, None)
        if (_HOME / "storage.conf").exists():
            self.clean()
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith((str(_HOME), "/run/containers")):
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
        cgroups.unmount(self.cgroup)
        shutil.rmtree(_HOME, ignore_errors=True)

    @contextmanager
    def service(self) -> Iterator[None]:
        """Podman's API at its usual socket, as podman.socket of systemd would have it."""
        SOCKET.parent.mkdir()
        process = subprocess.Popen([*self.words(), "system", "service", "--time=0", f"unix://{SOCKET}"], env=self.env)
        try:
            assert until(SOCKET.exists), "podman's service does not start"
            yield
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(SOCKET.parent)

    def words(self) -> list[str]:
        return [*cgroups.within(), *super().words()]

    def run_options(self) -> tuple[str, ...]:
        return (f"--cgroup-parent=/{self.cgroup}",)
