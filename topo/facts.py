"""Facts: kernel objects in canonical form, desired and live alike.

The names of attributes and the form of their values are listed in docs/facts.md; both the
lowering and the kinds keep to that page.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

HOST: Final = "host"
"""The name of the outermost namespace: the one that topo itself runs in."""

PROTOCOL: Final = 116
"""topo's number in the protocol field of routes, addresses, rules and neighbours (rtnetlink.h, RTPROT_*)."""

# Where a live fact comes from, as far as the kernel tells.
OWN: Final = "own"  # bears the mark of the topology that is read for
TAGGED: Final = "tagged"  # bears topo's protocol number: ours, or another topology's
STATIC: Final = "static"  # someone's hand: drift where it sits on what the topology owns
FOREIGN: Final = "foreign"  # a daemon, the kernel, another tool, another topology: left alone


class Ref(NamedTuple):
    """The name of one kernel object: its kind, its namespace, and the key within both."""

    kind: str
    ns: str
    key: tuple[Any, ...] = ()

    def __str__(self) -> str:
        inside = " ".join(str(k) for k in self.key if k not in ("", None))
        if self.kind == "namespace":
            return self.ns
        return inside if self.ns == HOST else f"{self.ns}:{inside}"


def former(ns: str) -> str:
    """What the namespace goes by that `ns` led to before it led to another. No file can have such a name."""
    return f"{ns}(old)"


def lasting(ns: str) -> str:
    """The name in the file that `former` was made of; `ns` itself where it is none."""
    return ns.partition("(")[0]


class Fact(NamedTuple):
    """One kernel object. A desired fact holds what is stated; a live one all that its kind decodes."""

    ref: Ref
    attrs: dict[str, Any]
    origin: str = OWN


Facts = dict[Ref, Fact]

LONG: Final = frozenset({"fdb", "neighbour", "route"})
"""Kinds of which one namespace can have many thousands."""


class Parts(NamedTuple):
    """Facts apart: `few`, all that are of no `LONG` kind, and these by kind and namespace."""

    few: Facts
    tables: Mapping[tuple[str, str], Sequence[Fact]]


class Stated(Facts):
    """Facts that no one changes any more: they are taken apart once."""

    __slots__ = ("_parts",)

    def parts(self) -> Parts:
        try:
            return self._parts
        except AttributeError:
            self._parts: Parts = _parts(self)
            return self._parts


def parts(facts: Facts) -> Parts:
    """Whoever looks for facts of other kinds than `LONG` need not walk over the thousands of these."""
    return facts.parts() if isinstance(facts, Stated) else _parts(facts)


def altered(facts: Facts, few: Facts) -> Stated:
    """`facts` with these, which are of no `LONG` kind, in place of those of the same names, or beside them."""
    found = Stated({**facts, **few})
    if isinstance(facts, Stated):
        before = facts.parts()
        found._parts = Parts({**before.few, **few}, before.tables)
    return found


def _parts(facts: Facts) -> Parts:
    tables: dict[tuple[str, str], list[Fact]] = {}
    for kind in LONG:
        found = [fact for ref, fact in facts.items() if ref[0] == kind]
        spaces = {fact[0][1] for fact in found}
        if len(spaces) == 1:
            tables[kind, spaces.pop()] = found
            continue
        for fact in found:
            tables.setdefault((kind, fact[0][1]), []).append(fact)
    few = {ref: fact for ref, fact in facts.items() if ref[0] not in LONG} if tables else facts
    return Parts(few, tables)


def mark(topology: str) -> int:
    """The link group (IFLA_GROUP) that marks what `topology` owns: 0x70000000 to 0x7fffffff."""
    return 0x70000000 | (zlib.crc32(topology.encode()) & 0x0FFFFFFF)


def marked(group: int) -> bool:
    """Whether a link group is the mark of a topology, whichever."""
    return group >> 28 == 7


def doomed(marked: int) -> int:
    """The group of links that bore the group `marked` and are deleted together: a killed run may leave them in it."""
    return marked ^ 0x10000000


def namespace(ns: str) -> Ref:
    return Ref("namespace", ns)


def link(ns: str, ifname: str) -> Ref:
    return Ref("link", ns, (ifname,))


BELOW: Final = ("peer", "parent", "dev")
"""The attributes of a link that name, as (namespace, ifname), another one with which it goes; `link` of a tunnel names
one without which it stays."""

# Kinds that belong to one device; the first element of their key is its ifname.
ON_LINK: Final = frozenset(
    {
        *("address", "neighbour", "fdb", "port", "bridge_vlan", "mdb", "vni", "inet6", "shaping", "ingress"),
        *("vlan_state", "shaping_class", "shaping_filter", "wireguard", "wireguard_peer"),
    }
)


OF_PORTS: Final = frozenset({"port", "bridge_vlan", "vlan_state", "mdb"})
"""Kinds of what a link has as the port of a bridge: it goes when it leaves that."""

_ROUTING: Final = ("route", "nexthop")


