"""The labs that faults happen to: each a topology, an edit of it, and what is on the host before, which must stay."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from sandbox.host import SAMPLES, Host

FOREIGN: Final = """
ip netns add theirs
ip link add their0 address 02:00:00:00:aa:01 type veth peer name eth0 address 02:00:00:00:aa:02 netns theirs
ip link set their0 up
ip addr add 10.200.0.1/24 dev their0
ip route add 10.201.0.0/16 via 10.200.0.2 dev their0 onlink proto static
ip rule add pref 700 from 10.200.0.0/24 lookup 77
ip neigh add 10.200.0.9 lladdr 02:00:00:00:00:99 dev their0 nud permanent
nft add table inet their-table
nft add chain inet their-table c { type filter hook forward priority 0 ; }
"""
"""What is somebody else's on every host."""

_NIC: Final = """
ip netns add lan
ip link add eth0 mtu 1460 address 02:00:00:00:00:10 type veth peer name p0 mtu 1460 netns lan
ip addr add 192.0.2.10/24 brd + dev eth0
ip addr add 2001:db8::10/64 nodad dev eth0
ip link set eth0 up
ip -n lan link set p0 up
ip route add default via 192.0.2.254
ip route add default via 192.0.2.253 metric 200
ip route add 203.0.113.0/24 via 192.0.2.254 src 192.0.2.10
ip -6 route add default via 2001:db8::fe
ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
sysctl -qw net.ipv4.conf.all.rp_filter=1
"""

_KINDS: Final = """
topology: kinds
sysctls: {net.ipv4.ip_forward: 1}
interfaces:
  nic0: {kind: existing, mtu: 1400, txqueuelen: 77, addresses: [10.5.0.1/24], sysctls: {ipv4.rp_filter: 2}}
  tap0: {kind: tap, addresses: [10.6.0.1/24]}
  tun0: {kind: tun, mtu: 1300}
  mv0: {kind: macvlan, parent: nic0, mac: 02:00:00:00:05:01}
bridges:
  br0: {subnet: 10.7.0.0/24, ports: [nic1]}
namespaces:
  a:
    interfaces: {ifb0: {kind: ifb}}
    routes: [{to: 10.8.0.0/16, via: 10.7.0.1}, {to: 10.9.0.0/16, type: blackhole}]
    rules: [{priority: 500, from: 10.8.0.0/16, table: 44}]
    neighbours: [{address: 10.7.0.77, mac: 02:00:00:00:07:77, dev: eth0}]
links:
  - [{interface: a:eth0, shaping: {rate: 2mbit, burst: 16kb, latency: 50ms}}, {bridge: br0, name: a-port}]
"""

_RARE: Final = """
topology: rare
namespaces:
  a:
    interfaces: {ifb0: {kind: ifb}}
    vxlans: {vx0: {vnis: [1000, 2000-2003], local: 10.1.0.1, peers: [{address: 10.1.0.2, vni: 1000}]}}
    nexthops: [{id: 1001, via: 10.1.0.2}, {id: 1002, dev: eth0, encap: {ip: {dst: 192.0.2.7}}}, {id: 1000, group: [1001]}]
    routes: [{to: 10.9.0.0/16, nhid: 1000}]
  b: {}
links:
  - - interface: "a:eth0"
      addresses: 10.1.0.1/24
      addrgenmode: none
      ingress: ifb0
      shaping:
        {kind: htb, rate: 8mbit, default: 20, classes: [{id: 10, rate: 1mbit, match: [{dscp: 46}]}, {id: 20, rate: 2mbit}]}
    - {interface: "b:eth0", addresses: 10.1.0.2/24, token: "::7"}
"""

_STAR: Final = """
topology: star
bridges:
  br0: {subnet: 10.10.0.0/24, mac: 02:00:00:00:01:00}
namespaces:
  a: {}
  b: {}
links:
  - [{interface: a:eth0, mac: 02:00:00:00:00:0a}, {bridge: br0, name: a-port}]
  - [{interface: b:eth0, mac: 02:00:00:00:00:0b}, {bridge: br0, name: b-port, hairpin: true}]
nat:
  masquerade: [{from: 10.10.0.0/24, out: "!br0"}]
  publish: [{port: 8080, to: a:80}]
"""

_ATTACHED: Final = """
topology: attached
bridges:
  br0: {subnet: 10.92.0.0/24}
namespaces:
  container: {from: {pid: PID}}
  blue: {from: {name: theirs}}
  other: {from: {share: own}}
  own: {}
links:
  - [container:eth5, br0]
  - [blue:eth5, br0]
  - [own:eth0, br0]
"""

