"""Lowering of routes, policy rules and neighbours."""

from __future__ import annotations

from typing import Any, Final

from topo.facts import Fact, Ref, link
from topo.file import model
from topo.file.model.values import milliseconds, ports
from topo.file.peers import default_route
from topo.file.scope import Loc, Scope, Space, path
from topo.file.ways import Way, outgoing
from topo.kinds.metrics import METRICS
from topo.kinds.nexthop import members
from topo.kinds.route import NOWHERE, WAY, of_tos
from topo.kinds.route import scope as default_scope
from topo.kinds.rule import RECENT
from topo.kinds.rule import key as rule_key

_ANYWHERE: Final = {4: "0.0.0.0/0", 6: "::/0"}
_METRIC: Final = {4: 0, 6: 1024}  # what the kernel takes when nothing is stated (IP6_RT_PRIO_USER)
_IN_LOCAL: Final = frozenset({"local", "broadcast", "anycast"})
_FIRST_PRIORITY: Final = 20_000  # before the main table's rule (32766), behind most of other tools'


def lower_routing(scope: Scope, space: Space) -> None:
    section = space.section
    for what in ("routes", "nexthops", "rules", "neighbours"):
        scope.count(len(getattr(section, what)), what, (*space.loc, what))
    if section.nexthops:
        from topo.file.nexthops import lower_nexthops  # late: few files have any

        lower_nexthops(scope, space)
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
    if route.realms is not None:
        found["realms"] = model.policy.realms(route.realms)
    way = {"type": route.type, "gateway": route.via, "nexthops": route.nexthops, "nhid": route.nhid}
    if route.scope not in (None, default_scope(family, way)):
        found["scope"] = route.scope
    return found


class _Route(Way):
    """One route on its way to a fact."""

    def __init__(self, scope: Scope, space: Space, route: model.Route, loc: Loc) -> None:
        super().__init__(scope, space, loc)
        self.route = route
        self.wraps: Loc = ()  # where the file states an encapsulation

    def lower(self) -> None:
        route = self.route
        hops = route.nexthops
        vias = [route.via] if hops is None else [hop.via for hop in hops]
        if route.to == "default":
            six = any(":" in via for via in vias if via) or ":" in (route.src or "")
            family = 6 if six or (route.nhid and self.of_nexthop(route.nhid) == 6) else 4
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
        elif route.nhid is not None:
            attrs = {name: value for name, value in attrs.items() if name not in WAY} | {"nhid": route.nhid}
            if self.of_nexthop(route.nhid) == 4 and family == 6:
                message = f"nexthop {route.nhid} leads to IPv4: the kernel takes none such for IPv6 routes"
                self.scope.problems.add((*self.loc, "nhid"), message)
        elif route.type in NOWHERE:
            attrs["dev"] = None
        else:
            dev = self.device(route.via, route.dev, route.onlink, self.loc)
            if dev is not None:
                attrs["dev"] = dev
            for words in self.wrapped(route, self.loc):
                attrs["encap"] = words
        self.source(route.src)
        metric = _METRIC[family] if route.metric is None else route.metric
        number = model.policy.table(route.table or ("local" if route.type in _IN_LOCAL else "main"))
        ref = Ref("route", self.space.name, (family, number, destination, metric, *of_tos(route.tos or 0)))
        if self.wraps:
            self.scope.paths[ref] = path(self.wraps)
            if family == 4 and "seg6local" in str(attrs):
                self.scope.problems.add(self.wraps, "seg6local is for IPv6 routes: its destination is the segment")
        where = "" if number == 254 else f" in table {route.table}"
        self.scope.add(Fact(ref, attrs), self.loc, f"the route to {route.to}{where} with metric {metric}")

    def wrapped(self, of: model.Route | model.NextHop, loc: Loc) -> tuple[str, ...]:
        """The encapsulation, where there is one, in words."""
        if of.encap is None:
            return ()
        self.wraps = (*loc, "encap")
        return (of.encap.words(),)

    def of_nexthop(self, number: int) -> int:
        """The family of a nexthop, 4 where any member of a group has that; 0 where the file does not tell."""
        facts, ns = self.scope.facts, self.space.name
        found = facts.get(Ref("nexthop", ns, (number,)))
        if found is None and self.space.made:
            hint = f"state it under `nexthops` of {ns}"
            self.scope.problems.add((*self.loc, "nhid"), f"namespace {ns!r} has no nexthop {number}", hint)
        if found is None:
            return 0
        inside = (facts.get(Ref("nexthop", ns, (one,))) for one, _ in members(found.attrs["group"]))
        families = {fact.attrs["family"] for fact in (found, *inside) if fact}
        return 4 if 4 in families else 6

    def hop(self, hop: model.NextHop, index: int) -> tuple[Any, ...]:
        dev = self.device(hop.via, hop.dev, hop.onlink, (*self.loc, "nexthops", index))
        return hop.via, dev, hop.weight, hop.onlink, *self.wrapped(hop, (*self.loc, "nexthops", index))

    def source(self, src: str | None) -> None:
        """A source address has to be one of the namespace's, where all of them are known."""
        own = (text.partition("/")[0] for _, text in self.space.addresses())
        if src is not None and self.space.made and src not in own:
            self.scope.problems.add((*self.loc, "src"), f"namespace {self.space.name!r} has no address {src}")


