"""NAT and firewall on the real kernel: real packets, with nft and conntrack's own listing as witnesses."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sandbox.asking import answer, ask
from sandbox.host import Host, until
from sandbox.snapshot import inside

from topo.changes import DELETE, UPDATE, Conntrack, Nft, Op
from topo.errors import KernelError
from topo.kernel import conntrack
from topo.kernel.netfilter import open_socket
from topo.kernel.nftables import Nftables, canonical, table_names
from topo.kinds.nft import (
    NFT,
    Dnat,
    FirewallChain,
    FirewallRule,
    Interface,
    Isolate,
    Masquerade,
    Match,
    Publish,
    Rules,
    Snat,
    differences,
    fact,
    needed_sysctls,
    parse,
)

T = TypeVar("T")
GW = "gw"
BRIDGE_NF = [Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}") for name in ("iptables", "ip6tables")]


def within(ns: str, work: Callable[[], T]) -> T:
    """What `work` returns, run by a thread of its own inside a namespace."""

    def enter() -> T:
        fd = os.open(f"/run/netns/{ns}", os.O_RDONLY)
        try:
            assert ctypes.CDLL(None, use_errno=True).setns(fd, 0) == 0
        finally:
            os.close(fd)
        return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter).result()


def one(ns: str, protocol: str, address: str, port: int) -> str:
    return ask(ns, (protocol, address, port))[0]


class Lab:
    """outside -- (eth0) gw (br0) -- t1, t2; (br1) -- t3."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.nft = within(GW, Nftables)
        self.attrs: dict[str, Any] | None = None

    def apply(self, rules: Rules) -> None:
        new = fact("lab", GW, rules)
        old = new._replace(attrs=self.attrs) if self.attrs is not None else None
        self.do(Op(UPDATE if old else "create", new.ref, new, old))
        self.attrs = new.attrs
        for path, value in needed_sysctls(rules).items():
            within(GW, lambda path=path, value=value: Path("/proc/sys", path).write_text(value))  # type: ignore[misc]

    def do(self, op: Op) -> None:
        for request in NFT.encode(op, None):  # type: ignore[arg-type]
            if isinstance(request, Nft):
                self.nft.run(request.commands)
            else:
                assert isinstance(request, Conntrack)
                flows = request.flows
                within(GW, lambda flows=flows: self.drop(flows))  # type: ignore[misc]

    def drop(self, flows: Any) -> int:
        with open_socket() as sock:
            return conntrack.drop(sock, flows)

    def live(self) -> dict[str, Any]:
        listing = self.nft.list_table("inet", "topo-lab")
        assert listing is not None
        return parse(listing)


@pytest.fixture
def bare(host: Host) -> Iterator[Lab]:
    """gw alone, for what needs no packets."""
    host.run(f"ip netns add {GW}")
    host.run("sysctl -qw net.ipv6.conf.default.accept_dad=0", GW)
    for bridge in ("br0", "br1"):
        host.run(f"ip link add {bridge} type bridge", GW)
    lab = Lab(host)
    yield lab
    lab.nft.close()
    host.run(f"ip netns del {GW}")


@pytest.fixture
def lab(bare: Lab) -> Iterator[Lab]:
    host = bare.host
    around = ("outside", "t1", "t2", "t3")
    for ns in around:
        host.run(f"ip netns add {ns}")
    for ns in (GW, *around):
        host.run("ip link set lo up", ns)
        host.run("sysctl -qw net.ipv6.conf.default.accept_dad=0", ns)
    for ns, lines in COMMANDS.items():
        for command in lines:
            host.run(command, ns)
    for ns in around:
        answer(host, ns, ns, 80, 81, 82)
    host.settle()
    bridge_nf(0)
    yield bare
    for ns in around:
        host.run(f"ip netns del {ns}")


