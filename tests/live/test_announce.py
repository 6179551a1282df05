"""Neighbours that knew another MAC address for an address learn the new one at once, without asking."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox.host import Host, until

LAB = """
topology: lab
bridges:
  br0: {subnet: [10.10.0.0/24, "fd10::/64"]}
namespaces:
  a: {}
  b: {}
links:
  - [{interface: a:eth0, addresses: [10.10.0.2/24, "fd10::2/64"]}, {bridge: br0, name: a-port}]
  - [{interface: b:eth0, addresses: [10.10.0.3/24, "fd10::3/64"]}, {bridge: br0, name: b-port}]
"""
A = ("10.10.0.2", "fd10::2")
OUT_OF_DATE = "02:dd:dd:dd:dd:dd"


def _mac(host: Host, ns: str, ifname: str) -> str:
    return str(host.link(ns, ifname)["address"])


def _knows(host: Host, ns: str, dev: str, address: str) -> str:
    """The MAC address that a namespace sends to for an address."""
    (entry,) = host.ip_json(ns, "neigh", "show", address, "dev", dev)
    return str(entry["lladdr"])


def _wrong(host: Host, ns: str, dev: str, *addresses: str) -> None:
    """The namespace has just spoken with someone else who had these addresses."""
    for address in addresses:
        host.run(f"ip neigh replace {address} lladdr {OUT_OF_DATE} dev {dev} nud reachable", ns)


def _at_once(host: Host, ns: str, dev: str, mac: str, *addresses: str) -> None:
    """The announcement is on its way when topo ends: it is a matter of milliseconds."""
    until(lambda: all(_knows(host, ns, dev, address) == mac for address in addresses), 0.5)
    assert {address: _knows(host, ns, dev, address) for address in addresses} == dict.fromkeys(addresses, mac)


class Ear:
    """What tcpdump hears of ARP and of advertisements in a namespace."""

    def __init__(self, host: Host, ns: str, dev: str) -> None:
        self.path = host.directory / f"heard-{ns}-{dev}"
        what = "arp or (icmp6 and ip6[40] == 136)"
        command = ["nsenter", f"--net=/run/netns/{ns}", "tcpdump", "-lnevU", "-i", dev, what]
        with self.path.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        assert until(lambda: "listening on" in self.path.read_text())

    def stop(self) -> list[str]:
        """The announcements among it: `MAC address`, an `R` behind it for a router."""
        until(lambda: False, 0.3)
        self.process.terminate()
        self.process.wait()
        found = []
        for packet in re.sub(r"\n\t\s*", " ", self.path.read_text()).splitlines():
            arp = re.search(r" (\S+) > ff:ff:ff:ff:ff:ff.* Request who-has (\S+)(?: \(.*\))? tell (\S+),", packet)
            if arp and arp[2] == arp[3]:
                found.append(f"{arp[1]} {arp[2]}")
            na = re.search(r"hlim 255,.*(\S+) > ff02::1: .*tgt is (\S+), Flags \[(.*)\] destination.*: (\S+)$", packet)
            if na and "override" in na[3] and "solicited" not in na[3]:
                found.append(f"{na[4]} {na[2]}{' R' if 'router' in na[3] else ''}")
        return found


def test_a_container_made_again(host: Host) -> None:
    """The address is the same, the MAC address is another: the other container and the host hear of it."""
    lab = host.file(LAB)
    host.ok("apply", lab)
    was = _mac(host, "a", "eth0")
    for address in A:
        assert host.ping("b", address) and host.ping("host", address)
    host.run("ip link del a-port")
    assert {_knows(host, "b", "eth0", address) for address in A} == {was}
    host.ok("apply", lab)
    mac = _mac(host, "a", "eth0")
    assert mac != was
    _at_once(host, "b", "eth0", mac, *A)
    _at_once(host, "host", "br0", mac, *A)
    host.ok("destroy", lab)


def test_strangers_on_a_bridge_that_topo_did_not_make(host: Host) -> None:
    host.run("ip netns add stranger")
    host.run("ip link add docker9 up type bridge")
    host.run("ip link add s0 master docker9 up type veth peer name eth0 netns stranger")
    for command in ("link set eth0 up", "addr add 172.19.0.9/16 dev eth0", "addr add fd19::9/64 dev eth0 nodad"):
        host.run(f"ip {command}", "stranger")
    host.settle("stranger")
    _wrong(host, "stranger", "eth0", "172.19.0.10", "172.19.0.11", "fd19::a")
    ear = Ear(host, "stranger", "eth0")
    host.ok(
        "apply",
        host.file(
            "topology: lab\n"
            "bridges: {docker9: {external: true}}\n"
            "namespaces: {c: {}}\n"
            "links:\n"
            "  - [{interface: c:eth0, addresses: [172.19.0.10/16, 172.19.0.11/16, 'fd19::a/64']}, docker9]\n"
        ),
    )
    mac = _mac(host, "c", "eth0")
    _at_once(host, "stranger", "eth0", mac, "172.19.0.10", "172.19.0.11", "fd19::a")
    assert sorted(ear.stop()) == sorted(f"{mac} {address}" for address in ("172.19.0.10", "172.19.0.11", "fd19::a"))
    host.ok("destroy", "lab")
    host.run("ip link del docker9")
    host.run("ip netns del stranger")


def test_addresses_that_move_and_macs_that_change(host: Host) -> None:
    lab = host.file(LAB)
    host.ok("apply", lab)
    _wrong(host, "host", "br0", "10.10.0.9", "fd10::9")
    text = LAB.replace("10.10.0.3/24", "10.10.0.9/24").replace("fd10::3", "fd10::9")
    host.ok("apply", host.file(text))
    _at_once(host, "host", "br0", _mac(host, "b", "eth0"), "10.10.0.9", "fd10::9")
    for address in A:
        assert host.ping("b", address)
    host.ok("apply", host.file(text.replace("interface: a:eth0,", "interface: a:eth0, mac: 02:00:00:00:00:0a,")))
    _at_once(host, "b", "eth0", "02:00:00:00:00:0a", *A)
    host.ok("destroy", lab)


def test_what_an_undo_makes_again(host: Host) -> None:
    host.ok("apply", host.file(LAB))
    index = host.ifindex("a", "eth0")
    _wrong(host, "b", "eth0", *A)
    wrong = LAB.replace("  a: {}\n", "").replace("interface: a:eth0, addresses", "interface: other, addresses")
    refused = host.topo("apply", host.file(wrong + "sysctls: {net.ipv4.no_such_sysctl: 1}\n", "wrong.yaml"))
    assert refused.code == 3, refused.text
    assert host.ifindex("a", "eth0") != index, "it was deleted and came back"
    _at_once(host, "b", "eth0", _mac(host, "a", "eth0"), *A)
    host.ok("destroy", "lab")


@pytest.mark.parametrize("forwarding", ["false", "true"])
def test_a_router_says_that_it_is_one(host: Host, forwarding: str) -> None:
    """Hosts take who no longer says so from their default routers (RFC 4861, section 7.2.5)."""
    lab = host.file(LAB.replace("a: {}", f"a: {{forwarding: {forwarding}}}"))
    host.ok("apply", lab)
    host.run("ip link del a-port")
    ear = Ear(host, "b", "eth0")
    host.ok("apply", lab)
    mac = _mac(host, "a", "eth0")
    assert sorted(ear.stop()) == [f"{mac} 10.10.0.2", f"{mac} fd10::2" + (" R" if forwarding == "true" else "")]
    host.ok("destroy", lab)


def test_a_bridge_that_takes_a_nic_over_says_so(host: Host) -> None:
    host.run("ip netns add lan")
    host.run("ip link add nic0 type veth peer name eth0 netns lan")
    host.run("ip link set nic0 up")
    host.run("ip addr add 192.0.2.2/24 dev nic0")
    host.run("ip addr add 2001:db8::2/64 dev nic0 nodad")
    host.run("ip link set eth0 up", "lan")
    host.settle("lan", "host")
    ear = Ear(host, "lan", "eth0")
    host.ok("apply", host.file("topology: lab\nbridges: {br0: {take_over: nic0}}\n"))
    mac = _mac(host, "host", "br0")
    assert set(ear.stop()) >= {f"{mac} 192.0.2.2", f"{mac} 2001:db8::2"}
    ear = Ear(host, "lan", "eth0")
    host.ok("destroy", "lab")
    assert f"{mac} 192.0.2.2" in ear.stop(), "and the NIC, when it has them back"
    host.run("ip link del nic0")
    host.run("ip netns del lan")


def test_a_new_segment_stays_silent(host: Host) -> None:
    """Nobody can know better: a thousand announcements would be for nothing."""
    log = host.directory / "calls"
    lab = host.file(LAB)
    trace = f"strace -f -e trace=socket -o {log} {sys.executable} -m topo"
    host.run(f"{trace} apply {lab}")
    assert "AF_PACKET" not in log.read_text()
    host.run("ip link del a-port")
    host.run(f"{trace} apply {lab}")
    assert log.read_text().count("AF_PACKET") == 1, "one namespace is new to those who stayed"
    host.ok("destroy", lab)


def test_links_that_have_no_neighbours_to_tell(host: Host) -> None:
    """Point to point, without ARP, down, loopback: nothing is sent, and nothing is wrong with that."""
    host.run("ip link add quiet0 type veth peer name quiet1")
    host.run("ip link set quiet0 up arp off")
    host.run("ip link set quiet1 up")
    host.run("ip link add down0 type veth peer name down1")
    lab = host.file(
        "topology: lab\n"
        "interfaces:\n"
        "  quiet0: {kind: existing, addresses: 10.1.0.1/24}\n"
        "  down0: {kind: existing, up: false, addresses: 10.2.0.1/24}\n"
        "  tun0: {kind: tun, addresses: 10.3.0.1/24}\n"
        "  tap0: {kind: tap, addresses: [10.4.0.1/24, 'fd04::1/64']}\n"
        "  lo: {kind: existing, addresses: [10.5.0.1/32, 127.0.0.9/8]}\n"
    )
    log = host.directory / "calls"
    host.run(f"strace -f -e trace=socket -o {log} {sys.executable} -m topo apply {lab}")
    assert "AF_PACKET" not in log.read_text()
    host.ok("diff", lab)
    host.ok("destroy", lab)
    host.run("ip link del quiet0")
    host.run("ip link del down0")


def test_without_the_right_to_send(host: Host) -> None:
    """CAP_NET_RAW is not what topo needs; what cannot be announced is no failure."""
    lab = host.file(LAB)
    host.ok("apply", lab)
    host.run("ip link del a-port")
    root = Path(__file__).resolve().parents[2]
    command = ["capsh", "--drop=cap_net_raw", "--", "-c", f"cd {root} && exec {sys.executable} -m topo apply {lab}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    host.ok("diff", lab)
    host.ok("destroy", lab)