_KINDS_NICS: Final = "\n".join(
    f"ip link add {name} address 02:00:00:00:bb:0{n} type veth peer name {name}-peer address 02:00:00:00:cc:0{n}\n"
    f"ip link set {name} up"
    for n, name in enumerate(("nic0", "nic1"))
)


class Lab(NamedTuple):
    """`given`: commands that make what is there before. `lost`: whether it changes what only its record could put back."""

    name: str
    first: str
    second: str
    given: str = ""
    lost: bool = False

    @property
    def topology(self) -> str:
        match = re.search(r"^topology: (\S+)$", self.first, re.MULTILINE)
        assert match
        return match[1]

    def prepare(self, host: Host) -> Lab:
        """Make what is there before; the lab with a process id in place."""
        for line in filter(None, (FOREIGN + self.given).splitlines()):
            host.run(line)
        if "PID" not in self.first:
            return self
        pid = str(host.unshared().pid)
        return self._replace(first=self.first.replace("PID", pid), second=self.second.replace("PID", pid))


def _sample(name: str, edit: Callable[[str], str], given: str = "", lost: bool = False) -> Lab:
    text = (SAMPLES / name).read_text()
    assert edit(text) != text
    return Lab(name.rpartition("/")[2].removesuffix(".yaml"), text, edit(text), given, lost)


def _edited(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def labs() -> dict[str, Lab]:
    """Every lab by its name."""
    star = _edited(
        _STAR,
        ("  b: {}\n", "  c: {routes: [{to: 10.9.0.0/16, via: 10.10.0.1}]}\n"),
        ("b:eth0", "c:eth0"),
        ("02:00:00:00:00:0a", "02:00:00:00:00:aa"),
        ("b-port", "c-port"),
        ("8080, to: a:80", "8081, to: c:80"),
    )
    kinds = _edited(
        _KINDS,
        ("mtu: 1400, txqueuelen: 77", "txqueuelen: 78"),
        ("tap0:", "tap1:"),
        ("mac: 02:00:00:00:05:01", "mac: 02:00:00:00:05:02"),
        (", ports: [nic1]", ""),
        ("rate: 2mbit", "rate: 3mbit"),
        ("priority: 500", "priority: 501"),
        ("10.7.0.77", "10.7.0.78"),
        ("to: 10.8.0.0/16", "to: 10.11.0.0/16"),
    )
    rare = _edited(
        _RARE,
        ("2000-2003", "2001-2004"),
        ("via: 10.1.0.2", "via: 10.1.0.3"),
        ("192.0.2.7", "192.0.2.8"),
        ("addrgenmode: none", "addrgenmode: random"),
        ("      ingress: ifb0\n", ""),
        ("{id: 10, rate: 1mbit, match: [{dscp: 46}]}", "{id: 11, rate: 1mbit, match: [{dscp: 10}]}"),
        ("::7", "::8"),
    )
    attached = _edited(_ATTACHED, ("  - [blue:eth5, br0]\n", ""), ("container:eth5", "container:eth6"))
    found = (
        Lab("star", _STAR, star),
        Lab("kinds", _KINDS, kinds, _KINDS_NICS, lost=True),
        Lab("rare", _RARE, rare),
        Lab("attached", _ATTACHED, attached),
        _sample("nat.yaml", lambda t: _edited(t, ("8080, to: web:80", "8080, to: db:81"), ("  db: {}", "  db: {forwarding: true}"))),
        _sample("vxlan-unicast.yaml", lambda t: _edited(t, ("id: 1\n", "id: 7\n"), ("10.60.2.0/32", "10.60.2.9/32"))),
        _sample("policy-routing.yaml", lambda t: _edited(t, ("priority: 1000", "priority: 1001"), ("gold", "golden"))),
        _sample("firewall.yaml", lambda t: _edited(t, ("guests:", "lobby:"), ("gw:guests", "gw:lobby"), ("isolate: [office, guests]", "isolate: [office, lobby]"), ("in: guests", "in: lobby"))),
        _sample("rate-limit.yaml", lambda t: _edited(t, ("2mbit", "3mbit"), ("kind: htb, rate: 8mbit", "rate: 8mbit, burst: 16kb, latency: 50ms"))),
        _sample("macvlan.yaml", lambda t: t + "# x\n"),
        _sample("seeds/underlay.yaml", lambda t: _edited(t, ("192.0.2.101", "192.0.2.102"), ("{ take_over: eth0 }", "{ take_over: eth0, mtu: 1400 }")), _NIC, lost=True),
    )  # fmt: skip
    return {lab.name: lab for lab in found}