COMMANDS = {
    GW: (
        "ip link add eth0 type veth peer name eth0 netns outside",
        "ip addr add 192.0.2.1/24 dev eth0",
        "ip addr add 192.0.2.9/24 dev eth0",
        "ip addr add 2001:db8::1/64 dev eth0 nodad",
        "ip link set eth0 up",
        "ip link set br0 up",
        "ip link set br1 up",
        "ip addr add 172.30.0.1/16 dev br0",
        "ip addr add fd30::1/64 dev br0 nodad",
        "ip addr add 172.31.0.1/16 dev br1",
        "ip link add t1 master br0 up type veth peer name eth0 netns t1",
        "ip link add t2 master br0 up type veth peer name eth0 netns t2",
        "ip link add t3 master br1 up type veth peer name eth0 netns t3",
    ),
    "outside": (
        "ip addr add 192.0.2.2/24 dev eth0",
        "ip addr add 2001:db8::2/64 dev eth0 nodad",
        "ip link set eth0 up",
        "ip route add 172.16.0.0/12 via 192.0.2.1",
    ),
    "t1": (
        "ip addr add 172.30.0.2/16 dev eth0",
        "ip addr add fd30::2/64 dev eth0 nodad",
        "ip link set eth0 up",
        "ip route add default via 172.30.0.1",
        "ip route add default via fd30::1",
    ),
    "t2": (
        "ip addr add 172.30.0.3/16 dev eth0",
        "ip addr add fd30::3/64 dev eth0 nodad",
        "ip link set eth0 up",
        "ip route add default via 172.30.0.1",
        "ip route add default via fd30::1",
    ),
    "t3": (
        "ip addr add 172.31.0.2/16 dev eth0",
        "ip link set eth0 up",
        "ip route add default via 172.31.0.1",
    ),
}


def bridge_nf(value: int) -> bool:
    """Switch br_netfilter for gw; whether there is any."""
    for path in BRIDGE_NF:
        within(GW, lambda path=path: path.exists() and path.write_text(str(value)))  # type: ignore[misc]
    return BRIDGE_NF[0].exists()


def switch_on_bridge_nf() -> None:
    assert bridge_nf(1), "this kernel has no br_netfilter: modprobe br_netfilter, or nox -s kernels"


def publish(
    port: int, last: int | None = None, target: int = 80, target_last: int | None = None, **more: Any
) -> Publish:
    more = {"to4": "172.30.0.2", "to6": "fd30::2", "via": "br0"} | more
    return Publish((port, last or port), (target, target_last or target), **more)


V4, V6 = "192.0.2.1", "2001:db8::1"


@pytest.mark.parametrize("br_netfilter", [0, 1])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_works_from_everywhere(lab: Lab, protocol: str, br_netfilter: int) -> None:
    if br_netfilter:
        switch_on_bridge_nf()
        lab.host.run("ip link set t1 type bridge_slave hairpin on", GW)  # needs_hairpin()
    lab.apply(Rules(publish=(publish(8080, protocol=protocol),)))

    assert ask("outside", (protocol, V4, 8080), (protocol, V6, 8080)) == ["t1:80 192.0.2.2", "t1:80 2001:db8::2"]
    own = [(protocol, a, 8080) for a in (V4, "192.0.2.9", "172.30.0.1", "127.0.0.1", "127.0.0.5", V6, "fd30::1")]
    assert ask(GW, *own) == ["t1:80 172.30.0.1"] * 5 + ["t1:80 fd30::1"] * 2
    for ns in ("t1", "t2"):
        near = [(protocol, a, 8080) for a in (V4, "172.30.0.1", V6, "fd30::1")]
        answers = ask(ns, *near)
        assert [a.split(" ")[0] for a in answers] == ["t1:80"] * 4, ns
    assert one("t3", protocol, V4, 8080) == "t1:80 172.31.0.2"


def test_without_hairpin_only_the_target_itself_suffers_from_br_netfilter(lab: Lab) -> None:
    """What needs_hairpin() is for."""
    switch_on_bridge_nf()
    lab.apply(Rules(publish=(publish(8080),)))
    assert one("t2", "tcp", "172.30.0.1", 8080).startswith("t1:80")
    assert one("t1", "tcp", "172.30.0.1", 8080) == ""


def test_the_client_keeps_its_address_unless_the_answer_would_pass_us_by(lab: Lab) -> None:
    lab.apply(Rules(publish=(publish(8080),)))
    assert one("outside", "tcp", V4, 8080) == "t1:80 192.0.2.2"
    assert one("t3", "tcp", V4, 8080) == "t1:80 172.31.0.2"
    assert one("t2", "tcp", V4, 8080) == "t1:80 172.30.0.1"


