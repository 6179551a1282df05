"""What another version of a file asks for, where it differs in entries of long lists: peers of VXLANs, published ports.

The entries that differ are lowered by themselves, those of both versions, and the ones taken out for the others. What
an entry makes has to depend on nothing but what is the same in both; where it may depend on more, nothing is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final, NamedTuple

from topo.errors import TopoError
from topo.facts import HOST, Fact, Facts, Ref
from topo.file import model, ranges
from topo.file.lowering import lower
from topo.kinds.nfttable import table_name

_OF_PEERS: Final = frozenset({"fdb", "neighbour", "route"})
_OF_VXLAN: Final = ("id", "vnis", "external", "local", "port")  # what the facts of its peers depend on
_LISTED: Final = frozenset({"vxlans", "nat"})
_OF_PORT: Final = frozenset({"port", "to", "protocol"})
_ANYWHERE: Final = frozenset({"0.0.0.0/0", "::/0"})

Document = Mapping[str, Any]


class Edit(NamedTuple):
    """A list that is another one in the other version. `place`: namespace (as the file writes it), section and the keys
    below; `around`: what it stands in, which is the same; `mine` and `theirs`: what differs, `same`: what does not."""

    place: tuple[str, ...]
    around: Document
    mine: list[Any]
    theirs: list[Any]
    same: list[Any]


def settle(facts: Facts, mine: Document, theirs: Document) -> bool:
    """Turn the facts of one version, in place, into those of the other; False where more differs than can be told so: then
    they are good for nothing."""
    edits = list(_edits(mine, theirs))
    told = [edit for edit in edits if edit is not None and not _family_is_open(edit)]
    if len(told) < len(edits):
        return False
    gone: Facts = {}
    come: Facts = {}
    try:
        for edit in told:
            if edit.place[1] == "vxlans":
                gone |= _peers(mine, edit, edit.mine)
                come |= _peers(theirs, edit, edit.theirs)
            elif not _publish(facts, mine["topology"], edit):
                return False
    except TopoError:
        return False
    if any(facts.pop(ref, None) != fact for ref, fact in gone.items()):
        return False
    if not facts.keys().isdisjoint(come) or any(ref[2][2] in _ANYWHERE for ref in (*gone, *come) if ref[0] == "route"):
        return False  # another entry states it too; or a bridge gives a default route where no entry does
    facts.update(come)
    return True


# -- where they differ ---------------------------------------------------------------------------------------------


def _edits(mine: Document, theirs: Document) -> Iterator[Edit | None]:
    """Where two documents differ; None for a place that is no such list."""
    yield from _in_section(HOST, mine, theirs, _differing(mine, theirs, {*_LISTED, "namespaces"}) - {"namespaces"})
    before, after = mine.get("namespaces", {}), theirs.get("namespaces", {})
    if not (isinstance(before, dict) and isinstance(after, dict)):
        yield None
        return
    for name in _differing(before, after):
        one, other = before.get(name), after.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _in_section(name, one, other, _differing(one, other, _LISTED))
        else:
            yield None


def _in_section(ns: str, mine: Document, theirs: Document, names: Iterable[str]) -> Iterator[Edit | None]:
    for name in names:
        one, other = mine.get(name), theirs.get(name)
        if name not in _LISTED or not (isinstance(one, dict) and isinstance(other, dict)):
            yield None
        elif name == "nat":
            yield _edit((ns, name), one, other, "publish")
        else:
            for key in _differing(one, other, one.keys()):
                before, after = one.get(key), other.get(key)
                if isinstance(before, dict) and isinstance(after, dict):
                    yield _edit((ns, name, key), before, after, "peers")
                else:
                    yield None


def _edit(place: tuple[str, ...], mine: Document, theirs: Document, name: str) -> Edit | None:
    one, other = mine.get(name), theirs.get(name)
    if _differing(mine, theirs, {name}) - {name} or not (isinstance(one, list) and isinstance(other, list)):
        return None
    around = {key: value for key, value in mine.items() if key != name}
    if len(one) == len(other):
        differ = [i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]]
        same = list(one)
        for i in reversed(differ):
            del same[i]
        return Edit(place, around, [one[i] for i in differ], [other[i] for i in differ], same)
    first = _alike(zip(one, other, strict=False))
    last = min(_alike(zip(reversed(one), reversed(other), strict=False)), min(len(one), len(other)) - first)
    same = one[:first] + one[len(one) - last :]
    return Edit(place, around, one[first : len(one) - last], other[first : len(other) - last], same)


def _alike(pairs: Iterator[tuple[Any, Any]]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _differing(mine: Document, theirs: Document, inside: Collection[str] = ()) -> set[str]:
    """The names of what differs; and those of `inside`, which are not compared here: they are where one looks next."""
    there = {name for name in inside if name in mine and name in theirs}
    return there | {
        name
        for name in mine.keys() | theirs.keys()
        if name not in there and (name not in mine or name not in theirs or mine[name] != theirs[name])
    }


# -- peers ---------------------------------------------------------------------------------------------------------


def _peers(document: Document, edit: Edit, entries: list[Any]) -> Facts:
    """What some peers of a VXLAN make: they depend on no more than itself. Raises ValueError, TopoError."""
    ns, _, name = edit.place
    vxlan = {key: edit.around[key] for key in _OF_VXLAN if key in edit.around}
    section: dict[str, Any] = {"vxlans": {name: {**vxlan, "peers": entries}}}
    if ns != HOST:
        source = document["namespaces"][ns].get("from")
        section = {"namespaces": {ns: section | ({"from": source} if source else {})}}
    found = lower(model.Topology.model_validate({"topology": document["topology"], **section})).facts
    return {ref: fact for ref, fact in found.items() if ref[0] in _OF_PEERS}


def _family_is_open(edit: Edit) -> bool:
    """Whether it is one of these peers that tells whether the underlay of a VXLAN is IPv4 or IPv6."""
    return edit.place[1] == "vxlans" and not (edit.same or edit.around.get("local") or edit.around.get("group"))


# -- published ports -----------------------------------------------------------------------------------------------


class _Lead(NamedTuple):
    """A published port, bound to no address and no interface: where it leads, and the target's port."""

    group: tuple[str, str]  # where it leads, in the words of the file, and the protocol
    key: str
    to: str


