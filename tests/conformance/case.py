"""What a case is: one object, what has to be around it, and the values that each of its attributes can have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from topo.facts import HOST, Fact, Facts, Ref, link, mark, namespace

TOPOLOGY = "conformance"
INNER = "t"  # a namespace of the topology's
OTHER = "p"  # and another one
MARK = mark(TOPOLOGY)

State = Mapping[str, Any]
"""Attributes that are laid over those of a case's fact."""


@dataclass(frozen=True)
class Case:
    """One object under test.

    `fact`: it, with the attributes that all states have. `around`: what has to be there for it.
    `attributes`: for each that can be stated two states or more. `cannot`: for each that this kind of link lacks, why.
    `by_hand`: for each, shell words that take it out of its first state, run in the object's namespace, or in the one
    that stands before a colon. `gone`: commands that delete it; empty where that cannot be.
    `at`: the fact of a state, where attributes are part of its key. `beside`: facts that come and go with it.
    `unseen`: attributes that only tell how it is made, so that changing them is no change.
    `full`: it is of a kind that only a full kernel has (`nox -s kernels`).
    `before`, `after`: commands that make, and take away, what is not topo's but has to be there.
    """

    kind: str
    fact: Fact
    attributes: Mapping[str, tuple[State, ...]]
    by_hand: Mapping[str, tuple[str, ...]]
    gone: tuple[str, ...]
    around: tuple[Fact, ...] = ()
    link_kind: str = ""
    cannot: Mapping[str, str] = field(default_factory=dict)
    at: Callable[[dict[str, Any]], Fact] | None = None
    beside: Callable[[Fact], Iterable[Fact]] = lambda fact: ()
    unseen: frozenset[str] = frozenset()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    external: bool = False
    full: bool = False

    @property
    def ns(self) -> str:
        return self.fact.ref.ns

    def of(self, state: State) -> Fact:
        """The object's fact in this state."""
        attrs = {**self.fact.attrs, **state}
        return self.at(attrs) if self.at else Fact(self.fact.ref, attrs)

    def first(self, attribute: str) -> Fact:
        return self.of(self.attributes[attribute][0])

    def whole(self, fact: Fact | None) -> Facts:
        """The desired facts: what is around, and the object where it is to be."""
        facts = [*self.around, *((fact, *self.beside(fact)) if fact else ())]
        return {one.ref: one for one in facts}


def each(name: str, *values: Any, also: State | None = None) -> dict[str, tuple[State, ...]]:
    """An attribute with its values, alone or with others that it needs."""
    return {name: tuple({**(also or {}), name: value} for value in values)}


def spaces(ns: str) -> tuple[Fact, ...]:
    """The namespaces of the topology: both, or where the object is the host's only the other one."""
    names = (OTHER,) if ns == HOST else (ns, OTHER)
    return tuple(Fact(namespace(name), {"up": True}) for name in names)


def a_bridge(ns: str, ifname: str, **attrs: Any) -> Fact:
    return Fact(link(ns, ifname), {"kind": "bridge", "up": True, "master": None, **attrs})


def an_address(ns: str, ifname: str, address: str) -> Fact:
    return Fact(Ref("address", ns, (ifname, address)), {"nodad": True} if ":" in address else {})


def underlay(ns: str) -> tuple[Fact, ...]:
    """Two devices that are up, with addresses of both families."""
    return tuple(_underlay(ns))


def _underlay(ns: str) -> Iterator[Fact]:
    for ifname, four, six in (("u0", "10.9.0", "fd09:"), ("u5", "10.9.5", "fd09:5:")):
        yield a_bridge(ns, ifname)
        for last in (1, 9):
            yield an_address(ns, ifname, f"{four}.{last}/24")
            yield an_address(ns, ifname, f"{six}:{last}/64")


def a_pair(ns: str, ifname: str = "c0", **attrs: Any) -> tuple[Fact, Fact]:
    """A veth pair, whose other end is in the other namespace."""
    peer = f"{ifname}-peer"
    common = {"kind": "veth", "up": True, "master": None}
    return (
        Fact(link(ns, ifname), {**common, "peer": (OTHER, peer), **attrs}),
        Fact(link(OTHER, peer), {**common, "peer": (ns, ifname)}),
    )