def test_what_ipv6_cannot_do_is_refused_at_once(lab: Lab) -> None:
    lab.apply(Rules(publish=(publish(8080),)))
    start = time.monotonic()
    assert one(GW, "tcp", "::1", 8080) == ""
    assert time.monotonic() - start < 1


def test_ranges_keep_their_order(lab: Lab) -> None:
    lab.apply(Rules(publish=(publish(9000, 9002, 80, 82), publish(9100, 9101, 81))))
    asked = [("tcp", a, p) for a in (V4, V6) for p in (9000, 9001, 9002, 9100, 9101)]
    ports = [answer.split(" ")[0] for answer in ask("outside", *asked)]
    assert ports == ["t1:80", "t1:81", "t1:82", "t1:81", "t1:81"] * 2


def test_bound_to_an_address_or_an_interface(lab: Lab) -> None:
    first: dict[str, Any] = {"to4": "172.30.0.2", "to6": None}
    second: dict[str, Any] = {"to4": "172.30.0.3", "to6": None}
    lab.apply(
        Rules(
            publish=(
                publish(8080, address="192.0.2.9", **first),
                publish(8080, **second),
                publish(8081, address="127.0.0.1", **first),
                publish(8082, in_=Interface("eth0"), **first),
                publish(8083, in_=Interface("br0", negate=True), **first),
                publish(8084, address="2001:db8::1"),
            )
        )
    )
    assert ask("outside", ("tcp", "192.0.2.9", 8080), ("tcp", V4, 8080)) == ["t1:80 192.0.2.2", "t2:80 192.0.2.2"]
    assert one(GW, "tcp", "127.0.0.1", 8081).startswith("t1:80")
    assert ask("outside", ("tcp", V4, 8081), ("tcp", V4, 8082)) == ["", "t1:80 192.0.2.2"]
    assert ask("t2", *[("tcp", V4, p) for p in (8082, 8083)]) == ["", ""]
    assert one("t3", "tcp", V4, 8083) == "t1:80 172.31.0.2"
    assert [a.split(" ")[0] for a in ask("outside", ("tcp", V6, 8084), ("tcp", V4, 8084))] == ["t1:80", ""]
    assert one(GW, "tcp", V6, 8084).startswith("t1:80")
    lab.apply(Rules(publish=(publish(8085, in_=Interface("eth*")),)))
    assert one("outside", "tcp", V4, 8085).startswith("t1:80")
    assert one("t2", "tcp", V4, 8085) == ""


def test_loopback_services_stay_closed(lab: Lab) -> None:
    """CVE-2020-8558: with route_localnet a neighbour could reach what listens on 127.0.0.1."""
    listener = "import socket,time;s=socket.create_server(('127.0.0.1',7777));print('ready',flush=True);c,_=s.accept();time.sleep(9)"
    process = lab.host.start(sys.executable, "-S", "-c", listener, ns=GW)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    lab.apply(Rules(publish=(publish(8080),)))
    path = "net/ipv4/conf/br0/route_localnet"
    assert within(GW, lambda: Path("/proc/sys", path).read_text()).strip() == "1"
    connect = "import socket;s=socket.socket();s.settimeout(1);print(s.connect_ex(('127.0.0.1',7777)))"
    # A malicious neighbour: it routes 127.0.0.0/8 to the gateway.
    for command in (
        "sysctl -qw net.ipv4.conf.all.route_localnet=1",
        "ip addr del 127.0.0.1/8 dev lo",
        "ip route add 127.0.0.1/32 via 172.30.0.1 src 172.30.0.3",
        "ip route del table local 127.0.0.0/8 dev lo",
    ):
        subprocess.run(inside("t2", command.split()), capture_output=True, check=False)
    attack = inside("t2", [sys.executable, "-S", "-c", connect])
    assert subprocess.run(attack, capture_output=True, text=True, check=True).stdout.strip() != "0"
    lab.host.run("nft delete chain inet topo-lab raw_prerouting", GW)
    # Without the chain the same attack succeeds: so it is the chain that stops it.
    assert subprocess.run(attack, capture_output=True, text=True, check=True).stdout.strip() == "0"


