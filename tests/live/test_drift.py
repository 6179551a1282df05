"""Drift: what someone changes by hand is named by `topo diff` and put right by `topo apply`."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from sandbox.host import Host
from sandbox.leaks import RECORD
from sandbox.snapshot import output

LAB = """
topology: drift
bridges:
  br0: {subnet: 10.10.0.0/24, stp: false}
  br1: {mac: 02:00:00:00:00:b1}
namespaces:
  a:
    forwarding: true
    vxlans:
      vx7:
        id: 7
        local: 10.10.0.2
        peers: [10.10.0.3, {address: 10.10.0.3, mac: 02:00:00:00:00:77}]
    routes:
      - {to: 10.99.0.0/16, via: 10.10.0.1}
      - {to: 10.98.0.0/16, type: unreachable}
      - {to: "fd99::/64", via: "fd10::9"}
    rules:
      - {priority: 500, from: 10.10.0.0/24, table: 100}
    neighbours:
      - {ip: 10.10.0.77, mac: 02:00:00:00:00:07, dev: eth0}
    sysctls: {net.ipv4.tcp_syncookies: 0}
  b: {}
links:
  - ends:
      - interface: a:eth0
        addresses: [10.10.0.2/24, "fd10::2/64"]
        mac: 02:00:00:00:00:0a
        mtu: 1400
        shaping: {rate: 10mbit}
        sysctls: {rp_filter: 2}
      - {bridge: br0, name: a-port}
  - [{interface: b:eth0, mtu: 1400}, {bridge: br0, name: b-port, isolated: true, learning: false}]
nat:
  masquerade: [{from: 10.10.0.0/24, out: "!br0"}]
  publish: [{port: 8080, to: b:80}]
