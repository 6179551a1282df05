"""Reading what is at the ingress of interfaces."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from topo.facts import Fact, Ref
from topo.kernel import rtnl
from topo.kernel.spaces import Space
from topo.kinds.ingress import HANDLE, TC_H_INGRESS, found
from topo.kinds.kind import View
from topo.wire import RTM_GETQDISC, RTM_GETTFILTER, TCMSG


def read(space: Space, view: View, refs: Collection[Ref]) -> Iterator[tuple[Ref, Fact]]:
    """What is at the ingress of these interfaces, of those that have something there. Raises KernelError."""
    asked = {index: ref for ref in refs if ref.kind == "ingress" and (index := space.indexes.get(ref.key[0]))}
    for _, data, at, end in rtnl.dump(space.sock, RTM_GETQDISC, TCMSG.pack(0, 0, 0, 0, 0)) if asked else ():
        _, index, _, parent, _ = TCMSG.unpack_from(data, at)
        if parent == TC_H_INGRESS and index in asked:
            filters = rtnl.dump(space.sock, RTM_GETTFILTER, TCMSG.pack(0, index, 0, HANDLE, 0))
            inside = [one[start + TCMSG.size : stop] for _, one, start, stop in filters]
            yield asked[index], found(asked[index], data[at + TCMSG.size : end], inside, view)