def links_of(fact: Fact) -> tuple[Ref, ...]:
    """The links that `fact` sits on: it goes when they go."""
    ref = fact.ref
    if ref.kind in ON_LINK:
        return (Ref("link", ref.ns, ref.key[:1]),)
    if ref.kind in _ROUTING:
        dev = fact.attrs.get("dev")
        if dev:
            return (Ref("link", ref.ns, (dev,)),)
        hops = fact.attrs.get("nexthops") or ()
        return tuple(Ref("link", ref.ns, (h[1],)) for h in hops if h[1])
    if ref.kind == "sysctl":
        parts = ref.key[0].split("/")
        if len(parts) > 4 and parts[2] in ("conf", "neigh") and parts[3] not in ("all", "default"):
            return (Ref("link", ref.ns, (parts[3],)),)
    return ()


class Thought(NamedTuple):
    """What reading went by: all of `facts` but `missing` was found to be just so, and stands for itself in what was read.
    `read` is the rest of what was read."""

    facts: Facts
    missing: tuple[Ref, ...]
    read: Facts


class Live:
    """What was read: facts by ref, and the indexes that planning asks for, built when it does. Immutable after reading."""

    __slots__ = ("_above", "_on", "_ports", "_within", "facts", "thought")

    def __init__(self, facts: Facts, thought: Thought | None = None) -> None:
        self.facts, self.thought = facts, thought
        self._within: dict[str, list[Fact]] | None = None
        self._on: dict[str, dict[Ref, list[Fact]]] = {}
        self._ports: dict[str, dict[str, list[Ref]]] = {}
        self._above: dict[Ref, list[Ref]] | None = None

    def __contains__(self, ref: Ref) -> bool:
        return ref in self.facts

    def get(self, ref: Ref) -> Fact | None:
        return self.facts.get(ref)

    def within(self, ns: str) -> Sequence[Fact]:
        """Every live fact of this namespace."""
        if self._within is None:
            self._within = {}
            for fact in self.facts.values():
                self._within.setdefault(fact.ref.ns, []).append(fact)
        return self._within.get(ns, ())

    def on(self, link_ref: Ref) -> Iterable[Fact]:
        """Every live fact that sits on this link."""
        found = self._on.get(link_ref.ns)
        if found is None:
            found = self._on[link_ref.ns] = {}
            for fact in self.within(link_ref.ns):
                for sits in links_of(fact):
                    found.setdefault(sits, []).append(fact)
        return found.get(link_ref, ())

    def ports(self, bridge: Ref) -> Iterable[Ref]:
        """The links that have this one as their master."""
        found = self._ports.get(bridge.ns)
        if found is None:
            found = self._ports[bridge.ns] = {}
            for fact in self.within(bridge.ns):
                if fact.ref.kind == "link" and (master := fact.attrs.get("master")):
                    found.setdefault(master, []).append(fact.ref)
        return found.get(bridge.key[0], ())

    def above(self, ref: Ref) -> Iterable[Ref]:
        """The links that the kernel deletes with this one: a veth's peer, what has it as `parent` or `dev`. Of a
        namespace: the vxlans elsewhere whose socket is in it."""
        if self._above is None:
            self._above = {}
            for fact in self.of("link"):
                attrs = fact.attrs
                for name in BELOW:
                    if isinstance(below := attrs.get(name), tuple):
                        self._above.setdefault(link(*below), []).append(fact.ref)
                if made := attrs.get("created_in"):
                    self._above.setdefault(namespace(made), []).append(fact.ref)
        return self._above.get(ref, ())

    def of(self, kind: str) -> Iterator[Fact]:
        return (f for f in self.facts.values() if f.ref.kind == kind)


class Check(NamedTuple):
    """One entry of `checks`, with addresses resolved. `port` is 0 for a ping."""

    source: str  # the namespace that it is run from
    method: str  # ping | tcp | udp
    address: str
    port: int
    expect: str  # reachable | blocked
    within: float  # seconds
    text: str  # as the user would recognise it: "web: ping db"


_NONE: Final[Mapping[Any, Any]] = MappingProxyType({})


class Desired(NamedTuple):
    """What a file asks for, lowered.

    `external`: links that must be there already: topo sets what is stated, never makes or deletes them, and puts
    back what it changed. `take_over`: bridge -> the NIC whose MAC, MTU, addresses and routes it takes.
    `underlay_mtu`: vxlans without an MTU of their own -> the bytes to take off the underlay's.
    `paths`: the place in the file of refs that can turn out wrong only at run time.
    `document`: the merged file as plain data, from which this can be lowered again.
    `secret`: facts with keys that are still to be had (topo.kinds.secret).
    """

    name: str
    facts: Facts
    external: frozenset[Ref] = frozenset()
    take_over: Mapping[Ref, Ref] = _NONE
    underlay_mtu: Mapping[Ref, int] = _NONE
    checks: tuple[Check, ...] = ()
    paths: Mapping[Ref, str] = _NONE
    document: Mapping[str, Any] = _NONE
    secret: frozenset[Ref] = frozenset()

    def namespaces(self) -> list[str]:
        """Every namespace that has facts, the host's included where it is touched."""
        return list(dict.fromkeys(ref.ns for ref in self.facts))
