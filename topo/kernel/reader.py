"""Reading: the live state of the namespaces that a topology touches, one dump per table and namespace.

In a namespace that topo made everything is read. Elsewhere (the host, say) dumps are filtered, by the kernel where
it can, so that what others have there costs little: links that are neither named by the file nor marked are not
decoded, routes are asked for by protocol.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple

from topo.errors import Diagnostic, InputError
from topo.facts import FOREIGN, HOST, PROTOCOL, Desired, Fact, Facts, Live, Ref, former, links_of, mark, namespace
from topo.kernel import netns, nftables, rtnl, sysctl
from topo.kernel.joining import join_links
from topo.kernel.spaces import Space, Spaces
from topo.kinds.address import of_kernel
from topo.kinds.ifla import IFLA_GROUP
from topo.kinds.kind import Decode
from topo.kinds.registry import KINDS
from topo.kinds.route import OF_KERNEL
from topo.wire import (
    AF_BRIDGE,
    AF_INET,
    AF_INET6,
    FIBRULEHDR,
    IFADDRMSG,
    IFINFOMSG,
    NDMSG,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_GETQDISC,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTM_GETTCLASS,
    RTMSG,
    TCMSG,
    attr_u32,
)

_IFLA_EXT_MASK, _SKIP_STATS = 29, 1 << 3  # linux/if_link.h, RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h
_ALL_LINKS: Final = IFINFOMSG.pack(0, 0, 0, 0, 0) + attr_u32(_IFLA_EXT_MASK, _SKIP_STATS)
_ALL_ADDRESSES: Final = IFADDRMSG.pack(0, 0, 0, 0, 0)
_ALL_ROUTES: Final = RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)  # of every family
_PROTOCOL_AT: Final = 5  # in rtmsg
_BY_HAND: Final = (PROTOCOL, 3, 4)  # topo's routes, RTPROT_BOOT (what `ip route` gives), RTPROT_STATIC
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

    With `known`, which was read before, only the namespaces in `only` are read.
    """

    def __init__(
        self,
        spaces: Spaces,
        desired: Desired,
        previous: Desired | None,
        known: Live | None = None,
        only: Collection[str] = (),
    ) -> None:
        self.spaces, self.desired, self.previous = spaces, desired, previous
        self.mark = mark(desired.name)
        self.known, self.only = known, only if known else None
        self.facts: Facts = {}
        self.wants: dict[str, Wants] = {HOST: Wants(set(), set(), [], [])}
        sources = (desired,) if previous is desired else (previous, desired)
        for source in sources:
            for ref in source.facts if source else ():
                self._want(ref)
        for source in sources:
            for ref in (*source.external, *source.take_over.values()) if source else ():
                self._want(ref)
        for name in spaces.attachments.formers():  # what bears the mark is of concern though nothing else is known
            self.wants.setdefault(name, Wants(set(), set(), [], []))

    def _want(self, ref: Ref) -> None:
        wants = self.wants.get(ref.ns)
        if wants is None:
            wants = self.wants[ref.ns] = Wants(set(), set(), [], [])
        wants.kinds.add(ref.kind)
        if ref.kind == "link":
            wants.links.add(ref.key[0])
        elif ref.kind in ("sysctl", "nft"):
            wants.refs.append(ref)
        elif ref.kind == "address" and (ref.key[0] == "lo" or ref.key[1].startswith("fe80:")):
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
            self._drop_own_entries()
        return Live(self.facts)

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
        if self.previous is None and self.only is None:
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
        data, at, end = rtnl.ask(space.sock, RTM_GETLINK, IFINFOMSG.pack(0, 0, 1, 0, 0))
        return data.find(attr_u32(IFLA_GROUP, self.mark), at, end) >= 0

    # What is in them

    def _owned(self, name: str) -> bool:
        """Whether topo made this namespace: then all that is in it is of concern."""
        return name != HOST and not self._source(name)

    def _hands_over(self, name: str) -> bool:
        """Whether a bridge in this namespace takes over a NIC, or did."""
        sources = (self.desired, self.previous)
        return any(ref.ns == name for source in sources if source for ref in source.take_over)

    def _links(self, space: Space) -> None:
        found = rtnl.dump(space.sock, RTM_GETLINK, _ALL_LINKS)
        names: dict[int, str] = {}
        marked: set[int] = set()
        sign = attr_u32(IFLA_GROUP, self.mark)
        for _, data, at, end in found:
            # The name is the first attribute that the kernel writes (rtnl_fill_ifinfo).
            size = data[at + 16] | data[at + 17] << 8
            index = _INDEX(data, at)[0]
            names[index] = data[at + 20 : at + 15 + size].decode(errors="replace")
            if data.find(sign, at + 16, end) >= 0:
                marked.add(index)
        space.names, space.indexes, space.marked = names, {v: k for k, v in names.items()}, marked
        if len(found) > _FEW and not self._owned(space.name):
            wanted = self.wants[space.name].links
            found = [m for m in found if (i := _INDEX(m[1], m[2])[0]) in marked or names[i] in wanted]
        attached = namespace(space.name) if not self._owned(space.name) else None
        decode, view = KINDS["link"].decode, _View(space, self.mark)
        for kind, data, at, end in found:
            for fact in decode(kind, data, at, end, view):
                if fact.ref != attached:
                    self.facts[fact.ref] = fact

    def _rest(self, space: Space) -> None:
        name, wants = space.name, self.wants[space.name]
        owned = self._owned(name)
        touched = owned or bool(wants.kinds or space.marked)
        view = _View(space, self.mark)
        if touched:
            whole = owned or any(ref.ns == name for ref in self.desired.underlay_mtu)  # which may name any address
            near = None if whole else space.marked | {space.indexes.get(n, 0) for n in wants.links}
            self._addresses(space, view, near)
            self._routes(space, view, owned)
        if "rule" in wants.kinds:
            self._dump(space, view, "rule", RTM_GETRULE, (FIBRULEHDR.pack(f, *(0,) * 6) for f in (AF_INET, AF_INET6)))
        kinds = self._link_kinds(space) if touched else set()
        if "neighbour" in wants.kinds or "vxlan" in kinds or self._hands_over(name):
            self._dump(space, view, "neighbour", RTM_GETNEIGH, [NDMSG.pack(f, 0, 0, 0, 0) for f in (AF_INET, AF_INET6)])
        if kinds & {"vxlan", "bridge"} or "fdb" in wants.kinds:
            self._dump(space, view, "fdb", RTM_GETNEIGH, [NDMSG.pack(AF_BRIDGE, 0, 0, 0, 0)])
        if "shaping" in wants.kinds:
            self._shaping(space, view)
        for ref in wants.refs:
            if ref.kind == "sysctl":
                self._sysctl(ref)
        if "nft" in wants.kinds or (name == HOST and self.previous is None):
            self._nft(space)

    def _dump(self, space: Space, view: _View, kind: str, request: int, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            self._keep(KINDS[kind].decode, rtnl.dump(space.sock, request, body), view)

    def _keep(self, decode: Decode, found: rtnl.Messages, view: _View) -> None:
        kept = self.facts
        for kind, data, at, end in found:
            for fact in decode(kind, data, at, end, view):
                if kept.setdefault(fact.ref, fact) is not fact:  # no key tells them apart: this is one too many
                    ref = _numbered(fact.ref, kept)
                    kept[ref] = fact._replace(ref=ref)

    def _addresses(self, space: Space, view: _View, near: set[int] | None) -> None:
        found = rtnl.dump(space.sock, RTM_GETADDR, _ALL_ADDRESSES)
        if not self.wants[space.name].kernels:
            found = [m for m in found if not of_kernel(m[1], m[2], m[3])]
        if near is not None:
            found = [m for m in found if _INDEX(m[1], m[2])[0] in near]
        self._keep(KINDS["address"].decode, found, view)

    def _routes(self, space: Space, view: _View, owned: bool) -> None:
        whole = owned or self._hands_over(space.name)
        if not whole:
            bodies = (RTMSG.pack(f, 0, 0, 0, 0, p, 0, 0, 0) for f in (AF_INET, AF_INET6) for p in _BY_HAND)
            self._dump(space, view, "route", RTM_GETROUTE, bodies)
            return
        found = rtnl.dump(space.sock, RTM_GETROUTE, _ALL_ROUTES)
        # Most of them are the kernel's own, one for each address and more.
        self._keep(KINDS["route"].decode, [m for m in found if m[1][m[2] + _PROTOCOL_AT] not in OF_KERNEL], view)

    def _link_kinds(self, space: Space) -> set[str]:
        """The kinds among the links of this namespace that are topo's or named by the file."""
        wanted = self.wants[space.name].links
        names = wanted | {space.names[index] for index in space.marked}
        facts = (self.facts.get(Ref("link", space.name, (name,))) for name in names)
        return {fact.attrs.get("kind", "") for fact in facts if fact}

    def _shaping(self, space: Space, view: _View) -> None:
        decode = KINDS["shaping"].decode
        self._keep(decode, rtnl.dump(space.sock, RTM_GETQDISC, TCMSG.pack(0, 0, 0, 0, 0)), view)
        for source in (self.desired, self.previous):
            for ref in source.facts if source else ():
                if ref.kind == "shaping" and ref.ns == space.name and ref not in self.facts:
                    index = space.indexes.get(ref.key[0])
                    if index:
                        body = TCMSG.pack(0, index, 0, 0, 0)
                        self._keep(decode, rtnl.dump(space.sock, RTM_GETTCLASS, body), view)

    def _sysctl(self, ref: Ref) -> None:
        if ref in self.facts:
            return
        self.spaces.enter(ref.ns)
        value = sysctl.read(ref.key[0])
        if value is not None or self._needless(ref):
            self.facts[ref] = Fact(ref, {"value": value}, FOREIGN)

    def _needless(self, ref: Ref) -> bool:
        """Whether an optional sysctl of a device is not there and will not be: the device has no IPv6 (its MTU is too
        small, say), or the kernel has none."""
        stated = self.desired.facts.get(ref)
        if stated is None or not stated.attrs.get("optional"):
            return False
        (device,) = links_of(stated)
        return device in self.facts or sysctl.read(ref.key[0].replace(f"/{device.key[0]}/", "/all/")) is None

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

    def _drop_own_entries(self) -> None:
        """In a device's own address list the kernel keeps those of macvlans on top: no one set these."""
        suspects = [fact.ref for fact in self.facts.values() if fact.ref.kind == "fdb" and "_self" in fact.attrs]
        if not suspects:
            return
        macs = {fact.attrs.get("mac") for fact in self.facts.values() if fact.ref.kind == "link"}
        for ref in suspects:
            if ref.key[1] in macs:
                del self.facts[ref]


def _numbered(ref: Ref, taken: Facts) -> Ref:
    number = 2
    while (other := ref._replace(key=(*ref.key, f"#{number}"))) in taken:
        number += 1
    return other
