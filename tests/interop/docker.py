"""The real Docker in the sandbox: dockerd, containerd and runc of the distribution, beside topo.

The fixture `docker` (tests/interop/conftest.py) is a `Docker` that is up, with containers and networks removed after
each test; the daemon is one per module. A module may state options of dockerd:

    DOCKERD = ("--userland-proxy=false",)

    def test_page(host: Host, docker: Docker) -> None:
        web = docker.run("web", "-p", "8080:80")        # a Container; its page says "web"
        host.fetch("host", "http://127.0.0.1:8080/")    # "web\\n"
        host.fetch("host", f"http://{web.ip()}/cgi-bin/from")  # "web 172.17.0.1\\n": whom the container sees
        web.pid, web.ip("mynet"), web.ip6("mynet"), web.mac()
        host.ping(web.ns, "172.17.0.1")                 # web.ns is /proc/PID/ns/net: a `ns` for everything in Host
        host.serve(web.ns, 9000, "word")                # Python's server, in the container's network namespace
        web.exec("ip", "route")                         # docker exec; busybox's programs
        web.stop(); web.start(); web.restart(); web.rm()
        docker.run("idle", "--network", "none", command=("sleep", "1d"))
        docker("network", "create", "--subnet", "10.50.0.0/24", "mynet")  # the command line; its output
        docker.fails("run", ...)                        # its error, where it must fail
        docker.inspect("web")["State"], docker.json("network", "inspect", "mynet")

dockerd runs in the sandbox's outermost network namespace, where topo runs too: docker0 (172.17.0.1/16), Docker's rules
and published ports are `host`'s. Socket, state and hidden namespaces are where they are on any machine
(/run/docker.sock, /run/docker/netns); images and containers are in the sandbox's /run as well. Nothing outlives it.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from sandbox.host import until

from interop import cgroups
from interop.containers import Engine
from interop.needs import program

SOCKET = Path("/run/docker.sock")
_HOME = Path("/run/docker-data")
_EXEC = Path("/run/docker")
_PID = Path("/run/docker.pid")
_LOG = Path("/run/dockerd.log")


class Docker(Engine):
    """dockerd with these options, and its command line."""

    def __init__(self, *options: str) -> None:
        super().__init__(program("docker", "docker.io (docker-cli, where that is a package of its own)"), "bridge")
        self.options = options
        self._daemon: subprocess.Popen[bytes] | None = None
        self._dockerd = program("dockerd", "docker.io")
        for name, package in (("containerd", "containerd"), ("runc", "runc"), ("iptables", "iptables")):
            program(name, package)
        self.env["DOCKER_CONFIG"] = str(_HOME / "config")

    def up(self) -> None:
        """Start dockerd, import the image, and use both once, so that all which Docker makes but once is there."""
        cgroups.mount()
        words = [*cgroups.within(), self._dockerd, f"--host=unix://{SOCKET}", f"--data-root={_HOME}"]
        words += [f"--exec-root={_EXEC}", f"--pidfile={_PID}", "--exec-opt=native.cgroupdriver=cgroupfs"]
        words += [f"--cgroup-parent=/{self.cgroup}", *self.options]
        with _LOG.open("wb") as log:
            self._daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        daemon = self._daemon
        assert until(lambda: daemon.poll() is not None or self._answers(), 60), self.log()
        assert daemon.poll() is None, f"dockerd ended by itself\n{self.log()}"
        self.import_image()
        for network in ("host", "bridge"):
            self.run("first", "--network", network, *(["-p", "127.0.0.1:80:80"] if network == "bridge" else [])).rm()

    def down(self) -> None:
        """End every container and dockerd, in order where that works; unmount and remove what is theirs."""
        daemon = self._daemon
        if daemon is not None and daemon.poll() is None:
            if self._answers():
                self.clean()
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
        if daemon is not None:
            daemon.wait()
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for place in reversed(mounts):
            if place.startswith((f"{_HOME}/", f"{_EXEC}/")) or place in (str(_HOME), str(_EXEC)):
                subprocess.run(["umount", "-l", place], check=False)
        cgroups.unmount(self.cgroup)

    def log(self) -> str:
        """The end of dockerd's log."""
        return "\n".join(_LOG.read_text(errors="replace").splitlines()[-30:])

    def _answers(self) -> bool:
        return SOCKET.exists() and self.attempt("version").returncode == 0

    def words(self) -> list[str]:
        return [*super().words(), f"--host=unix://{SOCKET}"]
