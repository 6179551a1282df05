"""Reading: the live state of the namespaces that a topology touches, one dump per table and namespace.

In a namespace that topo made everything is read. Elsewhere (the host, say) dumps are filtered, by the kernel where
it can, so that what others have there costs little: links that are neither named by the file nor marked are not
decoded, routes are asked for by protocol.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from topo.errors import Diagnostic, InputError
from topo.facts import FOREIGN, HOST, Desired, Fact, Facts, Live, Ref, Thought, former, mark, namespace, parts
from topo.kernel import entries, ingress, netconf, netns, nftables, rtnl, sysctl, tables, wireguard
from topo.kernel.joining import drop_own_entries, join_links
from topo.kernel.spaces import Space, Spaces
from topo.kinds.address import of_kernel
from topo.kinds.ifla import DOOMED, MARKED, marks
from topo.kinds.registry import KINDS
from topo.kinds.shaping import HANDLE
from topo.kinds.shaping_class import decode_filter, each_once
from topo.planning.touched import Touched
from topo.wire import (
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETQDISC,
    RTM_GETROUTE,
    RTM_GETTCLASS,
    RTM_GETTFILTER,
    TCMSG,
)

_ONE_BY_ONE: Final = frozenset({"sysctl", "nft", "shaping", "ingress", "shaping_class", "shaping_filter"})
_FEW: Final = 256  # so many foreign links are decoded all the same: a plan can then say what goes down with what
_INDEX: Final = struct.Struct("=4xi").unpack_from  # of ifinfomsg, ifaddrmsg, ndmsg alike


class Wants(NamedTuple):
    """What a file, or the record of the last apply, has in one namespace."""

    kinds: set[str]
    links: set[str]
    refs: list[Ref]
    kernels: list[Ref]  # addresses that could be the kernel's own


class _View:
    """What decoding looks up in one namespace."""

    __slots__ = ("ifname", "mark", "ns")

    def __init__(self, space: Space, marked: int) -> None:
        self.ns, self.mark = space.name, marked
        self.ifname = space.names.get


class Reader:
    """Reads the live state for one topology. `previous` is what its last apply stated, None where nothing is known.

    With `known`, which was read before, only what is in `only` is read.
    """

    def __init__(
        self,
        spaces: Spaces,
        desired: Desired,
        previous: Desired | None,
        known: Live | None = None,
        only: Touched = MappingProxyType({}),
    ) -> None:
        self.spaces, self.desired, self.previous = spaces, desired, previous
        self.mark = mark(desired.name)
        self.known, self.only = known, only if known else None
        self.facts: Facts = {}
        self.wants: dict[str, Wants] = {HOST: Wants(set(), set(), [], [])}
        sources = (desired,) if previous is desired else (previous, desired)
        # A fact that is as it is thought to be stands for what is there. Not where the marks are all that is known,
        # or where what a NIC had is told from what its bridge has by who made it.
        self._recorded = previous is not None and bool(previous.document)  # else by the marks, wherever they are
        self._thinks = previous is not None and not any(source.take_over for source in sources if source)
        few, tables = parts(desired.facts)
        self._thought = dict(tables)
        self._missing = list(few)  # of what is desired, but for what was found as it is thought to be
        self._want_of(few, tables)
        if previous is not None and previous is not desired:
            others, more = parts(previous.facts)
            if not (others.keys() <= few.keys() and more.keys() <= tables.keys()):
                self._want_of(others, more)
        for source in sources:
            self._want((*source.external, *source.take_over.values()) if source else ())
        self._own: dict[str, bool] = {}  # see _owned
        self._handing = {ref.ns for source in sources if source for ref in source.take_over}
        for name in spaces.attachments.formers():  # what bears the mark is of concern though nothing else is known
            self.wants.setdefault(name, Wants(set(), set(), [], []))

    def _want_of(self, few: Facts, tables: Mapping[tuple[str, str], Sequence[Fact]]) -> None:
        self._want((*few, *(table[0][0] for table in tables.values())))

    def _want(self, refs: Iterable[Ref]) -> None:
        """Note what has to be read for these. Entries of a table want no more than that it is read."""
        for ref in refs if self.only is None else [ref for ref in refs if ref[1] in self.only]:
            kind, ns, key = ref
            wants = self.wants.get(ns)
            if wants is None:
                wants = self.wants[ns] = Wants(set(), set(), [], [])
            wants.kinds.add(kind)
            if kind == "link":
                wants.links.add(key[0])
            elif kind in _ONE_BY_ONE:
                wants.refs.append(ref)
            elif kind == "address" and (key[0] == "lo" or key[1].startswith("fe80:")):
                wants.kernels.append(ref)

    def read(self) -> Live:
        """Raises InputError where a namespace that is to be attached is not there, KernelError where reading fails."""
        with self.spaces.away():
            names = self._open()
            for name in names:
                space = self.spaces.get(name)
                self._links(space)
                self._rest(space)
            join_links(self.facts, self.spaces, self.known)
            drop_own_entries(self.facts)
        return self._live()

    def _live(self) -> Live:
        for left in self._thought.values():  # of tables that were not read
            self._missing += [fact[0] for fact in left]
        thought = self.desired.facts
        if not self._thinks or len(self._missing) == len(thought):
            return Live(self.facts)
        facts = dict(thought)
        for ref in self._missing:
            del facts[ref]
        facts.update(self.facts)
        return Live(facts, Thought(thought, tuple(self._missing), self.facts))

    # Which namespaces

    def _open(self) -> list[str]:
        """Open what is there; the names of what is to be read."""
        only = self.wants if self.only is None else self.only
        found, wrong = [HOST] if HOST in only else [], []
        sources = {name: self._source(name) for name in self.wants if name != HOST and name in only}
        for name in sorted(sources, key=lambda name: "share" in (sources[name] or ())):  # behind what they share
            source, ref = sources[name], namespace(name)
            try:
                there = self._attached(name, source) if source else self._made(name)
            except InputError as error:
                wrong.append(Diagnostic(str(error), path=self.desired.paths.get(ref, "")))
                continue
            if there:
                found.append(name)
        wrong += self._twice(found, sources)
        if wrong:
            raise InputError(wrong)
        if not self._recorded and self.only is None:
            found += self._marked({*found, *self.wants})
        return found

    def _twice(self, found: list[str], sources: dict[str, dict[str, Any] | None]) -> Iterator[Diagnostic]:
        """Names of the file that lead to one namespace without saying so: what is stated of it must be in one place."""
        first: dict[int, str] = {}
        stated = [name for name in found if namespace(name) in self.desired.facts]
        for name in sorted(stated, key=lambda name: sources[name] is not None):  # those that topo makes go first
            other = first.setdefault(self.spaces.get(name).inode, name)
            if other != name:
                text = f"this is the network namespace of {other}: state `from: {{ share: {other} }}`"
                yield Diagnostic(text, path=self.desired.paths.get(namespace(name), ""))

    def _stated(self, name: str) -> Fact | None:
        """What the file says of a namespace, or, where it no longer does, what the last apply said."""
        ref = namespace(name)
        return self.desired.facts.get(ref) or (self.previous.facts.get(ref) if self.previous else None)

    def _source(self, name: str) -> dict[str, Any] | None:
        stated, held = self._stated(name), self.spaces.attachments
        if stated is None and name in held.at:  # by a former name
            return {"inode": held.at[name]}
        return stated.attrs.get("from") if stated else None

    def _made(self, name: str) -> bool:
        """Open a namespace that topo makes, unless its name still leads to one that someone else made."""
        held = self.spaces.attachments
        if former(name) in held.at and (label := held.label(name)) == held.at[former(name)]:
            self._leads(name, held.source(name, label), label)
            return False
        return self._named(name)

    def _named(self, name: str) -> bool:
        """Open the namespace of this name in /run/netns, or keep it open where it still is the same."""
        try:
            inode = os.stat(netns.path(name), follow_symlinks=False).st_ino
        except FileNotFoundError:
            self.spaces.drop(name)
            return False
        held = self.spaces.open.get(name)
        if held is None or held.inode != inode:
            self.spaces.drop(name)
            fd = netns.open_path(netns.path(name))
            if fd is None:
                return False
            self.spaces.add(name, fd)
        return True

    def _attached(self, name: str, source: dict[str, Any]) -> bool:
        """Open a namespace that someone else made; its fact says whether it has its name in /run/netns already."""
        held, leaving = self.spaces.attachments, namespace(name) not in self.desired.facts
        if not leaving and name in held.wrong:
            raise held.wrong[name]
        there, label = self.spaces.hold(name), held.label(name)
        now = self.spaces.open.get(str(source.get("share", name)))
        if "inode" in source:
            self._leads(name, source, 0)
        elif label:
            strange = held.strange(name, label) and not self._made_meanwhile(name, label)
            here = leaving or (now is not None and now.inode == label)
            if not (leaving and strange):
                self._leads(name, source if here else held.source(name, label), label, strange)
        elif leaving and netns.leftover(netns.path(name)):
            self._leads(name, source, 0)
        return there

    def _made_meanwhile(self, name: str, label: int) -> bool:
        """Whether the name leads to a namespace that topo made, in a run that was killed."""
        probe = f"{name}(label)"
        try:
            return self._bears_mark(self.spaces.add(probe, os.dup(self.spaces.attachments.fds[label])))
        finally:
            self.spaces.drop(probe)

    def _leads(self, name: str, source: dict[str, Any], label: int, strange: bool = False) -> None:
        """The fact of a namespace that someone else made; `label`: the one that has its name, `strange`: by another hand."""
        attrs: dict[str, Any] = {"from": source, "_inode": label, "_strange": strange}
        known = self.previous is not None and namespace(name) in self.previous.facts
        if label and not known and netns.signed(name) == self.mark:
            attrs["_signed"] = True
        self.facts[namespace(name)] = Fact(namespace(name), attrs, FOREIGN)

    def _marked(self, known: set[str]) -> Iterator[str]:
        """Namespaces that bear the mark though no record tells of them: a record was lost."""
        for name in netns.names():
            if name in known or not self._named(name):
                continue
            if self._bears_mark(self.spaces.get(name)):
                self.wants[name] = Wants(set(), set(), [], [])
                yield name
            else:
                self.spaces.drop(name)

    def _bears_mark(self, space: Space) -> bool:
        """Whether topo made the namespace for this topology."""
        data, at, end = rtnl.ask(space.sock, RTM_GETLINK, tables.LOOPBACK)
        return marks(self.mark)(data, at, end) == MARKED

    # What is in them

    def _owned(self, name: str) -> bool:
        """Whether topo made this namespace: then all that is in it is of concern."""
        found = self._own.get(name)
        if found is None:
            found = self._own[name] = name != HOST and not self._source(name)
        return found

    def _hands_over(self, name: str) -> bool:
        """Whether a bridge in this namespace takes over a NIC, or did."""
        return name in self._handing

    def _links(self, space: Space) -> None:
        found = rtnl.dump(space.sock, RTM_GETLINK, tables.ALL_LINKS)
        names: dict[int, str] = {}
        bears: dict[int, int] = {}
        standing = marks(self.mark)
        for _, data, at, end in found:
            # The name is the first attribute that the kernel writes (rtnl_fill_ifinfo).
            size = data[at + 16] | data[at + 17] << 8
            index = _INDEX(data, at)[0]
            names[index] = data[at + 20 : at + 15 + size].decode(errors="replace")
            if sign := standing(data, at + 16, end):
                bears[index] = sign
        space.names, space.indexes, space.marked = names, {v: k for k, v in names.items()}, set(bears)
        space.doomed = {index for index, sign in bears.items() if sign == DOOMED}
        if len(found) > _FEW and not self._owned(space.name):
            wanted = self.wants[space.name].links
            found = [m for m in found if (i := _INDEX(m[1], m[2])[0]) in bears or names[i] in wanted]
        attached = namespace(space.name) if not self._owned(space.name) else None
        decode, view = KINDS["link"].decode, _View(space, self.mark)
        for kind, data, at, end in found:
            for fact in decode(kind, data, at, end, view):
                if fact.ref != attached:
                    self.facts[fact.ref] = fact

    def _rest(self, space: Space) -> None:
        view, wants = _View(space, self.mark), self.wants[space.name]
        kinds = self._tables(space)
        if (only := self.only[space.name] if self.only is not None else None) is not None:
            kinds &= only
        if "address" in kinds:
            self._addresses(space, view)
        if "route" in kinds:
            self._routes(space, view)
        for kind, request, bodies in tables.PLAIN:
            if kind in kinds:
                self._dump(space, view, kind, request, bodies)
        if "shaping" in kinds:
            self._shaping(space, view)
        if "ingress" in kinds:
            marked = () if self._recorded else [Ref("ingress", space.name, (space.names[i],)) for i in space.marked]
            self.facts.update(ingress.read(space, view, (*wants.refs, *marked)))
        if kinds & wireguard.KINDS:
            self.facts.update(wireguard.read(self.spaces, space, view, self._concerning(space)))
        if "sysctl" in kinds:
            self._sysctls(space, [ref for ref in wants.refs if ref.kind == "sysctl"])
        if "nft" in kinds:
            self._nft(space)

    def _tables(self, space: Space) -> set[str]:
        """The kinds that can be of concern in this namespace, beside its links."""
        name, wants = space.name, self.wants[space.name]
        kinds = set(wants.kinds)
        if self._owned(name) or wants.kinds or space.marked:
            kinds |= {"address", "route"}
            links = self._link_kinds(space)
            if "vxlan" in links:
                kinds |= {"neighbour", "fdb"}
            elif "bridge" in links:
                kinds.add("fdb")
            if "bridge" in links and self._keeps_vlans(name):
                kinds.add("bridge_vlan")
            if "wireguard" in links:
                kinds.add("wireguard")
        if self._hands_over(name):
            kinds.add("neighbour")
        if space.marked and not self._recorded:  # a record was lost: whatever topo's links may have
            kinds |= {"ingress", "inet6", "vlan_state"}
        for kind, of in (("vni", "vnifilter"), ("vlan_state", "vlan_filtering")):
            if kind in kinds and not any(fact.attrs.get(of) for fact in self._concerning(space)):
                kinds.discard(kind)  # before the first such device the kernel may know no such table (EOPNOTSUPP)
        if name == HOST and not self._recorded:
            kinds.add("nft")
        return kinds

    def _dump(self, space: Space, view: _View, kind: str, request: int, bodies: Collection[bytes]) -> None:
        thought = self._thought.pop((kind, space.name), ()) if self._thinks else ()
        table = entries.read(space.sock, view, kind, request, bodies, thought)
        self.facts.update(table.facts)
        self._missing += [fact[0] for fact in table.missing]

    def _addresses(self, space: Space, view: _View) -> None:
        name, wants = space.name, self.wants[space.name]
        whole = self._owned(name) or any(ref.ns == name for ref in self.desired.underlay_mtu)  # which may name any
        near = None if whole else space.marked | {space.indexes.get(n, 0) for n in wants.links}
        found = rtnl.dump(space.sock, RTM_GETADDR, tables.ALL_ADDRESSES)
        if not wants.kernels:
            found = [m for m in found if not of_kernel(m[1], m[2], m[3])]
        if near is not None:
            found = [m for m in found if _INDEX(m[1], m[2])[0] in near]
        entries.keep("address", found, view, self.facts)

    def _routes(self, space: Space, view: _View) -> None:
        whole = self._owned(space.name) or self._hands_over(space.name)
        bodies = (tables.ALL_ROUTES,) if whole else tables.ROUTES_BY_HAND
        self._dump(space, view, "route", RTM_GETROUTE, bodies)

    def _concerning(self, space: Space) -> list[Fact]:
        """The links of this namespace that are topo's or named by the file."""
        names = self.wants[space.name].links | {space.names[index] for index in space.marked}
        return [fact for name in names if (fact := self.facts.get(Ref("link", space.name, (name,))))]

    def _link_kinds(self, space: Space) -> set[str]:
        return {fact.attrs.get("kind", "") for fact in self._concerning(space)}

    def _keeps_vlans(self, ns: str) -> bool:
        """Whether a bridge that the file names is to keep VLANs apart, or does."""
        refs = [Ref("link", ns, (name,)) for name in self.wants[ns].links]
        facts = [fact for ref in refs for of in (self.desired.facts, self.facts) if (fact := of.get(ref))]
        return any(fact.attrs.get("vlan_filtering") for fact in facts)

    def _shaping(self, space: Space, view: _View) -> None:
        entries.keep("shaping", rtnl.dump(space.sock, RTM_GETQDISC, TCMSG.pack(0, 0, 0, 0, 0)), view, self.facts)
        for ref in self.wants[space.name].refs:
            if ref.kind != "shaping" or ref in self.facts or not (index := space.indexes.get(ref.key[0])):
                continue
            found = rtnl.dump(space.sock, RTM_GETTCLASS, TCMSG.pack(0, index, 0, 0, 0))
            entries.keep("shaping", found, view, self.facts)
            if len(found) > 1:  # more than the one that has the rate of all
                entries.keep("shaping_class", found, view, self.facts)
                filters = rtnl.dump(space.sock, RTM_GETTFILTER, TCMSG.pack(0, index, 0, HANDLE, 0))
                self.facts.update(each_once(fact for m in filters for fact in decode_filter(*m, view)))

    def _sysctls(self, space: Space, refs: Iterable[Ref]) -> None:
        told: netconf.Answers = {}
        for ref in refs:
            if ref in self.facts:
                continue
            if (value := netconf.value(space, ref.key[0], told)) is None:
                self.spaces.enter(ref.ns)
                value = sysctl.read(ref.key[0])
            if value is not None or sysctl.needless(self.desired.facts.get(ref), self.facts):
                self.facts[ref] = Fact(ref, {"value": value}, FOREIGN)

    def _nft(self, space: Space) -> None:
        family, table = "inet", f"topo-{self.desired.name}"
        if (family, table) not in nftables.table_names(self.spaces.netfilter(space.name)):
            return
        ref = Ref("nft", space.name, (family, table))
        want = self.desired.facts.get(ref)
        last = want or (self.previous.facts.get(ref) if self.previous else None)
        live = self.spaces.nftables(space.name).read(family, table, last.attrs["sets"] if last else {})
        if live is not None:
            self.facts[ref] = Fact(ref, nftables.in_words_of(want.attrs, live) if want else live)
