"""Routes and rules by the way that packets take, and by what iproute2 of these days does not show."""

from __future__ import annotations

from pathlib import Path

import pytest
from sandbox.host import Host, has_realms
from sandbox.series import SINCE, too_old

TWO_WAYS = """
topology: lab
namespaces:
  r:
    rules:
{rules}
    routes:
      - {{ to: 203.0.113.0/24, via: 10.1.0.2, table: 101 }}
      - {{ to: 203.0.113.0/24, via: 10.2.0.2 }}
  one: {{}}
  two: {{}}
links:
  - [{{ interface: "r:one", addresses: 10.1.0.1/24 }}, {{ interface: "one:r", addresses: [10.1.0.2/24, 203.0.113.9/32] }}]
  - [{{ interface: "r:two", addresses: 10.2.0.1/24 }}, {{ interface: "two:r", addresses: [10.2.0.2/24, 203.0.113.9/32] }}]
"""


def way(host: Host, *selectors: str) -> str:
    """The interface by which the kernel sends what these are said of."""
    (route,) = host.ip_json("r", "route", "get", "203.0.113.9", *selectors)
    return str(route["dev"])


RECENT = {
    "dscp: 46": "rules by DSCP",
    "flowlabel": "rules by flow label",
    "dscp: 40/0x38": "rules by some bits of a port or DSCP",
    "dport: 0x1f00/0xff00": "rules by some bits of a port or DSCP",
}
"""What a rule matches by -> what the kernel needs for it."""


def refused(host: Host, path: Path) -> bool:
    """Whether this kernel is too old for a rule of the file; then that is refused, and nothing was touched."""
    needed = next((feature for words, feature in RECENT.items() if words in path.read_text()), None)
    if needed is None or not too_old(f"routing {needed}"):
        return False
    since = SINCE[f"routing {needed}"]
    before = host.everywhere()
    said = host.topo("apply", path)
    assert said.code == 5, said.text
    assert f"{path}:" in said.err and "namespaces.r.rules" in said.err
    assert f"has no {needed}" in said.err
    assert f"Linux {since[0]}.{since[1]} has them" in said.err and "CONFIG_IP_MULTIPLE_TABLES" in said.err
    assert host.everywhere() == before
    return True


@pytest.mark.parametrize(
    ("rule", "taken", "passed"),
    [
        ("{dscp: 46, table: 101}", "tos 0xb8", "tos 0x98"),
        ("{dscp: 40/0x38, table: 101}", "tos 0xb8", "tos 0x98"),
        ("{ipproto: udp, dport: 0x1f00/0xff00, table: 101}", "ipproto udp dport 8190", "ipproto udp dport 8192"),
        ("{tos: 16, table: 101}", "tos 0x10", "tos 0x8"),
        ("{ipproto: icmp, table: 101}", "ipproto icmp", "ipproto udp"),
        ("{ipproto: udp, dport: 500-600, table: 101}", "ipproto udp dport 550", "ipproto udp dport 601"),
        ("{uidrange: 1000-1999, table: 101}", "uid 1500", "uid 2000"),
        ("{fwmark: 0x10/0xf0, table: 101}", "mark 0x1f", "mark 0x2f"),
        ("{priority: 100, fwmark: 1, goto: 300}\n      - {priority: 200, table: 101}\n      - {priority: 300, action: nop}", "mark 2", "mark 1"),
        ("{fwmark: 1, table: 101, suppress_prefixlength: 23}", "mark 1", "mark 2"),
    ],
)  # fmt: skip
def test_which_way(host: Host, rule: str, taken: str, passed: str) -> None:
    path = host.file(TWO_WAYS.format(rules=f"      - {rule}"))
    if refused(host, path):
        return
    host.ok("apply", path)
    assert (way(host, *taken.split()), way(host, *passed.split())) == ("one", "two")
    assert "nothing to do" in host.ok("apply", path).text
    host.ok("apply", host.file(TWO_WAYS.format(rules="      []")))
    assert way(host, *taken.split()) == "two"
    host.ok("destroy", path)


