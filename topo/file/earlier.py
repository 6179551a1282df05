"""What another version of a file asks for, from what this one does: where only settings of links differ, or only entries
of long lists (`edited`).

It is what lowering gives, for a fraction of the time: most edits are of one attribute, or one entry. Nothing else in a file
depends on these settings; on all others (names, addresses, sysctls that a section can state too) something may.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from topo.errors import TopoError
from topo.facts import HOST, Desired, Fact, Facts, Ref, Stated, link
from topo.file import edited, model, ranges
from topo.file.devices import Common
from topo.file.scope import Scope

_OF_LINK: Final = frozenset({"mtu", "txqueuelen", "shaping", "comment"})  # not `up`, which routes depend on
_OF_END: Final = _OF_LINK | {"mac"}
_EDITED: Final = frozenset({"namespaces", "vxlans", "nat"})  # where `edited` looks


def other_version(desired: Desired, document: dict[str, Any]) -> Desired | None:
    """What `document` asks for, a document that was lowered before; None where more differs than can be told so.

    Raises ValueError for a document of another version of topo.
    """
    mine, theirs = dict(desired.document), dict(document)
    if mine.keys() == theirs.keys() and all(mine[name] == theirs[name] for name in mine.keys() - _EDITED):
        facts = dict(desired.facts)
        told = edited.settle(facts, mine, theirs)
        return desired._replace(facts=Stated(facts), document=document) if told else None
    differ = _differing(mine.pop("links", ()), theirs.pop("links", ()))
    if mine != theirs or not differ:
        return None
    head = {name: mine[name] for name in ("topology", "defaults") if name in mine}
    now, then = (Scope(model.Topology.model_validate({**head, "links": [*some]})) for some in zip(*differ, strict=True))
    facts = dict(desired.facts)
    for entry, other in zip(now.topology.links, then.topology.links, strict=True):
        if _rest(entry) != _rest(other) or not _settle(facts, (now, entry), (then, other)):
            return None
    return desired._replace(facts=facts, document=document)


def _differing(mine: Any, theirs: Any) -> list[tuple[Any, Any]]:
    """The entries that differ, in pairs; none where there are more of one than of the other."""
    if len(mine) != len(theirs):
        return []
    return [(one, other) for one, other in zip(mine, theirs, strict=True) if one != other]


def _rest(entry: model.Link) -> tuple[Any, ...]:
    """All but the settings. An end that is a name alone cannot be that of a bridge where another version has settings
    for the interface."""
    ends = ({"interface": end} if isinstance(end, str) else _stated(end, _OF_END) for end in entry.ends)
    return (_stated(entry, _OF_LINK | {"ends"}), *ends)


def _stated(entry: Any, but: frozenset[str]) -> dict[str, Any]:
    names = type(entry).model_fields.keys() - but
    return {name: value for name in names if (value := getattr(entry, name)) is not None}


def _settle(facts: Facts, now: tuple[Scope, model.Link], then: tuple[Scope, model.Link]) -> bool:
    """Give what an entry makes the settings that it has in the other version; whether all of it is found as it is now."""
    sides = []
    for scope, entry in (now, then):
        ends = ((None if isinstance(end, str) else end) for end in entry.ends)
        try:
            sides.append([Common(scope, end, ("links",), link=entry) for end in ends])
        except TopoError:
            return False
    for pair in _pairs(facts, now[1]):
        if pair is None:
            return False
        for ref, have, want in zip(pair, *sides, strict=True):
            attrs = facts[ref].attrs
            if not have.attrs.items() <= attrs.items():
                return False
            others = {name: value for name, value in attrs.items() if name not in have.attrs}
            facts[ref] = Fact(ref, others | want.attrs)
            shaping = Ref("shaping", *ref[1:])
            facts.pop(shaping, None)
            if want.shaping is not None:
                facts[shaping] = Fact(shaping, dict(want.shaping))
    return True


def _pairs(facts: Facts, entry: model.Link) -> Iterator[tuple[Ref, Ref] | None]:
    """The two ends of each link that an entry makes, in order; None where neither has its name from the file."""
    texts = [ranges.expand(end if isinstance(end, str) else _name(end)) for end in entry.ends]
    for number in range(max(map(len, texts))):
        yield _pair(facts, [names[number if len(names) > 1 else 0] for names in texts])


def _name(end: Any) -> str:
    return str(end.bridge if isinstance(end, model.BridgeEnd) else end.interface)


def _pair(facts: Facts, texts: list[str]) -> tuple[Ref, Ref] | None:
    for place, text in enumerate(texts):
        ns, _, name = text.rpartition(":")
        fact = facts.get(mine := link(ns or HOST, name))
        if fact and "peer" in fact.attrs:
            other = link(*fact.attrs["peer"])
            return (other, mine) if place else (mine, other)
    return None
