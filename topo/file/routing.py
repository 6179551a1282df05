"""Lowering of routes, policy rules and neighbours."""

from __future__ import annotations

from typing import Any, Final

from topo.facts import Fact, Ref, link
from topo.file import model
from topo.file.addressing import parse_address, parse_prefix
from topo.file.model.values import PROTOCOLS, fwmark, milliseconds, ports, table
from topo.file.peers import default_route
from topo.file.scope import Loc, Scope, Space, path
from topo.kinds.metrics import METRICS
from topo.kinds.route import NOWHERE, of_tos
from topo.kinds.route import scope as default_scope
from topo.kinds.rule import key as rule_key

_ANYWHERE: Final = {4: "0.0.0.0/0", 6: "::/0"}
_METRIC: Final = {4: 0, 6: 1024}  # what the kernel takes when nothing is stated (IP6_RT_PRIO_USER)
_IN_LOCAL: Final = frozenset({"local", "broadcast", "anycast"})
_FIRST_PRIORITY: Final = 20_000  # before the main table's rule (32766), behind most of other tools'


def outgoing(space: Space, address: str) -> str | None:
    """The interface of the namespace with the longest prefix that holds `address`; None where there is none."""
    number, bits = parse_address(address)
    best, found = -1, None
    for ifname, (base, length, width) in space.spans():
        if width == bits and length > best and (base ^ number) >> (bits - length) == 0:
            best, found = length, ifname
    return found


def lower_routing(scope: Scope, space: Space) -> None:
    section = space.section
    for what in ("routes", "rules", "neighbours"):
        scope.count(len(getattr(section, what)), what, (*space.loc, what))
    for index, route in enumerate(section.routes):
        _Route(scope, space, route, (*space.loc, "routes", index)).lower()
    of_priority: dict[tuple[int, int], list[Fact]] = {}
    for index, rule in enumerate(section.rules):
        fact = _rule(scope, space, rule, index)
        _tell_apart(scope, fact, of_priority.setdefault(fact.ref.key[:2], []), (*space.loc, "rules", index))
    for index, neighbour in enumerate(section.neighbours):
        _neighbour(scope, space, neighbour, (*space.loc, "neighbours", index))


def lower_default_routes(scope: Scope) -> None:
    """The default routes that bridges give to their ends: the first counts, and one that the file states before it.

    An end that is stated to be down gets none: the kernel takes no route there (ENETDOWN).
    """
    for space, gateway, dev in scope.default_routes:
        if scope.facts[link(space.name, dev)].attrs.get("up") is False:
            continue
        fact = default_route(space.name, gateway, dev)
        scope.facts.setdefault(fact.ref, fact)


def _rare(route: model.Route, family: int) -> dict[str, Any]:
    """What few routes have, in the kernel's units; not what it takes where nothing is stated."""
    found: dict[str, Any] = {name: value for name in METRICS if name != "mtu" and (value := getattr(route, name))}
    for name, parts in (("rtt", 8), ("rttvar", 4), ("rto_min", 1)):
        if name in found:
            found[name] = milliseconds(found[name]) * parts
    for name in ("quickack", "fastopen_no_cookie"):
        if name in found:
            found[name] = 1
    for name in ("features", "lock"):
        if name in found:
            found[name] = METRICS[name][1].unpack(METRICS[name][1].pack(found[name]))
    if route.tos:
        found["_tos"] = route.tos
    if route.pref not in (None, "medium"):
        found["pref"] = route.pref
    way = {"type": route.type, "gateway": route.via, "nexthops": route.nexthops}
    if route.scope not in (None, default_scope(family, way)):
        found["scope"] = route.scope
    return found


