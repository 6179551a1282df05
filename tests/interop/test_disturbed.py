"""Docker at work beside every apply: containers and networks come and go while topo changes the same kernel."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from faults.figures import FIGURES
from faults.labs import labs
from faults.running import run
from sandbox.host import Host

from interop.docker import Docker
from interop.image import NAME

ROUNDS = 8
pytestmark = pytest.mark.timeout(400)

BUSY = """
n=0
while :; do
  n=$((n + 1))
  $docker network create --subnet 10.77.$((n % 250)).0/24 busy >/dev/null
  $docker run -d --name busy1 --network busy -p 9091:80 $image >/dev/null
  $docker run -d --name busy2 -p 9092:80 $image >/dev/null
  $docker restart -t 0 busy1 >/dev/null
  $docker rm -f busy1 busy2 >/dev/null
  $docker network rm busy >/dev/null
done
"""

FLAPS = """
while :; do $docker restart -t 0 flaps >/dev/null; done
"""

ATTACHED = """
topology: attached
bridges:
  br0: {addresses: 10.93.0.254/24}
namespaces:
  inside: {from: {docker: flaps}}
  mine: {}
links:
  - [{interface: inside:eth7, addresses: 10.93.0.1/24}, br0]
  - [{interface: mine:eth0, addresses: 10.93.0.2/24}, br0]
"""


@contextmanager
def busy(docker: Docker, script: str) -> Iterator[None]:
    """Docker's command line in a loop, for as long as this lasts."""
    words = f"docker={shlex.quote(shlex.join(docker.words()))}; image={NAME}; {script}"
    process = subprocess.Popen(
        ["bash", "-c", words],
        env=docker.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_beside_docker_at_work(host: Host, docker: Docker) -> None:
    """Each run is done, or undone because a table kept changing; Docker goes on, and nothing of topo's is left."""
    theirs = docker.run("theirs", "-p", "9090:80")
    lab = labs()["star"]
    first, second = host.file(lab.first, "first.yaml"), host.file(lab.second, "second.yaml")
    before = host.settled()
    done = 0
    with busy(docker, BUSY):
        for _ in range(ROUNDS):
            for words in (("apply", first), ("apply", second), ("destroy", "star")):
                ended = run(*words)
                assert ended.code in (0, 3), ended.text
                done += ended.code == 0
            FIGURES.count("while Docker changes the kernel", "star", number=3)
    assert done >= ROUNDS * 2, done
    docker.attempt("rm", "-f", "-v", "busy1", "busy2")
    docker.attempt("network", "rm", "busy")
    assert run("destroy", "star").code == 0
    assert run("apply", second).code == 0
    assert host.fetch("host", "http://127.0.0.1:9090/") == "theirs\n"
    assert host.ping(theirs.ns, "172.17.0.1")
    assert run("diff", second).code == 0
    assert run("destroy", "star").code == 0
    host.same(before)


def test_attached_to_a_container_that_is_restarted(host: Host, docker: Docker) -> None:
    docker.run("flaps")
    lab = host.file(ATTACHED)
    with busy(docker, FLAPS):
        for _ in range(ROUNDS):
            ended = run("apply", lab)
            assert ended.code in (0, 2, 3, 4), ended.text
            assert ended.code != 4 or "left: " in ended.text, ended.text
            gone = run("destroy", "attached")
            assert gone.code in (0, 3, 4), gone.text
            FIGURES.count("attached to a namespace that comes and goes", "a container")
    docker("restart", "-t", "0", "flaps")
    assert run("apply", lab).code == 0
    assert host.ping("host", "10.93.0.1") and host.ping("host", "10.93.0.2")
    assert run("destroy", "attached").code == 0
    assert not host.namespaces() and not host.link("host", "br0")
