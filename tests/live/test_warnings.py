"""Where tables of others drop what the file promises, plan, diff and apply say so, and the cure that they name works."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sandbox.host import Host

import topo

NAT = """
topology: lab
bridges:
  br0: {subnet: 10.40.0.0/24}
namespaces:
  web: {}
links:
  - [web:eth0, {bridge: br0, name: to-web}]
nat:
  masquerade: [{from: 10.40.0.0/24, out: "!br0"}]
  publish: [{port: 8080, to: web:80}]
"""

DOCKERS = """
*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:DOCKER -
:DOCKER-BRIDGE -
:DOCKER-CT -
:DOCKER-FORWARD -
:DOCKER-USER -
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
COMMIT
"""

MINE = """
table inet mine {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname "docker0" accept
    tcp dport 22 jump ssh
    %s
  }
  chain ssh { ip saddr 192.0.2.77 accept; }
}
"""

FIREWALLD = """
table inet firewalld {
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    jump filter_FORWARD_ZONES
    ct state invalid drop
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD_ZONES { iifname "eth9" goto filter_FWD_trusted; goto filter_FWD_public; }
  chain filter_FWD_public { meta l4proto icmp accept; }
  chain filter_FWD_trusted { accept; }
}
"""


@pytest.fixture(autouse=True)
def outside(host: Host) -> Iterator[None]:
    """A host with an uplink, which is the default route, and somebody there."""
    host.run("ip netns add outside")
    host.run("ip link add up0 type veth peer name eth0 netns outside")
    host.run("ip link set up0 up")
    host.run("ip addr add 192.0.2.1/24 dev up0")
    host.run("ip route add default via 192.0.2.2")
    host.run("ip link set eth0 up", "outside")
    host.run("ip link set lo up", "outside")
    host.run("ip addr add 192.0.2.2/24 dev eth0", "outside")
    yield
    host.topo("destroy", "lab")
    host.run("ip link del up0")
    host.run("ip netns del outside")
    host.run("nft flush ruleset")


def load(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def dockers() -> None:
    subprocess.run(["iptables-restore"], input=DOCKERS, text=True, check=True)


def warned(host: Host, lab: Path) -> list[str]:
    """What diff, apply, and a plan of what is applied warn of, alike."""
    found = [host.topo(verb, lab).text for verb in ("diff", "apply")]
    lines = [[line.strip() for line in text.splitlines() if line.startswith("  warning: ")] for text in found]
    assert lines[0] == lines[1] == [f"warning: {text}" for text in topo.plan(topo.load(lab)).warnings], found
    return lines[0]


def through(host: Host) -> tuple[bool, bool]:
    """Whether connections get out, and in through the published port."""
    for ns, port in (("web", 80), ("outside", 8000)):
        if f":{port} " not in host.run("ss -Htln", ns):
            host.serve(ns, port, ns)
    with ThreadPoolExecutor() as pool:
        out = pool.submit(host.fetch, "web", "http://192.0.2.2:8000/", 1)
        inward = pool.submit(host.fetch, "outside", "http://192.0.2.1:8080/", 1)
        return out.result() == "outside ::ffff:192.0.2.1", inward.result() == "web ::ffff:192.0.2.2"


def cures(line: str) -> list[str]:
    return [shlex.join(shlex.split(c)) for c in line.partition("let them pass: ")[2].split("; ")]


def cure(host: Host, line: str) -> None:
    for command in cures(line):
        subprocess.run(["sh", "-c", command], check=True)


def test_nothing_in_the_way(host: Host) -> None:
    load("table inet open { chain forward { type filter hook forward priority 0; tcp dport 23 drop; }; }")
    load("table inet shut { chain input { type filter hook input priority 0; policy drop; iif lo accept; accept; }; }")
    assert warned(host, host.file(NAT)) == []
    assert through(host) == (True, True)


def test_dockers_policy(host: Host) -> None:
    dockers()
    (line,) = warned(host, host.file(NAT))
    assert line.startswith("warning: the nftables chain ip filter FORWARD drops packets from br0 and to br0")
    assert cures(line) == ["iptables -I DOCKER-USER -i br0 -j ACCEPT", "iptables -I DOCKER-USER -o br0 -j ACCEPT"]
    assert through(host) == (False, False)
    cure(host, line)
    assert through(host) == (True, True)
    assert warned(host, host.directory / "lab.yaml") == []


def test_half_a_cure(host: Host) -> None:
    dockers()
    host.run("iptables -I DOCKER-USER -i br0 -j ACCEPT")
    (line,) = warned(host, host.file(NAT))
    assert " drops packets to br0, " in line
    assert through(host) == (False, False)
    host.run("iptables -A DOCKER-USER -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    (line,) = warned(host, host.directory / "lab.yaml")
    assert through(host) == (True, False), "masquerading works now, what is published does not"
    host.run("iptables -A DOCKER-USER -d 10.40.0.2 -p tcp --dport 80 -j ACCEPT")
    assert warned(host, host.directory / "lab.yaml") == []
    assert through(host) == (True, True)


def test_a_table_of_ones_own(host: Host) -> None:
    load(MINE % "")
    (line,) = warned(host, host.file(NAT))
    assert "the nftables chain inet mine forward drops packets from br0 and to br0" in line
    assert through(host) == (False, False)
    cure(host, line)
    assert warned(host, host.directory / "lab.yaml") == []
    assert through(host) == (True, True)


LETTING = (
    'iifname "br*" accept; oifname "br0" accept',
    "iifname { br0, br7 } accept; oifname br0 accept",
    'iifname "br0" oifname "up0" accept; oifname . iifname { "br0" . "up0" } accept',
    "ip saddr 10.40.0.0/24 accept; ip daddr 10.0.0.0-10.255.255.255 accept",
    "oifname vmap { up0 : accept, br0 : accept }",
    "accept",
    "ct state new accept",
)
STOPPING = (
    'iifname "br1*" accept; oifname "br00" accept',
    "iifname { br1, br7 } accept; oifname br1 accept",
    'iifname "br0" oifname "up1" accept; oifname . iifname { "br0" . "up1" } accept',
    'oifname "up0" ip saddr 10.41.0.0/24 accept; iifname "up0" ip daddr 10.41.0.0-10.255.255.255 accept',
    "oifname vmap { up0 : drop, br1 : accept }",
    "meta l4proto icmp accept; ip protocol udp accept; ip6 nexthdr tcp accept",
    "ct state established accept; ct state invalid,related accept; meta nfproto ipv6 accept",
    "jump ssh; goto ssh",
)


def test_rules_of_many_kinds(host: Host) -> None:
    """What is foretold of each comes true, for real connections."""
    host.ok("apply", host.file(NAT))
    for rule, lets in [(rule, True) for rule in LETTING] + [(rule, False) for rule in STOPPING]:
        load("table inet mine\ndelete table inet mine\n" + MINE % rule)
        plan = topo.plan(topo.loads(NAT))
        assert len(plan.warnings) == (0 if lets else 1), (rule, plan.warnings)
        assert through(host) == (lets, lets), rule


def test_a_reject_at_the_end(host: Host) -> None:
    load(FIREWALLD)
    (line,) = warned(host, host.file(NAT))
    assert "inet firewalld filter_FORWARD drops packets from br0" in line
    assert cures(line)[0] == "firewall-cmd --zone=trusted --add-interface=br0"
    assert through(host) == (False, True), "firewalld lets published connections pass"


def test_only_what_the_file_promises(host: Host) -> None:
    """A bridge alone forwards nothing; a router forwards all; topo's own table is nobody else's."""
    load(MINE % "")
    plain = re.sub(r"nat:.*", "", NAT, flags=re.DOTALL)
    assert warned(host, host.file(plain)) == []
    assert len(warned(host, host.file(plain + "forwarding: true\n"))) == 1
    assert "forward drops packets from br0" in warned(host, host.file(plain + "forwarding: true\n"))[0]
    load("flush ruleset")
    mine = "firewall: {forward: {policy: drop, rules: [{in: br0, action: accept}]}}\n"
    assert warned(host, host.file(NAT + mine)) == []


EMPTY = {
    "filter": ":INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n",
    "mangle": ":PREROUTING ACCEPT\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n",
}


def old(text: str, program: str = "iptables-legacy") -> None:
    subprocess.run([f"{program}-restore"], input=text, text=True, check=True)


def forwarding(policy: str, rules: str = "", table: str = "filter") -> str:
    """A table of iptables' with these rules, a line each, in its FORWARD."""
    chains = EMPTY[table].replace("FORWARD ACCEPT", f"FORWARD {policy}")
    return f"*{table}\n{chains}:SSH -\n" + "".join(f"-A {rule}\n" for rule in rules.splitlines()) + "COMMIT\n"


