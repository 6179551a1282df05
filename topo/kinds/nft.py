"""NAT and firewall: one nftables table, `inet topo-<topology>`, per topology and namespace.

`ruleset` is what lowering fills in, `nfttable` makes the fact's attributes of it, `nftelements` knows the bytes of a set's
elements, `nftwords` tells in words how two differ. An update of map or set elements alone touches just these, one of rules
leaves the sets as they are; anything else replaces the whole table. Each is one transaction. A verdict of this table cannot override a drop of another's: every base chain on a hook has to let a
packet pass (nft(8)).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from topo.changes import DELETE, UPDATE, Conntrack, Env, Flow, Nft, Op, Request
from topo.facts import HOST, Fact, Ref, namespace
from topo.kinds.kind import DesiredView, Kind
from topo.kinds.nftelements import JOIN, Elements
from topo.kinds.nfttable import Attrs, fact, in_order, table, table_name
from topo.kinds.nftwords import differences
from topo.kinds.ruleset import (
    Dnat,
    FirewallChain,
    FirewallRule,
    Interface,
    Isolate,
    Masquerade,
    Match,
    Ports,
    Publish,
    Rules,
    Snat,
    needed_sysctls,
    needs_hairpin,
)

__all__ = [
    "NFT",
    "Dnat",
    "FirewallChain",
    "FirewallRule",
    "Interface",
    "Isolate",
    "Masquerade",
    "Match",
    "Ports",
    "Publish",
    "Rules",
    "Snat",
    "declared",
    "differences",
    "fact",
    "needed_sysctls",
    "needs_hairpin",
    "parse",
    "replacement",
    "table",
    "table_name",
]

Command = dict[str, Any]
_NAMES: Final = frozenset({"family", "name", "table", "handle"})


# -- to the kernel -------------------------------------------------------------------------------------------------


def replacement(family: str, name: str, attrs: Attrs) -> list[Command]:
    """The commands that make the table exactly this, whether or not it is there: one transaction.

    `add` before `delete`, because deleting an absent table fails.
    """
    inside = {"family": family, "table": name}
    whole = {"table": {"family": family, "name": name}}
    commands: list[Command] = [{"add": whole}, {"delete": whole}, {"add": whole}]
    commands += [_set(inside, set_name, held) for set_name, held in attrs["sets"].items()]
    commands += [_chain(inside, chain_name, chain) for chain_name, chain in attrs["chains"].items()]
    return commands + _rules(inside, attrs)


def _set(inside: Command, name: str, held: Attrs) -> Command:
    body = {**inside, "name": name, **{k: v for k, v in held.items() if k != "elements"}}
    if held["elements"]:
        body["elem"] = Elements(held, list(held["elements"]))
    return {"add": {"map" if "map" in held else "set": body}}


def _chain(inside: Command, name: str, chain: Attrs) -> Command:
    return {"add": {"chain": {**inside, "name": name, **_bare(chain)}}}


def _rules(inside: Command, attrs: Attrs) -> list[Command]:
    return [
        {"add": {"rule": {**inside, "chain": name, "expr": rule}}}
        for name, chain in attrs["chains"].items()
        for rule in chain["rules"]
    ]


def _bare(chain: Attrs) -> Attrs:
    return {k: v for k, v in chain.items() if k != "rules"}


def _around(family: str, name: str, new: Attrs, old: Attrs) -> list[Command] | None:
    """Commands that make the table anew around the sets that stay, with what differs in them: one transaction.

    None where no set stays, or what goes could be in the way: then the whole table is replaced.
    """
    stated, found = declared(new)["sets"], declared(old)["sets"]
    staying = {set_name for set_name in stated if found.get(set_name) == stated[set_name]}
    going = found.keys() - staying
    if not staying or going & stated.keys() or new["other"] or old["other"]:
        return None
    if any(found[set_name].get("map") == "verdict" for set_name in found):
        return None  # its elements hold on to chains
    inside = {"family": family, "table": name}
    chains = {n for n, chain in new["chains"].items() if n in old["chains"] and _bare(old["chains"][n]) == _bare(chain)}
    only = [{**attrs, "sets": {n: attrs["sets"][n] for n in attrs["sets"] if n in staying}} for attrs in (new, old)]
    return [
        {"flush": {"table": {"family": family, "name": name}}},
        *({"delete": {"map" if "map" in found[n] else "set": {**inside, "name": n}}} for n in found if n in going),
        *({"delete": {"chain": {**inside, "name": n}}} for n in old["chains"] if n not in chains),
        *(_set(inside, n, held) for n, held in new["sets"].items() if n not in staying),
        *_edits(family, name, *only),
        *(_chain(inside, n, chain) for n, chain in new["chains"].items() if n not in chains),
        *_rules(inside, new),
    ]


def declared(attrs: Attrs) -> Attrs:
    """The table with nothing in its sets."""
    return {**attrs, "sets": {name: {**held, "elements": {}} for name, held in attrs["sets"].items()}}


def _edits(family: str, name: str, new: Attrs, old: Attrs) -> list[Command]:
    """Commands that turn the elements of `old` into those of `new`; deletions first, as a key may get another value."""
    gone: list[Command] = []
    added: list[Command] = []
    for set_name, want in new["sets"].items():
        have = old["sets"][set_name]
        before, after = have["elements"], want["elements"]
        place = {"family": family, "table": name, "name": set_name}
        for commands, verb, attrs, keys in (
            (gone, "delete", have, _other(before, after)),
            (added, "add", want, _other(after, before)),
        ):
            if keys:
                commands.append({verb: {"element": {**place, "elem": Elements(attrs, keys)}}})
    return gone + added


def _other(elements: dict[str, str], others: dict[str, str]) -> list[str]:
    """The keys of elements that the others have not, or with another value."""
    if elements is others:  # as what is read is where it is as it is desired
        return []
    return [key for key, value in elements.items() if others.get(key) != value]


def _encode(op: Op, env: Env) -> list[Request]:
    family, name = op.ref.key
    new, old = (op.new.attrs if op.new else None), (op.old.attrs if op.old else None)
    if op.verb == DELETE or new is None:
        whole = {"table": {"family": family, "name": name}}
        commands: list[Command] = [{"add": whole}, {"delete": whole}]  # deleting an absent table would fail
    elif op.verb == UPDATE and old is not None and declared(new) == declared(old):
        commands = _edits(family, name, new, old)
    else:
        around = _around(family, name, new, old) if op.verb == UPDATE and old is not None else None
        commands = around or replacement(family, name, new)
    requests: list[Request] = [Nft(op.ref.ns, commands)]
    flows = tuple(stale_flows(new, old))
    if flows:
        requests.append(Conntrack(op.ref.ns, flows))
    return requests


def stale_flows(new: Attrs | None, old: Attrs | None) -> Iterator[Flow]:
    """The published ports whose old connections must be forgotten: those that now lead elsewhere, or nowhere.

    A new UDP port is among them, without an old target: a sender that was there first would go unserved for as long
    as it keeps sending, because its conntrack entry says that nothing is to be translated.
    """
    before, after = _forms(old), _forms(new)
    gone, come = _leading(before, after), _leading({k: v for k, v in after.items() if v.protocol == "udp"}, before)
    if len(before.keys() | after.keys()) > 1:  # what another form leads there as well
        gone, come = gone and gone - _leading(after, {}), come and come - _leading(before, {})
    yield from sorted(gone)
    yield from sorted({flow._replace(target="", target_port=0) for flow in come})


class _Form(NamedTuple):
    """The maps of one form of published ports (`nfttable`): to the target's address, and to its port."""

    family: int
    protocol: str
    bound: bool
    addresses: dict[str, str]
    ports: dict[str, str]


