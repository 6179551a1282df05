"""Lowering of what names targets: NAT and firewall, of which one nftables table is made, and checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from topo.errors import InputError
from topo.facts import HOST, Check, Fact, Ref
from topo.file import model
from topo.file.model.policy import fwmark
from topo.file.model.values import endpoint, namespace_name, ports, seconds
from topo.file.scope import Loc, Scope, Space, path
from topo.file.ways import outgoing
from topo.kinds import nft

Targets = tuple[str | None, str | None]
"""The IPv4 and the IPv6 address of a target."""


def lower_sections(scope: Scope, space: Space) -> None:
    """The nft fact of one namespace and the sysctls that it needs, where it has NAT or a firewall."""
    section = space.section
    rules = _rules(scope, space, section.nat, section.firewall)
    if not any(rules):
        return
    try:
        fact = nft.fact(scope.topology.topology, space.name, rules)
    except InputError as error:
        place = _twice(section.nat.publish)
        for diagnostic in error.diagnostics:
            scope.problems.add((*space.loc, "nat", "publish", *place), diagnostic.message, diagnostic.hint)
        return
    scope.facts[fact.ref] = fact
    scope.paths[fact.ref] = path((*space.loc, "nat" if "nat" in section.model_fields_set else "firewall"))
    _hairpin(scope, space, nft.needs_hairpin(rules))
    for name, value in nft.needed_sysctls(rules).items():
        if section.forwarding is False and name.endswith("forward" if "ipv4" in name else "forwarding"):
            continue
        ref = Ref("sysctl", space.name, (name,))
        scope.facts.setdefault(ref, Fact(ref, {"value": value}))


def _hairpin(scope: Scope, space: Space, targets: frozenset[str]) -> None:
    """Ports of targets send back where a frame came from: while br_netfilter is on for the namespace, a target
    reaches its own published port only so."""
    if not targets:
        return
    for fact in [fact for ref, fact in scope.facts.items() if ref.kind == "address"]:
        ref = fact.ref
        if ref.key[1].partition("/")[0] not in targets:
            continue
        end = scope.facts.get(Ref("link", ref.ns, ref.key[:1]))
        peer = end.attrs.get("peer") if end else None
        port = scope.facts.get(Ref("link", peer[0], (peer[1],))) if peer else None
        if port is not None and port.ref.ns == space.name and port.attrs.get("master"):
            mine = Ref("port", port.ref.ns, port.ref.key)
            stated = scope.facts[mine].attrs if mine in scope.facts else {}
            scope.facts[mine] = Fact(mine, {"hairpin": True, **stated})


def _rules(scope: Scope, space: Space, nat: model.Nat, firewall: model.Firewall) -> nft.Rules:
    loc = (*space.loc, "nat")
    chains = [("forward", firewall.forward), ("input", firewall.input), ("output", firewall.output)]
    return nft.Rules(
        masquerade=tuple(map(_masquerade, nat.masquerade)),
        snat=tuple(map(_snat, nat.snat)),
        dnat=tuple(rule for i, entry in enumerate(nat.dnat) for rule in _dnat(scope, entry, (*loc, "dnat", i))),
        publish=tuple(_publishes(scope, space, nat.publish, (*loc, "publish"))),
        firewall=tuple(_chain(hook, chain) for hook, chain in chains if chain is not None),
        isolate=tuple(_isolate(scope, space, firewall.isolate, (*space.loc, "firewall", "isolate"))),
    )


def _interface(text: str | None) -> nft.Interface | None:
    return None if text is None else nft.Interface(text.removeprefix("!"), text.startswith("!"))


def _masquerade(entry: model.Masquerade) -> nft.Masquerade:
    mark = None if entry.fwmark is None else fwmark(entry.fwmark)
    ends = tuple(entry.from_ or ()), _interface(entry.out), tuple(entry.to or ())
    return nft.Masquerade(*ends, mark, entry.keep, entry.random)


def _snat(entry: model.Snat) -> nft.Snat:
    return nft.Snat(entry.to, tuple(entry.from_ or ()), _interface(entry.out))


def _match(entry: model.Match, to: Sequence[str] = ()) -> nft.Match:
    return nft.Match(
        from_=tuple(entry.from_ or ()),
        to=tuple(to),
        in_=_interface(entry.in_),
        out=_interface(entry.out),
        protocol=entry.protocol or "",
        sport=tuple(map(ports, entry.sport or ())),
        dport=tuple(map(ports, entry.dport or ())),
    )


def target(scope: Scope, name: str, loc: Loc) -> Targets | None:
    """The addresses of a target: its own, or the first of either family of a namespace. None after an error."""
    if ":" in name:
        return None, name
    if "." in name and name.replace(".", "").isdigit():
        return name, None
    space = scope.space(name, loc)
    if space is None:
        return None
    found: dict[bool, str] = {}
    for _, text in space.addresses():
        found.setdefault(":" in text, text.partition("/")[0])
    if not found:
        scope.problems.add(
            loc, f"namespace {name!r} has no address in this file", "state an address instead of the name"
        )
        return None
    return found.get(False), found.get(True)


def _dnat(scope: Scope, entry: model.Dnat, loc: Loc) -> Iterator[nft.Dnat]:
    name, port = endpoint(entry.to)
    found = target(scope, name, (*loc, "to"))
    stated = {":" in prefix for prefix in (*(entry.from_ or ()), *(entry.address or ()))}
    fitting = [address for address in found or () if address and (not stated or (":" in address) in stated)]
    if found is not None and not fitting:
        scope.problems.add((*loc, "to"), f"{entry.to} has no address of the family that `from` and `address` are of")
    for address in fitting:
        yield nft.Dnat(address, port[0] if port else None, _match(entry, entry.address or ()))


class _Lead(NamedTuple):
    """Where entries lead to whose target is told in the same words, but for its port."""

    found: Targets | None
    port: nft.Ports | None
    via: str


def _publishes(scope: Scope, space: Space, entries: Sequence[model.Publish], loc: Loc) -> Iterator[nft.Publish]:
    """Single ports of which all else is the same become one."""
    leads: dict[str, _Lead] = {}
    alike: dict[tuple[str | None, ...], dict[int, int]] = {}
    for index, entry in enumerate(entries):
        port = entry.port
        where, _, tail = entry.to.rpartition(":")
        if where not in leads or not tail.isdecimal():
            where, tail = words(entry.to)
        to = int(tail or 0)
        more = alike.get((where, entry.protocol, entry.address, entry.in_))
        if more is not None and type(port) is int and more.setdefault(port, to or port) == (to or port):
            continue
        if where not in leads or leads[where].found is None:  # an error in every place that has it
            leads[where] = _lead(scope, space, where, (*loc, index, "to"))
        if leads[where].found is None:
            continue
        for publish in _publish(scope, entry, leads[where], to, (*loc, index)):
            more = {}
            alike[where, entry.protocol, entry.address, entry.in_] = more
            yield publish._replace(more=more)


def words(target: str) -> tuple[str, str]:
    """The target of an entry, and its port where that is a single one. An IPv6 address that has none becomes one in
    brackets: then nothing that ends in a number can be taken for it and a port."""
    where, _, port = target.rpartition(":")
    if port.isdecimal() and where and (":" not in where or where[-1] == "]"):
        return where, port
    return (f"[{target}]" if target.count(":") > 1 and target[0] != "[" else target), ""


def _lead(scope: Scope, space: Space, words: str, loc: Loc) -> _Lead:
    name, port = endpoint(words)
    found = target(scope, name, loc)
    return _Lead(found, port, _via(space, found) if found else "")


def _publish(scope: Scope, entry: model.Publish, lead: _Lead, to: int, loc: Loc) -> Iterator[nft.Publish]:
    to4, to6 = lead.found or (None, None)
    if entry.address is not None:
        to4, to6 = (None, to6) if ":" in entry.address else (to4, None)
        if to4 is None and to6 is None:
            scope.problems.add(loc, f"{entry.to} has no address of the family of {entry.address}")
            return
    in_ = _interface(entry.in_)
    for stated in (entry.port,) if entry.ports is None else entry.ports:
        first, last = ports(stated)
        ends = (to, to) if to else lead.port or (first, last)
        if ends[0] != ends[1] and ends[1] - ends[0] != last - first:
            message = f"the ports {first}-{last} and {ends[0]}-{ends[1]} are ranges of different lengths"
            scope.problems.add(loc, message)
            continue
        yield nft.Publish((first, last), ends, to4, to6, entry.protocol, entry.address, in_, lead.via)


def _twice(entries: Sequence[model.Publish]) -> Loc:
    """The index of the first entry with a port that another has published before; empty where none is found."""
    seen: set[tuple[str, int]] = set()
    for index, entry in enumerate(entries):
        for stated in (entry.port,) if entry.ports is None else entry.ports:
            first, last = ports(stated)
            here = {(entry.protocol, port) for port in range(first, last + 1)}
            if not seen.isdisjoint(here):
                return (index,)
            seen |= here
    return ()


def _via(space: Space, found: Targets) -> str:
    """The interface through which a target is reached; empty where the file does not say, or it is our own."""
    for address in found:
        if address is not None:
            own = any(text.partition("/")[0] == address for _, text in space.addresses())
            return "" if own else outgoing(space, address) or ""
    return ""


def _chain(hook: str, chain: model.Chain) -> nft.FirewallChain:
    rules = tuple(
        nft.FirewallRule(
            _match(rule, rule.to or ())._replace(state=tuple(rule.state or ()), icmp=tuple(rule.icmp or ())),
            rule.action,
            rule.log,
        )
        for rule in chain.rules
    )
    return nft.FirewallChain(hook, chain.policy, rules)


def _isolate(scope: Scope, space: Space, names: Sequence[str], loc: Loc) -> Iterator[nft.Isolate]:
    for index, name in enumerate(names):
        if name not in space.bridges:
            scope.device(space, name, (*loc, index))
    if len(names) == 1:
        scope.problems.add(loc, "one bridge alone cannot be kept apart from another: name two at least")
    if len(names) > 1:
        yield nft.Isolate(tuple(names))


def lower_checks(scope: Scope) -> tuple[Check, ...]:
    return tuple(
        check for index, entry in enumerate(scope.topology.checks) for check in _checks(scope, entry, ("checks", index))
    )


def _checks(scope: Scope, entry: model.Check, loc: Loc) -> Iterable[Check]:
    method = "ping" if entry.ping is not None else "tcp" if entry.tcp is not None else "udp"
    text: Any = getattr(entry, method)
    name, port = endpoint(text)
    found = target(scope, name, (*loc, method))
    address = next((a for a in found or () if a), None)
    for source in scope.names(entry.from_, (*loc, "from"), lambda n: n if n == HOST else namespace_name(n)):
        space = scope.space(source, (*loc, "from"))
        if space is not None and address is not None:
            yield Check(
                space.name, method, address, port[0] if port else 0, entry.expect, seconds(entry.within),
                f"{source}: {method} {text}",
            )  # fmt: skip
