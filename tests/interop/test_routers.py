"""FRR and BIRD in routers that topo makes: their routes, zebra's nexthops and their sessions survive every edit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox.host import Host, until
from sandbox.monitor import Quiet

from interop.routers import Bird, Frr

LAB = """
topology: lab
namespaces:
  h1: {}
  h3: {}
  r1: { forwarding: true }
  r2:
    forwarding: true
    routes:
      - { to: 10.99.0.0/16, type: blackhole }
  r3: { forwarding: true }
links:
  - [{ interface: "h1:eth0", addresses: 192.168.1.2/24, gateway: 192.168.1.1 }, { interface: "r1:lan", addresses: 192.168.1.1/24 }]
  - [{ interface: "h3:eth0", addresses: 192.168.3.2/24, gateway: 192.168.3.1 }, { interface: "r3:lan", addresses: [192.168.3.1/24, 172.16.3.1/24] }]
  - [{ interface: "r1:a", addresses: 10.0.12.1/24 }, { interface: "r2:a", addresses: 10.0.12.2/24 }]
  - [{ interface: "r1:b", addresses: 10.0.112.1/24 }, { interface: "r2:b", addresses: 10.0.112.2/24 }]
  - [{ interface: "r2:c", addresses: 10.0.23.2/24 }, { interface: "r3:c", addresses: 10.0.23.3/24 }]
"""  # r1 has two sessions with r2, and so two ways

_BGP = """router bgp 6500{n}
 bgp router-id 10.255.0.{n}
 no bgp ebgp-requires-policy
 timers bgp 1 5
{neighbours}
 address-family ipv4 unicast
  maximum-paths 2
{networks}
"""

_OSPF = """interface c
 ip ospf network point-to-point
 ip ospf hello-interval 1
 ip ospf dead-interval 5
router ospf
 ospf router-id 10.255.0.2
 network 10.0.23.0/24 area 0
"""

_BIRD = """router id 10.255.0.3;
protocol device { scan time 1; }
protocol direct { ipv4; interface "lan"; }
protocol kernel { ipv4 { export where source ~ [RTS_OSPF, RTS_BGP]; }; scan time 1; }
protocol bgp toward2 { local 10.0.23.3 as 65003; neighbor 10.0.23.2 as 65002; hold time 5; keepalive time 1;
  connect delay time 1; connect retry time 1; error wait time 1,2;
  ipv4 { import all; export where source = RTS_DEVICE && net = 192.168.3.0/24; }; }
protocol ospf v2 inside { ipv4 { import all; export none; };
  area 0 { interface "c" { type ptp; hello 1; dead 5; }; interface "lan" { stub; }; }; }
