"""samples/seeds/overlay-swarm.yaml: a real overlay network of Docker's, and a host without Docker that takes part in it.

The host without Docker has samples/seeds/overlay-host2.yaml, as tests/live/test_seeds_overlay.py has it: Docker is its
host 1, with the container ca.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sandbox.host import SAMPLES, Host, until
from sandbox.machines import Machine, Wire
from sandbox.snapshot import read_json, sysctls

from interop.containers import Container
from interop.docker import Docker

SWARM, PEER = (SAMPLES / "seeds" / name for name in ("overlay-swarm.yaml", "overlay-host2.yaml"))
WIRE = """
topology: wire
links:
  - [{ interface: eth0, addresses: 192.0.2.1/24 }, { interface: "peer:eth0", addresses: 192.0.2.2/24 }]
"""
HERE = 'vars: { NETWORK: "{{printf "%.10s" .Id}}" }'  # a template of Docker's
CA, CB = "10.70.0.2", "10.70.0.3"


class Swarm(NamedTuple):
    """A swarm of one node, 192.0.2.1, with the overlay network ov; a machine beside it; what topo is told here."""

    docker: Docker
    peer: Machine
    hidden: str
    files: tuple[Path, Path]

    def run(self, name: str, *options: str) -> Container:
        return self.docker.run(name, "--network", "ov", *options)

    def ca(self) -> Container:
        return self.run("ca", "--ip", CA, "--mac-address", "02:42:0a:46:00:02")


@pytest.fixture
def swarm(host: Host, docker: Docker) -> Iterator[Swarm]:
    wire = Wire(host, WIRE, "peer")
    docker("swarm", "init", "--advertise-addr", "192.0.2.1", "--listen-addr", "192.0.2.1")
    # Docker gives out the upper half; what it does not know has its place in the lower one.
    docker("network", "create", "-d", "overlay", "--attachable", "--subnet", "10.70.0.0/24",
           "--ip-range", "10.70.0.128/25", "--gateway", "10.70.0.1", "ov")  # fmt: skip
    [network] = docker.json("network", "inspect", "ov")
    assert network["Options"]["com.docker.network.driver.overlay.vxlanid_list"] == "4097", "as in the sample"
    here = host.file(docker("network", "inspect", "-f", HERE, "ov"), "here.yaml")
    yield Swarm(docker, wire["peer"], f"/run/docker/netns/1-{network['Id'][:10]}", (SWARM, here))
    for container in docker("ps", "-aq").split():
        docker("rm", "-f", container)
    docker("network", "rm", "ov")
    docker("swarm", "leave", "--force")
    wire.close()


def state(host: Host, ns: str) -> dict[str, Any]:
    return host.snapshot(ns) | {"sysctls": sysctls(ns)}


def page(container: Container, name: str) -> str:
    return container.exec("timeout", "5", "wget", "-qO-", f"http://{name}/")


def received(ns: str) -> int:
    [link] = read_json(ns, "ip", "-s", "-j", "link", "show", "vxlan0")
    packets: int = link["stats64"]["rx"]["packets"]
    return packets


def test_a_container_of_dockers_and_one_of_topos(host: Host, swarm: Swarm) -> None:
    ca, other = swarm.ca(), swarm.run("other")
    everywhere, before = host.settled(), state(host, swarm.hidden)
    swarm.peer.ok("apply", PEER)
    assert host.silent(ca.ns, CB)

    host.ok("apply", *swarm.files)
    cb = swarm.peer.ns("cb")
    assert host.ping(ca.ns, CB, "-s", "1422", "-M", "do"), "1450 bytes, unfragmented"
    assert host.ping(cb, CA, "-s", "1422", "-M", "do")
    host.serve(cb, 80, "cb")
    assert page(ca, CB) == f"cb ::ffff:{CA}"
    assert host.fetch(cb, f"http://{CA}/cgi-bin/from") == f"ca {CB}\n"
    assert min(received(swarm.hidden), received(swarm.peer.ns("ov"))) > 0
    swarm.peer.ok("check", "overlay")
    host.ok("diff", *swarm.files)
    swarm.peer.ok("diff", PEER)
    assert page(other, "ca") == "ca\n", "Docker's own, by its name"

    host.ok("destroy", *swarm.files)
    assert state(host, swarm.hidden) == before
    assert host.silent(ca.ns, CB)
    assert page(other, "ca") == "ca\n"
    swarm.peer.ok("destroy", PEER)
    host.same(everywhere)


def test_docker_goes_on_meanwhile(host: Host, swarm: Swarm) -> None:
    """Containers come, go and start again; the hidden namespace and what topo put there stay."""
    ca = swarm.ca()
    host.ok("apply", *swarm.files)
    swarm.peer.ok("apply", PEER)
    new = swarm.run("new")
    entry = f"{{ address: 192.0.2.1, mac: {new.mac('ov')}, ip: {new.ip('ov')} }}"
    more = host.file(f"namespaces: {{ ov: {{ vxlans: {{ vxlan0: {{ peers: [{entry}] }} }} }} }}\n", "more.yaml")
    plan = swarm.peer.topo("diff", PEER, more, "--output", "json").json()
    assert sorted(change["kind"] for change in plan["changes"]) == ["fdb", "neighbour"]
    swarm.peer.ok("apply", PEER, more)
    assert host.ping(new.ns, CB)
    assert host.fetch(swarm.peer.ns("cb"), f"http://{new.ip('ov')}/") == "new\n"

    ca.restart()
    host.ok("diff", *swarm.files)
    assert host.ping(ca.ns, CB)
    new.rm()
    host.ok("diff", *swarm.files)
    assert host.ping(ca.ns, CB)
    host.ok("destroy", "overlay-swarm")
    swarm.peer.ok("destroy", "overlay")


def test_the_last_container_takes_the_hidden_namespace_along(host: Host, swarm: Swarm) -> None:
    """With the next one Docker makes another, which apply finds at the same path."""
    swarm.peer.ok("apply", PEER)
    ca = swarm.ca()
    host.ok("apply", *swarm.files)
    ca.rm()
    assert until(lambda: host.fails("true", swarm.hidden), 10)
    for command in ("diff", "apply"):
        result = host.topo(command, *swarm.files)
        assert result.code == 2
        assert f"namespaces.ov.from: the namespace at {swarm.hidden}" in result.err

    ca = swarm.ca()
    for started in (True, False):
        if not started:
            ca.restart()
        assert host.topo("diff", *swarm.files).code == 1
        host.ok("apply", *swarm.files)
        host.ok("diff", *swarm.files)
        assert host.ping(ca.ns, CB)
        assert host.fetch(swarm.peer.ns("cb"), f"http://{CA}/") == "ca\n"

    ca.rm()
    host.ok("destroy", "overlay-swarm")
    swarm.peer.ok("destroy", "overlay")
