"""Bridge mode, case by case: what Docker does and what topo does, and the field on which both are asked.

Who asks: `outside`, another machine on the host's uplink; the `host`; a `sibling` on the target's bridge; the `target`,
whose ports are published; and `apart`, on another bridge.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from sandbox.asking import Question, answer, ask
from sandbox.host import SAMPLES, Host

from interop.docker import Docker

SAMPLE: Final = SAMPLES / "seeds" / "bridge-mode.yaml"
DUAL: Final = ("--ipv6", "--fixed-cidr-v6=fd17::/64", "--experimental", "--ip6tables")  # options of dockerd

HOST: Final = ("192.0.2.1", "2001:db8::1")
BOUND: Final = ("192.0.2.11", "2001:db8::11")  # another address of the host
OUTSIDE: Final = ("192.0.2.2", "2001:db8::2")
NETWORKS: Final = ("172.16.0.0/12", "fd00::/8")  # all bridges', which `outside` knows the way to

PUBLISHED: Final = (  # address, port or ports, the target's
    ("", "8080", "80"),
    ("", "8000-8002", "8000-8002"),
    (BOUND[0], "8081", "80"),
    (BOUND[1], "8081", "80"),
    ("127.0.0.1", "8082", "80"),
)
UNPUBLISHED: Final = 9000
SERVICE: Final = 7000  # on the host's 127.0.0.1
PORTS: Final = (80, 8000, 8001, 8002, UNPUBLISHED)

NO, CLIENT, BRIDGE, HOSTS = "no", "client", "bridge", "host"
"""What the target sees: nothing; the address of who asked; its bridge's; the host's on the uplink."""


class Case(NamedTuple):
    """A row of the table: who asks what, and what comes of it with each of them."""

    who: str
    to: str
    over: str  # protocols and IP versions
    docker: str
    direct: str  # Docker without its proxy
    unbridged: str  # the same without br_netfilter
    topo: str
    right: str = ""  # what is right, where they differ

    def closed(self) -> str:
        """What comes of it with topo where the file also closes what it does not publish."""
        return NO if (self.who, self.to) == ("outside", "unpublished") else self.topo


# fmt: off
CASES: Final = (
    Case("outside", "host", "TCP UDP 4 6", CLIENT, CLIENT, CLIENT, CLIENT),
    Case("outside", "bridge", "TCP UDP 4 6", CLIENT, CLIENT, CLIENT, CLIENT),
    Case("outside", "range", "TCP UDP 4 6", CLIENT, CLIENT, CLIENT, CLIENT),
    Case("outside", "bound", "TCP UDP 4 6", CLIENT, CLIENT, CLIENT, CLIENT),
    Case("outside", "elsewhere", "TCP UDP 4 6", NO, NO, NO, NO),
    Case("outside", "not local", "TCP UDP 4", NO, NO, NO, NO),
    Case("outside", "forged", "TCP UDP 4", CLIENT, CLIENT, CLIENT, NO, "no: nobody outside has business with 127.0.0.1"),
    Case("outside", "service", "TCP UDP 4", NO, NO, NO, NO),
    Case("outside", "target", "TCP UDP 4 6", CLIENT, CLIENT, CLIENT, CLIENT),
    Case("outside", "unpublished", "TCP UDP 4 6", NO, NO, NO, CLIENT, "no: [three rules](#what-is-not-published)"),
    Case("host", "host", "TCP UDP 4 6", HOSTS, BRIDGE, BRIDGE, BRIDGE, "both"),
    Case("host", "bridge", "TCP UDP 4 6", BRIDGE, BRIDGE, BRIDGE, BRIDGE),
    Case("host", "127.0.0.1", "TCP UDP 4", BRIDGE, BRIDGE, BRIDGE, BRIDGE),
    Case("host", "::1", "TCP UDP 6", BRIDGE, NO, NO, NO, "yes: [but not in the kernel](../nat.md#publish)"),
    Case("host", "range", "TCP UDP 4 6", HOSTS, BRIDGE, BRIDGE, BRIDGE, "both"),
    Case("host", "bound", "TCP UDP 4 6", HOSTS, BRIDGE, BRIDGE, BRIDGE, "both"),
    Case("host", "elsewhere", "TCP UDP 4 6", NO, NO, NO, NO),
    Case("host", "local", "TCP UDP 4", BRIDGE, BRIDGE, BRIDGE, BRIDGE),
    Case("host", "not local", "TCP UDP 4", NO, NO, NO, NO),
    Case("host", "target", "TCP UDP 4 6", BRIDGE, BRIDGE, BRIDGE, BRIDGE),
    Case("sibling", "host", "TCP 4 6", BRIDGE, CLIENT, NO, BRIDGE, "yes, by either address"),
    Case("sibling", "host", "UDP 4 6", NO, CLIENT, NO, BRIDGE, "yes: the proxy answers from another address"),
    Case("sibling", "bridge", "TCP UDP 4 6", BRIDGE, CLIENT, NO, BRIDGE, "yes"),
    Case("sibling", "range", "TCP 4 6", BRIDGE, CLIENT, NO, BRIDGE, "yes"),
    Case("sibling", "bound", "TCP UDP 4 6", BRIDGE, CLIENT, NO, BRIDGE, "yes"),
    Case("sibling", "elsewhere", "TCP UDP 4 6", NO, NO, NO, NO),
    Case("sibling", "not local", "TCP UDP 4", NO, NO, NO, NO),
    Case("sibling", "forged", "TCP UDP 4", NO, CLIENT, NO, NO, "no"),
    Case("sibling", "service", "TCP UDP 4", NO, CLIENT, CLIENT, NO, "no: route_localnet without a guard"),
    Case("sibling", "target", "TCP UDP 4 6", CLIENT, CLIENT, CLIENT, CLIENT),
    Case("sibling", "unpublished", "TCP UDP 4 6", CLIENT, CLIENT, CLIENT, CLIENT),
    Case("target", "host", "TCP 4 6", BRIDGE, BRIDGE, BRIDGE, BRIDGE),
    Case("target", "host", "UDP 4 6", NO, BRIDGE, BRIDGE, BRIDGE, "yes: as with a sibling"),
    Case("target", "bridge", "TCP UDP 4 6", BRIDGE, BRIDGE, BRIDGE, BRIDGE),
    Case("target", "range", "TCP 4 6", BRIDGE, BRIDGE, BRIDGE, BRIDGE),
    Case("target", "bound", "TCP UDP 4 6", BRIDGE, BRIDGE, BRIDGE, BRIDGE),
    Case("target", "elsewhere", "TCP UDP 4 6", NO, NO, NO, NO),
    Case("target", "world", "TCP UDP 4 6", HOSTS, HOSTS, HOSTS, HOSTS),
    Case("apart", "host", "TCP 4 6", BRIDGE, NO, NO, NO, "no: the proxy undoes the isolation"),
    Case("apart", "host", "UDP 4 6", NO, NO, NO, NO),
    Case("apart", "bridge", "TCP 4 6", BRIDGE, NO, NO, NO, "no"),
    Case("apart", "bound", "TCP UDP 4 6", BRIDGE, NO, NO, NO, "no"),
    Case("apart", "target", "TCP UDP 4 6", NO, NO, NO, NO),
    Case("apart", "service", "TCP UDP 4", NO, CLIENT, CLIENT, NO, "no: route_localnet without a guard"),
    Case("apart", "world", "TCP UDP 4 6", HOSTS, HOSTS, HOSTS, HOSTS),
)
# fmt: on
WHO: Final = ("outside", "host", "sibling", "target", "apart")

MEANT: Final = {  # as the page calls them
    "outside": "another machine",
    "host": "the host",
    "sibling": "a sibling",
    "target": "the target itself",
    "apart": "another bridge",
}
TO: Final = {
    "host": "the host's address",
    "bridge": "the bridge's address",
    "range": "a port of a range",
    "bound": "a port bound to one address",
    "elsewhere": "a port bound to one address, by another",
    "127.0.0.1": "127.0.0.1",
    "::1": "::1",
    "local": "a port bound to 127.0.0.1, there",
    "not local": "a port bound to 127.0.0.1, by the host's address",
    "forged": "a port bound to 127.0.0.1, by a forged route",
    "service": "a service of the host's on 127.0.0.1, by a forged route",
    "target": "the target's own address, a published port",
    "unpublished": "the target's own address, a port not published",
    "world": "another machine",
}


def with_tables(page: str) -> str:
    """The page with the cases in its two tables: where Docker and topo differ, and where they are alike."""
    alike = [case for case in CASES if {case.docker, case.direct, case.unbridged} == {case.topo}]
    rows: dict[str, list[tuple[str, ...]]] = {
        "| from | to | over | Docker | no proxy | and no br_netfilter | topo | right |\n": [
            (*_asked(c), c.docker, c.direct, c.unbridged, f"**{c.topo}**", c.right) for c in CASES if c not in alike
        ],
        "| from | to | over | sees |\n": [(*_asked(c), c.topo) for c in alike],
    }
    for head, cells in rows.items():
        before, found, rest = page.partition(head)
        assert found, f"the page has lost its table {head}"
        lines = ["---".join("|" * head.count("|")) + "\n", *(f"| {' | '.join(cell)} |\n" for cell in cells)]
        page = f"{before}{head}{''.join(lines)}\n{_behind(rest)}"
    return page


def _behind(rest: str) -> str:
    """What comes behind the rest of a table."""
    return rest.lstrip("\n") if rest.startswith("\n") else rest.partition("\n\n")[2]


def _asked(case: Case) -> tuple[str, str, str]:
    words = case.over.split()
    protocols = [word for word in words if word.isalpha()]
    versions = [f"IPv{word}" for word in words if word.isdigit()]
    return (
        MEANT[case.who],
        TO[case.to],
        " ".join(said for among in (protocols, versions) if len(among) == 1 for said in among),
    )


class Pair(NamedTuple):
    """An IPv4 and an IPv6 address."""

    v4: str
    v6: str


class Side(NamedTuple):
    """Who publishes, Docker or topo: where everybody is. `outside` and `host` are the same for both."""

    spaces: dict[str, str]  # sibling, target, apart -> a `ns` of Host's
    addresses: dict[str, Pair]  # of the same
    bridge: Pair  # that sibling and target are on
    other: Pair  # that `apart` is on

    def ns(self, who: str) -> str:
        return self.spaces.get(who, who)

    def serve(self, host: Host) -> None:
        answer(host, self.ns("target"), "target", *PORTS)
        answer(host, "outside", "outside", 80)
        answer(host, "host", "service", SERVICE, only="127.0.0.1")
        for who, via in (("outside", HOST[0]), ("sibling", self.bridge.v4), ("apart", self.other.v4)):
            self._forge(host, self.ns(who), via, self._own(who).v4)

    @staticmethod
    def _forge(host: Host, ns: str, via: str, source: str) -> None:
        """Make `ns` send what goes to 127.0.0.1 to the host (CVE-2020-8558)."""
        host.run("sysctl -qw net.ipv4.conf.all.route_localnet=1", ns)
        host.run("ip rule add pref 1 to 127.0.0.1 lookup 7", ns)
        host.run("ip rule del pref 0", ns)
        host.run("ip rule add pref 2 lookup local", ns)
        host.run(f"ip route add 127.0.0.1 via {via} src {source} table 7", ns)

    def _own(self, who: str) -> Pair:
        return self.addresses.get(who, Pair(*OUTSIDE))

    def _to(self, to: str) -> tuple[tuple[str, str], int]:
        """The addresses and the port that a case asks for."""
        local = ("127.0.0.1", "::1")
        return {
            "host": (HOST, 8080),
            "bridge": (self.bridge, 8080),
            "range": (HOST, 8002),
            "bound": (BOUND, 8081),
            "elsewhere": (HOST, 8081),
            "127.0.0.1": (local, 8080),
            "::1": (local, 8080),
            "local": (local, 8082),
            "not local": (HOST, 8082),
            "forged": (local, 8082),
            "service": (local, SERVICE),
            "target": (self._own("target"), 80),
            "unpublished": (self._own("target"), UNPUBLISHED),
            "world": (OUTSIDE, 80),
        }[to]

    def questions(self, case: Case) -> list[Question]:
        addresses, port = self._to(case.to)
        words = case.over.split()
        asked = [address for address, version in zip(addresses, "46", strict=True) if version in words]
        return [(word.lower(), address, port) for word in words if word.isalpha() for address in asked]

    def _seen(self, who: str, answered: str) -> str:
        """In the table's words, what an answer says of the address that was seen."""
        if not answered:
            return NO
        source = answered.rpartition(" ")[2]
        if source in (*HOST, *BOUND):
            return HOSTS
        if source in self.bridge:
            return BRIDGE
        return CLIENT if source in self._own(who) else source

    def found(self, cases: tuple[Case, ...] = CASES) -> list[str]:
        """For every case what all of its questions lead to; where they differ, what each does."""
        results: dict[Case, str] = {}
        for who in WHO:
            here = [case for case in cases if case.who == who]
            asked = [question for case in here for question in self.questions(case)]
            answers = iter(ask(self.ns(who), *asked) if asked else [])
            for case in here:
                seen = [self._seen(who, next(answers)) for _ in self.questions(case)]
                results[case] = seen[0] if len({*seen}) == 1 else f"{case.over}: {', '.join(seen)}"
        return [results[case] for case in cases]


