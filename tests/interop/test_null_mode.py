"""samples/seeds/null-mode.yaml: containers that were started without a network, on the bridge of their engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sandbox.host import SAMPLES, Host, until
from sandbox.monitor import Quiet

from interop.containers import Container, Engine
from interop.docker import Docker
from interop.podman import Podman

DOCKER = SAMPLES / "seeds" / "null-mode.yaml"
PODMAN = SAMPLES / "seeds" / "null-mode-podman.yaml"


class Seed:
    """The sample with its containers: `web` without a network, `other` where its engine put it."""

    def __init__(self, host: Host, engine: Engine, sample: Path, bridge: str, address: str, gateway: str) -> None:
        self.host, self.engine, self.sample = host, engine, sample
        self.bridge, self.address, self.gateway = bridge, address, gateway
        self.other = engine.run("other")
        self.web = engine.run("web", "--network", "none")
        assert host.ping("host", self.other.ip()), "its port in the bridge forwards: the kernel is done with it"

    def works(self, *, quiet: bool = False) -> None:
        """The page is read from the host and from the other container, and the file is what the kernel holds."""
        page = f"http://{self.address}/cgi-bin/from"
        assert self.host.fetch("host", page) == f"web {self.gateway}\n"
        assert self.other.exec("timeout", "5", "wget", "-qO-", page) == f"web {self.other.ip()}\n"
        assert self.host.ping(self.web.ns, self.other.ip())
        assert self.host.addresses("web", "eth0") == {f"{self.address}/16"}
        assert [(r["gateway"], r["dev"]) for r in self.host.routes("web", "default")] == [(self.gateway, "eth0")]
        assert Path("/run/netns/web").stat().st_ino == Path(self.web.ns).stat().st_ino
        self.host.ok("check", self.sample)
        self.host.ok("diff", self.sample)
        if quiet:
            with Quiet(self.host, ["host", "web"]):
                self.host.ok("apply", self.sample)

    def ports(self) -> set[str]:
        """What is plugged into the engine's bridge."""
        return {link["ifname"] for link in self.host.ip_json("host", "link", "show", "master", self.bridge)}

    def refused(self, message: str) -> None:
        """diff and apply exit 2, name the place and the reason, and touch nothing."""
        before = self.host.settled()
        for command in ("diff", "apply"):
            result = self.host.topo(command, self.sample)
            assert (result.code, message in result.err) == (2, True), result.text
            assert f"{self.sample.name}:" in result.err
            assert "nothing was touched" in result.err
        self.host.same(before)


@contextmanager
def untouched(host: Host, containers: list[Container]) -> Iterator[None]:
    """The host and these containers are afterwards as they were, as `ip -d -j` and nft tell it."""
    places = {container.name: container.ns for container in containers}
    before, inside = host.settled(), {name: host.snapshot(ns) for name, ns in places.items()}
    yield
    host.same(before)
    assert {name: host.snapshot(ns) for name, ns in places.items()} == inside


def test_docker(host: Host, docker: Docker) -> None:
    seed = Seed(host, docker, DOCKER, "docker0", "172.17.0.10", "172.17.0.1")
    with untouched(host, [seed.web, seed.other]):
        assert host.topo("diff", seed.sample).code == 1
        host.ok("apply", seed.sample)
        seed.works(quiet=True)
        host.ok("destroy", seed.sample)
    with untouched(host, [seed.other]):
        stops_and_starts(seed, "exited")
        host.ok("destroy", "null-mode")


def stops_and_starts(seed: Seed, status: str) -> None:
    """Stopped, the container is said to be; started again, it is wired again, in a namespace that is another."""
    host, ports = seed.host, seed.ports()
    host.ok("apply", seed.sample)
    pid, inode = seed.web.pid, Path(seed.web.ns).stat().st_ino
    seed.web.stop()
    engine = seed.engine.name
    seed.refused(f"namespaces.web.from: {engine} container 'web' is not running ({status})")
    seed.web.start()
    assert (seed.web.pid, Path(seed.web.ns).stat().st_ino) != (pid, inode)
    assert host.topo("diff", seed.sample).code == 1
    host.ok("apply", seed.sample)
    assert len(seed.ports() - ports) == 1, "the old one's port went with its namespace"
    seed.works()