def test_masquerade_but_for_the_bridge_itself(lab: Lab) -> None:
    lab.host.run("ip route del 172.16.0.0/12", "outside")  # it knows no way to the bridge's network
    rules = Rules(masquerade=(Masquerade(("172.30.0.0/16",), Interface("br0", True)),))
    lab.apply(rules)
    assert one("t1", "tcp", "192.0.2.2", 80) == "outside:80 192.0.2.1"
    assert one("t2", "tcp", "172.30.0.2", 80) == "t1:80 172.30.0.3"
    assert one("t3", "tcp", "192.0.2.2", 80) == ""


def test_snat_and_dnat(lab: Lab) -> None:
    lab.apply(
        Rules(
            snat=(Snat("192.0.2.9", ("172.30.0.0/16",), Interface("eth0")),),
            dnat=(
                Dnat(
                    "172.30.0.3", 81, Match(to=("192.0.2.9",), in_=Interface("eth0"), protocol="tcp", dport=((90, 95),))
                ),
                Dnat("192.0.2.2", 82, Match(to=("198.51.100.1",), out=Interface("eth0"), protocol="tcp")),
            ),
        )
    )
    lab.host.run("ip route add 198.51.100.1 via 192.0.2.2", GW)
    assert one("t1", "tcp", "192.0.2.2", 80) == "outside:80 192.0.2.9"
    assert ask("outside", ("tcp", "192.0.2.9", 93), ("tcp", V4, 93)) == ["t2:81 192.0.2.2", ""]
    assert one(GW, "tcp", "198.51.100.1", 5) == "outside:82 192.0.2.1"


def test_a_forward_policy_of_drop_lets_published_ports_through_and_nothing_else(lab: Lab) -> None:
    allow = FirewallRule(
        Match(from_=("172.31.0.0/16",), to=("172.30.0.3", "fd30::3"), protocol="tcp", dport=((80, 81),)), "accept"
    )
    back = FirewallRule(Match(state=("established",)), "accept")
    no = FirewallRule(Match(from_=("192.0.2.77",)), "drop", log="no ")
    lab.host.run("ip addr add 192.0.2.77/24 dev eth0", "outside")
    lab.apply(Rules(publish=(publish(8080),), firewall=(FirewallChain("forward", "drop", (no, allow)),)))
    assert one("outside", "tcp", V4, 8080) == "t1:80 192.0.2.2"
    assert ask("outside", ("tcp", "172.30.0.2", 80)) == [""]
    assert ask("t3", ("tcp", "172.30.0.3", 80)) == [""]  # its answers are not let through
    lab.apply(Rules(publish=(publish(8080),), firewall=(FirewallChain("forward", "drop", (no, allow, back)),)))
    assert ask("t3", ("tcp", "172.30.0.3", 80), ("tcp", "172.30.0.3", 82)) == ["t2:80 172.31.0.2", ""]
    lab.host.run("ip route change 192.0.2.0/24 dev eth0 src 192.0.2.77", "outside")
    assert one("outside", "tcp", V4, 8080) == ""


def test_input_and_output_chains(lab: Lab) -> None:
    ping = FirewallRule(Match(protocol="icmp", icmp=("echo-request",)), "accept")
    reject = FirewallRule(Match(protocol="tcp", dport=((22, 22), (80, 90)), in_=Interface("eth0")), "reject")
    out = FirewallRule(Match(to=("192.0.2.2",), protocol="udp"), "drop")
    lab.apply(Rules(firewall=(FirewallChain("input", "drop", (ping, reject)), FirewallChain("output", rules=(out,)))))
    assert lab.host.ping("outside", V4)
    start = time.monotonic()
    assert one("outside", "tcp", V4, 85) == ""
    assert time.monotonic() - start < 1, "rejected, not dropped"
    assert one("outside", "tcp", V4, 5000) == ""
    assert one(GW, "udp", "192.0.2.2", 80) == ""


