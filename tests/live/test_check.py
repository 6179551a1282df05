"""Checks by real packets, in namespaces that iproute2 made."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from sandbox.host import Host

from topo.engine.check import CheckResult, run
from topo.facts import Check, Desired

PATHS = {"a": "/run/netns/a", "b": "/run/netns/b"}

SETUP = """\
ip netns add a
ip netns add b
ip link add x netns a type veth peer name y netns b
ip -n a link set lo up
ip -n b link set lo up
ip -n a addr add 10.0.0.1/24 dev x
ip -n b addr add 10.0.0.2/24 dev y
ip -n a addr add fd00::1/64 dev x nodad
ip -n b addr add fd00::2/64 dev y nodad
ip -n a link set x up
ip -n b link set y up
ip -n a route add blackhole 192.0.2.1
ip -n a route add prohibit 192.0.2.2
ip -n b route add 10.0.1.0/24 via 10.0.0.1
ip netns exec b nft add table inet t
ip netns exec b nft add chain inet t in { type filter hook input priority 0; }
ip netns exec b nft add rule inet t in tcp dport 99 drop
ip netns exec b nft add rule inet t in tcp dport 98 reject
"""

SERVER = """\
import socket
tcp = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 53))
mute = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mute.bind(("", 54))
print("ready", flush=True)
while True:
    data, sender = udp.recvfrom(2048)
    udp.sendto(data, sender)
"""


@pytest.fixture(autouse=True)
def two_hosts(host: Host) -> Iterator[None]:
    for command in SETUP.splitlines():
        subprocess.run(command.split(), check=True)
    server = host.start(sys.executable, "-c", SERVER, ns="b")
    assert server.stdout
    assert server.stdout.readline() == "ready\n"
    yield
    for name in PATHS:
        subprocess.run(["ip", "netns", "del", name], check=True)


def check(*checks: Check) -> list[CheckResult]:
    return run(Desired("lab", {}, checks=checks), PATHS)


def a_check(method: str, address: str, port: int = 0, *, expect: str = "reachable", within: float = 20.0) -> Check:
    return Check("a", method, address, port, expect, within, f"a: {method} {address}")


REACHABLE = [
    ("ping", "10.0.0.2", 0),
    ("ping", "fd00::2", 0),
    ("ping", "10.0.0.1", 0),
    ("ping", "fd00::1", 0),
    ("ping", "127.0.0.1", 0),
    ("tcp", "10.0.0.2", 80),
    ("tcp", "fd00::2", 80),
    ("udp", "10.0.0.2", 53),
]


def test_what_answers_is_reachable() -> None:
    for result in check(*(a_check(*target) for target in REACHABLE)):
        assert (result.passed, result.outcome) == (True, "reachable"), result
    for result in check(*(a_check(*target, expect="blocked") for target in REACHABLE)):
        assert (result.passed, result.outcome) == (False, "reachable"), result


REFUSED = {
    ("tcp", "10.0.0.2", 81): "connection refused",
    ("tcp", "10.0.0.2", 98): "connection refused",
    ("udp", "10.0.0.2", 55): "connection refused",
    ("ping", "192.0.2.1", 0): "swallowed by a blackhole route",
    ("tcp", "192.0.2.2", 80): "prohibited by a route or rule",
}


def test_a_definite_refusal_is_told_at_once() -> None:
    results = check(*(a_check(*target, expect="blocked", within=30) for target in REFUSED))
    assert [result.detail for result in results] == list(REFUSED.values())
    for result in results:
        assert (result.passed, result.outcome) == (True, "blocked"), result
        assert result.seconds < 15


SILENT = {
    ("tcp", "10.0.0.2", 99): "no answer within 0.4 s",
    ("udp", "10.0.0.2", 54): "no answer within 0.4 s",
    ("ping", "10.0.0.77", 0): "no answer within 0.4 s",
    ("ping", "203.0.113.1", 0): "network is unreachable",
}


@pytest.mark.parametrize(("expect", "passes"), [("blocked", True), ("reachable", False)])
def test_silence_takes_the_whole_time(expect: str, passes: bool) -> None:
    results = check(*(a_check(*target, expect=expect, within=0.4) for target in SILENT))
    assert [result.detail for result in results] == list(SILENT.values())
    for result in results:
        assert (result.passed, result.outcome) == (passes, "blocked"), result
        assert 0.4 <= result.seconds < 10


def test_it_is_tried_again_until_the_time_is_over() -> None:
    subprocess.run(["ip", "-n", "a", "link", "set", "x", "down"], check=True)
    up = subprocess.Popen(["sh", "-c", "sleep 0.6; ip -n a link set x up"])
    (result,) = check(a_check("tcp", "10.0.0.2", 80, within=10))
    assert up.wait() == 0
    assert result.passed
    assert result.seconds >= 0.5


def test_all_run_at_once() -> None:
    began = time.monotonic()
    results = check(*(a_check("tcp", "10.0.0.2", 99, expect="blocked", within=0.5) for _ in range(50)))
    assert all(result.passed for result in results)
    assert time.monotonic() - began < 10  # one after the other they would take 25 s


def test_more_checks_than_file_descriptors() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        results = check(*(a_check("ping", "10.0.0.2") for _ in range(1000)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert all(result.passed for result in results)


@pytest.mark.parametrize("expect", ["reachable", "blocked"])
def test_what_cannot_be_run_fails_whatever_is_expected(expect: str) -> None:
    gone = a_check("ping", "10.0.0.2", expect=expect)._replace(source="gone")
    results = check(gone, a_check("ping", "fe80::1", expect=expect))
    assert [(result.passed, result.outcome) for result in results] == [(False, "error")] * 2
    assert results[0].detail == "namespace gone cannot be entered: it is not applied"


def test_the_host_is_where_the_caller_is() -> None:
    (result,) = check(a_check("ping", "127.0.0.1")._replace(source="host"))
    assert result.passed


def test_the_caller_stays_where_it_is_and_nothing_is_left_open() -> None:
    before = os.readlink("/proc/thread-self/ns/net"), len(os.listdir("/proc/self/fd"))
    check(a_check("ping", "10.0.0.2"), a_check("tcp", "10.0.0.2", 99, within=0.3))
    assert (os.readlink("/proc/thread-self/ns/net"), len(os.listdir("/proc/self/fd"))) == before


LAB = """\
topology: lab
namespaces: {n1: {}, n2: {}}
links:
  - {ends: [n1:eth0, n2:eth0], subnet: 192.0.2.0/31}
checks:
  - {from: n1, ping: n2, within: 2s}
  - {from: n2, ping: 192.0.2.0, within: 2s}
  - {from: n1, tcp: n2:22, expect: blocked, within: 2s}
"""


def test_the_command(host: Host) -> None:
    file = host.file(LAB)
    host.ok("apply", file)
    assert host.ok("check", file).out.splitlines()[-1] == "lab: 3 checks passed"
    host.run("ip link set eth0 down", ns="n2")
    result = host.topo("check", "lab", "--output", "json")
    assert (result.code, [check["passed"] for check in result.json()["checks"]]) == (1, [False, False, True])
    host.ok("destroy", "lab")
