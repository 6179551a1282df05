"""What bites users of container networks elsewhere (docs/traps.md has them all, with the tests that show it)."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox.host import Host, until
from sandbox.snapshot import inside

GROUND = """
topology: ground
bridges:
  br0: {subnet: 10.70.0.0/24}
namespaces:
  a: {}
  b: {}
  outside: {}
links:
  - [a:eth0, {bridge: br0, name: a-port}]
  - [b:eth0, {bridge: br0, name: b-port}]
  - [{interface: up0, addresses: 198.51.100.1/24}, {interface: outside:eth0, addresses: 198.51.100.2/24}]
forwarding: true
"""
A, B, OUTSIDE, HERE = "10.70.0.2", "10.70.0.3", "198.51.100.2", "198.51.100.1"


@pytest.fixture
def ground(host: Host) -> Iterator[Path]:
    """a and b on a bridge, and somebody outside."""
    file = host.file(GROUND, "ground.yaml")
    host.ok("apply", file)
    yield file
    host.topo("destroy", "lab")
    host.ok("destroy", "ground")


def _assigned(host: Host, ns: str, ifname: str) -> int:
    """How a link came by its MAC address: 3 is by hand (NET_ADDR_SET of linux/netdevice.h), and udev leaves that alone."""
    path = f"/sys/class/net/{ifname}/addr_assign_type"
    return int(host.run(f"cat {path}" if ns == "host" else f"ip netns exec {ns} cat {path}"))


# -- connections that were translated ------------------------------------------------------------------------------

ECHO = """
import socket, selectors, sys
name, sel, far = sys.argv[1].encode(), selectors.DefaultSelector(), {}
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", 53)); sel.register(u, 1)
t = socket.create_server(("", 53)); sel.register(t, 1)
print("ready", flush=True)
while True:
    for key, _ in sel.select():
        s = key.fileobj
        if s is u:
            u.sendto(name, u.recvfrom(99)[1])
        elif s is t:
            sel.register(t.accept()[0], 1)
        elif s.recv(99):
            s.send(name)
        else:
            sel.unregister(s); s.close()
