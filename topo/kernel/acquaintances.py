"""What a link knows of its neighbours goes along when its addresses move to another one.

A link that has just got an address knows no MAC address and has to ask for each. Between a bridge and the NIC that
becomes its port, or is one no longer, the question or the answer can pass on the wrong one of the two, and is repeated
only after a second (RFC 4861, RETRANS_TIMER; net.ipv4.neigh.*.retrans_time_ms). The entries are stale, as far as the new
link knows: they are used at once, and confirmed or dropped by the kernel within seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from topo.changes import UPDATE, Op, Rtnl
from topo.kernel import rtnl
from topo.kernel.spaces import Space
from topo.wire import AF_INET, AF_INET6, NDMSG, NLM_F_CREATE, NLM_F_EXCL, RTM_GETNEIGH, RTM_NEWNEIGH, attr, attributes

_REACHABLE, _STALE, _DELAY, _PROBE = 0x02, 0x04, 0x08, 0x10  # NUD_* of linux/neighbour.h
_KNOWN: Final = _REACHABLE | _STALE | _DELAY | _PROBE
_ROUTER: Final = 0x80  # NTF_ROUTER
_NDA_DST, _NDA_LLADDR = 1, 2
_MOST: Final = 256  # of a family; the kernel's table has room for 1,024 (gc_thresh3)

Heirs = dict[tuple[str, str], str]
"""(namespace, link that gets addresses) -> the link that they come from."""


def heirs(ops: Iterable[Op]) -> Heirs:
    """Of the links that become ports, and those that are none any longer: each may be either."""
    found: Heirs = {}
    for op in ops:
        if op.ref.kind != "link" or op.verb != UPDATE or "master" not in op.attrs or not op.new or not op.old:
            continue
        nic, now, was = op.ref.key[0], op.new.attrs.get("master"), op.old.attrs.get("master")
        if now:
            found[op.ref.ns, now] = nic
        if was:
            found[op.ref.ns, nic] = was
    return found


def learn(space: Space, ifname: str, source: str) -> Iterator[Rtnl]:
    """The requests that tell one link what another knows. What the kernel refuses of them is no loss."""
    index, other = space.indexes.get(ifname), space.indexes.get(source)
    if index is None or other is None:
        return
    for family in (AF_INET, AF_INET6):
        found = []
        for _, data, at, end in rtnl.dump(space.sock, RTM_GETNEIGH, NDMSG.pack(family, 0, 0, 0, 0)):
            _, where, state, flags, _ = NDMSG.unpack_from(data, at)
            if where == other and state & _KNOWN:
                found.append((state == _STALE, flags & _ROUTER, attributes(data, at + NDMSG.size, end)))
        found.sort(key=lambda entry: entry[0])  # those in use first
        for _, flags, attrs in found[:_MOST]:
            if _NDA_DST in attrs and _NDA_LLADDR in attrs:
                body = NDMSG.pack(family, index, _STALE, flags, 0)
                body += attr(_NDA_DST, attrs[_NDA_DST]) + attr(_NDA_LLADDR, attrs[_NDA_LLADDR])
                yield Rtnl(space.name, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, body)