def _lead(entry: Any) -> _Lead | None:
    """None where an entry is more than that."""
    from topo.file.nat import words  # late, as its models are

    if not isinstance(entry, dict) or not entry.keys() <= _OF_PORT or type(port := entry.get("port")) is not int:
        return None
    where, to = words(str(entry.get("to")))
    if not to and ":" in where and where[-1] != "]":  # a range of its ports
        return None
    return _Lead((where, entry.get("protocol", "tcp")), str(port), str(int(to)) if to else str(port))


def _publish(facts: Facts, topology: str, edit: Edit) -> bool:
    """Settle the elements of published ports whose target another port that stays is led to: then neither rules, nor
    addresses, nor what else NAT needs depends on them."""
    mine, theirs = ([_lead(entry) for entry in entries] for entries in (edit.mine, edit.theirs))
    if None in mine or None in theirs:
        return False
    stay = {entry.get("port") for entry in edit.same}
    if set(map(type, stay)) != {int}:
        return False
    if any(entry["port"] in stay for entry in (*edit.mine, *edit.theirs)):  # it is stated twice
        return False
    for entry in edit.theirs:
        model.Publish.model_validate(entry)
    known = _staying(edit.same, {lead.group for lead in (*mine, *theirs) if lead})
    if known is None:
        return False
    names = ranges.expand(edit.place[0]) if ranges.is_range(edit.place[0]) else [edit.place[0]]
    for ns in names:
        ref = Ref("nft", ns, ("inet", table_name(topology)))
        sets = _led(facts[ref].attrs["sets"], known, mine, theirs) if ref in facts else None
        if sets is None:
            return False
        facts[ref] = Fact(ref, {**facts[ref].attrs, "sets": sets})
    return True


def _staying(same: Sequence[Any], groups: set[tuple[str, str]]) -> dict[tuple[str, str], _Lead] | None:
    """Of each group a port that stays; None where there is not one of each."""
    known: dict[tuple[str, str], _Lead] = {}
    for entry in same:
        if groups <= known.keys():
            break
        if lead := _lead(entry):
            known.setdefault(lead.group, lead)
    return known if groups <= known.keys() else None


def _led(
    sets: dict[str, Any], known: Mapping[tuple[str, str], _Lead], mine: Sequence[Any], theirs: Sequence[Any]
) -> dict[str, Any] | None:
    """The sets without `mine` and with `theirs`; None where they are not as they should be."""
    found = dict(sets)
    for leads, there in ((mine, True), (theirs, False)):
        for lead in leads:
            like, families = known[lead.group], 0
            for family in (4, 6):
                names = [f"publish_{lead.group[1]}{family}_{what}" for what in ("addr", "port")]
                if like.key not in sets.get(names[0], {"elements": ()})["elements"]:
                    continue
                families += 1
                values = [sets[names[0]]["elements"][like.key], lead.to]
                if sets[names[1]]["elements"][like.key] != like.to:
                    return None
                for name, value in zip(names, values, strict=True):
                    if found[name] is sets[name]:
                        found[name] = {**sets[name], "elements": dict(sets[name]["elements"])}
                    elements = found[name]["elements"]
                    if elements.get(lead.key) != (value if there else None):
                        return None
                    if there:
                        del elements[lead.key]
                    else:
                        elements[lead.key] = value
            if not families:
                return None
    return found
