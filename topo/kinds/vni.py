"""The VNIs of a VXLAN device that has many (bridge(8) `bridge vni`, linux/if_link.h, drivers/net/vxlan/vxlan_vnifilter.c).

The key is (ifname, vni). What is sent in a VNI of which no FDB entry tells more goes to its `group`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from topo.changes import DELETE, Env, Op, Rtnl
from topo.facts import STATIC, Fact, Ref, link
from topo.kinds.kind import DesiredView, Kind, View
from topo.wire import (
    AF_BRIDGE,
    RTM_DELTUNNEL,
    RTM_NEWTUNNEL,
    U32,
    attr,
    attr_u32,
    attribute_list,
    attributes,
    nest,
    pack_ip,
    unpack_ip,
)

TUNNEL_MSG: Final = struct.Struct("=BBHI")  # struct tunnel_msg: family, flags, reserved, ifindex
_ENTRY, _START, _END, _GROUP, _GROUP6 = 1, 1, 2, 3, 4  # VXLAN_VNIFILTER_ENTRY, VXLAN_VNIFILTER_ENTRY_*


def encode(op: Op, env: Env) -> list[Rtnl]:
    ns, (ifname, number) = op.ref.ns, op.ref.key
    entry = attr_u32(_START, number)
    if op.verb != DELETE and op.new and (group := op.new.attrs.get("group")):
        entry += attr(_GROUP6 if ":" in group else _GROUP, pack_ip(group))
    body = TUNNEL_MSG.pack(AF_BRIDGE, 0, 0, env.index(ns, ifname)) + nest(_ENTRY, entry)
    return [Rtnl(ns, RTM_DELTUNNEL if op.verb == DELETE else RTM_NEWTUNNEL, 0, body)]


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    """The facts of a message, which has some of one device's."""
    if kind != RTM_NEWTUNNEL or end - offset < TUNNEL_MSG.size:
        return ()
    ifname = view.ifname(TUNNEL_MSG.unpack_from(data, offset)[3])
    return _entries(data[offset + TUNNEL_MSG.size : end], ifname, view.ns) if ifname else ()


def _entries(table: bytes, ifname: str, ns: str) -> Iterator[Fact]:
    for nla, entry in attribute_list(table):
        found = attributes(entry) if nla == _ENTRY else {}
        first, last = (found.get(each, b"") for each in (_START, _END))
        if len(first) != 4:
            continue
        group = found.get(_GROUP) or found.get(_GROUP6) or b""
        attrs = {"group": unpack_ip(group) if len(group) in (4, 16) else None}
        bounds = U32.unpack(first), U32.unpack(last if len(last) == 4 else first)
        for number in range(bounds[0], min(bounds[1], _LAST) + 1):
            yield Fact(Ref("vni", ns, (ifname, number)), attrs, STATIC)


_LAST: Final = 0xFFFFFF


def requires(fact: Fact, _: DesiredView) -> Iterable[Ref]:
    yield link(fact.ref.ns, fact.ref.key[0])


def describe(fact: Fact) -> str:
    return f"group {fact.attrs['group']}" if fact.attrs.get("group") else ""


VNI: Final = Kind(
    "vni", encode, decode, requires, describe=describe, absent=frozenset({errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP})
)