def test_isolated_bridges(lab: Lab) -> None:
    within(GW, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
    assert one("t3", "tcp", "172.30.0.2", 80) == "t1:80 172.31.0.2"
    lab.apply(Rules(isolate=(Isolate(("br0", "br1")),)))
    assert ask("t3", ("tcp", "172.30.0.2", 80), ("tcp", "192.0.2.2", 80)) == ["", "outside:80 172.31.0.2"]
    assert one("t1", "tcp", "172.31.0.2", 80) == ""
    assert one("t1", "tcp", "172.30.0.3", 80) == "t2:80 172.30.0.2"


EVERYTHING = Rules(
    masquerade=(
        Masquerade(("172.30.0.0/16", "fd30::/64"), Interface("br0", True)),
        Masquerade(out=Interface("eth0")),
        Masquerade(("0.0.0.0/0",), to=("10.0.0.0/8", "192.168.0.0/16")),
        Masquerade(("!10.0.0.0/8", "!192.168.0.0/17", "!fd00::/8"), fwmark=(0x4000, 0xFF00), keep=True),
        Masquerade(("10.0.0.0/8",), to=("!224.0.0.0/4",), fwmark=(0x80000001, 0xFFFFFFFF), random=True),
    ),
    snat=(Snat("192.0.2.9", ("172.31.0.0/16",), Interface("eth0")), Snat("2001:db8::9")),
    dnat=(
        Dnat("172.30.0.2", None, Match(to=("192.0.2.9/32",))),
        Dnat("fd30::2", 80, Match(protocol="tcp", dport=((8443, 8443),))),
        Dnat("172.30.0.2", 80, Match(protocol="tcp", in_=Interface("eth*"))),
        Dnat("172.30.0.2", 80, Match(protocol="udp", sport=((1, 5),), out=Interface("eth0"))),
    ),
    publish=(
        publish(8080),
        publish(8080, protocol="udp"),
        publish(8080, protocol="sctp", to6=None),
        publish(9000, 9010, 80, 90, address="192.0.2.9"),
        publish(9000, address="2001:0db8:0::1", in_=Interface("eth0")),
        publish(7, in_=Interface("br1", True)),
        publish(8, in_=Interface("eth0"), via="br1"),
        publish(8, in_=Interface("eth*"), address="0.0.0.0"),
    ),
    firewall=(
        FirewallChain(
            "forward",
            "drop",
            (
                FirewallRule(Match(from_=("10.0.1.0/24", "10.0.2.0/23", "9.9.9.9", "fd00::/8")), "reject"),
                FirewallRule(
                    Match(from_=("10.0.0.4", "10.0.0.5", "10.0.0.6"), to=("0.0.0.0/0",)), "drop", log='a "b" ;'
                ),
                FirewallRule(Match(protocol="tcp", dport=((443, 443), (22, 22), (80, 90), (91, 92))), "accept"),
                FirewallRule(Match(protocol="dccp", sport=((5, 9),), dport=((1, 1),)), "accept"),
                FirewallRule(Match(state=("related", "new", "established")), "accept"),
                FirewallRule(Match(state=("invalid",), in_=Interface("br0"), out=Interface("eth0", True)), "drop"),
                FirewallRule(Match(to=("::/0",)), "accept"),
            ),
        ),
        FirewallChain(
            "input",
            "accept",
            (
                FirewallRule(Match(protocol="icmp", icmp=("echo-request", "destination-unreachable")), "accept"),
                FirewallRule(Match(protocol="icmpv6", icmp=("nd-router-advert",)), "accept"),
                *(
                    FirewallRule(Match(protocol=p), "accept")
                    for p in ("icmp", "icmpv6", "esp", "ah", "gre", "sctp", "dccp")
                ),
                FirewallRule(Match(), "drop"),
            ),
        ),
        FirewallChain("output", "drop"),
    ),
    isolate=(Isolate(("br0", "br1")), Isolate(("br1", "br2", "br3"))),
)


@pytest.mark.parametrize("part", ["everything", *Rules._fields])
def test_what_nft_lists_is_what_was_desired(bare: Lab, part: str) -> None:
    rules = EVERYTHING if part == "everything" else Rules(**{part: getattr(EVERYTHING, part)})
    bare.apply(rules)
    assert bare.attrs is not None
    witness = json.loads(bare.host.run("nft -j -n list table inet topo-lab", GW))
    assert differences(bare.attrs, bare.live()) == []
    assert bare.live() == bare.attrs
    assert json.loads(json.dumps(bare.attrs)) == bare.attrs
    assert len([e for e in witness["nftables"] if "rule" in e]) == sum(
        len(c["rules"]) for c in bare.attrs["chains"].values()
    )
    assert canonical(bare.attrs) == bare.attrs


def test_a_table_in_other_words_is_found_equal(bare: Lab) -> None:
    """What another version of nft would list otherwise: `canonical` says what this one makes of it."""
    rule = FirewallRule(Match(protocol="tcp", dport=((80, 80),)), "accept")
    bare.apply(Rules(firewall=(FirewallChain("input", rules=(rule,)),)))
    assert bare.attrs is not None
    other = json.loads(json.dumps(bare.attrs))
    protocol = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}}
    other["chains"]["input"]["rules"][0].insert(0, protocol)
    assert other != bare.live()
    assert canonical(other) == bare.live()