def _rule(scope: Scope, space: Space, rule: model.Rule, index: int) -> Fact:
    attrs: dict[str, Any] = {"action": rule.action or ("to_table" if rule.goto is None else "goto")}
    if rule.table is not None:
        attrs["table"] = model.policy.table(rule.table)
    for name in ("to", "iif", "oif", "suppress_prefixlength", "suppress_ifgroup", "tun_id", "l3mdev", "goto"):
        if (value := getattr(rule, name)) is not None:
            attrs[name] = value
    if rule.from_ is not None:
        attrs["from"] = rule.from_
    if rule.tos:
        attrs["tos"] = rule.tos
    if rule.invert:
        attrs["invert"] = True
    if rule.realms is not None:
        attrs["realms"] = model.policy.realms(rule.realms)
    if rule.fwmark is not None:
        attrs["fwmark"], attrs["fwmask"] = model.policy.fwmark(rule.fwmark)
    if rule.ipproto is not None:
        attrs["ipproto"] = rule.ipproto if isinstance(rule.ipproto, int) else model.policy.PROTOCOLS[rule.ipproto]
    for name, (_, bits) in model.policy.BITS.items():
        if (value := getattr(rule, name)) is None:
            continue
        if bits == 16 and "/" not in str(value):
            attrs[name] = ports(value)
            continue
        number, mask = model.policy.part(name, value)
        attrs[name] = (number, number) if bits == 16 else number
        if mask != (1 << bits) - 1:
            attrs[f"{name}_mask"] = mask
    if rule.uidrange is not None:
        first, _, last = rule.uidrange.partition("-")
        attrs["uidrange"] = (int(first), int(last))
    six = rule.family == "inet6" or rule.flowlabel is not None
    six = six or any(":" in prefix for prefix in (rule.from_, rule.to) if prefix)
    priority = _FIRST_PRIORITY + index if rule.priority is None else rule.priority
    if rule.goto is not None and rule.goto <= priority:
        message = f"the kernel goes on only: a rule with priority {priority} cannot go to {rule.goto}"
        scope.problems.add((*space.loc, "rules", index, "goto"), message)
    fact = Fact(Ref("rule", space.name, rule_key(6 if six else 4, priority, attrs)), attrs)
    if recent := sorted(RECENT & attrs.keys()):
        scope.paths[fact.ref] = path((*space.loc, "rules", index, recent[0].removesuffix("_mask")))
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
