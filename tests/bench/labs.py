"""Labs of many namespaces: the star, the line of routers, the Clos fabric. Sizes are namespaces."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import pairwise
from typing import Final

from . import netlink as nl
from .lab import (
    FORWARDING,
    Batch,
    Lab,
    Pieces,
    Reading,
    addresses,
    forward,
    ip,
    links_of,
    make_namespaces,
    routes_of,
    some,
    within,
)

CHANGED_MTU: Final = 1400
_PORTS: Final = 1000  # of one star: a bridge takes 1,023
_FIRST, _BRIDGES = 1000, 100_000  # ifindexes
_ROUTER: Final = Reading(nl.NETCONF)


def _ip(base: str, number: int) -> str:
    return str(IPv4Address(base) + number)


class Star(Lab):
    """`size` namespaces, each with a veth to a bridge, an address and a default route via the bridge.

    A bridge takes 1,023 ports: beyond a thousand they are several stars, each joined with the next by a router.
    """

    kind = "star"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.in_host = tuple(f"br{hub}" for hub in range(len(self.hubs)))

    @property
    def hubs(self) -> list[range]:
        """The numbers of the hosts of each star."""
        return [range(i, min(i + _PORTS, self.size)) for i in range(0, self.size, _PORTS)]

    @property
    def routers(self) -> list[str]:
        return [f"r{hub}" for hub in range(1, len(self.hubs))]

    def namespaces(self) -> list[str]:
        return [f"h{number + 1}" for number in range(self.size)] + self.routers

    def _address(self, number: int) -> str:
        hub, at = divmod(number, _PORTS)
        return _ip(f"10.{100 + hub}.0.2", at)

    def text(self, changed: bool = False) -> str:
        lines = [f"topology: {self.name}", "bridges:"]
        lines += [f"  br{hub}: {{subnet: 10.{100 + hub}.0.0/16}}" for hub in range(len(self.hubs))]
        lines += ["namespaces:", f"  'h[1-{self.size}]': {{}}"]
        lines += [f"  {name}: {{forwarding: true}}" for name in self.routers]
        mtu = f", mtu: {CHANGED_MTU}" if changed else ""
        lines += ["links:", f"  - [{{interface: 'h1:eth0'{mtu}}}, br0]", f"  - ['h[2-{self.hubs[0].stop}]:eth0', br0]"]
        lines += [f"  - ['h[{r.start + 1}-{r.stop}]:eth0', br{hub}]" for hub, r in enumerate(self.hubs) if hub]
        for router, name, bridge, address in self._joints():
            end = f"{{interface: '{router}:{name}', addresses: {address}/16, gateway: false}}"
            lines.append(f"  - [{end}, {{bridge: {bridge}}}]")
        return "\n".join(lines) + "\n"

    def _joints(self) -> list[tuple[str, str, str, str]]:
        """Each router's two interfaces: its name, the interface's, the bridge's, the address."""
        return [
            (f"r{hub}", end, f"br{hub - 1 + right}", f"10.{99 + hub + right}.255.{1 + right}")
            for hub in range(1, len(self.hubs))
            for right, end in enumerate(("left", "right"))
        ]

    def pieces(self) -> Pieces:
        before, links, inside = [], [], {}
        for hub in range(len(self.hubs)):
            made = nl.bridge(f"br{hub}", _BRIDGES + hub)
            before.append(("", made + nl.address(_BRIDGES + hub, f"10.{100 + hub}.0.1", 16)))
        for i in range(self.size):
            name, index = f"h{i + 1}", _FIRST + i
            links.append(nl.Veth(("", f"v{i}", index), (name, "eth0", index), _BRIDGES + i // _PORTS))
            inside[name] = [nl.up(1), nl.up(index), nl.address(index, self._address(i), 16)]
            inside[name].append(nl.route("default", f"10.{100 + i // _PORTS}.0.1", index))
        for i, (router, name, bridge, address) in enumerate(self._joints(), _FIRST + self.size):
            links.append(nl.Veth(("", f"j{i}", i), (router, name, i), _BRIDGES + int(bridge[2:])))
            inside.setdefault(router, [nl.up(1)]).extend((nl.up(i), nl.address(i, address, 16)))
        return Pieces(self.namespaces(), dict.fromkeys(self.routers, FORWARDING), before, {"": links}, inside, [])

    def reading(self) -> dict[str, Reading]:
        return dict.fromkeys(self.routers, _ROUTER)

    def check(self, changed: bool = False) -> None:
        self.check_names()
        for hub, hosts in enumerate(self.hubs):
            ports = [link["ifname"] for link in ip("link", "show", "master", f"br{hub}", "up")]
            joints = sum(joint[2] == f"br{hub}" for joint in self._joints())
            assert len(ports) == len(hosts) + joints, f"{len(ports)} ports of br{hub}, not {len(hosts)} and {joints}"
            assert f"10.{100 + hub}.0.1" in addresses(ip("address", "show", "dev", f"br{hub}"))
        for number in some(self.size):
            name, links = f"h{number + 1}", links_of(f"h{number + 1}")
            assert set(links) == {"lo", "eth0"}, links
            assert links["eth0"]["mtu"] == (CHANGED_MTU if changed and number == 0 else 1500), links["eth0"]
            assert self._address(number) in addresses([links["eth0"]]), links["eth0"]
            assert routes_of(name)["default"]["gateway"] == f"10.{100 + number // _PORTS}.0.1"
        for router, name, _, address in self._joints():
            assert address in addresses([links_of(router)[name]])

    def batches(self) -> list[Batch]:
        host = []
        for hub in range(len(self.hubs)):
            host += [f"link add br{hub} up type bridge", f"address add 10.{100 + hub}.0.1/16 dev br{hub}"]
        link = "link add {} up master {} type veth peer name {} netns {}"
        host += [link.format(f"v{i}", f"br{i // _PORTS}", "eth0", f"h{i + 1}") for i in range(self.size)]
        host += [link.format(f"{r}{name}", bridge, name, r) for r, name, bridge, _ in self._joints()]
        found = [make_namespaces(self.namespaces()), Batch(("ip", "-batch", "-"), "\n".join(host))]
        for i in range(self.size):
            lines = ["link set lo up", f"address add {self._address(i)}/16 dev eth0", "link set eth0 up"]
            found.append(within(f"h{i + 1}", [*lines, f"route add default via 10.{100 + i // _PORTS}.0.1"]))
        for router, name, _, address in self._joints():
            lines = ["link set lo up", f"address add {address}/16 dev {name}", f"link set {name} up"]
            found.append(within(router, lines))
        return found + [forward(router) for router in self.routers]


class Line(Lab):
    """`size` routers in a row, each link a /31, every router with routes to all links.

    Up to a hundred routers each has a route to every link. A thousand would have a million routes, so beyond that it has
    what a person would write: a default route to the right, and to the left the prefixes that cover what is there
    (as many as its number has bits set: five or six).
    """

    kind = "line"
    _WHOLE: Final = 100

    def namespaces(self) -> list[str]:
        return [f"r{number + 1}" for number in range(self.size)]

    def _routes(self, k: int) -> list[tuple[str, str, str]]:
        """What the k-th router, from 0, routes: destination, gateway, interface."""
        left, right = _ip("10.0.0.0", 2 * (k - 1)) if k else "", _ip("10.0.0.0", 2 * k + 1)
        links = self.size - 1
        if self.size <= self._WHOLE:
            found = [(f"{_ip('10.0.0.0', 2 * i)}/31", left, "left") for i in range(k - 1)]
            return found + [(f"{_ip('10.0.0.0', 2 * i)}/31", right, "right") for i in range(k + 1, links)]
        found, at = [], 0
        for bit in reversed(range(max(k - 1, 0).bit_length())):
            if k - 1 >> bit & 1:
                found.append((f"{_ip('10.0.0.0', 2 * at)}/{31 - bit}", left, "left"))
                at += 1 << bit
        return found + [("default", right, "right")] * (k < links)

    def text(self, changed: bool = False) -> str:
        lines = [f"topology: {self.name}", "namespaces:"]
        for k in range(self.size):
            routes = [f"{{to: {to}, via: {via}}}" for to, via, _ in self._routes(k)]
            if changed and k == 0 and routes:
                routes[-1] = f"{routes[-1][:-1]}, mtu: {CHANGED_MTU}}}"
            lines.append(f"  r{k + 1}: {{forwarding: true, routes: [{', '.join(routes)}]}}")
        ends = f"['r[1-{self.size - 1}]:right', 'r[2-{self.size}]:left']"
        comment = ", comment: other" if changed and self.size == 2 else ""  # there are no routes
        return "\n".join([*lines, "links:", f"  - {{ends: {ends}, subnet: 10.0.0.0/16{comment}}}"]) + "\n"

    def pieces(self) -> Pieces:
        names, links, inside = self.namespaces(), [], {name: [nl.up(1)] for name in self.namespaces()}
        for i in range(self.size - 1):
            one, other = names[i], names[i + 1]
            links.append(nl.Veth((one, "right", _FIRST + i), (other, "left", _FIRST + i)))
            inside[one].append(nl.address(_FIRST + i, _ip("10.0.0.0", 2 * i), 31))
            inside[other] += [nl.up(_FIRST + i), nl.address(_FIRST + i, _ip("10.0.0.0", 2 * i + 1), 31)]
        for k, name in enumerate(names):
            inside[name] += [nl.route(to, via, _FIRST + k - (dev == "left")) for to, via, dev in self._routes(k)]
        return Pieces(names, dict.fromkeys(names, FORWARDING), [], {"": links}, inside, [])

    def reading(self) -> dict[str, Reading]:
        return dict.fromkeys(self.namespaces(), _ROUTER)

    def check(self, changed: bool = False) -> None:
        self.check_names()
        for k in some(self.size):
            links, routes = links_of(f"r{k + 1}"), routes_of(f"r{k + 1}")
            wanted = {"lo"} | ({"left"} if k else set()) | ({"right"} if k < self.size - 1 else set())
            assert set(links) == wanted, links
            if k:
                assert _ip("10.0.0.0", 2 * k - 1) in addresses([links["left"]]), links["left"]
            found = {to: (route["gateway"], route["dev"]) for to, route in routes.items()}
            assert found == {to: (via, dev) for to, via, dev in self._routes(k)}, (k, found)
        if changed and self.size > 2:
            route = routes_of("r1")[self._routes(0)[-1][0]]
            assert route["metrics"] == [{"mtu": CHANGED_MTU}], route

    def batches(self) -> list[Batch]:
        names = self.namespaces()
        link = "link add right up netns {} type veth peer name left netns {}"
        links = [link.format(one, other) for one, other in pairwise(names)]
        found = [make_namespaces(names), Batch(("ip", "-batch", "-"), "\n".join(links))]
        addressed, routed = [], []
        for k, name in enumerate(names):
            lines = ["link set lo up"]
            lines += [f"address add {_ip('10.0.0.0', 2 * k - 1)}/31 dev left", "link set left up"] if k else []
            lines += [f"address add {_ip('10.0.0.0', 2 * k)}/31 dev right"] if k < self.size - 1 else []
            addressed.append(within(name, [*lines, *(f"route add {to} via {via}" for to, via, _ in self._routes(k))]))
            routed.append(forward(name))
        return found + addressed + routed


class Clos(Lab):
    """Leaves, each joined with every spine, and hosts on a bridge of each leaf; equal paths over all spines."""

    kind = "clos"
    SHAPES: Final = {10: (2, 2, 3), 100: (8, 4, 11), 1000: (30, 10, 32), 5000: (80, 40, 61)}

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.leaves, self.spines, self.hosts = self.SHAPES[size]

    def namespaces(self) -> list[str]:
        hosts = [f"l{i + 1}h{n + 1}" for i in range(self.leaves) for n in range(self.hosts)]
        return [f"s{j + 1}" for j in range(self.spines)] + [f"l{i + 1}" for i in range(self.leaves)] + hosts

    @staticmethod
    def _fabric(leaf: int, spine: int) -> tuple[str, str]:
        """The addresses of a leaf's and a spine's end."""
        return _ip(f"172.16.{spine}.0", 2 * leaf), _ip(f"172.16.{spine}.0", 2 * leaf + 1)

    def text(self, changed: bool = False) -> str:
        lines = [f"topology: {self.name}", "namespaces:"]
        for j in range(self.spines):
            routes = [f"{{to: 10.{i + 1}.0.0/24, via: {self._fabric(i, j)[0]}}}" for i in range(self.leaves)]
            lines.append(f"  s{j + 1}: {{forwarding: true, routes: [{', '.join(routes)}]}}")
        for i in range(self.leaves):
            hops = ", ".join(f"{{via: {self._fabric(i, j)[1]}}}" for j in range(self.spines))
            bridge = f"lan: {{subnet: 10.{i + 1}.0.0/24}}"
            lines.append(f"  l{i + 1}:\n    forwarding: true\n    bridges: {{{bridge}}}")
            lines.append(f"    routes: [{{to: default, nexthops: [{hops}]}}]")
        lines += [f"  'l[1-{self.leaves}]h[1-{self.hosts}]': {{}}", "links:"]
        for j in range(self.spines):
            ends = f"['l[1-{self.leaves}]:up{j + 1}', 's{j + 1}:down[1-{self.leaves}]']"
            lines.append(f"  - {{ends: {ends}, subnet: 172.16.{j}.0/24}}")
        mtu = f", mtu: {CHANGED_MTU}" if changed else ""
        lines.append(f"  - [{{interface: 'l1h1:eth0'{mtu}}}, 'l1:lan']")
        lines.append(f"  - ['l1h[2-{self.hosts}]:eth0', 'l1:lan']")
        lines += [f"  - ['l{i + 1}h[1-{self.hosts}]:eth0', 'l{i + 1}:lan']" for i in range(1, self.leaves)]
        return "\n".join(lines) + "\n"

    def pieces(self) -> Pieces:
        inside = {name: [nl.up(1)] for name in self.namespaces()}
        before, links = [], {}
        for i in range(self.leaves):
            leaf, pairs, hops = f"l{i + 1}", [], []
            before.append((leaf, nl.bridge("lan", _BRIDGES) + nl.address(_BRIDGES, f"10.{i + 1}.0.1", 24)))
            for j in range(self.spines):
                spine, up, down = f"s{j + 1}", 10 + j, 10 + i
                mine, its = self._fabric(i, j)
                pairs.append(nl.Veth(("", f"up{j + 1}", up), (spine, f"down{i + 1}", down)))
                inside[leaf].append(nl.address(up, mine, 31))
                inside[spine] += [nl.up(down), nl.address(down, its, 31), nl.route(f"10.{i + 1}.0.0/24", mine, down)]
                hops.append((its, up))
            inside[leaf].append(nl.spread("default", hops))
            for n in range(self.hosts):
                host = f"{leaf}h{n + 1}"
                pairs.append(nl.Veth(("", f"p{n}", _FIRST + n), (host, "eth0", _FIRST), _BRIDGES))
                inside[host] += [nl.up(_FIRST), nl.address(_FIRST, f"10.{i + 1}.0.{n + 2}", 24)]
                inside[host].append(nl.route("default", f"10.{i + 1}.0.1", _FIRST))
            links[leaf] = pairs
        routers = self.namespaces()[: self.spines + self.leaves]
        return Pieces(self.namespaces(), dict.fromkeys(routers, FORWARDING), before, links, inside, [])

    def reading(self) -> dict[str, Reading]:
        return dict.fromkeys(self.namespaces()[: self.spines + self.leaves], _ROUTER)

    def check(self, changed: bool = False) -> None:
        self.check_names()
        for i in some(self.leaves):
            leaf, links = f"l{i + 1}", links_of(f"l{i + 1}")
            assert len(links) == 2 + self.spines + self.hosts, list(links)
            assert f"10.{i + 1}.0.1" in addresses([links["lan"]])
            assert len(ip("-n", leaf, "link", "show", "master", "lan", "up")) == self.hosts
            assert len(routes_of(leaf)["default"]["nexthops"]) == self.spines
            for n in some(self.hosts):
                host = links_of(f"{leaf}h{n + 1}")
                assert f"10.{i + 1}.0.{n + 2}" in addresses([host["eth0"]])
                assert host["eth0"]["mtu"] == (CHANGED_MTU if changed and i == n == 0 else 1500)
                assert routes_of(f"{leaf}h{n + 1}")["default"]["gateway"] == f"10.{i + 1}.0.1"
        for j in some(self.spines):
            links, routes = links_of(f"s{j + 1}"), routes_of(f"s{j + 1}")
            assert len(links) == 1 + self.leaves and len(routes) == self.leaves
            assert routes[f"10.{self.leaves}.0.0/24"]["gateway"] == self._fabric(self.leaves - 1, j)[0]

    def batches(self) -> list[Batch]:
        inside = {name: ["link set lo up"] for name in self.namespaces()}
        links: dict[str, list[str]] = {}
        for i in range(self.leaves):
            leaf = f"l{i + 1}"
            links[leaf] = ["link add lan up type bridge", f"address add 10.{i + 1}.0.1/24 dev lan"]
            for j in range(self.spines):
                spine, (mine, its) = f"s{j + 1}", self._fabric(i, j)
                up, down = f"up{j + 1}", f"down{i + 1}"
                links[leaf] += [f"link add {up} up type veth peer name {down} netns {spine}"]
                links[leaf] += [f"address add {mine}/31 dev {up}"]
                inside[spine] += [f"address add {its}/31 dev {down}", f"link set {down} up"]
                inside[spine] += [f"route add 10.{i + 1}.0.0/24 via {mine}"]
            for n in range(self.hosts):
                host = f"{leaf}h{n + 1}"
                links[leaf].append(f"link add p{n} up master lan type veth peer name eth0 netns {host}")
                inside[host] += [f"address add 10.{i + 1}.0.{n + 2}/24 dev eth0", "link set eth0 up"]
                inside[host] += [f"route add default via 10.{i + 1}.0.1"]
            hops = " ".join(f"nexthop via {self._fabric(i, j)[1]}" for j in range(self.spines))
            inside[leaf] += [f"route add default {hops}"]
        found = [make_namespaces(self.namespaces()), *(within(leaf, lines) for leaf, lines in links.items())]
        found += [within(name, lines) for name, lines in inside.items()]
        return found + [forward(name) for name in self.namespaces()[: self.spines + self.leaves]]
