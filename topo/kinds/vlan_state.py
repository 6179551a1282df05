"""The spanning tree's state of a port in one VLAN (bridge(8) `bridge vlan set ... state`, linux/if_bridge.h,
net/bridge/br_vlan_options.c).

The key is (ifname, VLAN), of a port or of the bridge itself. A VLAN forwards when it is made, and of one that does there is no
fact: deleting a fact puts that back. Who has the kernel's own spanning tree (`stp`) is refused (EBUSY).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from topo.changes import DELETE, Env, Op, Rtnl
from topo.facts import STATIC, Fact, Ref, link
from topo.kinds.kind import DesiredView, Kind, View
from topo.wire import AF_BRIDGE, RTM_NEWVLAN, U8, U16, attr, attr_u8, attribute_list, attributes, nest

BR_VLAN_MSG: Final = struct.Struct("=BBHI")  # struct br_vlan_msg: family, reserved, reserved, ifindex
_ENTRY, _INFO, _RANGE, _STATE = 1, 1, 2, 3  # BRIDGE_VLANDB_ENTRY, BRIDGE_VLANDB_ENTRY_*
_VLAN_INFO: Final = struct.Struct("=HH")  # struct bridge_vlan_info: flags, vid
_ONLY_OPTS: Final = 1 << 6  # the VLAN itself stays as it is
STATES: Final = ("disabled", "listening", "learning", "forwarding", "blocking")  # BR_STATE_*
USUAL: Final = "forwarding"
_LAST: Final = 4094


def encode(op: Op, env: Env) -> list[Rtnl]:
    ns, (ifname, vid) = op.ref.ns, op.ref.key
    state = USUAL if op.verb == DELETE or op.new is None else op.new.attrs["state"]
    told = attr_u8(_STATE, STATES.index(state))
    entry = nest(_ENTRY, attr(_INFO, _VLAN_INFO.pack(_ONLY_OPTS, vid)), told)
    return [Rtnl(ns, RTM_NEWVLAN, 0, BR_VLAN_MSG.pack(AF_BRIDGE, 0, 0, env.index(ns, ifname)) + entry)]


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    """The facts of a message, which has some VLANs of one device."""
    if kind != RTM_NEWVLAN or end - offset < BR_VLAN_MSG.size:
        return ()
    ifname = view.ifname(BR_VLAN_MSG.unpack_from(data, offset)[3])
    return _entries(data[offset + BR_VLAN_MSG.size : end], ifname, view.ns) if ifname else ()


def _entries(table: bytes, ifname: str, ns: str) -> Iterator[Fact]:
    for nla, entry in attribute_list(table):
        found = attributes(entry) if nla == _ENTRY else {}
        info, state, last = found.get(_INFO, b""), found.get(_STATE, b""), found.get(_RANGE, b"")
        if len(info) != _VLAN_INFO.size or len(state) != 1 or U8.unpack(state) >= len(STATES):
            continue
        word, first = STATES[U8.unpack(state)], _VLAN_INFO.unpack(info)[1]
        bound = min(U16.unpack(last), _LAST) if len(last) == 2 else first
        for vid in range(first, bound + 1) if word != USUAL else ():
            yield Fact(Ref("vlan_state", ns, (ifname, vid)), {"state": word}, STATIC)


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    """Its link, the bridge, which may have had a spanning tree, and the VLAN."""
    ns, ifname = fact.ref.ns, fact.ref.key[0]
    yield link(ns, ifname)
    port = desired.get(link(ns, ifname))
    if port and port.attrs.get("master"):
        yield link(ns, port.attrs["master"])
    yield Ref("bridge_vlan", ns, (ifname,))
    yield Ref("bridge_vlan", ns, (ifname, "self"))


def describe(fact: Fact) -> str:
    return str(fact.attrs.get("state", ""))


VLAN_STATE: Final = Kind(
    "vlan_state",
    encode,
    decode,
    requires,
    describe=describe,
    absent=frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL}),
)
