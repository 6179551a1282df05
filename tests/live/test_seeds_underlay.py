"""The underlay: a NIC, played by a veth whose other end is in the namespace `lan`, is taken over and given back."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from conformance.rig import Refusing
from sandbox.host import SAMPLES, Host, until

from topo import api
from topo.changes import CREATE, DELETE, Op
from topo.engine import apply as engine
from topo.errors import ApplyError
from topo.facts import HOST, Desired, Fact, Ref
from topo.kernel import Kernel
from topo.kernel.outcome import Outcome, Progress

SAMPLE = SAMPLES / "seeds" / "underlay.yaml"
SECONDS = 3
STALL = 0.1  # seconds that a TCP session may stand still

NIC = """
link add eth0 mtu 1460 address 02:00:00:00:00:10 type veth peer name p0 mtu 1460 netns lan
addr add 192.0.2.10/24 brd + dev eth0
addr add 192.0.2.11/24 dev eth0
addr add 198.51.100.10/24 dev eth0
addr add 2001:db8::10/64 nodad dev eth0
link set eth0 up
route add default via 192.0.2.254
route add default via 192.0.2.253 metric 200
route add 203.0.113.0/24 via 198.51.100.254 src 198.51.100.10
route add 10.99.0.0/16 via 192.0.2.253 proto bird
route add 10.98.0.0/16 dev eth0 scope link
-6 route add default via 2001:db8::fe
neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
"""
LAN = """
link set p0 up
addr add 192.0.2.254/24 dev p0
addr add 192.0.2.253/24 dev p0
addr add 198.51.100.254/24 dev p0
addr add 2001:db8::fe/64 nodad dev p0
"""

ECHO = """
import socket
server = socket.create_server(("192.0.2.254", 7))
while True:
    peer, _ = server.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while data := peer.recv(64):
            peer.sendall(data)
    except OSError:
        pass
"""

TALK = """
import socket, sys, time
peer = socket.create_connection((sys.argv[1], 7), 5)
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
longest, began = 0.0, time.monotonic()
while time.monotonic() < began + float(sys.argv[2]):
    sent = time.monotonic()
    peer.sendall(b"x")
    peer.recv(64)
    longest = max(longest, time.monotonic() - sent)
    time.sleep(0.001)
print(longest)
"""


class Seen(NamedTuple):
    """What those who were on the line saw of a change: pings lost by family, and the longest pause of a TCP session."""

    lost: dict[str, int]
    pause: float


class Line:
    """Pings every 5 ms in both families, and a TCP session that never rests, from the host to `lan`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        pings = ("ping", "-q", "-i", "0.005", "-c", str(SECONDS * 200))
        self.pings = {address: host.start(*pings, address) for address in ("192.0.2.254", "2001:db8::fe")}
        self.talk = host.start(sys.executable, "-c", TALK, "192.0.2.254", str(SECONDS))

    def seen(self) -> Seen:
        lost = {}
        for address, process in self.pings.items():
            told, _ = process.communicate(timeout=30)
            sent, received = (int(part.split()[0]) for part in told.partition("statistics ---\n")[2].split(",")[:2])
            assert sent == SECONDS * 200, told
            lost[address] = sent - received
        told, _ = self.talk.communicate(timeout=30)
        return Seen(lost, float(told))


@pytest.fixture
def lan(host: Host) -> Iterator[None]:
    """The network, and the host's NIC on it with much that must survive."""
    host.run("ip netns add lan")
    for line in NIC.strip().splitlines():
        host.run(f"ip {line}")
    for line in LAN.strip().splitlines():
        host.run(f"ip {line}", "lan")
    host.start(sys.executable, "-c", ECHO, ns="lan")
    assert until(lambda: ":7 " in host.run("ss -Htln", "lan"))
    host.settle()
    assert host.ping("host", "192.0.2.254")
    assert host.ping("host", "2001:db8::fe")
    yield
    host.close()
    host.fails("ip link del eth0")
    host.run("ip netns del lan")


