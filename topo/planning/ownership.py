"""Whose is it: what may be changed or deleted, and what is refused because someone else has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from topo.changes import CREATE, DELETE, Change
from topo.errors import Diagnostic, InputError
from topo.facts import (
    FOREIGN,
    HOST,
    OF_PORTS,
    OWN,
    STATIC,
    TAGGED,
    Desired,
    Fact,
    Facts,
    Live,
    Ref,
    links_of,
    namespace,
)
from topo.kinds.registry import KINDS
from topo.kinds.shaping import CLASSFUL
from topo.planning.underlay import moves

BY_PROTOCOL: Final = frozenset({"route", "address", "rule", "neighbour", "nexthop"})
"""Kinds whose live facts tell by a protocol number who made them."""

_SETTINGS: Final = OF_PORTS | {
    *("vni", "inet6", "fdb", "neighbour"),
    *("shaping", "shaping_class", "shaping_filter", "ingress"),
}


def require_external(desired: Desired, live: Live) -> None:
    """Raises InputError for every device that is to be there already and is not."""
    _refuse(desired, {ref: f"interface {ref} is not there" for ref in desired.external if ref not in live})


def require_lasting(desired: Desired, changes: Iterable[Change]) -> None:
    """Raises InputError for every device that is to be there already and goes with one that the file does not make any more."""
    lost = {change.ref for change in changes if change.action == CREATE and change.ref in desired.external}
    if lost:
        by = {ref: change.ref for change in changes if change.action == DELETE for ref in change.takes if ref in lost}
        _refuse(
            desired,
            {
                ref: f"interface {ref} goes with {by.get(ref, ref)}, which the file does not make any more"
                for ref in lost
            },
        )


def _refuse(desired: Desired, why: Mapping[Ref, str]) -> None:
    if why:
        found = sorted((desired.paths.get(ref, ""), ref) for ref in why)
        raise InputError([Diagnostic(why[ref], path=place) for place, ref in found])


class Ownership:
    """What of the live state is this topology's: by its marks, by its place, or because the last apply stated it."""

    def __init__(self, desired: Desired, live: Live, previous: Desired | None, adopt: bool) -> None:
        self.desired, self.live, self.adopt = desired, live, adopt
        self.stated: Facts = previous.facts if previous else {}
        self.was_external = previous.external if previous else frozenset()

    def namespace(self, ns: str) -> bool:
        """Whether topo made this namespace (and did not only attach to it)."""
        if ns == HOST:
            return False
        ref = namespace(ns)
        want, have, was = self.desired.facts.get(ref), self.live.get(ref), self.stated.get(ref)
        if any(fact is not None and fact.attrs.get("from") for fact in (want or was, have)):
            return False
        if have is None or self.adopt:
            return want is not None or (have is not None and have.origin == OWN)
        return have.origin == OWN

    def link(self, ref: Ref) -> bool:
        """Whether this link is topo's: it bears the mark, or is about to be made or adopted."""
        if ref in self.desired.external:
            return False
        have = self.live.get(ref)
        if ref.key[0] == "lo":
            return self.namespace(ref.ns)
        if have is None or self.adopt:
            return ref in self.desired.facts or (have is not None and have.origin == OWN)
        return have.origin == OWN

    def place(self, fact: Fact) -> bool:
        """Whether `fact` is in a place of topo's: on a link of its own, or in a namespace that it made."""
        return any(map(self.link, links_of(fact))) or self.namespace(fact.ref.ns)

    def taken(self, have: Fact, want: Fact, differs: bool) -> str:
        """What has the name that `want` is to have; empty where it is ours or may be changed."""
        ref = want.ref
        if have.origin == OWN or ref in self.desired.external:
            return ""
        if ref.kind == "namespace" and want.attrs.get("from"):  # a live one has `from` where it leads elsewhere
            own = {"name": ref.ns}  # a name that was there before topo: not topo's to lead elsewhere
            source = have.attrs.get("from")
            unknown = ref not in self.stated and not self._entered(have, want)
            theirs = unknown or have.attrs.get("_strange") or source == own
            return what(have) if source and theirs and want.attrs["from"] != own else ""
        if ref.kind == "namespace" and have.attrs.get("from") and not have.attrs.get("_strange") and self.attached(ref):
            return ""  # its name was for the last file, and topo is to make one now
        if ref.kind in ("link", "namespace"):
            return what(have)
        if ref.kind == "nexthop" and have.origin == FOREIGN and ref not in self.stated:
            return what(have)  # wherever it is: routes of its maker's go by it
        if ref.kind == "ingress" and have.attrs.get("to") is None and not self.place(have):
            return what(have)  # topo could not put it back
        if ref.kind not in BY_PROTOCOL or ref in self.stated or self.place(have) or self._moves(have):
            return ""
        if have.origin == TAGGED and not differs:
            return ""  # a lost record is survived: it bears our protocol and is as it should be
        return what(have)

    def queued(self, ref: Ref) -> str:
        """What has the place that shaping is to have and could not be put back; empty where that may be changed."""
        if ref.kind != "shaping" or ref in self.stated:
            return ""
        found = (self.live.get(other) for other in (ref, ref._replace(key=(*ref.key, "htb"))))
        for have in found:
            kind = have.attrs["kind"] if have and "_options" in have.attrs else ""
            if have and kind in CLASSFUL and not self.place(have):
                return f"a queue of kind {kind}, whose classes could not be put back"
        return ""

    def _entered(self, have: Fact, want: Fact) -> bool:
        """Whether this name is topo's though its record is lost: it bears the sign of this topology, or leads to where it is
        to lead, and topo's links are there."""
        if have.attrs.get("_signed"):
            return True
        inside = (fact for fact in self.live.of("link") if fact.ref.ns == have.ref.ns)
        return have.attrs.get("from") == want.attrs["from"] and any(fact.origin == OWN for fact in inside)

    def _moves(self, have: Fact) -> bool:
        """Whether it is on a NIC whose addresses and routes a bridge of this topology takes over."""
        return any(below in self.desired.take_over.values() for below in links_of(have))

    def deletes(self, have: Fact, key: Ref) -> str:
        """Why a live fact that is not desired is to go; empty where it stays."""
        kind = key.kind
        if key in self.desired.external or (kind == "link" and key.key[0] == "lo") or key == namespace(HOST):
            return ""
        if kind in ("link", "namespace"):
            return self._deletes_named(have, key)
        if kind == "nft":
            return "not in the file" if have.origin == OWN or key.key[1] == f"topo-{self.desired.name}" else ""
        if kind == "sysctl" or KINDS[kind].unset(have.attrs):
            return ""
        if kind in ("address", "neighbour") and self._moves(have) and moves(have):
            return "taken over"
        if have.origin in (TAGGED, OWN) and (key in self.stated or self.place(have)):
            return "not in the file"
        if have.origin == STATIC and self._on_own_place(have):
            return "not in the file"
        return "not in the file any more" if kind in _SETTINGS and key in self.stated else ""

    def attached(self, key: Ref) -> Any:
        """What the last file attached a namespace's name to; None where it did not, or it was the name's own."""
        source = self.stated[key].attrs.get("from") if key.kind == "namespace" and key in self.stated else None
        return None if source == {"name": key.ns} else source

    def _deletes_named(self, have: Fact, key: Ref) -> str:
        return "not in the file" if have.origin == OWN or self.attached(key) else ""

    def _on_own_place(self, have: Fact) -> bool:
        below = links_of(have)
        if not below:
            return have.ref.kind in ("route", "rule", "nexthop") and self.namespace(have.ref.ns)
        return any(map(self.link, below))


def attached(have: Fact) -> bool:
    """Whether only the name of a live namespace is topo's: deleting it leaves the namespace as it is."""
    return have.origin != OWN or bool(have.attrs.get("from"))


def what(have: Fact) -> str:
    """A live object in words: its kind, alias, group, or the protocol that put it there."""
    attrs = have.attrs
    if have.ref.kind == "namespace":
        return "a network namespace that this topology did not make"
    if have.ref.kind == "link":
        words = f"a {attrs.get('kind') or 'device'}"
        if attrs.get("alias"):
            words += f" with the alias {attrs['alias']!r}"
        group = attrs.get("_group", attrs.get("group") if attrs.get("kind") != "vxlan" else None)
        if isinstance(group, int) and group:
            words += f" of another topology (group {group:#x})" if group >> 28 == 7 else f" in group {group}"
        return words
    by = {STATIC: "set by hand", TAGGED: "set by topo for something else", FOREIGN: "set by another program"}
    words = by.get(have.origin, "not this topology's")
    protocol = attrs.get("_protocol", attrs.get("_proto"))
    if protocol is not None and have.origin == FOREIGN:
        words += f" (protocol {protocol})"
    if attrs.get("dev"):
        words += f", on {attrs['dev']}"
    return words