def _forms(attrs: Attrs | None) -> dict[str, _Form]:
    sets = attrs["sets"] if attrs else {}
    found: dict[str, _Form] = {}
    for name, held in sets.items():
        form = name.removesuffix("_addr")
        words, ports = form.split("_"), sets.get(f"{form}_port")
        if words[0] == "publish" and form != name and ports is not None:
            family, protocol = int(words[-1][-1]), words[-1][:-1]
            found[form] = _Form(family, protocol, "bound" in words, held["elements"], ports["elements"])
    return found


def _leading(forms: dict[str, _Form], others: dict[str, _Form]) -> set[Flow]:
    """The ports of `forms` that do not lead there in the same form of `others`."""
    found: set[Flow] = set()
    for name, form in forms.items():
        family, protocol, bound, addresses, ports = form
        other = others.get(name, form._replace(addresses={}, ports={}))
        keys = {*_other(addresses, other.addresses), *(key for key in _other(ports, other.ports) if key in addresses)}
        for key in keys:
            *parts, port = key.split(JOIN)
            if not port.isdecimal():
                continue  # an element that someone else made, with a comment, say
            address = parts[-1] if bound else ""
            found.add(Flow(family, protocol, address, int(port), addresses[key], int(ports.get(key, 0))))
    return found


# -- from the kernel -----------------------------------------------------------------------------------------------