@pytest.fixture
def legacy() -> Iterator[None]:
    """iptables-legacy. Its tables cannot be removed, so they are left empty."""
    yield
    for program in ("iptables-legacy", "ip6tables-legacy"):
        for table, chains in EMPTY.items():
            old(f"*{table}\n{chains}COMMIT\n", program)


@pytest.mark.usefixtures("legacy")
def test_dockers_policy_in_iptables_legacy(host: Host) -> None:
    old(DOCKERS)
    (line,) = warned(host, host.file(NAT))
    assert line.startswith("warning: the iptables-legacy chain filter FORWARD drops packets from br0 and to br0")
    assert cures(line) == [f"iptables-legacy -I DOCKER-USER -{way} br0 -j ACCEPT" for way in "io"]
    assert through(host) == (False, False)
    host.run("iptables-legacy -I DOCKER-USER -i br0 -j ACCEPT")
    (line,) = warned(host, host.directory / "lab.yaml")
    assert " drops packets to br0, " in line
    host.run("iptables-legacy -A DOCKER-USER -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    assert through(host) == (True, False)
    (line,) = warned(host, host.directory / "lab.yaml")
    cure(host, line)
    assert warned(host, host.directory / "lab.yaml") == []
    assert through(host) == (True, True)


@pytest.mark.usefixtures("legacy")
def test_a_policy_of_iptables_legacy(host: Host) -> None:
    """In filter, and in mangle, which packets pass as well."""
    for table, option in (("filter", ""), ("mangle", " -t mangle")):
        old(forwarding("DROP", table=table))
        (line,) = warned(host, host.file(NAT))
        assert f"the iptables-legacy chain {table} FORWARD drops packets from br0 and to br0" in line
        assert cures(line)[0] == f"iptables-legacy{option} -I FORWARD -i br0 -j ACCEPT"
        assert through(host) == (False, False)
        cure(host, line)
        assert warned(host, host.directory / "lab.yaml") == []
        assert through(host) == (True, True)


ANSWERS = "FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n"
OLD_LETTING = (
    "FORWARD -i br+ -j ACCEPT\nFORWARD -o br0 -j ACCEPT",
    ANSWERS + "FORWARD -i br0 -o up0 -j ACCEPT\nFORWARD ! -i br0 -o br0 -p tcp -m tcp --dport 80 -j ACCEPT",
    ANSWERS + "FORWARD -s 10.40.0.0/24 -j ACCEPT\nFORWARD -m conntrack --ctstate DNAT -j ACCEPT",
    ANSWERS + "FORWARD -m comment --comment all -g SSH\nSSH ! -p udp -j ACCEPT",
    "FORWARD -p udp -j DROP\nFORWARD -j LOG\nFORWARD\nFORWARD -m state --state NEW,ESTABLISHED -j ACCEPT",
    "FORWARD -j SSH\nFORWARD -j ACCEPT\nSSH -i eth7 -j DROP\nSSH -j RETURN\nSSH -j DROP",
    ANSWERS + "FORWARD -p tcp -m multiport --dports 80,8000 -j ACCEPT",
    ANSWERS + "FORWARD -m mark ! --mark 7 -j ACCEPT",
)
OLD_STOPPING = (
    "FORWARD -i br1+ -j ACCEPT\nFORWARD -o br00 -j ACCEPT",
    ANSWERS + "FORWARD ! -i br0 -o up0 -j ACCEPT\nFORWARD -i up0 -o br0 -p tcp -m tcp ! --dport 80 -j ACCEPT",
    ANSWERS + "FORWARD ! -s 10.40.0.0/24 -o up0 -j ACCEPT\nFORWARD -s 10.41.0.0/16 -j ACCEPT",
    "FORWARD -m conntrack ! --ctstate INVALID -g SSH\nFORWARD -j ACCEPT\nSSH -p udp -m udp --dport 1:65535 -j ACCEPT",
    "FORWARD -j REJECT\nFORWARD -j ACCEPT",
    "FORWARD -j SSH\nSSH -i eth7 -j ACCEPT\nSSH -j RETURN\nSSH -j ACCEPT",
    ANSWERS + "FORWARD -p tcp -m multiport --dports 81,8001 -j DROP",
)


@pytest.mark.usefixtures("legacy")
def test_rules_of_many_kinds_in_iptables_legacy(host: Host) -> None:
    """What is foretold of each comes true, for real connections."""
    host.ok("apply", host.file(NAT))
    for rules, lets in [(rules, True) for rules in OLD_LETTING] + [(rules, False) for rules in OLD_STOPPING]:
        old(forwarding("DROP", rules))
        plan = topo.plan(topo.loads(NAT))
        assert len(plan.warnings) == (0 if lets else 1), (rules, plan.warnings)
        assert through(host) == (lets, lets), rules


@pytest.mark.usefixtures("legacy")
def test_drops_of_iptables_legacy_for_others(host: Host) -> None:
    old(forwarding("ACCEPT", "FORWARD -s 10.41.0.0/24 -j DROP\nFORWARD -d 10.40.0.99 -j DROP\nFORWARD -o br7 -j DROP"))
    assert warned(host, host.file(NAT)) == []
    assert through(host) == (True, True)


@pytest.mark.usefixtures("legacy")
def test_ip6tables_legacy(host: Host) -> None:
    host.run("ip addr add fd02::1/64 dev up0 nodad")
    host.run("ip -6 route add default via fd02::2")
    host.run("ip addr add fd02::2/64 dev eth0 nodad", "outside")
    host.run("ip -6 route add default via fd02::1", "outside")
    router = NAT.partition("nat:")[0].replace("10.40.0.0/24", "fd40::/64") + "forwarding: true\n"
    old(
        forwarding("DROP", "FORWARD -i br0 -s fd41::/64 -j ACCEPT\nFORWARD -i br7 -d fd00::/8 -j ACCEPT"),
        "ip6tables-legacy",
    )
    (line,) = warned(host, host.file(router))
    assert "the ip6tables-legacy chain filter FORWARD drops packets from br0 and to br0" in line
    assert host.silent("web", "fd02::2")
    cure(host, line)
    assert warned(host, host.directory / "lab.yaml") == []
    assert host.ping("web", "fd02::2")


def test_reading_makes_no_table(host: Host) -> None:
    """Asking for a table of iptables-legacy makes it, so only those that are there are asked for."""
    host.run("ip netns add elsewhere")
    tables = [f"/proc/net/{family}_tables_names" for family in ("ip", "ip6")]
    inside = "from: {name: elsewhere}, forwarding: true, bridges: {br5: {subnet: 10.45.0.0/24}}"
    lab = host.file(f"topology: lab\nnamespaces:\n  there: {{{inside}}}\n")
    assert warned(host, lab) == []
    assert [host.run(f"cat {path}", "elsewhere") for path in tables] == ["", ""]
    host.run("iptables-legacy -P FORWARD DROP", "elsewhere")
    assert host.run(f"cat {tables[0]}", "elsewhere") == "filter\n"
    (line,) = warned(host, lab)
    assert "the iptables-legacy chain filter FORWARD in namespace there drops packets from br5" in line
    host.ok("destroy", "lab")
    host.run("ip netns del elsewhere")


def test_within_a_bridge_where_br_netfilter_is_on(host: Host) -> None:
    path = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    assert path.exists(), "this kernel has no br_netfilter: modprobe br_netfilter"
    before = path.read_text()
    path.write_text("1")
    try:
        dockers()
        plain = re.sub(r"nat:.*", "", NAT, flags=re.DOTALL).replace("web: {}", "web: {}\n  db: {}")
        plain = plain.replace("links:\n", "links:\n  - [db:eth0, br0]\n")
        (line,) = warned(host, host.file(plain))
        assert "drops packets within br0" in line
        assert host.silent("web", "10.40.0.2")
        cure(host, line)
        assert warned(host, host.directory / "lab.yaml") == []
        assert host.ping("web", "10.40.0.2")
    finally:
        path.write_text(before)


def test_in_json_and_in_a_saved_plan(host: Host) -> None:
    dockers()
    lab = host.file(NAT)
    assert len(host.topo("diff", "--output", "json", lab).json()["warnings"]) == 1
    host.ok("plan", lab, "-o", host.directory / "plan.json")
    assert "DOCKER-USER" in host.ok("apply", host.directory / "plan.json").text


def test_ten_thousand_rules_of_others(host: Host) -> None:
    """They are not read unless a packet comes by them."""
    rules = "\n".join(f"ip saddr 10.{n // 250}.{n % 250}.1 tcp dport {n} accept" for n in range(1, 10000))
    load("table inet many {\nchain big {\n" + rules + "\n}\n}")
    load(
        "table inet many { chain forward { type filter hook forward priority 0; policy drop; iifname eth7 jump big; }; }"
    )
    assert len(warned(host, host.file(NAT))) == 1
    load("flush chain inet many forward; add rule inet many forward jump big")
    assert warned(host, host.directory / "lab.yaml") == [], "too many to judge"
