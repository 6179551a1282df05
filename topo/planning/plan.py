"""The plan: changes frozen, as lines for a person, as JSON, and with a fingerprint to tell whether it is stale."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from topo.changes import AGAIN, CREATE, DELETE, OWNER, REPLACE, UPDATE, Change
from topo.errors import InputError
from topo.facts import HOST, Desired, Fact, Ref, link
from topo.kinds.registry import KINDS
from topo.planning.details import differences

FORMAT: Final = 1
_MOST: Final = 8  # lines about one object
_SIGNS: Final = {CREATE: "+", UPDATE: "~", REPLACE: "-/+", DELETE: "-"}
_WORDS: Final = {CREATE: "to create", UPDATE: "to change", DELETE: "to delete"}
_PLURALS: Final = {
    "fdb": "FDB entries",
    "mdb": "MDB entries",
    "address": "addresses",
    "sysctl": "sysctls",
    "nft": "nftables tables",
    "shaping_class": "shaping classes",
    "vlan_state": "states of VLANs",
}
_SINGULARS: Final = {"fdb": "FDB entry", "mdb": "MDB entry", "nft": "nftables table", "vlan_state": "state of a VLAN"}


class Plan(NamedTuple):
    """What an apply would do. `desired` is what the changes lead to, resolved. `impaired`: the shaping in it that is
    laid over what the file states (`topo impair`)."""

    topology: str
    changes: tuple[Change, ...]
    desired: Desired
    warnings: tuple[str, ...] = ()
    impaired: Mapping[Ref, Fact] = MappingProxyType({})

    def counts(self) -> dict[str, int]:
        """How many lines create, update, replace and delete something: a pair of veth ends is one line."""
        found = Counter(line.sign for line in _lines(self.changes))
        return {action: found[sign] for action, sign in _SIGNS.items()}

    def fingerprint(self) -> str:
        """Changes by what they do: equal for the same changes against the same live state."""
        data = [
            [c.action, _ref(c.ref), list(c.attrs), _value(c.desired.attrs) if c.desired else None, _was(c)]
            for c in self.changes
        ]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data; docs describe it as format 1."""
        return {
            "format": FORMAT,
            "topology": self.topology,
            "fingerprint": self.fingerprint(),
            "summary": self.counts(),
            "warnings": list(self.warnings),
            "impaired": [fact_to_json(fact) for fact in self.impaired.values()],
            "changes": [_change_to_json(change) for change in self.changes],
            "document": _value(self.desired.document),
        }


class SavedPlan(NamedTuple):
    """A plan that was saved: what is needed to plan again, and to see whether that gives the same."""

    topology: str
    changes: tuple[Change, ...]
    fingerprint: str
    document: dict[str, Any]
    warnings: tuple[str, ...] = ()