class _Route:
    """One route on its way to a fact."""

    def __init__(self, scope: Scope, space: Space, route: model.Route, loc: Loc) -> None:
        self.scope, self.space, self.route, self.loc = scope, space, route, loc

    def lower(self) -> None:
        route = self.route
        hops = route.nexthops
        vias = [route.via] if hops is None else [hop.via for hop in hops]
        if route.to == "default":
            family = 6 if any(":" in via for via in vias if via) or ":" in (route.src or "") else 4
            destination = _ANYWHERE[family]
        else:
            family = 6 if ":" in route.to else 4
            destination = route.to
        attrs: dict[str, Any] = {
            "type": route.type, "gateway": route.via, "nexthops": None, "onlink": route.onlink, "src": route.src,
            "mtu": route.mtu, **_rare(route, family),
        }  # fmt: skip
        if hops is not None:
            found = [self.hop(hop, index) for index, hop in enumerate(hops)]
            attrs |= {"dev": None, "nexthops": tuple(found)}
            if family == 6 and len(found) > 1 and not all(hop.via for hop in hops):
                self.scope.problems.add((*self.loc, "nexthops"), "in IPv6 every one of several next hops needs `via`")
            if len({hop[:2] for hop in found}) < len(found):
                self.scope.problems.add((*self.loc, "nexthops"), "one next hop is stated twice")
        elif route.type in NOWHERE:
            attrs["dev"] = None
        else:
            dev = self.device(route.via, route.dev, route.onlink, self.loc)
            if dev is not None:
                attrs["dev"] = dev
        self.source(route.src)
        metric = _METRIC[family] if route.metric is None else route.metric
        number = table(route.table or ("local" if route.type in _IN_LOCAL else "main"))
        ref = Ref("route", self.space.name, (family, number, destination, metric, *of_tos(route.tos or 0)))
        where = "" if number == 254 else f" in table {route.table}"
        self.scope.add(Fact(ref, attrs), self.loc, f"the route to {route.to}{where} with metric {metric}")

    def hop(self, hop: model.NextHop, index: int) -> tuple[str | None, str | None, int, bool]:
        dev = self.device(hop.via, hop.dev, hop.onlink, (*self.loc, "nexthops", index))
        return hop.via, dev, hop.weight, hop.onlink

    def device(self, via: str | None, dev: str | None, onlink: bool, loc: Loc) -> str | None:
        """The interface of a route; None where the kernel is to find it (or there is an error)."""
        scope, space = self.scope, self.space
        if dev is not None and not scope.device(space, dev, (*loc, "dev")):
            return None
        if via is None or onlink:
            return dev
        number, bits = parse_address(via)
        if bits == 128 and number >> 118 == 0x3FA:  # link-local, fe80::/10
            if dev is None:
                scope.problems.add((*loc, "via"), f"{via} is link-local: `dev` says on which interface")
            return dev
        own = {text.partition("/")[0] for _, text in space.addresses()}
        if via in own:
            scope.problems.add((*loc, "via"), f"{via} is an address of namespace {space.name!r} itself, no gateway")
            return dev
        found = self.on_link(via, dev)
        if found is None and self.closed(dev):
            where = f"{dev} of " if dev else ""
            scope.problems.add(
                (*loc, "via"),
                f"no address of {where}namespace {space.name!r} reaches the gateway {via}",
                "or state `onlink: true`",
            )
        return dev or found

    def closed(self, dev: str | None) -> bool:
        """Whether the file knows every address there is: on `dev`, or in the whole namespace."""
        if dev is not None and Ref("link", self.space.name, (dev,)) in self.scope.external:
            return False
        return dev is not None or self.space.made

    def on_link(self, via: str, dev: str | None) -> str | None:
        """The interface on which `via` is, by an address or by another route that needs no gateway."""
        number, bits = parse_address(via)
        for ifname, (base, length, width) in self.space.spans():
            if width == bits and dev in (None, ifname) and (base ^ number) >> (bits - length) == 0:
                return ifname if dev else outgoing(self.space, via)
        for other in self.space.section.routes:
            if other.via is None and other.dev is not None and dev in (None, other.dev) and other.to != "default":
                base, length, width = parse_prefix(other.to)
                if width == bits and (base ^ number) >> (bits - length) == 0:
                    return other.dev
        return None

    def source(self, src: str | None) -> None:
        """A source address has to be one of the namespace's, where all of them are known."""
        own = (text.partition("/")[0] for _, text in self.space.addresses())
        if src is not None and self.space.made and src not in own:
            self.scope.problems.add((*self.loc, "src"), f"namespace {self.space.name!r} has no address {src}")


