"""Permanent members of multicast groups on a bridge's ports (bridge(8) `bridge mdb`, linux/if_bridge.h, net/bridge/br_mdb.c).

The key is (ifname, group), with ("src 10.0.0.1") of one source alone, and ("vlan 10") of one VLAN behind it. What is heard
by IGMP and MLD is the bridge's own, and is never a fact. A bridge that is down, or does not snoop, takes none (EINVAL).
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
    MAC,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_DELMDB,
    RTM_NEWMDB,
    attr,
    attribute_list,
    attributes,
    nest,
    pack_ip,
    unpack_ip,
)

BR_PORT_MSG: Final = struct.Struct("=BxxxI")  # family, ifindex of the bridge
_ENTRY: Final = struct.Struct("=IBBH16s2sxx")  # struct br_mdb_entry: port, state, flags, VLAN, address, protocol
_MDB, _MDB_ENTRY, _ENTRY_INFO, _EATTR_SOURCE = 1, 1, 1, 4  # MDBA_*
_SET_ENTRY, _SET_ENTRY_ATTRS, _SOURCE = 1, 2, 1  # MDBA_SET_ENTRY, _SET_ENTRY_ATTRS, MDBE_ATTR_SOURCE
_PERMANENT: Final = 1
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"  # Ethernet protocols; zeros for a group by its MAC address


def key(ifname: str, group: str, source: str | None = None, vid: int | None = None) -> tuple[str, ...]:
    words = (f"src {source}" if source else "", f"vlan {vid}" if vid else "")
    return (ifname, group, *filter(None, words))


def _group(text: str) -> tuple[bytes, bytes]:
    if text.count(":") == 5 and len(text) == 17:
        return MAC.pack(text), b"\0\0"
    packed = pack_ip(text)
    return packed, _IPV4 if len(packed) == 4 else _IPV6


def encode(op: Op, env: Env) -> list[Rtnl]:
    ref, ns, (ifname, group) = op.ref, op.ref.ns, op.ref.key[:2]
    said = dict(word.split(" ", 1) for word in ref.key[2:])
    port = env.desired(link(ns, ifname))
    fact = op.old if op.verb == DELETE else op.new
    bridge = (fact.attrs.get("_bridge") if fact else None) or (port.attrs.get("master") if port else None)
    address, protocol = _group(group)
    entry = _ENTRY.pack(env.index(ns, ifname), _PERMANENT, 0, int(said.get("vlan", 0)), address, protocol)
    body = BR_PORT_MSG.pack(AF_BRIDGE, env.index(ns, str(bridge))) + attr(_SET_ENTRY, entry)
    if "src" in said:
        body += nest(_SET_ENTRY_ATTRS, attr(_SOURCE, pack_ip(said["src"])))
    if op.verb == DELETE:
        return [Rtnl(ns, RTM_DELMDB, 0, body)]
    # Never exclusive: the group may have been heard of already, and such an entry is no one's.
    return [Rtnl(ns, RTM_NEWMDB, NLM_F_CREATE | NLM_F_REPLACE, body)]


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    """The facts of all ports of one bridge."""
    if end - offset < BR_PORT_MSG.size:
        return ()
    bridge = view.ifname(BR_PORT_MSG.unpack_from(data, offset)[1])  # the family is 0 here
    if bridge is None:
        return ()
    return _entries(attributes(data, offset + BR_PORT_MSG.size, end).get(_MDB, b""), bridge, view)


def _entries(table: bytes, bridge: str, view: View) -> Iterator[Fact]:
    for _, group in attribute_list(table):
        for nla, info in attribute_list(group):
            if nla != _ENTRY_INFO or len(info) < _ENTRY.size:
                continue
            port, state, _, vid, address, protocol = _ENTRY.unpack_from(info)
            ifname = view.ifname(port)
            if state != _PERMANENT or ifname is None or ifname == bridge:
                continue
            size = {_IPV4: 4, _IPV6: 16}.get(protocol, 0)
            text = unpack_ip(address[:size]) if size else MAC.unpack(address[:6])
            source = attributes(info, _ENTRY.size).get(_EATTR_SOURCE, b"")
            name = key(ifname, text, unpack_ip(source) if len(source) in (4, 16) else None, vid)
            yield Fact(Ref("mdb", view.ns, name), {"_bridge": bridge}, STATIC)


def requires(fact: Fact, desired: DesiredView) -> Iterator[Ref]:
    port = link(fact.ref.ns, fact.ref.key[0])
    yield port
    home = desired.get(port)
    if home and home.attrs.get("master"):
        yield link(fact.ref.ns, home.attrs["master"])
    if len(fact.ref.key) > 2:  # a VLAN that the port is not in has no members
        yield Ref("bridge_vlan", fact.ref.ns, fact.ref.key[:1])


MDB: Final = Kind(
    "mdb",
    encode,
    decode,
    requires,
    absent=frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL}),
)