def parse(listing: dict[str, Any]) -> Attrs:
    """The attributes of a table as `nft -j list table` shows it (the whole document, with its "nftables" key).

    The same form as `table` gives: without handles and counts, anonymous sets in order. What `table` never makes
    (flags of the table, stateful objects, flow tables) goes to `other`, so that it differs from what is desired.
    """
    sets: dict[str, Attrs] = {}
    chains: dict[str, Attrs] = {}
    other: list[Any] = []
    for entry in listing["nftables"]:
        ((what, body),) = entry.items()
        own = {k: v for k, v in body.items() if k not in _NAMES}
        if what in ("set", "map"):
            sets[body["name"]] = _parse_set(own)
        elif what == "chain":
            chains[body["name"]] = {**own, "rules": []}
        elif what == "rule":
            chains[body["chain"]]["rules"].append([_canonical(statement) for statement in body["expr"]])
        elif what == "table":
            other += [{"table": own}] if own else []
        elif what != "metainfo":
            other.append({what: {"name": body.get("name", "")}})
    return {"sets": sets, "chains": chains, "other": other}


def _parse_set(own: dict[str, Any]) -> Attrs:
    elements: dict[str, str] = {}
    for element in own.pop("elem", ()):
        if "map" in own:
            elements[_text(element[0])] = _text(element[1])
        else:
            elements[_text(element)] = ""
    return {**own, "elements": elements}


def _text(value: Any) -> str:
    """A set's key or value as text; "elem" wraps those with a comment, a counter or a timeout."""
    if isinstance(value, dict) and set(value) == {"concat"}:
        return JOIN.join(_text(v) for v in value["concat"])
    if isinstance(value, dict) and "elem" in value and set(value["elem"]) <= {"val", "counter"}:
        return _text(value["elem"]["val"])
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _canonical(value: Any) -> Any:
    if isinstance(value, list):
        return [_canonical(v) for v in value]
    if not isinstance(value, dict):
        return value
    if value.get("left") == {"meta": {"key": "iif"}} and value.get("right") == "0":
        return {**value, "right": 0}  # nft 1.0 shows the number of no interface as a name
    found = {k: _canonical(v) for k, v in value.items()}
    if isinstance(found.get("set"), list):
        found["set"] = in_order(found["set"])
    if isinstance(found.get("counter"), dict):
        found["counter"] = None
    return found


def _requires(fact: Fact, get: DesiredView) -> Iterable[Ref]:
    return () if fact.ref.ns == HOST else (namespace(fact.ref.ns),)


def _describe(fact: Fact) -> str:
    rules = sum(len(chain["rules"]) for chain in fact.attrs["chains"].values())
    ports = sum(len(form.addresses) for form in _forms(fact.attrs).values())
    return f"{rules} rules" + (f", {ports} published port{'s' * (ports != 1)}" if ports else "")


def _explain(desired: Fact, live: Fact) -> Iterable[str]:
    return differences(desired.attrs, live.attrs)


NFT: Final = Kind(name="nft", encode=_encode, requires=_requires, describe=_describe, explain=_explain)
