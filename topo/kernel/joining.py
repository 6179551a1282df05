"""What one table does not tell: which interface the index of another namespace's means, and which addresses are links'."""

from __future__ import annotations

import struct
from typing import Final

from topo.errors import KernelError
from topo.facts import Fact, Facts, Live
from topo.kernel import rtnl
from topo.kernel.spaces import Spaces
from topo.kinds.link_decode import join
from topo.kinds.link_kinds import LINK_KINDS
from topo.wire import S32, attr_u32, attributes

_RTM_GETNSID: Final = 90
_NETNSA_NSID, _NETNSA_FD = 1, 3  # linux/net_namespace.h
_RTGENMSG: Final = struct.Struct("=B3x")

Ends = dict[tuple[int, int], list[Fact]]


def join_links(facts: Facts, spaces: Spaces, known: Live | None = None) -> None:
    """Fill in `peer`, `parent`, `dev` and `created_in` of every link that has one in another namespace or its own.
    `known`: what was read before, for the other ends of links whose namespaces were not read now.

    The two ends of a pair name each other's ifindex. That is enough to find them, and saves the kernel a
    question per pair; where two pairs answer to the same numbers, it is asked.
    """
    links = [fact for fact in facts.values() if fact.ref.kind == "link" and "_link" in fact.attrs]
    ends: Ends = {}
    for fact in links:
        ends.setdefault((fact.attrs["_index"], fact.attrs["_link"]), []).append(fact)
    if known and links:
        wanted, read = {(b, a) for a, b in ends}, {fact.ref.ns for fact in links}
        for fact in known.of("link"):
            here = (fact.attrs["_index"], fact.attrs.get("_link", 0))
            if here in wanted and fact.ref.ns not in read:
                ends.setdefault(here, []).append(fact)
    ids = _Ids(spaces)
    for fact in links:
        if not _pair(fact, ends):
            join(fact, ids.ifname, ids.namespace)


def _pair(fact: Fact, ends: Ends) -> bool:
    attrs = fact.attrs
    kind = LINK_KINDS.get(attrs.get("kind", ""))
    if kind is None or not kind.pair or len(ends[attrs["_index"], attrs["_link"]]) > 1:
        return False
    others = ends.get((attrs["_link"], attrs["_index"]), ())
    if len(others) != 1 or others[0].attrs.get("kind") != kind.name:
        return False
    (other,) = others
    if ("_netnsid" in attrs) == (other.ref.ns == fact.ref.ns):
        return False
    attrs["peer"] = (other.ref.ns, other.ref.key[0])
    return True


def drop_own_entries(facts: Facts) -> None:
    """In a device's own address list the kernel keeps those of macvlans on top: no one set these."""
    suspects = [fact.ref for fact in facts.values() if fact.ref.kind == "fdb" and "_self" in fact.attrs]
    if not suspects:
        return
    macs = {fact.attrs.get("mac") for fact in facts.values() if fact.ref.kind == "link"}
    for ref in suspects:
        if ref.key[1] in macs:
            del facts[ref]


class _Ids:
    """The names of namespaces by the numbers that other namespaces have for them (RTM_GETNSID)."""

    def __init__(self, spaces: Spaces) -> None:
        self.spaces = spaces
        self.known: dict[str, dict[int, str]] = {}

    def ifname(self, ns: str, index: int) -> str | None:
        space = self.spaces.open.get(ns)
        return space.names.get(index) if space else None

    def namespace(self, ns: str, nsid: int) -> str | None:
        if ns not in self.known:
            self.known[ns] = dict(self._ask(ns))
        return self.known[ns].get(nsid)

    def _ask(self, ns: str) -> list[tuple[int, str]]:
        found = []
        sock = self.spaces.get(ns).sock
        for name, space in self.spaces.open.items():
            body = _RTGENMSG.pack(0) + attr_u32(_NETNSA_FD, space.fd)
            try:
                data, at, end = rtnl.ask(sock, _RTM_GETNSID, body)
            except KernelError:
                continue
            number = S32.unpack(attributes(data, at + _RTGENMSG.size, end)[_NETNSA_NSID])
            if number >= 0:
                found.append((number, name))
        return found