def _taken_over(host: Host) -> None:
    bridge, nic = host.link("host", "mydr0"), host.link("host", "eth0")
    assert (bridge["address"], bridge["mtu"]) == ("02:00:00:00:00:10", 1460)
    assert nic["master"] == "mydr0"
    assert host.addresses("host", "eth0") == set()
    mine = {"192.0.2.10/24", "192.0.2.11/24", "198.51.100.10/24", "2001:db8::10/64"}
    assert host.addresses("host", "mydr0") == mine
    # the link-local address is the kernel's own, and so is its DAD (RFC 4862, 5.4)
    assert not [a for a in bridge["addr_info"] if a.get("tentative") and a["scope"] == "global"]
    routes = {(r["dst"], r.get("metric"), r["dev"], r.get("gateway"), r.get("prefsrc")) for r in host.routes("host")}
    assert routes >= {
        ("default", None, "mydr0", "192.0.2.254", None),
        ("default", 200, "mydr0", "192.0.2.253", None),
        ("203.0.113.0/24", None, "mydr0", "198.51.100.254", "198.51.100.10"),
        ("10.99.0.0/16", None, "mydr0", "192.0.2.253", None),
        ("10.98.0.0/16", None, "mydr0", None, None),
    }
    assert [r["protocol"] for r in host.routes("host", "10.99.0.0/16")] == ["bird"]
    (six,) = host.ip_json("host", "-6", "route", "show", "default")
    assert (six["gateway"], six["dev"]) == ("2001:db8::fe", "mydr0")
    (neighbour,) = host.ip_json("host", "neigh", "show", "192.0.2.77")
    assert (neighbour["dev"], neighbour["state"]) == ("mydr0", ["PERMANENT"])


def there_and_back(host: Host) -> tuple[Seen, Seen]:
    """Taken over and given back while others are on the line; what they saw of either."""
    line = Line(host)
    host.ok("apply", SAMPLE)
    there = line.seen()
    _taken_over(host)
    host.ok("diff", SAMPLE)
    line = Line(host)
    host.ok("destroy", SAMPLE)
    return there, line.seen()


@pytest.mark.parametrize("filter_", [0, 1], ids=["loose", "rp_filter"])
def test_a_session_goes_on(host: Host, lan: None, filter_: int) -> None:
    for name in ("all", "default", "eth0"):
        host.run(f"sysctl -qw net.ipv4.conf.{name}.rp_filter={filter_}")
    before = host.settled()
    for seen in there_and_back(host):
        assert max(seen.lost.values()) == 0, seen
        assert seen.pause < STALL, seen
    host.same(before)
    for name in ("all", "default"):
        host.run(f"sysctl -qw net.ipv4.conf.{name}.rp_filter=0")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_times_out_of_ten(host: Host, lan: None) -> None:
    before = host.settled()
    seen = [one for _ in range(10) for one in there_and_back(host)]
    print(seen)
    host.same(before)
    assert [one for one in seen if one.pause >= STALL] == []
    assert [one for one in seen if any(one.lost.values())] == []


@pytest.mark.slow
def test_by_hand(host: Host, lan: None) -> None:
    """What the page compares with: enslave, flush, add anew."""
    line = Line(host)
    time.sleep(1)
    for words in (
        "link add mydr0 type bridge",
        "link set mydr0 up",
        "link set eth0 master mydr0",
        "addr flush dev eth0",
        "addr add 192.0.2.10/24 dev mydr0",
        "route add default via 192.0.2.254",
    ):
        host.run(f"ip {words}")
    seen = line.seen()
    print(seen)
    assert seen.lost["2001:db8::fe"] > 100, "the IPv6 address is gone"
    assert seen.lost["192.0.2.254"] >= 1 or seen.pause > STALL
    host.run("ip link del mydr0")


def test_a_bridge_without_other_ports(host: Host, lan: None, tmp_path: Path) -> None:
    file = tmp_path / "alone.yaml"
    file.write_text("topology: alone\nbridges:\n  mydr0: { take_over: eth0 }\n")
    before = host.settled()
    line = Line(host)
    host.ok("apply", file)
    seen = line.seen()
    assert (max(seen.lost.values()), seen.pause < STALL) == (0, True), seen
    _taken_over(host)
    assert {one["ifname"] for one in host.ip_json("host", "link")} == {"lo", "eth0", "mydr0"}
    host.ok("destroy", "alone")
    host.same(before)