def test_changed_elements_leave_all_else_alone(lab: Lab) -> None:
    def handles() -> list[Any]:
        listing = lab.nft.list_table("inet", "topo-lab")
        assert listing is not None
        return [e[k]["handle"] for e in listing["nftables"] for k in e if k != "metainfo"]

    lab.apply(Rules(publish=(publish(8080), publish(8081))))
    before = handles()
    lab.apply(Rules(publish=(publish(8080, to4="172.30.0.3"), publish(8082))))
    assert handles() == before
    assert lab.live() == lab.attrs
    assert [a[:5] for a in ask("outside", *[("tcp", V4, p) for p in (8080, 8081, 8082)])] == ["t2:80", "", "t1:80"]
    lab.apply(Rules(publish=(publish(8080, protocol="udp"),)))
    assert handles() != before
    assert lab.live() == lab.attrs


def test_what_others_put_into_the_table_can_be_put_back(bare: Lab) -> None:
    """An undo takes what was read for what is desired."""
    bare.apply(Rules(isolate=(Isolate(("br0", "br1")),)))
    for command in (
        "nft add set inet topo-lab nets {type ipv4_addr; flags interval; elements={10.0.0.0/8, 9.0.0.1-9.0.0.9, 1.2.3.4};}",
        "nft add map inet topo-lab more {type ipv4_addr . inet_service : mark; elements={10.0.0.1 . 80 : 7};}",
        "nft add chain inet topo-lab late {type filter hook input priority 5; policy drop;}",
        "nft add rule inet topo-lab late ip saddr @nets tcp dport {80, 443} counter accept",
    ):
        bare.host.run(command, GW)
    found = bare.live()
    assert len(found["sets"]["nets"]["elements"]) == 3
    ref = fact("lab", GW, Rules())
    bare.do(Op(DELETE, ref.ref, None, ref._replace(attrs=found)))
    bare.do(Op("create", ref.ref, ref._replace(attrs=found), None))
    assert bare.live() == found


def test_a_failed_replacement_leaves_the_old_table(bare: Lab) -> None:
    bare.apply(Rules(publish=(publish(8080),)))
    bad = {"add": {"rule": {"family": "inet", "table": "topo-lab", "chain": "nowhere", "expr": [{"drop": None}]}}}
    with pytest.raises(KernelError, match="No such file or directory") as caught:
        bare.nft.run([{"add": {"table": {"family": "inet", "name": "topo-lab"}}}, bad])
    assert caught.value.errno == 2
    with pytest.raises(KernelError, match="Unknown statement"):
        bare.nft.run(
            [{"add": {"rule": {"family": "inet", "table": "topo-lab", "chain": "publish", "expr": [{"no": 1}]}}}]
        )
    assert bare.live() == bare.attrs


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "nft flush chain inet topo-lab nat_postrouting",
            "+ rule nat_postrouting: oifname != br0 ip saddr 172.30.0.0/16 masquerade",
        ),
        ("nft delete element inet topo-lab publish_tcp4_addr {8080}", "+ element publish_tcp4_addr 8080 : 172.30.0.2"),
        ("nft add rule inet topo-lab forward counter drop", "- rule forward: counter drop"),
        ("nft add element inet topo-lab isolate0 {br7}", "- element isolate0 br7"),
        ("nft add chain inet topo-lab extra", "- chain extra"),
        ("nft add set inet topo-lab more {type mark;}", "- set more"),
        ("nft add counter inet topo-lab c", '- {"counter": {"name": "c"}}'),
        ("nft chain inet topo-lab forward {policy drop;}", "~ chain forward policy drop -> accept"),
    ],
)
def test_drift_is_named(bare: Lab, command: str, words: str) -> None:
    rules = Rules(
        masquerade=(Masquerade(("172.30.0.0/16",), Interface("br0", True)),),
        publish=(publish(8080, to6=None),),
        isolate=(Isolate(("br0", "br1")),),
    )
    bare.apply(rules)
    assert bare.attrs is not None
    bare.host.run(command, GW)
    assert words in differences(bare.attrs, bare.live())
    assert NFT.compare(fact("lab", GW, rules), fact("lab", GW, rules)._replace(attrs=bare.live()))
    bare.attrs = bare.live()
    bare.apply(rules)
    assert bare.live() == bare.attrs