"""

CALLER = """
import socket, sys
kind = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}[sys.argv[1]]
s = socket.socket(socket.AF_INET, kind)
s.settimeout(0.5)
s.connect((sys.argv[2], int(sys.argv[3])))
for _ in sys.stdin:
    try:
        s.send(b"?")
        print(s.recv(99).decode() or "closed", flush=True)
    except TimeoutError:
        print("silence", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


class Caller:
    """One socket that keeps its five-tuple for as long as it lives."""

    def __init__(self, ns: str, protocol: str, port: int) -> None:
        command = inside(ns, [sys.executable, "-S", "-c", CALLER, protocol, HERE, str(port)])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self) -> str:
        """What is answered: the name of the one that does."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(5)
        self.process.stdout.close()


def _published(host: Host, **to: str) -> Path:
    """Ports of the host by their numbers: `p5001="10.70.0.2"`; UDP and TCP alike."""
    entries = [
        f"    - {{port: {port[1:]}, protocol: {protocol}, to: {target}:53}}"
        for port, target in to.items()
        for protocol in ("udp", "tcp")
    ]
    return host.file("topology: lab\nnat:\n  publish:\n" + "\n".join(entries) + "\n")


def test_old_connections_follow_a_published_port(host: Host, ground: Path) -> None:
    """Led elsewhere, withdrawn, destroyed: conntrack forgets those, at once, and those alone."""
    for ns in ("a", "b"):
        process = host.start(sys.executable, "-S", "-c", ECHO, ns, ns=ns)
        assert process.stdout and process.stdout.readline() == "ready\n"
    host.ok("apply", _published(host, p5001=A, p5002=A, p5003=A))
    callers = {(p, n): Caller("outside", p, n) for p in ("udp", "tcp") for n in (5001, 5002, 5003)}

    def calls(port: int) -> tuple[str, str]:
        return callers["udp", port].call(), callers["tcp", port].call()

    try:
        assert [calls(port) for port in (5001, 5002, 5003)] == [("a", "a")] * 3
        host.ok("apply", _published(host, p5001=B, p5003=A))
        assert calls(5001) == ("b", "Connection reset by peer"), "the new target has never heard of this connection"
        assert calls(5002) == ("Connection refused", "Connection reset by peer"), "it is nobody's port now"
        assert calls(5003) == ("a", "a"), "the other connections live on"
        again = Caller("outside", "tcp", 5001)
        assert again.call() == "b"
        again.close()
        host.ok("destroy", "lab")
        assert calls(5003) == ("Connection refused", "Connection reset by peer")
        assert callers["udp", 5001].call() == "Connection refused"
    finally:
        for caller in callers.values():
            caller.close()


def test_127_0_0_1_is_published_and_stays_closed(host: Host, ground: Path) -> None:
    """route_localnet alone would open what listens on 127.0.0.1 to the network (CVE-2020-8558)."""
    lab = GROUND.replace("topology: ground", "topology: lab").replace("forwarding: true\n", "")
    host.ok("destroy", "ground")
    host.ok("apply", host.file(lab + "nat: {publish: [{port: 8080, to: a:80}]}\n"))
    host.serve("a", 80, "a")
    host.start(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "7777")
    assert until(lambda: host.fetch("host", "http://127.0.0.1:7777/", 1) != "")
    assert host.fetch("host", "http://127.0.0.1:8080/").startswith("a ")
    assert host.run("cat /proc/sys/net/ipv4/conf/br0/route_localnet").strip() == "1"
    for ns, via in (("b", "10.70.0.1"), ("outside", HERE)):
        host.run("sysctl -qw net.ipv4.conf.eth0.route_localnet=1", ns)
        host.run("ip rule add pref 1 to 127.0.0.1 lookup 7", ns)
        host.run("ip rule del pref 0", ns)
        host.run("ip rule add pref 2 lookup local", ns)
        host.run(f"ip route add 127.0.0.1 via {via} dev eth0 src {B if ns == 'b' else OUTSIDE} table 7", ns)
        assert host.fetch(ns, "http://127.0.0.1:7777/", 1) == "", ns
    host.ok("destroy", "lab")
    host.ok("apply", ground)


# -- bridges -------------------------------------------------------------------------------------------------------


def test_a_bridge_keeps_its_mac_and_mtu(host: Host) -> None:
    """Else it takes the lowest MAC address and the smallest MTU of its ports, whenever one comes or goes."""
    text = (
        "topology: lab\n"
        "bridges: {br0: {addresses: 10.0.0.1/24, mtu: 1600}, br1: {addresses: 10.0.1.1/24}}\n"
        "links:\n"
        "  - [p0, {bridge: br0, name: q0}]\n"
        "  - [p1, {bridge: br1, name: q1}]\n"
    )
    host.ok("apply", host.file(text))
    before = {name: host.link("host", name)["address"] for name in ("br0", "br1")}
    more = "  - ends: [p2, {bridge: br0, name: q2, mac: 00:00:00:00:00:02}]\n    mtu: 1280\n"
    host.ok("apply", host.file(text + more + more.replace("br0", "br1").replace("2,", "3,")))
    assert {name: host.link("host", name)["address"] for name in before} == before
    assert [_assigned(host, "host", name) for name in before] == [3, 3]
    assert host.link("host", "br0")["mtu"] == 1600, "stated, it stays"
    assert host.link("host", "br1")["mtu"] == 1280, "not stated, it follows the smallest port: nothing is cut off"
    host.ok("apply", host.file(text))
    assert {name: host.link("host", name)["address"] for name in before} == before
    host.ok("destroy", "lab")


def test_others_ports_on_a_bridge_that_goes(host: Host) -> None:
    """CNI or a person put a port on topo's bridge: what is theirs stays, and topo says what becomes of it."""
    lab = host.file("topology: lab\nbridges: {br0: {}}\nlinks: [[p0, br0]]\n")
    host.ok("apply", lab)
    host.run("ip link add theirs type veth peer name far")
    host.run("ip link set theirs up master br0")
    host.run("bridge link set dev theirs hairpin on")
    host.ok("diff", lab)
    assert "others have ports on it" not in host.ok("apply", lab).text
    said = host.ok("destroy", "lab").text
    assert "warning: bridge br0 goes, and others have ports on it, which stay without a bridge: theirs" in said
    assert "UP" in host.link("host", "theirs")["flags"]
    host.run("ip link del theirs")


# -- names, MAC addresses, MTU -------------------------------------------------------------------------------------