def test_docker_stopped_and_removed(host: Host, docker: Docker) -> None:
    """What a stopped container leaves, and what is left of one that was removed, goes with destroy."""
    seed = Seed(host, docker, DOCKER, "docker0", "172.17.0.10", "172.17.0.1")
    with untouched(host, [seed.other]):
        host.ok("apply", seed.sample)
        seed.web.rm()
        seed.refused("namespaces.web.from: docker has no container 'web'")
        host.ok("destroy", seed.sample)
        assert host.namespaces() == set()


def test_docker_restarted_by_docker(host: Host, docker: Docker) -> None:
    seed = Seed(host, docker, DOCKER, "docker0", "172.17.0.10", "172.17.0.1")
    host.ok("apply", seed.sample)
    seed.web.restart()
    host.ok("apply", seed.sample)
    seed.works()
    host.ok("destroy", seed.sample)


def test_docker_restarted_while_its_old_namespace_lives(host: Host, docker: Docker) -> None:
    """A process is still in it: the cable goes from there too, and the address is the new one's alone."""
    seed = Seed(host, docker, DOCKER, "docker0", "172.17.0.10", "172.17.0.1")
    ports = seed.ports()
    host.ok("apply", seed.sample)
    keeper = host.start("sleep", "infinity", ns=seed.web.ns)
    old = f"/proc/{keeper.pid}/ns/net"
    assert until(lambda: Path(old).stat().st_ino == Path(seed.web.ns).stat().st_ino)
    seed.web.restart()
    host.ok("apply", seed.sample)
    seed.works(quiet=True)
    assert {link["ifname"] for link in host.ip_json(old, "link")} == {"lo"}
    assert len(seed.ports() - ports) == 1
    host.ok("destroy", seed.sample)
    assert seed.ports() == ports


def test_pid(host: Host, docker: Docker) -> None:
    """By the container's pid, as the course text does it; a pid that is gone is said to be."""
    seed = Seed(host, docker, DOCKER, "docker0", "172.17.0.10", "172.17.0.1")
    pid = seed.web.pid
    seed.sample = host.file(DOCKER.read_text().replace("from: { docker: web }", f"from: {{ pid: {pid} }}"))
    with untouched(host, [seed.web, seed.other]):
        host.ok("apply", seed.sample)
        seed.works()
        host.ok("destroy", seed.sample)
    host.ok("apply", seed.sample)
    seed.web.stop()
    seed.refused(f"namespaces.web.from: the network namespace of pid {pid}: there is none")
    host.ok("destroy", "null-mode")


@pytest.mark.parametrize("by", ["state", "socket"])
def test_podman(host: Host, podman: Podman, by: str) -> None:
    if by == "socket":
        with podman.service():
            _podman(host, podman, "exited")
    else:
        _podman(host, podman, "stopped")


def _podman(host: Host, podman: Podman, status: str) -> None:
    seed = Seed(host, podman, PODMAN, "podman0", "10.88.0.200", "10.88.0.1")
    with untouched(host, [seed.other]):
        stops_and_starts(seed, status)
        host.ok("destroy", seed.sample)
    seed.web.rm()
    seed.refused("namespaces.web.from: podman has no container 'web'")


def test_podman_by_id(host: Host, podman: Podman) -> None:
    seed = Seed(host, podman, PODMAN, "podman0", "10.88.0.200", "10.88.0.1")
    short = podman.inspect("web")["Id"][:12]
    seed.sample = host.file(PODMAN.read_text().replace("podman: web", f'podman: "{short}"'))
    host.ok("apply", seed.sample)
    seed.works()
    host.ok("destroy", seed.sample)


def test_podmans_bridge_stays_while_topo_is_plugged_in(host: Host, podman: Podman) -> None:
    """netavark removes podman0 with the last container of its own, but not while there is another port in it."""
    seed = Seed(host, podman, PODMAN, "podman0", "10.88.0.200", "10.88.0.1")
    host.ok("apply", seed.sample)
    seed.other.rm()
    host.ok("diff", seed.sample)
    assert host.fetch("host", f"http://{seed.address}/") == "web\n"
    host.ok("destroy", seed.sample)
    assert seed.ports() == set()
    podman.run("next").rm()
    assert host.link("host", "podman0") == {}


def test_a_stopped_containers_address_answers_until_then(host: Host, docker: Docker) -> None:
    """docs/seeds/null-mode.md says so; Docker's own port is not taken along."""
    seed = Seed(host, docker, DOCKER, "docker0", "172.17.0.10", "172.17.0.1")
    host.ok("apply", seed.sample)
    seed.web.stop()
    assert host.ping("host", seed.address)
    host.ok("destroy", seed.sample)
    assert host.silent("host", seed.address)
