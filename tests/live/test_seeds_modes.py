"""samples/seeds: host mode, container mode and attaching to containers, with nothing but iproute2 beside topo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandbox.host import SAMPLES, Host

SEEDS = SAMPLES / "seeds"


def test_host_mode(host: Host) -> None:
    sample = SEEDS / "host-mode.yaml"
    before = host.settled()
    host.serve("host", 8000, "host")
    host.ok("apply", sample)
    assert host.addresses("host", "to-client") == {"10.95.0.1/30"}
    assert host.fetch("client", "http://10.95.0.1:8000/") == "host ::ffff:10.95.0.2"
    assert host.fetch("host", "http://127.0.0.1:8000/") == "host ::ffff:127.0.0.1"
    host.ok("check", sample)
    host.ok("diff", sample)
    host.ok("destroy", sample)
    host.same(before)


def test_container_mode(host: Host) -> None:
    """Two processes in the network namespace of a third, which topo did not make, talk over localhost."""
    first = host.unshared()
    host.run("ip link set lo up", f"/proc/{first.pid}/ns/net")
    text = (SEEDS / "container-mode.yaml").read_text()
    sample = host.file(
        text.replace("docker: web", f"pid: {first.pid}").replace("external: true", "subnet: 172.17.0.0/16")
    )
    before = host.settled()
    host.ok("apply", sample)
    host.serve("web", 80, "web")
    assert host.fetch("sidecar", "http://127.0.0.1/") == "web ::ffff:127.0.0.1"
    assert host.fetch("host", "http://172.17.0.10/") == "web ::ffff:172.17.0.1"
    assert len({Path(f"/run/netns/{name}").stat().st_ino for name in ("web", "sidecar")}) == 1
    host.ok("check", sample)
    host.ok("diff", sample)
    host.ok("destroy", sample)
    host.same(before)


def test_two_names_for_one_namespace_must_be_said_to_be(host: Host) -> None:
    pid = host.unshared().pid
    sample = host.file(
        f"topology: twice\nnamespaces:\n  a: {{ from: {{ pid: {pid} }} }}\n  b: {{ from: {{ path: /proc/{pid}/ns/net }} }}\n"
    )
    result = host.topo("apply", sample)
    assert result.code == 2
    assert (
        "lab.yaml:4:8: namespaces.b.from: this is the network namespace of a: state `from: { share: a }`" in result.err
    )
    assert host.namespaces() == set()


def test_the_hosts_own_namespace_is_no_containers(host: Host) -> None:
    result = host.topo("diff", host.file(f"topology: own\nnamespaces: {{ a: {{ from: {{ pid: {os.getpid()} }} }} }}\n"))
    assert result.code == 2
    assert f"pid {os.getpid()} has no network namespace of its own: it shares the host's" in result.err


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("docker", "docker container 'web': no answer at /var/run/docker.sock"),
        ("podman", "podman has no container 'web' (/graph and /run/none)"),
    ],
)
def test_no_engine(host: Host, engine: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = host.file('[storage]\ngraphroot = "/graph"\nrunroot = "/run/none"\n', "storage.conf")
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(settings))
    result = host.topo("diff", host.file(f"topology: t\nnamespaces: {{ a: {{ from: {{ {engine}: web }} }} }}\n"))
    assert result.code == 2
    assert message in result.err