def test_mac_addresses_are_there_from_the_beginning(host: Host) -> None:
    """One that is set later is set behind udev's back, or under its hands (MACAddressPolicy of systemd.link)."""
    log = host.directory / "seen"
    with log.open("w") as out:
        monitor = subprocess.Popen(["ip", "-o", "monitor", "link", "all-nsid"], stdout=out)
    until(lambda: False, 0.3)
    text = """
topology: lab
bridges: {br0: {mac: 02:00:00:00:00:01}}
vxlans: {vx1: {id: 1, local: 127.0.0.1, mac: 02:00:00:00:00:02}}
namespaces: {a: {}}
links:
  - - {interface: a:eth0, mac: 02:00:00:00:00:03}
    - {bridge: br0, name: port0, mac: 02:00:00:00:00:04}
interfaces:
  mv0: {kind: macvlan, parent: br0, mac: 02:00:00:00:00:05}
"""
    host.ok("apply", host.file(text))
    stated = {"br0": 1, "vx1": 2, "eth0": 3, "port0": 4, "mv0": 5}
    for name in stated:
        assert _assigned(host, "a" if name == "eth0" else "host", name) == 3, name
    monitor.terminate()
    monitor.wait()
    seen = set(re.findall(r"\d+: (\w+)[@:].*link/ether (\S+)", log.read_text()))
    for name in ("br0", "vx1", "port0", "mv0"):
        assert {mac for heard, mac in seen if heard == name} == {f"02:00:00:00:00:0{stated[name]}"}, name
    host.ok("destroy", "lab")


ADVERTISE = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
prefix = bytes([3, 4, 64, 192]) + (3600).to_bytes(4, "big") * 2 + bytes(4) + socket.inet_pton(socket.AF_INET6, "fd66::")
s.sendto(bytes([134, 0, 0, 0, 64, 0]) + (1800).to_bytes(2, "big") + bytes(8) + prefix, ("ff02::1%eth0", 0))
"""
ROUTER = """
topology: lab
bridges:
  br0: {subnet: 10.70.0.0/24%s}
namespaces:
  a: {}
links:
  - [a:eth0, {bridge: br0, name: a-port}]
"""
ACCEPT_RA = Path("/proc/sys/net/ipv6/conf/br0/accept_ra")


@pytest.mark.parametrize(("stated", "routed"), [("", False), (", sysctls: {ipv6.accept_ra: 1}", True)])
def test_router_advertisements_of_a_container(host: Host, stated: str, routed: bool) -> None:
    """One that is on the bridge is no router of the host's (CVE-2020-13401), unless the file wants that."""
    lab = host.file(ROUTER % stated)
    host.ok("apply", lab)
    host.settle()
    for _ in range(3):
        subprocess.run(inside("a", [sys.executable, "-S", "-c", ADVERTISE]), check=True)
    found = until(lambda: host.ip_json("host", "-6", "route", "show", "default"), 1)
    assert found is routed
    assert bool(re.search("fd66:", host.run("ip -6 addr show dev br0"))) is routed
    host.ok("destroy", lab)


def test_a_bridges_accept_ra_is_kept(host: Host) -> None:
    """Drift is put right; what the file no longer says, or says now, is followed."""
    lab = host.file(ROUTER % "")
    host.ok("apply", lab)
    assert "nothing to do" in host.ok("apply", lab).text
    ACCEPT_RA.write_text("2")
    assert "net/ipv6/conf/br0/accept_ra  value 2 -> 0" in host.topo("diff", lab).text
    host.ok("apply", lab)
    assert ACCEPT_RA.read_text() == "0\n"
    host.ok("apply", host.file(ROUTER % ", sysctls: {ipv6.accept_ra: 1}"))
    assert ACCEPT_RA.read_text() == "1\n"
    host.ok("apply", host.file(ROUTER % ""))
    assert ACCEPT_RA.read_text() == "0\n"
    host.ok("destroy", "lab")


@pytest.mark.parametrize("without", ["kernel", "bridge"])
def test_a_bridge_without_ipv6(host: Host, without: str) -> None:
    """Neither where the kernel has none of its sysctls, nor where the MTU of a port is too small for it."""
    small = without == "bridge"
    lab = host.file(
        (ROUTER % "").replace("name: a-port}]", "name: a-port}]\ndefaults: {mtu: 1000}" * small or "name: a-port}]")
    )
    if not small:
        host.run("mount -t tmpfs none /proc/sys/net/ipv6")
    try:
        host.ok("apply", lab)
        assert not ACCEPT_RA.exists()
        assert host.ping("a", "10.70.0.1")
        assert "nothing to do" in host.ok("diff", lab).text
        assert "nothing to do" in host.ok("apply", lab).text
        host.ok("destroy", lab)
    finally:
        if not small:
            host.run("umount /proc/sys/net/ipv6")


def test_long_names_do_not_meet(host: Host) -> None:
    """A name of 15 bytes that is cut off is another's; topo takes a hash of the whole."""
    long = "a-namespace-with-a-name-longer-than-15-bytes"
    lab = host.file(
        f"topology: lab\nbridges: {{br0: {{}}}}\nnamespaces: {{{long}-1: {{}}, {long}-2: {{}}}}\n"
        f'links: [["{long}-[1-2]:eth0", br0]]\n'
    )
    host.ok("apply", lab)
    names = {link["ifname"] for link in host.ip_json("host", "link", "show", "master", "br0")}
    assert len(names) == 2 and all(len(name) <= 15 for name in names)
    host.ok("destroy", lab)
    too_long = host.topo("validate", host.file("topology: lab\nbridges: {a-name-of-16-byt: {}}\n"))
    assert too_long.code == 2 and "15" in too_long.err