@contextmanager
def outside(host: Host) -> Iterator[None]:
    """Another machine, on the host's uplink; it knows the way to what is behind the host."""
    host.run("ip netns add outside")
    host.run("ip link add up0 type veth peer name eth0 netns outside")
    host.run("ip link set lo up", "outside")
    for ns, ifname, addresses in (("host", "up0", (*HOST, *BOUND)), ("outside", "eth0", OUTSIDE)):
        for address in addresses:
            rest = ("64", "nodad") if ":" in address else ("24", "")
            host.run(f"ip addr add {address}/{rest[0]} dev {ifname} {rest[1]}", ns)
        host.run(f"ip link set {ifname} up", ns)
    for network, via in zip(NETWORKS, HOST, strict=True):
        host.run(f"ip route add {network} via {via}", "outside")
    for via in OUTSIDE:
        host.run(f"ip route add default via {via}")
    try:
        yield
    finally:
        host.run("ip link del up0")
        host.run("ip netns del outside")


# What the sample has for TCP and IPv4, for UDP and IPv6 as well, and the other ways to publish a port.
MORE = """
topology: bridge-mode
bridges:
  br0: { subnet: [172.30.0.0/16, "fd30::/64"] }
  br1: { subnet: [172.31.0.0/16, "fd31::/64"] }
nat:
  masquerade:
    - { from: "fd30::/64", out: "!br0" }
    - { from: "fd31::/64", out: "!br1" }
  publish:
    - { port: 8080, to: web:80, protocol: udp }
"""