"""


class Drift(NamedTuple):
    """What is done by hand, where, and words that the diff must then show."""

    ns: str
    commands: tuple[str, ...]
    words: tuple[str, ...]


DRIFTS = {
    "route removed": Drift("a", ("ip route del 10.99.0.0/16",), ("route", "10.99.0.0/16")),
    "route of IPv6 removed": Drift("a", ("ip route del fd99::/64",), ("route", "fd99::/64")),
    "unreachable route removed": Drift("a", ("ip route del unreachable 10.98.0.0/16",), ("route", "10.98.0.0/16")),
    "route changed": Drift("a", ("ip route replace 10.99.0.0/16 via 10.10.0.3",), ("10.99.0.0/16", "10.10.0.3")),
    "route added": Drift("a", ("ip route add 10.97.0.0/16 via 10.10.0.3",), ("route", "10.97.0.0/16")),
    "MTU changed": Drift("a", ("ip link set eth0 mtu 1300",), ("a:eth0", "mtu", "1300", "1400")),
    "MAC changed": Drift("a", ("ip link set eth0 address 02:00:00:00:00:0b",), ("a:eth0", "mac", "02:00:00:00:00:0b")),
    "link set down": Drift("a", ("ip link set eth0 down",), ("a:eth0", "up")),
    "lo set down": Drift("b", ("ip link set lo down",), ("b",)),
    "address added": Drift("a", ("ip addr add 10.10.0.200/24 dev eth0",), ("address", "10.10.0.200/24")),
    "address of IPv6 added": Drift("a", ("ip addr add fd10::200/64 dev eth0",), ("address", "fd10::200/64")),
    "address removed": Drift("a", ("ip addr del 10.10.0.2/24 dev eth0",), ("address", "10.10.0.2/24")),
    "address on the bridge removed": Drift("host", ("ip addr flush dev br0",), ("address", "10.10.0.1/24")),
    "veth removed": Drift("host", ("ip link del a-port",), ("a:eth0",)),
    "veth removed from the other end": Drift("b", ("ip link del eth0",), ("b:eth0",)),
    "veth renamed": Drift("b", ("ip link set eth0 down", "ip link set eth0 name other"), ("b:other", "eth0")),
    "bridge removed": Drift("host", ("ip link del br0",), ("br0",)),
    "port taken out": Drift("host", ("ip link set b-port nomaster",), ("b-port", "br0")),
    "port moved": Drift("host", ("ip link set b-port master br1",), ("b-port", "br1")),
    "port setting changed": Drift("host", ("bridge link set dev b-port isolated off",), ("b-port", "isolated")),
    "port setting added": Drift("host", ("bridge link set dev a-port hairpin on",), ("a-port", "hairpin")),
    "bridge setting changed": Drift("host", ("ip link set br0 type bridge stp_state 1",), ("br0", "stp")),
    "vxlan removed": Drift("a", ("ip link del vx7",), ("vx7",)),
    "FDB entry added to a vxlan": Drift(
        "a", ("bridge fdb add 02:00:00:00:00:99 dev vx7 dst 10.10.0.9",), ("fdb", "02:00:00:00:00:99")
    ),
    "FDB entry to flood to added": Drift(
        "a", ("bridge fdb append 00:00:00:00:00:00 dev vx7 dst 10.10.0.9",), ("fdb", "10.10.0.9")
    ),
    "FDB entry added to a bridge": Drift(
        "host", ("bridge fdb add 02:00:00:00:00:99 dev a-port master static",), ("fdb", "02:00:00:00:00:99")
    ),
    "FDB entry removed": Drift(
        "a", ("bridge fdb del 02:00:00:00:00:77 dev vx7 dst 10.10.0.3",), ("02:00:00:00:00:77",)
    ),
    "sysctl changed": Drift("a", ("sysctl -qw net.ipv4.tcp_syncookies=1",), ("tcp_syncookies",)),
    "forwarding turned off": Drift("a", ("sysctl -qw net.ipv4.ip_forward=0",), ("forward",)),
    "forwarding of the host turned off": Drift("host", ("sysctl -qw net.ipv4.ip_forward=0",), ("ip_forward",)),
    "sysctl of a device changed": Drift("a", ("sysctl -qw net.ipv4.conf.eth0.rp_filter=1",), ("rp_filter",)),
    "neighbour removed": Drift("a", ("ip neigh del 10.10.0.77 dev eth0",), ("10.10.0.77",)),
    "neighbour changed": Drift(
        "a", ("ip neigh replace 10.10.0.77 lladdr 02:00:00:00:00:08 nud permanent dev eth0",), ("02:00:00:00:00:08",)
    ),
    "neighbour added": Drift(
        "a", ("ip neigh add 10.10.0.78 lladdr 02:00:00:00:00:08 nud permanent dev eth0",), ("10.10.0.78",)
    ),
    "rule added": Drift("a", ("ip rule add pref 600 from 10.10.0.9 lookup 100",), ("rule", "600")),
    "rule removed": Drift("a", ("ip rule del pref 500",), ("rule", "500")),
    "qdisc removed": Drift("a", ("tc qdisc del dev eth0 root",), ("a:eth0", "tbf")),
    "qdisc changed": Drift(
        "a", ("tc qdisc replace dev eth0 root tbf rate 1mbit burst 10k latency 10ms",), ("a:eth0", "rate")
    ),
    "namespace deleted": Drift("host", ("ip netns del b",), ("namespace", "b")),
}


def _applied(host: Host) -> dict[str, dict[str, Any]]:
    host.ok("apply", host.file(LAB))
    return host.settled()


def _repaired(host: Host, before: dict[str, dict[str, Any]], words: tuple[str, ...]) -> None:
    """The diff names the drift, apply puts it right, and iproute2 and nft see what they saw before it."""
    drifted = host.topo("diff", "--verbose", host.directory / "lab.yaml")
    assert drifted.code == 1, drifted.text
    missing = [word for word in words if word not in drifted.out]
    assert not missing, f"{missing} not in:\n{drifted.out}"
    assert words[-1] in host.ok("show", "--verbose", "drift").out
    host.ok("apply", host.directory / "lab.yaml")
    assert json.loads((RECORD / "drift.json").read_text())["pending"] is None, "the run came to its end"
    host.same(before, but_for_macs=True)
    assert host.ok("diff", host.directory / "lab.yaml").code == 0
    host.ok("destroy", "drift")


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=[name.replace(" ", "-") for name in DRIFTS])
def test_drift(host: Host, drift: Drift) -> None:
    before = _applied(host)
    for command in drift.commands:
        host.run(command, drift.ns)
    _repaired(host, before, drift.words)


def _rule_handles(host: Host) -> list[tuple[str, str, str]]:
    """Table, chain and handle of every nft rule on the host."""
    listing = json.loads(output("host", "nft", "-a", "-j", "list", "ruleset"))["nftables"]
    rules = [entry["rule"] for entry in listing if "rule" in entry]
    return [(rule["table"], rule["chain"], str(rule["handle"])) for rule in rules]


def test_nft_rule_deleted(host: Host) -> None:
    before = _applied(host)
    table, chain, handle = _rule_handles(host)[0]
    host.run(f"nft delete rule inet {table} {chain} handle {handle}")
    _repaired(host, before, ("nft",))


def test_nft_rule_added(host: Host) -> None:
    before = _applied(host)
    table, chain, _ = _rule_handles(host)[0]
    host.run(f"nft insert rule inet {table} {chain} ip saddr 203.0.113.7 drop")
    _repaired(host, before, ("nft",))


def test_nft_table_deleted(host: Host) -> None:
    before = _applied(host)
    host.run(f"nft delete table inet {_rule_handles(host)[0][0]}")
    _repaired(host, before, ("nft",))


def test_nft_element_deleted(host: Host) -> None:
    before = _applied(host)
    listing = json.loads(output("host", "nft", "-j", "list", "ruleset"))["nftables"]
    maps = [e["map"] for e in listing if "map" in e and "8080" in json.dumps(e["map"].get("elem", ""))]
    assert maps, "published ports are in a map"
    host.run(f"nft flush map inet {maps[0]['table']} {maps[0]['name']}")
    _repaired(host, before, ("nft",))


def test_several_at_once(host: Host) -> None:
    before = _applied(host)
    words: list[str] = []
    for name in ("route removed", "MTU changed", "port setting added", "rule added", "namespace deleted"):
        for command in DRIFTS[name].commands:
            host.run(command, DRIFTS[name].ns)
        words += DRIFTS[name].words
    _repaired(host, before, tuple(words))


def test_a_neighbour_comes_after_the_last_address_that_goes(host: Host) -> None:
    """inetdev_destroy: the last IPv4 address takes the neighbours of its link along (found by drift at random)."""
    path = host.file(LAB)
    host.ok("apply", path)
    host.run("ip addr del 10.10.0.2/24 dev eth0", "a")
    host.run("ip addr add 10.10.0.200/24 dev eth0", "a")
    host.ok("apply", path)
    assert "10.10.0.77" in host.run("ip neigh show dev eth0 nud permanent", "a")
    assert host.addresses("a", "eth0") >= {"10.10.0.2/24"}
    host.ok("destroy", path)