def _rule(scope: Scope, space: Space, rule: model.Rule, index: int) -> Fact:
    attrs: dict[str, Any] = {"action": rule.action or ("to_table" if rule.goto is None else "goto")}
    if rule.table is not None:
        attrs["table"] = table(rule.table)
    for name in ("to", "iif", "oif", "suppress_prefixlength", "suppress_ifgroup", "dscp", "tun_id", "l3mdev", "goto"):
        if (value := getattr(rule, name)) is not None:
            attrs[name] = value
    if rule.from_ is not None:
        attrs["from"] = rule.from_
    if rule.tos:
        attrs["tos"] = rule.tos
    if rule.invert:
        attrs["invert"] = True
    if rule.fwmark is not None:
        attrs["fwmark"], attrs["fwmask"] = fwmark(rule.fwmark)
    if rule.ipproto is not None:
        attrs["ipproto"] = rule.ipproto if isinstance(rule.ipproto, int) else PROTOCOLS[rule.ipproto]
    for name in ("sport", "dport"):
        if (value := getattr(rule, name)) is not None:
            attrs[name] = ports(value)
    if rule.uidrange is not None:
        first, _, last = rule.uidrange.partition("-")
        attrs["uidrange"] = (int(first), int(last))
    six = rule.family == "inet6" or any(":" in prefix for prefix in (rule.from_, rule.to) if prefix)
    priority = _FIRST_PRIORITY + index if rule.priority is None else rule.priority
    if rule.goto is not None and rule.goto <= priority:
        message = f"the kernel goes on only: a rule with priority {priority} cannot go to {rule.goto}"
        scope.problems.add((*space.loc, "rules", index, "goto"), message)
    fact = Fact(Ref("rule", space.name, rule_key(6 if six else 4, priority, attrs)), attrs)
    if "dscp" in attrs:
        scope.paths[fact.ref] = path((*space.loc, "rules", index, "dscp"))
    scope.add(fact, (*space.loc, "rules", index), f"the rule {fact.ref.key[2]!r} with priority {priority}")
    return fact


def _tell_apart(scope: Scope, fact: Fact, earlier: list[Fact], loc: Loc) -> None:
    """Asked to delete a rule, the kernel takes the first that has all it names, and maybe more: rule_find of
    net/core/fib_rules.c. So of two rules of one priority neither may have all of the other."""
    for other in earlier:
        both = ({**attrs, "goto": None}.items() for attrs in (fact.attrs, other.attrs))
        few, many = sorted(both, key=len)
        if few <= many and fact.ref != other.ref:
            priority, one, two = fact.ref.key[1], other.ref.key[2], fact.ref.key[2]
            message = (
                f"two rules have priority {priority}, and one matches all that the other does: {one!r} and {two!r}"
            )
            scope.problems.add(loc, message, "give them different priorities: the kernel deletes one for the other")
            return
    earlier.append(fact)


def _neighbour(scope: Scope, space: Space, neighbour: model.Neighbour, loc: Loc) -> None:
    ip = neighbour.ip or neighbour.address or ""
    dev = neighbour.dev or outgoing(space, ip)
    if dev is None:
        scope.problems.add(loc, f"no address of namespace {space.name!r} reaches {ip}", "say on which interface: `dev`")
        return
    if neighbour.dev is None or scope.device(space, dev, (*loc, "dev")):
        fact = Fact(Ref("neighbour", space.name, (dev, ip)), {"lladdr": neighbour.mac})
        scope.add(fact, loc, f"neighbour {ip} on {dev}")
