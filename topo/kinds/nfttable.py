"""The nftables table of a namespace's NAT and firewall rules.

The result is the JSON of libnftables-json(5), in the form in which nft lists it, so that what is read back compares
equal. Nothing here knows libnftables. All that a user wrote goes in as JSON values, never into nft's own language.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from topo.errors import InputError
from topo.facts import Fact, Ref
from topo.kinds.nftelements import JOIN
from topo.kinds.ruleset import (
    FirewallChain,
    FirewallRule,
    Interface,
    Isolate,
    Match,
    Ports,
    Publish,
    Rules,
    alike,
    family_of,
)
from topo.wire import pack_ip, unpack_ip

Expr = dict[str, Any]
Rule = list[Expr]
Attrs = dict[str, Any]

_FAMILIES: Final = (4, 6)
_ANY: Final = frozenset({"0.0.0.0", "::"})
_IP: Final = {4: "ip", 6: "ip6"}
_NFPROTO: Final = {4: "ipv4", 6: "ipv6"}
_ADDR: Final = {4: "ipv4_addr", 6: "ipv6_addr"}
_STATES: Final = ("invalid", "established", "related", "new", "untracked")  # by their bits, as nft lists them
_PROTOCOLS: Final = {  # IANA's numbers: nft's names for them depend on /etc/protocols
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58,
    "ospf": 89, "vrrp": 112, "sctp": 132, "udplite": 136,
}  # fmt: skip
_LOOPBACK: Final = {"prefix": {"addr": "127.0.0.0", "len": 8}}
_REJECT: Final = {"reject": {"type": "icmpx", "expr": "port-unreachable"}}
_RAW, _DSTNAT, _FILTER, _SRCNAT = -300, -100, 0, 100  # numbers: nft 1.x rejects the names on some hooks


def table_name(topology: str) -> str:
    return f"topo-{topology}"


def fact(topology: str, ns: str, rules: Rules) -> Fact:
    """The nft fact of one namespace; see `table`."""
    return Fact(Ref("nft", ns, ("inet", table_name(topology))), table(rules))


def table(rules: Rules) -> Attrs:
    """The attributes of the nft fact of one namespace, plain JSON data.

    `sets`: name -> {"type": ..., "map": ... for maps, "elements": {key: value}}, where concatenated keys are joined
    by " . " and the values of plain sets are empty. `chains`: name -> {"type", "hook", "prio", "policy"} of base chains
    and {"rules": [...]}, each rule the list of statements of libnftables-json(5). `other`: whatever else the table
    holds: nothing, as far as we are concerned. Raises InputError where two publishes claim one port.
    """
    sets: dict[str, Attrs] = {}
    chains = {
        "raw_prerouting": _base("filter", "prerouting", _RAW, _protect(rules)),
        "publish": {"rules": _publish(rules.publish, sets)},
        "nat_prerouting": _base("nat", "prerouting", _DSTNAT, [*_enter(rules), *_dnats(rules, arriving=True)]),
        "nat_output": _base("nat", "output", _DSTNAT, [*_enter(rules), *_dnats(rules, arriving=False)]),
        "nat_postrouting": _base("nat", "postrouting", _SRCNAT, [*_loops(rules, sets), *_source_nat(rules)]),
    }
    stated = {chain.hook: chain for chain in rules.firewall}
    for hook in ("forward", "input", "output"):
        chain = stated.get(hook, FirewallChain(hook))
        lines = _isolate(rules.isolate, sets) if hook == "forward" else []
        lines += [line for rule in chain.rules for line in _firewall_rule(rule)]
        if hook == "forward" and chain.policy == "drop":
            lines += _let_published(rules)
        chains[hook] = _base("filter", hook, _FILTER, lines, chain.policy)
    used = {name: c for name, c in chains.items() if c["rules"] or c.get("policy") == "drop"}
    return {"sets": sets, "chains": used, "other": []}


def _payload(protocol: str, field: str) -> Expr:
    return {"payload": {"protocol": protocol, "field": field}}


def _meta(key: str) -> Expr:
    return {"meta": {"key": key}}


def _ct(key: str) -> Expr:
    return {"ct": {"key": key}}


def _is(left: Expr, right: Any, op: str = "==") -> Expr:
    return {"match": {"op": op, "left": left, "right": right}}


def _concat(parts: list[Expr]) -> Expr:
    return parts[0] if len(parts) == 1 else {"concat": parts}


def _base(kind: str, hook: str, prio: int, rules: list[Rule], policy: str = "accept") -> Attrs:
    return {"type": kind, "hook": hook, "prio": prio, "policy": policy, "rules": rules}


def _interface(key: str, interface: Interface | None) -> Rule:
    if interface is None:
        return []
    if interface.name[0] == "@" or interface.name == "*":  # nft's JSON takes the one for the name of a set
        raise InputError(f"nftables cannot match an interface by the name {interface.name!r}")
    return [_is(_meta(key), interface.name, "!=" if interface.negate else "==")]


def _spans(texts: Iterable[str]) -> list[Any]:
    """Addresses and prefixes of one family as nft lists a set of them: sorted, neighbours joined."""
    spans: list[list[int]] = []
    networks = [ipaddress.ip_network(t, strict=False) for t in texts]
    for first, last in sorted((int(n.network_address), int(n.broadcast_address)) for n in networks):
        if spans and first <= spans[-1][1] + 1:
            spans[-1][1] = max(last, spans[-1][1])
        else:
            spans.append([first, last])
    ip = type(networks[0].network_address)
    bits = networks[0].max_prefixlen
    found: list[Any] = []
    for first, last in spans:
        size = last - first + 1
        if size == 1:
            found.append(str(ip(first)))
        elif size & (size - 1) == 0 and first % size == 0:
            found.append({"prefix": {"addr": str(ip(first)), "len": bits - size.bit_length() + 1}})
        else:
            found.append({"range": [str(ip(first)), str(ip(last))]})
    return found


def in_order(values: Iterable[Any]) -> list[Any]:
    """The elements of an anonymous set; nft lists them in an order of its own, which differs between versions."""
    return sorted(values, key=json.dumps)


def _any_of(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else {"set": in_order(values)}


def _ports(ranges: Iterable[Ports]) -> Any:
    joined: list[list[int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(last, joined[-1][1])
        else:
            joined.append([first, last])
    return _any_of([first if first == last else {"range": [first, last]} for first, last in joined])


def _addresses(family: int, field: str, texts: list[str]) -> Rule | None:
    """A match of saddr or daddr: empty where every address of the family matches, None where none can."""
    negated = texts[0].startswith("!")
    spans = _spans(text.removeprefix("!") for text in texts)
    if len(spans) == 1 and isinstance(spans[0], dict) and spans[0].get("prefix", {}).get("len") == 0:
        return None if negated else []
    return [_is(_payload(_IP[family], field), _any_of(spans), "!=" if negated else "==")]


def _ends(from_: tuple[str, ...], to: tuple[str, ...]) -> Iterator[tuple[int, Rule]]:
    """The matches of source and destination, for each family that they allow; family 0 where they say nothing."""
    if not from_ and not to:
        yield 0, []
    for family in _FAMILIES:
        sources = [t for t in from_ if family_of(t) == family]
        targets = [t for t in to if family_of(t) == family]
        if (from_ and not sources) or (to and not targets) or not (sources or targets):
            continue
        source = _addresses(family, "saddr", sources) if sources else []
        target = _addresses(family, "daddr", targets) if targets else []
        if source is not None and target is not None:
            yield family, source + target or [_is(_meta("nfproto"), _NFPROTO[family])]


def _match(match: Match) -> Iterator[tuple[int, Rule]]:
    """The statements of a match, for each family it needs a rule of its own for."""
    for family, ends in _ends(match.from_, match.to):
        rule = [*_interface("iifname", match.in_), *_interface("oifname", match.out), *ends]
        if match.icmp:
            rule.append(_is(_payload(match.protocol, "type"), _any_of(list(dict.fromkeys(match.icmp)))))
        elif match.protocol and not (match.sport or match.dport):
            rule.append(_is(_meta("l4proto"), _PROTOCOLS[match.protocol]))
        for field, ranges in (("sport", match.sport), ("dport", match.dport)):
            if ranges:
                rule.append(_is(_payload(match.protocol, field), _ports(ranges)))
        if match.state:
            states = [s for s in _STATES if s in match.state]
            rule.append(_is(_ct("state"), states[0] if len(states) == 1 else states, "in"))
        yield family, rule


def _protect(rules: Rules) -> list[Rule]:
    """What route_localnet would open: packets from elsewhere to, or pretending to be from, 127.0.0.0/8."""
    if not any(p.to4 and p.via for p in rules.publish):
        return []
    return [
        [_is(_meta("iifname"), "lo", "!="), _is(_payload("ip", field), _LOOPBACK), {"drop": None}]
        for field in ("saddr", "daddr")
    ]


def _enter(rules: Rules) -> list[Rule]:
    """Only packets to the namespace's own addresses are looked up."""
    local = _is({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
    return [[local, {"jump": {"target": "publish"}}]] if rules.publish else []


class _Form(NamedTuple):
    """What is looked up for a publish: one pair of maps, and one rule, for all that are alike."""

    name: str
    types: list[str]  # of the key
    parts: list[Expr]  # of the key
    texts: list[str]  # the key's values, but for the port
    match: Rule


def _form(publish: Publish, family: int, rough: list[Interface]) -> _Form:
    """`rough`: interfaces that no key can hold, which are "!name" and "name*"; each of them has maps of its own."""
    form = _Form("publish", [], [], [], _interface("iifname", publish.in_))
    name = "publish"
    if publish.in_ in rough:
        name += f"_if{rough.index(publish.in_)}"
    elif publish.in_:
        name += "_in"
        form.match.clear()
        form.types.append("ifname")
        form.parts.append(_meta("iifname"))
        form.texts.append(publish.in_.name)
    if publish.address == "::1":
        raise InputError(f"{publish.protocol} port {publish.port[0]} cannot be published on ::1: use 127.0.0.1")
    if publish.address and publish.address not in _ANY:
        name += "_bound"
        form.types.append(_ADDR[family])
        form.parts.append(_payload(_IP[family], "daddr"))
        form.texts.append(_ip(publish.address))
    form.types.append("inet_service")
    form.parts.append(_payload(publish.protocol, "dport"))
    return form._replace(name=f"{name}_{publish.protocol}{family}")


def _publish(publishes: Iterable[Publish], sets: dict[str, Attrs]) -> list[Rule]:
    """Fills the maps and gives the rules that look things up in them, those with the more special key first.

    Two maps for each form (to address, to port), because nft 1.0's JSON cannot declare a map to "address . port".
    """
    publishes = list(publishes)
    rough = sorted({p.in_ for p in publishes if p.in_ and (p.in_.negate or p.in_.name.endswith("*"))})
    found: dict[str, tuple[int, Rule]] = {}
    for publish, ports in alike(publishes):
        for family, target in ((4, publish.to4), (6, publish.to6)):
            if not target or (publish.address and family_of(publish.address) != family):
                continue
            form = _form(publish, family, rough)
            if form.name not in found:
                found[form.name] = (-2 * len(form.parts) - len(form.match), _look_up(form, family, sets))
            _fill(publish.protocol, ports, _ip(target), form, sets)
            targets = sets.setdefault(f"publish_to{family}", {"type": _ADDR[family], "elements": {}})
            targets["elements"][_ip(target)] = ""
    special = [rule for _, rule in sorted(found.values(), key=lambda entry: entry[0])]
    return [_NOT_LOOPBACK6, *special] if "publish_to6" in sets else special


def _look_up(form: _Form, family: int, sets: dict[str, Attrs]) -> Rule:
    """The rule of a form; its maps are declared in `sets`."""
    key: Any = form.types if len(form.types) > 1 else form.types[0]
    to = {}
    for what, kind in (("addr", _ADDR[family]), ("port", "inet_service")):
        sets[f"{form.name}_{what}"] = {"type": key, "map": kind, "elements": {}}
        to[what] = {"map": {"key": _concat(form.parts), "data": f"@{form.name}_{what}"}}
    only = [] if _ADDR[family] in form.types else [_is(_meta("nfproto"), _NFPROTO[family])]
    return [*form.match, *only, {"dnat": {"family": _IP[family], **to}}]


# The kernel takes no answer from another interface for ::1 (IPv6 has no route_localnet). Translated, a connection to it
# would hang; left alone it is refused at once, and a client that was told "localhost" goes on to 127.0.0.1.
_NOT_LOOPBACK6: Final[Rule] = [_is(_payload("ip6", "daddr"), "::1"), {"return": None}]


def _fill(protocol: str, pairs: tuple[list[int], list[int]], address: str, form: _Form, sets: dict[str, Attrs]) -> None:
    addresses, ports = (sets[f"{form.name}_{what}"]["elements"] for what in ("addr", "port"))
    before = "".join(f"{text}{JOIN}" for text in form.texts)
    keys, values = ([str(port) for port in side] for side in pairs)
    if before:
        keys = [before + key for key in keys]
    found = dict(zip(keys, values, strict=True))
    if len(found) < len(keys) or not ports.keys().isdisjoint(found):
        for key, value in zip(keys, values, strict=True):
            if (addresses.setdefault(key, address), ports.setdefault(key, value)) != (address, value):
                old = f"{addresses[key]} port {ports[key]}"
                new = f"{address} port {value}"
                raise InputError(f"{protocol} port {key} is published twice: to {old} and to {new}")
    of_all = dict.fromkeys(found, address)
    if ports:
        addresses.update(of_all)
        ports.update(found)
    else:
        sets[f"{form.name}_addr"]["elements"], sets[f"{form.name}_port"]["elements"] = of_all, found


def _ip(text: str) -> str:
    return str(unpack_ip(pack_ip(text)))


def _loops(rules: Rules, sets: dict[str, Attrs]) -> list[Rule]:
    """Published connections whose answer would not come back through us: they take our address.

    Those are the connections that turn round at one interface (from the target's neighbours and from itself), and
    those without an incoming interface: the namespace's own, and frames that br_netfilter shows inside a bridge.
    Only connections to our own targets: another tool's DNAT is none of our concern.
    """
    lines: list[Rule] = []
    vias = sorted({p.via for p in rules.publish if p.via})
    if vias:
        sets["publish_loop"] = {"type": ["ifname", "ifname"], "elements": {f"{via} . {via}": "" for via in vias}}
    for family in _FAMILIES:
        if f"publish_to{family}" not in sets:
            continue
        ours = [_is(_ct("status"), "dnat", "in"), _is(_payload(_IP[family], "daddr"), f"@publish_to{family}")]
        lines.append([*ours, _is(_meta("iif"), 0), {"masquerade": None}])
        if vias:
            pair = _concat([_meta("iifname"), _meta("oifname")])
            lines.append([*ours, _is(pair, "@publish_loop"), {"masquerade": None}])
    return lines


def _dnats(rules: Rules, arriving: bool) -> Iterator[Rule]:
    for dnat in rules.dnat:
        family = family_of(dnat.to)
        to: Expr = {"family": _IP[family], "addr": _ip(dnat.to)}
        if dnat.port is not None:
            to["port"] = dnat.port
        if arriving == (dnat.match.out is None):
            for of, match in _match(dnat.match):
                if of in (0, family):
                    yield [*([] if of else [_is(_meta("nfproto"), _NFPROTO[family])]), *match, {"dnat": to}]


def _source_nat(rules: Rules) -> Iterator[Rule]:
    for snat in rules.snat:
        family = family_of(snat.to)
        to = {"snat": {"family": _IP[family], "addr": _ip(snat.to)}}
        for of, rule in _match(Match(snat.from_, out=snat.out)):
            if of in (0, family):
                only = [] if of else [_is(_meta("nfproto"), _NFPROTO[family])]
                yield [*only, *rule, to]
    for m in rules.masquerade:
        what: Expr = {"return": None} if m.keep else {"masquerade": {"flags": "fully-random"} if m.random else None}
        for _, rule in _match(Match(m.from_, m.to, out=m.out)):
            yield [*_mark(m.fwmark), *rule, what]


def _mark(mark: tuple[int, int] | None) -> Rule:
    if mark is None:
        return []
    value, mask = mark
    left = _meta("mark") if mask == 0xFFFFFFFF else {"&": [_meta("mark"), mask]}
    return [_is(left, value)]


def _isolate(groups: Iterable[Isolate], sets: dict[str, Attrs]) -> list[Rule]:
    lines: list[Rule] = []
    for n, group in enumerate(groups):
        sets[f"isolate{n}"] = {"type": "ifname", "elements": dict.fromkeys(sorted(group.bridges), "")}
        pairs = sets.setdefault("isolate_same", {"type": ["ifname", "ifname"], "elements": {}})
        pairs["elements"].update({f"{b} . {b}": "" for b in group.bridges})
        sides = [_is(_meta(key), f"@isolate{n}") for key in ("iifname", "oifname")]
        other = _is(_concat([_meta("iifname"), _meta("oifname")]), "@isolate_same", "!=")
        lines.append([*sides, other, {"drop": None}])
    return lines


def _firewall_rule(rule: FirewallRule) -> Iterator[Rule]:
    log = [] if rule.log is None else [{"log": {"prefix": rule.log}}]
    verdict = _REJECT if rule.action == "reject" else {rule.action: None}
    for _, match in _match(rule.match):
        yield [*match, *log, verdict]


def _let_published(rules: Rules) -> list[Rule]:
    """Behind the user's own rules of a forward chain that drops the rest: published connections, both ways.

    This cannot override a drop in a table of someone else's.
    """
    families = sorted({f for p in rules.publish for f, to in ((4, p.to4), (6, p.to6)) if to})
    lines: list[Rule] = []
    for family in families:
        for direction, field in (("original", "daddr"), ("reply", "saddr")):
            ends = _is(_payload(_IP[family], field), f"@publish_to{family}")
            lines.append([_is(_ct("direction"), direction), _is(_ct("status"), "dnat", "in"), ends, {"accept": None}])
    return lines