def more(host: Host) -> Path:
    lines = [
        f'    - {{ port: {port}, to: "web:{to}", protocol: {protocol}{f", address: {address!r}" if address else ""} }}\n'
        for address, port, to in PUBLISHED[1:]
        for protocol in ("tcp", "udp")
    ]
    return host.file(MORE + "".join(lines), "more.yaml")


@contextmanager
def by_docker(host: Host, docker: Docker) -> Iterator[Side]:
    """Docker's containers, which publish PUBLISHED."""
    words = []
    for address, port, to in PUBLISHED:
        where = f"[{address}]:" if ":" in address else f"{address}:" if address else ""
        words += [word for protocol in ("tcp", "udp") for word in ("-p", f"{where}{port}:{to}/{protocol}")]
    docker("network", "create", "--ipv6", "--subnet", "172.28.0.0/24", "--subnet", "fd18::/64", "apart")
    idle = ("sleep", "1d")
    target, sibling = docker.run("target", *words, command=idle), docker.run("sibling", command=idle)
    apart = docker.run("apart", "--network", "apart", command=idle)
    containers = {"target": (target, "bridge"), "sibling": (sibling, "bridge"), "apart": (apart, "apart")}
    side = Side(
        {who: container.ns for who, (container, _) in containers.items()},
        {who: Pair(container.ip(network), container.ip6(network)) for who, (container, network) in containers.items()},
        Pair("172.17.0.1", "fd17::1"),
        Pair("172.28.0.1", "fd18::1"),
    )
    side.serve(host)
    host.settle("host", *side.spaces.values())
    yield side
    host.close()
    docker.clean()


@contextmanager
def by_topo(host: Host, *files: Path) -> Iterator[Side]:
    """The sample with `files`, applied."""
    host.ok("apply", SAMPLE, *files)
    yield topos(host)
    host.close()
    host.ok("destroy", SAMPLE, *files)


def topos(host: Host) -> Side:
    """The sample's namespaces, with their servers."""
    side = Side(
        {"target": "web", "sibling": "db", "apart": "apart"},
        {
            "target": Pair("172.30.0.2", "fd30::2"),
            "sibling": Pair("172.30.0.3", "fd30::3"),
            "apart": Pair("172.31.0.2", "fd31::2"),
        },
        Pair("172.30.0.1", "fd30::1"),
        Pair("172.31.0.1", "fd31::1"),
    )
    side.serve(host)
    host.settle()
    return side
