"""NAT and firewall: one nftables table, `inet topo-<topology>`, per topology and namespace.

`ruleset` is what lowering fills in, `nfttable` makes the fact's attributes of it, `nftwords` tells in words how two
differ. An update of map or set elements alone touches just these; anything else replaces the whole table in one
transaction. A verdict of this table cannot override a drop of another's: every base chain on a hook has to let a
packet pass (nft(8)).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from topo.changes import DELETE, UPDATE, Conntrack, Env, Flow, Nft, Op, Request
from topo.facts import HOST, Fact, Ref, namespace
from topo.kinds.kind import DesiredView, Kind
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
_JOIN: Final = " . "
_NUMBERS: Final = frozenset({"inet_service", "mark", "integer"})
_NAMES: Final = frozenset({"family", "name", "table", "handle"})


# -- to the kernel -------------------------------------------------------------------------------------------------


def _value(kind: str, text: str) -> Any:
    if text.startswith("{") and kind != "ifname":
        return json.loads(text)  # an interval, or a timeout: someone else's, which an undo puts back
    return int(text) if kind in _NUMBERS else text


def _key(kinds: str | list[str], text: str) -> Any:
    if isinstance(kinds, str):
        return _value(kinds, text)
    return {"concat": [_value(k, t) for k, t in zip(kinds, text.split(_JOIN), strict=True)]}


def _elements(attrs: Attrs, keys: Iterable[str]) -> list[Any]:
    kinds, elements = attrs["type"], attrs["elements"]
    if "map" not in attrs:
        return [_key(kinds, key) for key in keys]
    return [[_key(kinds, key), _value(attrs["map"], elements[key])] for key in keys]


def replacement(family: str, name: str, attrs: Attrs) -> list[Command]:
    """The commands that make the table exactly this, whether or not it is there: one transaction.

    `add` before `delete`, because deleting an absent table fails.
    """
    inside = {"family": family, "table": name}
    whole = {"table": {"family": family, "name": name}}
    commands: list[Command] = [{"add": whole}, {"delete": whole}, {"add": whole}]
    for set_name, held in attrs["sets"].items():
        body = {**inside, "name": set_name, **{k: v for k, v in held.items() if k != "elements"}}
        if held["elements"]:
            body["elem"] = _elements(held, held["elements"])
        commands.append({"add": {"map" if "map" in held else "set": body}})
    for chain_name, chain in attrs["chains"].items():
        body = {k: v for k, v in chain.items() if k != "rules"}
        commands.append({"add": {"chain": {**inside, "name": chain_name, **body}}})
    for chain_name, chain in attrs["chains"].items():
        commands += [{"add": {"rule": {**inside, "chain": chain_name, "expr": rule}}} for rule in chain["rules"]]
    return commands


def _declared(attrs: Attrs) -> dict[str, Any]:
    """All of a table but the elements of its sets."""
    sets = {name: {k: v for k, v in held.items() if k != "elements"} for name, held in attrs["sets"].items()}
    return {**attrs, "sets": sets}


def _edits(family: str, name: str, new: Attrs, old: Attrs) -> list[Command]:
    """Commands that turn the elements of `old` into those of `new`; deletions first, as a key may get another value."""
    gone: list[Command] = []
    added: list[Command] = []
    for set_name, want in new["sets"].items():
        have = old["sets"][set_name]
        before, after = have["elements"], want["elements"]
        place = {"family": family, "table": name, "name": set_name}
        for commands, verb, attrs, keys in (
            (gone, "delete", have, [k for k, v in before.items() if after.get(k) != v]),
            (added, "add", want, [k for k, v in after.items() if before.get(k) != v]),
        ):
            if keys:
                commands.append({verb: {"element": {**place, "elem": _elements(attrs, keys)}}})
    return gone + added


def _encode(op: Op, env: Env) -> list[Request]:
    family, name = op.ref.key
    new, old = (op.new.attrs if op.new else None), (op.old.attrs if op.old else None)
    if op.verb == DELETE or new is None:
        whole = {"table": {"family": family, "name": name}}
        commands: list[Command] = [{"add": whole}, {"delete": whole}]  # deleting an absent table would fail
    elif op.verb == UPDATE and old is not None and _declared(new) == _declared(old):
        commands = _edits(family, name, new, old)
    else:
        commands = replacement(family, name, new)
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
    before, after = _published(old), _published(new)
    yield from sorted(before - after)
    yield from sorted({f._replace(target="", target_port=0) for f in after - before if f.protocol == "udp"})


def _published(attrs: Attrs | None) -> set[Flow]:
    found: set[Flow] = set()
    sets = attrs["sets"] if attrs else {}
    for name, held in sets.items():
        words = name.removesuffix("_addr").split("_")
        ports = sets.get(name.removesuffix("_addr") + "_port")
        if words[0] != "publish" or not name.endswith("_addr") or ports is None:
            continue
        family, protocol = int(words[-1][-1]), words[-1][:-1]
        for key, target in held["elements"].items():
            *parts, port = key.split(_JOIN)
            address = parts[-1] if "bound" in words else ""
            found.add(Flow(family, protocol, address, int(port), target, int(ports["elements"].get(key, 0))))
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
        return _JOIN.join(_text(v) for v in value["concat"])
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
    ports = len(_published(fact.attrs))
    return f"{rules} rules" + (f", {ports} published port{'s' * (ports != 1)}" if ports else "")


def _explain(desired: Fact, live: Fact) -> Iterable[str]:
    return differences(desired.attrs, live.attrs)


NFT: Final = Kind(name="nft", encode=_encode, requires=_requires, describe=_describe, explain=_explain)