"""


def _bgp(n: int, neighbours: dict[str, int], *networks: str) -> str:
    words = [
        f" neighbor {ip} remote-as {number}\n neighbor {ip} timers connect 1\n neighbor {ip} advertisement-interval 0"
        for ip, number in neighbours.items()
    ]
    return _BGP.format(n=n, neighbours="\n".join(words), networks="\n".join(f"  network {net}" for net in networks))


class Routers:
    """The lab with its daemons."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.r1, self.r2 = Frr(host, "r1", directory), Frr(host, "r2", directory)
        self.r1.start("bgpd", _bgp(1, {"10.0.12.2": 65002, "10.0.112.2": 65002}, "192.168.1.0/24"))
        self.r2.start("bgpd", _bgp(2, {"10.0.12.1": 65001, "10.0.112.1": 65001, "10.0.23.3": 65003}))
        self.r2.start("ospfd", _OSPF)
        self.r3 = Bird(host, "r3", directory, _BIRD)

    def learnt(self) -> bool:
        """Whether everybody has everybody's routes, and r1 two ways."""
        ways = [len(r.get("nexthops", ())) for r in self.host.routes("r1", "192.168.3.0/24", "proto", "bgp")]
        ospf = self.host.routes("r2", "172.16.3.0/24", "proto", "ospf")
        return ways == [2] and bool(ospf) and bool(self.host.routes("r3", "192.168.1.0/24", "proto", "bird"))

    def named(self, ns: str, routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The nexthops of these routes, and the members of groups among them."""
        there = {n["id"]: n for n in self.host.ip_json(ns, "-d", "nexthop")}
        ids = {route["nhid"] for route in routes if "nhid" in route}
        ids |= {member["id"] for number in ids for member in there[number].get("group", ())}
        return [there[number] for number in sorted(ids)]

    def standing(self) -> dict[str, Any]:
        """Sessions with their counters, routes of daemons with their nexthop ids, and the nexthops that these name; zebra
        itself makes and drops others as it sees routes come and go."""
        found: dict[str, Any] = {"r1": self.r1.sessions(), "r2": self.r2.sessions(), "r3": self.r3.since()}
        for ns, protocols in (("r1", ("bgp",)), ("r2", ("bgp", "ospf")), ("r3", ("bird",))):
            for protocol in protocols:
                found[f"{ns} {protocol}"] = self.host.ip_json(ns, "-d", "route", "show", "proto", protocol)
            found[f"{ns} ids"] = self.named(ns, [r for p in protocols for r in found[f"{ns} {p}"]])
        return found


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where FRR's user may go, which pytest's own is not."""
    with tempfile.TemporaryDirectory(dir="/run") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def routers(directory: Path, host: Host) -> Routers:
    host.ok("apply", host.file(LAB))
    found = Routers(host, directory)
    assert until(found.learnt, 60), host.run("ip route", "r1") + host.run("ip route", "r2") + host.run("ip route", "r3")
    return found


EDITS = {
    "a route": LAB.replace("type: blackhole }", "type: blackhole }\n      - { to: 10.98.0.0/16, via: 10.0.12.1 }"),
    "another type": LAB.replace("type: blackhole }", "type: unreachable }"),
    "an address elsewhere": LAB.replace("192.168.1.2/24", "[192.168.1.2/24, 10.55.0.1/24]"),
    "a link": LAB.replace("  r3: {", "  h4: {}\n  r3: {")
    + "  - [h4:eth0, { interface: 'r2:h4', addresses: 10.44.0.1/24 }]\n",
    "a rule": LAB.replace("    routes:", "    rules: [{ fwmark: 7, table: 77 }]\n    routes:"),
    "nexthops of topo's": LAB.replace(
        "    routes:",
        "    nexthops:\n      - { id: 5001, via: 10.0.12.1 }\n      - { id: 5002, via: 10.0.112.1 }\n"
        "      - { id: 5000, group: [5001, 5002] }\n    routes:\n      - { to: 10.97.0.0/16, nhid: 5000 }",
    ),
    "sysctls": LAB.replace(
        "  r1: { forwarding: true }", "  r1: { forwarding: true, sysctls: { net.ipv4.tcp_sack: 0 } }"
    ),
}


def test_sessions_stay_up(host: Host, routers: Routers) -> None:
    path, before = host.file(LAB), routers.standing()
    assert {state for ns in ("r1", "r2") for state, _, _ in before[ns].values()} == {"Established"}
    assert before["r3"]["toward2"][0] == "Established"
    assert before["r3"]["inside"][0] == "Running"
    assert before["r1 ids"] and before["r2 ids"], "zebra has nexthop objects"
    assert all(route["nhid"] for ns in ("r1 bgp", "r2 bgp", "r2 ospf") for route in before[ns])
    host.ok("diff", path)
    with Quiet(host, ["r1", "r2", "r3"]):
        assert "nothing to do" in host.ok("apply", path).text
    for what, text in EDITS.items():
        edited = host.file(text, "edited.yaml")
        host.ok("apply", edited)
        assert routers.standing() == before, what
        assert host.ping("h1", "192.168.3.2"), what
        host.ok("diff", edited)
        host.ok("apply", path)
        assert routers.standing() == before, f"{what}, and back"
    host.run("ip route add 10.96.0.0/16 via 10.0.12.1", "r2")
    host.run("ip nexthop add id 6000 via 10.0.12.1 dev a", "r2")
    host.ok("apply", path)
    assert host.routes("r2", "10.96.0.0/16") == [], "what a hand has put there is drift, what a daemon has is not"
    assert routers.standing() == before
    assert host.ping("h3", "192.168.1.2")
    host.ok("destroy", path)


def test_a_link_that_goes_takes_its_session_alone(host: Host, routers: Routers) -> None:
    """What topo takes away by the file, the daemons see, and go on by what is left; and so back."""
    path, before = host.file(LAB), routers.standing()
    without = [line for line in LAB.splitlines(keepends=True) if "r1:b" not in line]
    host.ok("apply", host.file("".join(without), "without.yaml"))
    assert until(lambda: [r.get("gateway") for r in host.routes("r1", "192.168.3.0/24")] == ["10.0.12.2"], 20)
    after = routers.standing()
    assert after["r1"]["10.0.12.2"] == before["r1"]["10.0.12.2"]
    assert (after["r2"]["10.0.23.3"], after["r3"]) == (before["r2"]["10.0.23.3"], before["r3"])
    assert host.ping("h1", "192.168.3.2")
    host.ok("apply", path)
    assert until(routers.learnt, 30)
    assert host.ping("h1", "192.168.3.2")
    host.ok("destroy", path)