def test_containers_are_on_the_network(host: Host, lan: None) -> None:
    host.ok("apply", SAMPLE)
    host.ok("check", SAMPLE)
    assert host.ping("lan", "192.0.2.101"), "from the network to the container"
    assert host.ping("c1", "192.0.2.10"), "and from the container to its host"
    assert "nothing to do" in host.ok("apply", SAMPLE).out
    host.ok("destroy", SAMPLE)


@pytest.mark.parametrize("destroying", [False, True], ids=["apply", "destroy"])
def test_a_refusal_at_any_stage_is_undone(host: Host, lan: None, destroying: bool) -> None:
    empty = host.settled()
    if destroying:
        host.ok("apply", SAMPLE)
    before = host.settled()
    for after in range(5):
        with Kernel() as kernel:
            refusing = Refusing(kernel, after)
            with pytest.raises(ApplyError) as error:
                if destroying:
                    engine.destroy(refusing, "underlay")
                else:
                    engine.apply(refusing, api.lower(api.load(SAMPLE)))
        assert refusing.refused, "the refusal came"
        assert error.value.undone, error.value
        host.same(before, but_for_macs=True)
        assert host.ping("host", "192.0.2.254")
        assert host.ping("host", "2001:db8::fe")
    if destroying:
        host.ok("diff", SAMPLE)
    host.ok("destroy", "underlay")
    host.same(empty)


class Midway(Refusing):
    """Refuses within the handover: when the addresses are on both links, and ahead of their leaving one."""

    def execute(self, stages: Sequence[Sequence[Op]], desired: Desired, progress: Progress | None = None) -> Outcome:
        if self.done:
            return self.kernel.execute(stages, desired, progress)
        self.done = True
        taken = Ref("address", HOST, ("lo", "127.0.0.1/8"))
        refused = Op(CREATE, taken, Fact(taken, {}), None)
        broken = [list(stage) for stage in stages]
        stage, at = next(
            (s, i) for s in broken for i, op in enumerate(s) if op.verb == DELETE and op.ref.kind == "address"
        )
        stage.insert(at, refused)
        outcome = self.kernel.execute(broken, desired, progress)
        self.refused = [op for op, _ in outcome.failed]
        return outcome


@pytest.mark.parametrize("destroying", [False, True], ids=["apply", "destroy"])
def test_a_refusal_within_the_handover_is_undone(host: Host, lan: None, destroying: bool) -> None:
    empty = host.settled()
    if destroying:
        host.ok("apply", SAMPLE)
    before = host.settled()
    with Kernel() as kernel:
        refusing = Midway(kernel)
        with pytest.raises(ApplyError) as error:
            if destroying:
                engine.destroy(refusing, "underlay")
            else:
                engine.apply(refusing, api.lower(api.load(SAMPLE)))
    assert [op.ref.key for op in refusing.refused] == [("lo", "127.0.0.1/8")]
    assert error.value.undone, error.value
    host.same(before, but_for_macs=True)
    assert host.ping("host", "192.0.2.254")
    assert host.ping("host", "2001:db8::fe")
    host.ok("destroy", "underlay")
    host.same(empty)
    assert host.ping("host", "192.0.2.254"), "nothing of the way round is left"


def test_leased_addresses_are_warned_of(host: Host, lan: None) -> None:
    host.run("ip addr add 192.0.2.50/24 dev eth0 valid_lft 3600 preferred_lft 1800")
    for command in (("diff",), ("apply", "--dry-run"), ("apply",)):
        said = host.topo(*command, SAMPLE).text
        assert "192.0.2.50/24 is leased for another 3,5" in said or "is leased for another 3,600 s (DHCP)" in said, said
    host.ok("destroy", SAMPLE)


def test_confirmed_or_given_back(host: Host, lan: None) -> None:
    """`--confirm`, for whoever sits behind the NIC."""
    before = host.settled()
    host.ok("apply", "--confirm", "3s", SAMPLE)
    assert host.link("host", "eth0")["master"] == "mydr0"
    assert until(lambda: "master" not in host.link("host", "eth0"), 30)
    host.same(before)
    host.ok("destroy", "underlay")
