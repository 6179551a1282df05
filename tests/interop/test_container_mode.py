"""samples/seeds/container-mode.yaml with real containers: one in the other's network namespace; and host mode."""

from __future__ import annotations

from pathlib import Path

import pytest
from sandbox.host import SAMPLES, Host

from interop.containers import Engine
from interop.docker import Docker
from interop.podman import Podman

SAMPLE = SAMPLES / "seeds" / "container-mode.yaml"


def test_docker(host: Host, docker: Docker) -> None:
    _pod(host, docker, SAMPLE, "172.17.0.10", "172.17.0.1")


def test_podman(host: Host, podman: Podman) -> None:
    text = SAMPLE.read_text().replace("docker: web", "podman: web").replace("docker0", "podman0")
    sample = host.file(
        text.replace("172.17.0.10", "10.88.0.200")
        .replace("172.17.0.1,", "10.88.0.1,")
        .replace("172.17.0.1 }", "10.88.0.1 }")
    )
    _pod(host, podman, sample, "10.88.0.200", "10.88.0.1")


def _pod(host: Host, engine: Engine, sample: Path, address: str, gateway: str) -> None:
    assert host.ping("host", engine.run("other").ip())  # the engine's bridge is there, and the kernel done with it
    web = engine.run("web", "--network", "none")
    sidecar = engine.run("sidecar", "--network", "container:web", command=("sleep", "1d"))
    before, inside = host.settled(), host.snapshot(web.ns)
    host.ok("apply", sample)
    assert sidecar.exec("timeout", "5", "wget", "-qO-", "http://127.0.0.1/") == "web\n"
    sidecar.exec("httpd", "-p", "8080", "-h", "/www")
    assert host.fetch("host", f"http://{address}/cgi-bin/from") == f"web {gateway}\n"
    assert host.fetch("host", f"http://{address}:8080/cgi-bin/from").endswith(f" {gateway}\n"), "of the other container"
    host.ok("check", sample)
    host.ok("diff", sample)
    sidecar.stop()
    sidecar.start()
    host.ok("diff", sample)  # which names the namespace by its first container only
    host.ok("destroy", sample)
    host.same(before)
    assert host.snapshot(web.ns) == inside


def test_the_second_container_is_no_source_of_its_own(host: Host, docker: Docker) -> None:
    docker.run("web", "--network", "none")
    docker.run("sidecar", "--network", "container:web", command=("sleep", "1d"))
    sample = host.file(SAMPLE.read_text().replace("share: web", "docker: sidecar"))
    result = host.topo("apply", sample)
    assert result.code == 2
    assert "this is the network namespace of" in result.err
    assert host.namespaces() == set()


@pytest.mark.parametrize("command", ["diff", "apply"])
def test_a_container_in_host_mode(host: Host, docker: Docker, command: str) -> None:
    """It has nothing to attach to; what it serves is reached by an end in the host."""
    docker.run("web", "--network", "host")
    result = host.topo(command, SAMPLE)
    assert result.code == 2
    assert "docker 'web' has no network namespace of its own: it shares the host's" in result.err
    if command == "apply":
        seed = SAMPLES / "seeds" / "host-mode.yaml"
        host.ok("apply", seed)
        assert host.fetch("client", "http://10.95.0.1/cgi-bin/from").endswith(" 10.95.0.2\n")
        host.ok("destroy", seed)
