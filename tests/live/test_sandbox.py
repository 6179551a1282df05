"""The harness itself: it is apart from the machine, and its witnesses see."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from sandbox.enter import processes
from sandbox.host import Host
from sandbox.leaks import Pristine
from sandbox.monitor import Quiet, trace


def test_apart_from_the_machine() -> None:
    links = {entry.name for entry in Path("/sys/class/net").iterdir() if entry.is_dir()}  # bonding has a file there
    assert links == {"lo"}
    assert Path("/proc/1/cmdline").exists()
    assert int(Path("/proc/self").readlink().name) == os.getpid()
    assert {entry.name for entry in Path("/run").iterdir()} <= {"netns", "mount"}, "mount(8) makes /run/mount"
    assert processes() == {}


def test_leaks_are_seen_and_swept(host: Host) -> None:
    pristine = Pristine()
    host.run("ip netns add left")
    host.run("ip link add br7 type bridge")
    host.run("nft add table inet left")
    host.run("ip rule add pref 7 blackhole")
    host.run("ip rule del pref 7")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/run/topo").mkdir()
    Path("/run/topo/left.json").write_text("{}")
    process = subprocess.Popen(["sleep", "60"])
    assert {"namespaces", "links", "nft", "sysctls", "records", "mounts", "processes"} <= set(pristine.differences())
    pristine.sweep()
    process.wait()
    assert pristine.left() == {}


def test_traffic_and_snapshot(host: Host) -> None:
    before = host.settled()
    for ns in ("a", "b"):
        host.run(f"ip netns add {ns}")
    host.run("ip link add eth0 netns a type veth peer name eth0 netns b")
    for ns, number in (("a", 1), ("b", 2)):
        host.run(f"ip addr add 10.9.0.{number}/24 dev eth0", ns)
        host.run("ip link set eth0 up", ns)
        host.run("ip link set lo up", ns)
    still = host.everywhere()
    host.serve("b", 8000, "hello")
    assert host.ping("a", "10.9.0.2")
    assert host.silent("a", "10.9.0.3")
    assert host.fetch("a", "http://10.9.0.2:8000/") == "hello ::ffff:10.9.0.1"
    host.same(still)
    host.run("ip addr add 10.9.1.1/24 dev eth0", "a")
    assert host.everywhere() != still
    for ns in ("a", "b"):
        host.run(f"ip netns del {ns}")
    host.same(before)


@pytest.mark.parametrize(
    "change",
    [
        "ip link set eth0 mtu 1400",
        "ip addr add 10.9.1.1/24 dev eth0",
        "ip route add 10.10.0.0/24 dev eth0",
        "ip rule add pref 9 blackhole",
        "ip neigh add 10.9.0.9 lladdr 02:00:00:00:00:09 dev eth0",
        "bridge fdb add 02:00:00:00:00:09 dev eth0",
        "bridge link set dev eth0 isolated on",
        "tc qdisc add dev eth0 root tbf rate 1mbit burst 10k latency 10ms",
        "nft add table inet t",
        "sysctl -qw net.ipv4.conf.eth0.forwarding=1",
    ],
)
def test_monitors_hear(host: Host, change: str) -> None:
    host.run("ip netns add a")
    host.run("ip -n a link add br0 up type bridge")
    host.run("ip -n a link add eth0 up type ifb")
    host.run("ip -n a link set eth0 master br0")
    with Quiet(host, ["host", "a"]):
        host.run("ip -n a -j addr")
        host.run("nft list ruleset", "a")
    with pytest.raises(AssertionError, match="something was changed"), Quiet(host, ["a"]):
        host.run(change, "a")
    host.run("ip netns del a")


@pytest.mark.parametrize(
    ("command", "changes"),
    [
        ("ip -4 route show table all", []),
        ("nft list ruleset", []),
        ("sysctl -n net.ipv4.ip_forward", []),
        ("ip route add blackhole 10.9.0.0/24", ["NETLINK_ROUTE"]),
        ("ip route del blackhole 10.9.0.0/24", ["NETLINK_ROUTE"]),
        ("nft add table inet t", ["NETLINK_NETFILTER"]),
        ("nft delete table inet t", ["NETLINK_NETFILTER"]),
        ("sysctl -qw net.ipv4.ip_forward=0", ["call"]),
        ("ip netns add x", ["call"]),
        ("ip netns del x", ["call"]),
    ],
)
def test_strace_tells_reading_from_changing(host: Host, command: str, changes: list[str]) -> None:
    if command.startswith("ip route del"):
        host.run("ip route add blackhole 10.9.0.0/24")
    if command.startswith("nft delete"):
        host.run("nft add table inet t")
    if command == "ip netns del x":
        host.run("ip netns add x")
    code, reads, found = trace(host, *command.split())
    assert code == 0
    assert sorted({call.what for call in found}) == changes
    assert all(call.what != "call" for call in reads)
    for undo in ("ip route del blackhole 10.9.0.0/24", "nft delete table inet t", "ip netns del x"):
        host.fails(undo)
