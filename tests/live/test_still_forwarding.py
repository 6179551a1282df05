"""Where forwarding goes back to off, but others have come to need it, diff, plan, apply and destroy say so."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from sandbox.host import Host

import topo

LAB = """
topology: lab
bridges:
  br0: {subnet: [10.40.0.0/24, "fd40::/64"]}
namespaces:
  web: {}
links:
  - [web:eth0, br0]
"""
FORWARDS = LAB + "forwarding: true\n"
MASQUERADE = "table %s %s { chain p { type nat hook postrouting priority 100; ip%s saddr %s masquerade; }; }"


@pytest.fixture(autouse=True)
def outside(host: Host) -> Iterator[None]:
    """A host with an uplink, which is the default route, and somebody there; topo makes it forward."""
    host.run("ip netns add outside")
    host.run("ip link add up0 type veth peer name eth0 netns outside")
    host.run("ip link set up0 up")
    host.run("ip -n outside link set eth0 up")
    for address, option in (("192.0.2.%d/24", ""), ("fd02::%d/64", " nodad")):
        host.run(f"ip addr add {address % 1} dev up0{option}")
        host.run(f"ip -n outside addr add {address % 2} dev eth0{option}")
    host.run("ip route add default via 192.0.2.2")
    host.run("ip -6 route add default via fd02::2")
    host.run("ip -n outside route add 10.0.0.0/8 via 192.0.2.1")
    host.run("ip -n outside -6 route add fd00::/8 via fd02::1")
    host.ok("apply", host.file(FORWARDS))
    yield
    host.topo("destroy", "lab")
    host.run("nft flush ruleset")
    for name in ("up0", "cni0"):
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)
    for name in ("outside", "c1"):
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    host.run("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0")


def bridge(host: Host, *addresses: str) -> None:
    """What CNI does: a bridge with an address, and a container on it."""
    host.run("ip link add cni0 type bridge")
    host.run("ip link set cni0 up")
    for address in addresses:
        host.run(f"ip addr add {address} dev cni0")


def container(host: Host) -> None:
    host.run("ip netns add c1")
    host.run("ip link add vethc1 type veth peer name eth0 netns c1")
    host.run("ip link set vethc1 master cni0 up")
    host.run("ip -n c1 link set eth0 up")


def warned(host: Host) -> list[str]:
    """What plan and diff say of a file that no longer forwards, which is what a destroy would say; as text and as JSON."""
    lab = host.file(LAB, "without.yaml")
    said = {
        verb: host.topo(verb, lab, *more).text
        for verb, more in (("diff", ()), ("plan", ("-o", host.directory / "plan")))
    }
    found = {
        verb: [line for line in text.splitlines() if line.startswith("  warning: ")] for verb, text in said.items()
    }
    warnings = list(topo.plan(topo.load(lab)).warnings)
    assert found["diff"] == found["plan"] == [f"  warning: {text}" for text in warnings]
    assert host.topo("diff", lab, "--output", "json").json()["warnings"] == warnings
    return warnings


IPV4 = (
    "net/ipv4/ip_forward goes back to 0, as it was before, but others there seem to need it by now: %s; if they do, switch "
    "it on again afterwards: sysctl -w net.ipv4.ip_forward=1"
)
IPV6 = IPV4.replace("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding").replace(
    "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"
)


def test_a_container_on_a_bridge_of_others(host: Host) -> None:
    bridge(host, "10.89.0.1/24")
    assert warned(host) == [], "a bridge without a port"
    container(host)
    host.run("ip -n c1 addr add 10.89.0.2/24 dev eth0")
    host.run("ip -n c1 route add default via 10.89.0.1")
    assert host.ping("c1", "192.0.2.2")
    assert warned(host) == [IPV4 % "bridge cni0"], "and nothing of IPv6"
    said = host.ok("destroy", "lab").text
    assert f"  warning: {IPV4 % 'bridge cni0'}\n" in said
    assert host.silent("c1", "192.0.2.2")
    host.run(said.partition("afterwards: ")[2].splitlines()[0])
    assert host.ping("c1", "192.0.2.2")


def test_an_apply_that_no_longer_forwards(host: Host) -> None:
    bridge(host, "10.89.0.1/24", "fd89::1/64")
    container(host)
    expected = [IPV4 % "bridge cni0", IPV6 % "bridge cni0"]
    assert warned(host) == expected
    assert host.ok("apply", host.directory / "lab.yaml").text.count("warning") == 0, "as long as it stays on"
    said = host.ok("apply", host.directory / "without.yaml").text
    assert [line.partition("warning: ")[2] for line in said.splitlines() if "warning: " in line] == expected
    assert host.run("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding").split() == ["0", "0"]
    assert warned(host) == [], "it is done"


def test_no_false_alarms(host: Host) -> None:
    assert warned(host) == [], "topo's own bridge"
    bridge(host)
    container(host)
    assert warned(host) == [], "a bridge without an address, which only switches"
    host.run("ip link set up0 master cni0")
    host.run("ip addr flush dev up0")
    host.run("ip addr add 192.0.2.1/24 dev cni0")
    host.run("ip addr add fd02::1/64 dev cni0 nodad")
    host.run("ip route replace default via 192.0.2.2")
    host.run("ip -6 route replace default via fd02::2")
    assert warned(host) == [], "the way out: a machine with guests on its bridge"
    other = host.file(
        LAB.replace(": lab", ": other").replace("br0", "br9").replace("40", "41").replace("web", "db"), "o.yaml"
    )
    host.ok("apply", other)
    assert warned(host) == [], "another topology's bridge: its file says whether it forwards"
    host.run("nft add table ip nat")
    host.run("nft add chain ip nat out { type nat hook output priority -100 ; }")
    host.run("nft add rule ip nat out ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:4053")
    assert warned(host) == [], "what Docker does for its name server in every container"
    host.ok("destroy", "other")


def test_rules_of_others_that_masquerade(host: Host) -> None:
    def load(*words: str) -> None:
        subprocess.run(["nft", "-f", "-"], input=MASQUERADE % words, text=True, check=True)

    load("ip", "theirs", "", "10.89.0.0/24")
    load("ip6", "theirs", "6", "fd89::/64")
    assert warned(host) == [IPV4 % "masquerading by table ip theirs", IPV6 % "masquerading by table ip6 theirs"]
    host.run("nft flush ruleset")
    load("inet", "theirs", "", "10.89.0.0/24")
    assert warned(host) == [IPV4 % "masquerading by table inet theirs"]
    host.run("nft flush ruleset")
    host.run("iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE")
    assert warned(host) == [IPV4 % "masquerading by table ip nat"]
    host.run("nft flush ruleset")
    for number, program in ((IPV4, "iptables-legacy"), (IPV6, "ip6tables-legacy")):
        rule = "POSTROUTING -o up0 -j MASQUERADE"
        host.run(f"{program} -t nat -A {rule}")
        assert warned(host) == [number % f"masquerading by table nat of {program}"]
        host.run(f"{program} -t nat -D {rule}")
    assert warned(host) == []


def test_in_a_namespace_of_others(host: Host) -> None:
    host.run("ip netns add c1")
    lab = "topology: there\nnamespaces: {box: {from: {name: c1}, forwarding: true}}\n"
    host.ok("apply", host.file(lab, "there.yaml"))
    host.run("ip -n c1 link add br7 type bridge")
    host.run("ip -n c1 addr add 10.7.0.1/24 dev br7")
    host.run("ip -n c1 link add p7 master br7 type veth peer name q7")
    said = host.ok("destroy", "there").text
    words = (IPV4 % "bridge br7").replace("ip_forward goes", "ip_forward in namespace box goes")
    assert [line.strip() for line in said.splitlines() if "warning" in line] == [f"warning: {words}"]