@pytest.mark.parametrize(("local", "less"), [("192.0.2.1", 50), ("2001:db8::1", 70)])
@pytest.mark.parametrize("dev", ["", ", dev: nic0"])
def test_a_vxlan_takes_its_underlays_mtu(host: Host, local: str, less: int, dev: str) -> None:
    """The kernel sees to it where `dev` is given; topo also where it is not, and a stated one that is too large is seen."""
    host.run("ip link add nic0 type veth peer name far0")
    host.run("ip link set nic0 up mtu 1400")
    host.run("ip link set far0 up mtu 1400")
    host.run("ip addr add 192.0.2.1/24 dev nic0")
    host.run("ip addr add 2001:db8::1/64 dev nic0 nodad")
    lab = host.file(f'topology: lab\nvxlans: {{vx1: {{id: 1, local: "{local}"{dev}}}}}\n')
    host.ok("apply", lab)
    assert host.link("host", "vx1")["mtu"] == 1400 - less
    host.ok("diff", lab)
    host.ok("destroy", lab)
    host.run("ip link del nic0")


def test_a_vxlan_goes_with_its_lower_device(host: Host) -> None:
    """It takes its addresses, routes and entries along: diff shows all of it, and apply has it back."""
    make = ("ip link add nic0 type veth peer name far0", "ip link set nic0 up", "ip addr add 192.0.2.1/24 dev nic0")
    for command in make:
        host.run(command)
    lab = host.file(
        "topology: lab\n"
        "interfaces: {nic0: {kind: existing}}\n"
        "vxlans:\n"
        "  vx1: {id: 1, local: 192.0.2.1, dev: nic0, mac: 02:00:00:00:00:01, addresses: 10.1.0.0/32,\n"
        "        peers: [{address: 192.0.2.2, mac: 02:00:00:00:00:02, ip: 10.1.2.0, subnets: 10.1.2.0/24}]}\n"
    )
    host.ok("apply", lab)
    before = host.settled()
    host.run("ip link del nic0")
    assert not host.link("host", "vx1")
    missing = host.topo("diff", lab)
    assert missing.code == 2 and "nic0" in missing.err, "without the device there is nothing to be had"
    for command in make:
        host.run(command)
    drift = host.topo("diff", lab)
    assert drift.code == 1
    for what in ("vxlan", "address", "fdb", "neighbour", "route"):
        assert f"+ {what} " in drift.out, what
    host.ok("apply", lab)
    host.same(before, but_for_macs=True)
    host.ok("destroy", lab)
    host.run("ip link del nic0")


# -- sysctls -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stated", "passes"), [("", False), ("rp_filter: 2", True), ("rp_filter: 0", False)])
def test_rp_filter_is_the_larger_of_two(host: Host, stated: str, passes: bool) -> None:
    """An interface's own value lowers nothing that `all` has: 2 gets through where 1 is set for all, 0 does not."""
    text = """
topology: lab
namespaces:
  r: {sysctls: {net.ipv4.conf.all.rp_filter: 1}}
  far: {}
links:
  - [{interface: r:eth0, addresses: 10.1.0.1/24}, {interface: far:eth0, addresses: 10.1.0.2/24}]
  - [{interface: r:eth1, addresses: 10.2.0.1/24, sysctls: {STATED}}, {interface: far:eth1, addresses: 10.2.0.2/24}]
"""
    host.ok("apply", host.file(text.replace("STATED", stated)))
    host.run("ip addr add 10.1.0.9/32 dev lo", "far")  # r would answer by eth0 what comes in by eth1
    assert host.ping("far", "10.2.0.1")
    heard = host.start("timeout", "3", "ping", "-c2", "-i0.3", "-W1", "-I", "10.1.0.9", "10.2.0.1", ns="far")
    assert (heard.wait() == 0) == passes
    host.ok("destroy", "lab")


def test_the_table_names_tests_that_are_there() -> None:
    tests = Path(__file__).parent
    named = re.findall(r"`(?:(test_\w+\.py))?(?:::)?(test_\w+)?`", (tests.parents[1] / "docs/traps.md").read_text())
    file = ""
    for there, name in named:
        file = there or file
        text = (tests / file).read_text() if file else ""
        assert not name or f"def {name}(" in text, (file, name)
    assert len(named) > 15