def test_deleting_and_listing_tables(lab: Lab) -> None:
    lab.apply(EVERYTHING)
    lab.host.run("nft add table ip other", GW)
    names = {("inet", "topo-lab"), ("ip", "other")}

    def raw() -> set[tuple[str, str]]:
        with open_socket() as sock:
            return table_names(sock)

    assert within(GW, raw) == names == set(lab.nft.tables())
    assert within("t1", raw) == set()
    ref = fact("lab", GW, EVERYTHING)
    for _ in range(2):  # the second time it is absent
        lab.do(Op(DELETE, ref.ref, None, ref))
        assert within(GW, raw) == {("ip", "other")}
    assert lab.nft.list_table("inet", "topo-lab") is None


SENDER = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
s.connect((sys.argv[1], 5353))
for line in sys.stdin:
    try:
        s.send(b"?")
        print(s.recv(100).decode().split(" ")[0], flush=True)
    except OSError:
        print("-", flush=True)
"""


@pytest.mark.parametrize("address", [V4, V6])
def test_a_lasting_udp_sender_follows_the_published_port(lab: Lab, address: str) -> None:
    client = subprocess.Popen(
        inside("outside", [sys.executable, "-S", "-c", SENDER, address]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None and client.stdout is not None

    def send() -> str:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write("\n")
        client.stdin.flush()
        return client.stdout.readline().strip()

    def entries() -> str:
        return lab.host.run("conntrack -L -p udp", GW) + lab.host.run("conntrack -L -p udp -f ipv6", GW)

    try:
        lab.apply(Rules(masquerade=(Masquerade(("10.0.0.0/8",)),)))  # conntrack is on, and nothing published yet
        within(GW, lambda: Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1"))
        assert send() == "-"
        lab.apply(Rules(publish=(publish(5353, protocol="udp"), publish(5354, protocol="udp"))))
        assert until(lambda: send() == "t1:80", 2)
        one("outside", "udp", address, 5354)
        other = [line for line in entries().splitlines() if "dport=5354" in line]
        assert other
        moved = publish(5353, protocol="udp", to4="172.30.0.3", to6="fd30::3")
        lab.apply(Rules(publish=(moved, publish(5354, protocol="udp"))))
        assert send() == "t2:80"
        assert "dport=5354" in entries(), "the other port's connections live on"
        lab.apply(Rules(publish=(publish(5354, protocol="udp"),)))
        assert send() == "-"
    finally:
        client.stdin.close()
        client.wait(5)
        client.stdout.close()


def test_ten_thousand_ports(lab: Lab) -> None:
    def timed(work: Callable[[], object]) -> float:
        start = time.monotonic()
        work()
        return time.monotonic() - start

    many = tuple(publish(10000 + n, target=80, to6=None) for n in range(10000))
    loading = timed(lambda: lab.apply(Rules(publish=many)))
    listing = timed(lab.live)
    assert lab.live() == lab.attrs
    changing = timed(lambda: lab.apply(Rules(publish=(*many[:-1], many[-1]._replace(to4="172.30.0.3")))))
    assert [a[:5] for a in ask("outside", ("tcp", V4, 10000), ("tcp", V4, 19999))] == ["t1:80", "t2:80"]
    assert max(loading, listing, changing) < 5, (loading, listing, changing)
    print(f"10,000 ports: load {loading:.3f} s, list and parse {listing:.3f} s, change one {changing:.3f} s")