def test_a_rule_that_is_suppressed_by_group(host: Host) -> None:
    """What table 101 finds leads out of an interface of topo's group: none of the groups below."""
    rules = "      - {fwmark: 1, table: 101, suppress_ifgroup: 7}"
    path = host.file(TWO_WAYS.format(rules=rules))
    host.ok("apply", path)
    assert way(host, "mark", "1") == "one"
    group = host.link("r", "one")["group"]
    host.ok("apply", host.file(TWO_WAYS.format(rules=rules.replace("7}", f"{group}}}"))))
    assert way(host, "mark", "1") == "two"
    host.ok("destroy", path)


def test_realms(host: Host) -> None:
    """Those of the route, and where it has none those of the rule, as nftables sees them in a packet."""
    rule = "      - {{priority: 100, to: 203.0.113.0/24, {}table: 101}}"
    text = TWO_WAYS.replace("10.1.0.2, table: 101", "10.1.0.2, table: 101, realms: 5/7")
    path = host.file(text.format(rules=rule.format("realms: 9, ")))

    def seen(realm: str) -> bool:
        host.run("nft add table ip t", "r")
        host.run("nft add chain ip t c { type filter hook output priority 0 ; }", "r")
        host.run(f"nft add rule ip t c meta rtclassid {realm} counter", "r")
        assert host.ping("r", "203.0.113.9")
        found = host.run("nft list table ip t", "r")
        host.run("nft delete table ip t", "r")
        return "packets 0" not in found

    if not has_realms():
        refused = host.topo("apply", path)
        assert refused.code == 5
        assert "CONFIG_IP_ROUTE_CLASSID" in refused.err
        return
    host.ok("apply", path)
    assert seen("0x50007") and not seen("9")
    host.ok("apply", host.file(TWO_WAYS.format(rules=rule.format("realms: 9, "))))
    assert seen("9") and not seen("0x50007")
    host.ok("apply", host.file(TWO_WAYS.format(rules=rule.format(""))))
    assert not seen("9")
    host.ok("destroy", path)


def test_flow_labels(host: Host) -> None:
    """By packets: `ip route get` knows of none."""
    path = host.file(
        """
topology: lab
namespaces:
  r: {rules: [{flowlabel: 0x10007/0x1000f, action: prohibit}]}
  web: {}
links: [[{interface: "r:eth0", addresses: fd00::1/64}, {interface: "web:eth0", addresses: fd00::2/64}]]
"""
    )
    if refused(host, path):
        return
    host.ok("apply", path)
    host.settle()
    assert host.ping("r", "fd00::2")
    assert not host.ping("r", "fd00::2", "-F", "0x1aaa7", within=0)
    assert host.ping("r", "fd00::2", "-F", "0x1aaa8")
    assert "nothing to do" in host.ok("apply", path).text
    host.ok("destroy", path)


def test_dscp_by_hand_is_drift(host: Host) -> None:
    """A rule that differs in that only is another one."""
    path = host.file(TWO_WAYS.format(rules="      - {priority: 100, dscp: 46, table: 101}"))
    if refused(host, path):
        return
    host.ok("apply", path)
    host.run("ip rule del pref 100", "r")
    host.run("ip rule add pref 100 table 101", "r")
    assert way(host) == "one"
    host.ok("apply", path)
    assert (way(host), way(host, "tos", "0xb8")) == ("two", "one")
    host.ok("destroy", path)


def test_tables_by_name(host: Host) -> None:
    host.run("mount -t tmpfs topo-test /etc/iproute2")
    try:
        host.run(f"cp {host.file('101 customers', 'rt_tables')} /etc/iproute2")
        text = TWO_WAYS.format(rules="      - {fwmark: 1, table: customers}").replace("table: 101", "table: customers")
        path = host.file(text)
        host.ok("apply", path)
        assert [r["dst"] for r in host.routes("r", "table", "101")] == ["203.0.113.0/24"]
        assert (way(host, "mark", "1"), way(host)) == ("one", "two")
        host.ok("destroy", path)
    finally:
        host.run("umount /etc/iproute2")
    refused = host.topo("apply", path)
    assert refused.code == 2
    assert "'customers' is no routing table" in refused.err
    assert "rt_tables" in refused.err