def from_json(data: Any) -> SavedPlan:
    """Reads what `Plan.to_json` made. Raises InputError for anything else."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise InputError(f"this is no plan of format {FORMAT}" + (f", but of format {found}" if found else ""))
    try:
        return SavedPlan(
            topology=str(data["topology"]),
            changes=tuple(_change_from_json(change) for change in data["changes"]),
            fingerprint=str(data["fingerprint"]),
            document=dict(data["document"]),
            warnings=tuple(map(str, data.get("warnings", ()))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"this plan is damaged: {error!r}") from None


def _ref(ref: Ref) -> list[Any]:
    return [ref.kind, ref.ns, _value(ref.key)]


def _value(value: Any) -> Any:
    """Plain data: tuples are lists, bytes are hexadecimal."""
    if isinstance(value, Mapping):
        return {str(name): _value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_value(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted(map(_value, value), key=repr)
    return value.hex() if isinstance(value, bytes) else value


def _back(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _back(inner) for name, inner in value.items()}
    return tuple(map(_back, value)) if isinstance(value, list) else value


def _was(change: Change) -> Any:
    if change.live is None:
        return None
    return [_ref(change.live.ref), {name: _value(change.live.attrs.get(name)) for name in change.attrs}]


def fact_to_json(fact: Fact | None) -> dict[str, Any] | None:
    return {"ref": _ref(fact.ref), "attrs": _value(fact.attrs), "origin": fact.origin} if fact else None


def fact_from_json(data: dict[str, Any] | None) -> Fact | None:
    return Fact(_ref_from_json(data["ref"]), _back(data["attrs"]), data["origin"]) if data else None


def _ref_from_json(data: list[Any]) -> Ref:
    kind, ns, key = data
    return Ref(kind, ns, _back(key))


def _change_to_json(change: Change) -> dict[str, Any]:
    return {
        "action": change.action,
        "kind": _kind(change),
        "name": _name(change.ref),
        "ref": _ref(change.ref),
        "desired": fact_to_json(change.desired),
        "live": fact_to_json(change.live),
        "attrs": list(change.attrs),
        "reason": change.reason,
        "takes": [_ref(ref) for ref in change.takes],
    }


def _change_from_json(data: dict[str, Any]) -> Change:
    return Change(
        data["action"],
        _ref_from_json(data["ref"]),
        fact_from_json(data["desired"]),
        fact_from_json(data["live"]),
        tuple(data["attrs"]),
        data["reason"],
        tuple(map(_ref_from_json, data["takes"])),
    )


class Line(NamedTuple):
    """One line of a plan, for a person."""

    sign: str
    kind: str
    name: str
    details: str = ""
    more: tuple[str, ...] = ()  # lines of their own below it


def lines(plan: Plan) -> list[str]:
    """The plan for a person: a summary, then one line for each thing that changes."""
    found = _lines(plan.changes)
    if not found:
        return [f"{plan.topology}: nothing to do", *_notes(plan)]
    left = [f"  {line.sign} {line.kind}" for line in found]
    first = max(max(map(len, left)) + 1, 14)
    second = max((len(line.name) for line in found if line.details), default=0) + 2
    rows = []
    for start, row in zip(left, found, strict=True):
        rows.append(f"{start:<{first}} {row.name:<{second}} {row.details}".rstrip())
        rows += [f"        {text}" for text in row.more[:_MOST]]
        if len(row.more) > _MOST:
            rows.append(f"        and {len(row.more) - _MOST:,} more")
    return [f"{plan.topology}: {summary(plan)}", *rows, *_notes(plan)]


def _notes(plan: Plan) -> Iterable[str]:
    """What else there is to say."""
    for fact in plan.impaired.values():
        yield impairment(fact)
    for text in plan.warnings:
        yield f"  warning: {text}"


def impairment(fact: Fact) -> str:
    """The line about shaping that is laid over what the file states."""
    return f"  impaired: {fact.ref} {KINDS[fact.ref.kind].describe(fact)}"


def summary(plan: Plan) -> str:
    """`3 to create, 1 to change, 1 to delete`; a replacement counts as one to create."""
    counts = plan.counts()
    counts[CREATE] += counts.pop(REPLACE)
    return (
        ", ".join(f"{counts[action]} {words}" for action, words in _WORDS.items() if counts[action]) or "nothing to do"
    )


def _lines(changes: Iterable[Change]) -> list[Line]:
    changes = tuple(changes)
    by_ref = {change.ref: change for change in changes}
    told: set[Ref] = set()
    again = {ref for change in changes if change.action != DELETE for ref in change.takes}
    found = []
    for change in changes:
        made_again = change.action == CREATE and change.ref in again
        if change.ref in told or (made_again and change.ref.kind not in ("link", "namespace")):
            continue  # told with what takes it
        peer = _other_end(change, by_ref)
        told |= {change.ref, *((peer.ref,) if peer else ())}
        sign = _SIGNS[change.action]
        name = _pair(change, peer) if peer else _title(change)
        found.append(Line(sign, _kind(change), name, _details(change, by_ref), _explained(change)))
    return found


def _other_end(change: Change, by_ref: Mapping[Ref, Change]) -> Change | None:
    """The change of the other end of a veth pair, where both ends come or go."""
    fact = change.desired or change.live
    if change.action == UPDATE or fact is None or change.ref.kind != "link" or not fact.attrs.get("peer"):
        return None
    other = by_ref.get(link(*fact.attrs["peer"]))
    return other if other is not None and (change.action == DELETE) == (other.action == DELETE) else None


def _pair(change: Change, peer: Change) -> str:
    ends = [(fact, fact.attrs.get("master")) for c in (change, peer) if (fact := c.desired or c.live)]
    names = [_name(Ref("link", fact.ref.ns, (master,))) if master else _name(fact.ref) for fact, master in ends]
    if ends[0][1] and not ends[-1][1]:
        names.reverse()
    return " <-> ".join(names)


def _kind(change: Change) -> str:
    """A bridge is told as a bridge, the ends of a veth pair and devices that are there already as links."""
    if change.ref.kind != "link":
        return change.ref.kind
    fact = change.desired or change.live
    kind = (fact.attrs.get("kind") if fact else None) or (change.live.attrs.get("kind") if change.live else None)
    return "link" if kind in (None, "veth") else str(kind)


def _name(ref: Ref) -> str:
    if ref.kind != "route":
        return str(ref)
    _, table, dst, metric, *more = ref.key
    words = ["default" if dst in ("0.0.0.0/0", "::/0") else dst]
    words += ["(IPv6)"] * (dst == "::/0")
    words += [f"table {table}"] * (table != 254) + [f"metric {metric}"] * (metric not in (0, 1024))
    return ("" if ref.ns == HOST else f"{ref.ns}: ") + " ".join([*words, *map(str, more)])


def _title(change: Change) -> str:
    """The name, and what the kind says of it where it comes or goes."""
    name = _name(change.ref)
    fact = change.live if change.action == DELETE else change.desired
    if change.action == UPDATE and change.live and change.live.ref != change.ref:
        return f"{_name(change.live.ref)} -> {change.ref.key[0]}"
    if change.action in (CREATE, DELETE) and fact is not None:
        words = KINDS[change.ref.kind].describe(fact)
        if change.ref.kind == "link":
            words = words.removeprefix(str(fact.attrs.get("kind"))).strip()
        return f"{name} {words}".strip()
    return name


def _explained(change: Change) -> tuple[str, ...]:
    explain = KINDS[change.ref.kind].explain
    return tuple(explain(change.desired, change.live)) if explain and change.desired and change.live else ()


def _details(change: Change, by_ref: Mapping[Ref, Change]) -> str:
    text = ""
    if change.desired and change.live and change.action in (UPDATE, REPLACE) and not KINDS[change.ref.kind].explain:
        units = KINDS[change.ref.kind].units
        names = [name for name in change.attrs if name not in (OWNER, AGAIN)]
        text = ", ".join(differences(names, change.desired.attrs, change.live.attrs, units))
    why = [change.reason] if change.reason and change.reason not in ("not in the file", "renamed") else []
    if change.action == REPLACE and change.ref.kind != "namespace":
        why.append("the kernel cannot change it")
    if OWNER in change.attrs:
        why.append("adopted")
    if taken := _taken(change, by_ref):
        why.append(f"takes {taken} with it")
    return f"{text} ({'; '.join(why)})".strip() if why else text


def _taken(change: Change, by_ref: Mapping[Ref, Change]) -> str:
    """What goes with it and has no line of its own."""
    count = Counter(
        ref.kind
        for ref in change.takes
        if ref.kind != "sysctl"
        if ref not in by_ref or (by_ref[ref].action == CREATE and ref.kind not in ("link", "namespace"))
    )
    return ", ".join(
        f"{n} {_SINGULARS.get(kind, kind) if n == 1 else _PLURALS.get(kind, kind + 's')}" for kind, n in count.items()
    )
