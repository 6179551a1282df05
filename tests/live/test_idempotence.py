"""A second apply asks the kernel for no change; dry runs, diffs, plans and validations touch nothing at all."""

from __future__ import annotations

import json

import pytest
from sandbox.host import SAMPLES, Host
from sandbox.monitor import traced, unchanged

LAB = """
topology: still
bridges:
  br0: {subnet: [10.10.0.0/24, "fd10::/64"], stp: false, ageing: 60}
namespaces:
  a:
    forwarding: true
    vxlans:
      vx7: {id: 7, local: 10.10.0.2, peers: [10.10.0.3, {address: 10.10.0.3, mac: 02:00:00:00:00:77}]}
    interfaces:
      tap0: {kind: tap}
      ifb7: {kind: ifb}
      mv0: {kind: macvlan, parent: eth0, mode: bridge}
    routes:
      - {to: 10.99.0.0/16, nexthops: [{via: 10.10.0.1}, {via: 10.10.0.3, weight: 3}]}
      - {to: 10.98.0.0/16, type: blackhole, metric: 50}
    rules:
      - {priority: 500, from: 10.10.0.0/24, table: 100}
    neighbours:
      - {ip: 10.10.0.77, mac: 02:00:00:00:00:07, dev: eth0}
    sysctls: {net.ipv4.tcp_syncookies: 0}
    firewall:
      input: {policy: drop, rules: [{protocol: icmp, action: accept}, {state: established, action: accept}]}
  b: {}
links:
  - [{interface: a:eth0, mac: 02:00:00:00:00:0a, mtu: 1400, shaping: {kind: htb, rate: 10mbit}, comment: hi}, br0]
  - [b:eth0, {bridge: br0, name: b-port, isolated: true, hairpin: true}]
nat:
  masquerade: [{from: 10.10.0.0/24, out: "!br0"}]
  publish: [{port: 8080, to: b:80}, {ports: [53, 5353], to: b, protocol: udp}]
"""

OTHERWISE = LAB.replace("mtu: 1400", "mtu: 1300").replace("  b: {}", "  b: {}\n  c: {}").replace("8080", "8081")


def test_second_apply_under_strace(host: Host) -> None:
    lab = host.file(LAB)
    host.ok("apply", lab)
    code, reads, changes = traced(host, "apply", lab)
    assert code == 0
    assert sum(call.what == "NETLINK_ROUTE" for call in reads) > 8, "strace saw the dumps of three namespaces"
    touching = [call for call in changes if call.what != "call" or "/run/topo" not in call.text]
    assert touching == [], "a record and a lock of its own are all that it may write"
    host.ok("destroy", lab)


def test_strace_sees_changes(host: Host) -> None:
    """The witness of the test above is no blind one."""
    lab = host.file(LAB)
    code, _, changes = traced(host, "apply", lab)
    assert code == 0
    kinds = {call.what for call in changes}
    assert kinds == {"NETLINK_ROUTE", "NETLINK_NETFILTER", "call"}
    host.ok("destroy", lab)


@pytest.mark.parametrize("applied", [False, True], ids=["nothing-applied", "applied"])
@pytest.mark.parametrize(
    "command",
    [
        ("validate",),
        ("diff",),
        ("diff", "--output", "json"),
        ("diff", "--adopt"),
        ("apply", "--dry-run"),
        ("graph",),
    ],
    ids=" ".join,
)
def test_looking_changes_nothing(host: Host, command: tuple[str, ...], applied: bool) -> None:
    lab = host.file(LAB)
    if applied:
        host.ok("apply", lab)
    other = host.file(OTHERWISE, "other.yaml")
    with unchanged(host):
        looked = host.topo(*command, other)
        assert looked.code == (1 if command[0] == "diff" else 0), looked.text
    code, _, changes = traced(host, *command, other)
    assert code == looked.code
    assert changes == []
    if applied:
        host.ok("destroy", lab)


def test_plan_changes_nothing_but_its_file(host: Host) -> None:
    lab, plan = host.file(LAB), host.directory / "plan.json"
    with unchanged(host):
        host.ok("plan", lab, "-o", plan)
    assert json.loads(plan.read_text())["format"] == 1
    host.ok("apply", plan)
    host.ok("diff", lab)
    stale = host.topo("apply", plan)
    assert stale.code == 2, "the live state has moved on since"
    host.ok("destroy", "still")


@pytest.mark.parametrize("command", [("list",), ("show", "two-hosts"), ("schema",)], ids=" ".join)
def test_asking_changes_nothing(host: Host, command: tuple[str, ...]) -> None:
    host.ok("apply", SAMPLES / "two-hosts.yaml")
    with unchanged(host):
        host.ok(*command)
    host.ok("destroy", "two-hosts")


def test_destroy_of_nothing_changes_nothing(host: Host) -> None:
    with unchanged(host, but_for_locks=True):
        host.ok("destroy", "never-applied")
        host.ok("destroy", SAMPLES / "two-hosts.yaml")


def test_same_file_same_network(host: Host) -> None:
    """What is allocated and derived (addresses, names of ports) is a function of the file alone."""
    lab = SAMPLES / "two-hosts.yaml"
    seen = []
    for _ in range(2):
        host.ok("apply", lab)
        names = {link["ifname"] for link in host.ip_json("host", "link")}
        seen.append((names, host.addresses("alice", "eth0"), host.addresses("bob", "eth0")))
        host.ok("destroy", lab)
    assert seen[0] == seen[1]
