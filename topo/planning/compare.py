"""Two facts against each other, and facts by what they sit on: the questions that planning asks the kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from topo.changes import OWNER, REPLACE, UPDATE, Change
from topo.facts import Fact, Facts, Ref, link, links_of
from topo.kinds.registry import KINDS


def changed(want: Fact, have: Fact, key: Ref, *, owner: bool = False, reason: str = "") -> Change | None:
    """What turns `have` into `want`; None where nothing differs. `owner`: and it is taken over."""
    kind = KINDS[key.kind]
    attrs = kind.compare(want, have)
    if owner:
        attrs = (*attrs, OWNER)
    if not attrs and have.ref == key:
        return None
    forced = bool(attrs) and not kind.replace(want, have).isdisjoint(attrs)
    return Change(REPLACE if forced else UPDATE, key, want, have, attrs, reason)


def replaced(want: Fact, have: Fact) -> bool:
    """Whether the kernel cannot change `have` into `want`."""
    kind = KINDS[want.ref.kind]
    return not kind.replace(want, have).isdisjoint(kind.compare(want, have))


def stated(attrs: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a live fact that a desired one can state: those without a leading underscore."""
    return {name: value for name, value in attrs.items() if name[0] != "_"}


class View:
    """Facts, and the indexes that `Kind.requires` looks things up in, built when first asked for."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._on: dict[tuple[Ref, str], list[Fact]] | None = None
        self._within: dict[tuple[str, str], list[Fact]] | None = None
        self._near: dict[tuple[str, str | None, Callable[[Fact], bool]], list[Fact]] = {}

    def get(self, ref: Ref) -> Fact | None:
        return self.facts.get(ref)

    def on(self, below: Ref, kind: str = "") -> Iterable[Fact]:
        if self._on is None:
            self._on = {}
            for fact in self.facts.values():
                for home in links_of(fact):
                    self._on.setdefault((home, ""), []).append(fact)
                    self._on.setdefault((home, fact.ref.kind), []).append(fact)
        return self._on.get((below, kind), ())

    def within(self, ns: str, kind: str) -> Iterable[Fact]:
        if self._within is None:
            self._within = {}
            for fact in self.facts.values():
                self._within.setdefault((fact.ref.ns, fact.ref.kind), []).append(fact)
        return self._within.get((ns, kind), ())

    def near(self, ns: str, ifname: str | None, such: Callable[[Fact], bool]) -> Iterable[Fact]:
        found = self._near.get((ns, ifname, such))
        if found is None:
            around = (*self.within(ns, "address"), *self.within(ns, "route"))
            found = list(filter(such, self.on(link(ns, ifname)) if ifname else around))
            self._near[ns, ifname, such] = found
        return found
