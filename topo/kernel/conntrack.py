"""Forget connections through published ports that lead elsewhere now (ctnetlink, linux/netfilter/nfnetlink_conntrack.h).

NAT is decided once, at a connection's first packet. An entry of conntrack keeps a UDP sender (or a long TCP
connection) at the old target for as long as packets come, whatever the table says by then.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from topo.changes import Flow
from topo.errors import KernelError
from topo.kernel.netfilter import NFGENMSG, Entry, ask, dump, request
from topo.wire import AF_INET, AF_INET6, attr, attributes, unpack_ip

NFNL_SUBSYS_CTNETLINK: Final = 1
IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET_STATS = 1, 2, 5
CTA_STATS_GLOBAL_ENTRIES = 1
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_ID, CTA_ZONE = 1, 2, 3, 12, 18
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_SRC, CTA_IP_DST = {AF_INET: 1, AF_INET6: 3}, {AF_INET: 2, AF_INET6: 4}
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
IPS_SEEN_REPLY, IPS_DST_NAT = 1 << 1, 1 << 5

_FAMILY: Final = {4: AF_INET, 6: AF_INET6}
_PROTOCOL: Final = {"tcp": 6, "udp": 17, "sctp": 132}
_PORT: Final = struct.Struct(">H")
_ABSENT: Final = frozenset({0, errno.ENOENT})


class _Tuple(NamedTuple):
    """One direction of a connection."""

    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int


def drop(sock: socket.socket, flows: Iterable[Flow]) -> int:
    """Delete the entries of `flows` in the namespace of `sock` (a NETLINK_NETFILTER socket); how many they were.

    By the port that was asked for, before translation. With a target, only entries that were translated to it; without
    one, only senders that nobody has answered. So a connection that merely has the same port elsewhere lives on.
    A kernel without ctnetlink has no way to forget, so none are. Raises KernelError.
    """
    wanted: dict[tuple[int, int], list[Flow]] = {}
    for flow in flows:
        wanted.setdefault((_PROTOCOL[flow.protocol], flow.port), []).append(flow)
    dropped = 0
    if _is_empty(sock):
        return dropped
    for family in sorted({_FAMILY[f.family] for held in wanted.values() for f in held}):
        entries = (attributes(entry.body) for entry in _entries(sock, family))
        bodies = [body for body in (_matching(family, entry, wanted) for entry in entries) if body]
        answers = request(sock, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, bodies)
        failed = [number for number in answers if number not in _ABSENT]
        if failed:
            raise KernelError(failed[0], doing="forgetting connections to published ports")
        dropped += answers.count(0)
    return dropped


def _is_empty(sock: socket.socket) -> bool:
    """Whether this namespace has no connections: a dump walks over the table of all namespaces, which takes ten times as
    long as a change of an element."""
    try:
        (answer,) = ask(sock, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS, NFGENMSG.pack(0, 0, 0))
    except KernelError:
        return False
    return attributes(answer.body).get(CTA_STATS_GLOBAL_ENTRIES) == bytes(4)


def _entries(sock: socket.socket, family: int) -> list[Entry]:
    try:
        return dump(sock, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, family)
    except KernelError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return []
        raise


def _matching(family: int, found: dict[int, bytes], wanted: dict[tuple[int, int], list[Flow]]) -> bytes:
    """The request that deletes this entry, empty where it is none of `wanted`."""
    original = _tuple(family, found.get(CTA_TUPLE_ORIG, b""))
    if original is None:
        return b""
    flows = wanted.get((original.protocol, original.destination_port), ())
    if not flows:
        return b""
    reply = _tuple(family, found.get(CTA_TUPLE_REPLY, b""))
    status = int.from_bytes(found.get(CTA_STATUS, b""), "big")
    if not any(_is(flow, family, original, reply, status) for flow in flows):
        return b""
    parts = [attr(nla, found[nla]) for nla in (CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE) if nla in found]
    parts[0] = attr(CTA_TUPLE_ORIG | 0x8000, found[CTA_TUPLE_ORIG])
    return NFGENMSG.pack(family, 0, 0) + b"".join(parts)


def _is(flow: Flow, family: int, original: _Tuple, reply: _Tuple | None, status: int) -> bool:
    if _FAMILY[flow.family] != family or (flow.address and flow.address != original.destination):
        return False
    if not flow.target:
        return not status & (IPS_DST_NAT | IPS_SEEN_REPLY)
    if reply is None or not status & IPS_DST_NAT:
        return False
    return (reply.source, reply.source_port) == (flow.target, flow.target_port)


def _tuple(family: int, data: bytes) -> _Tuple | None:
    """None for protocols without ports."""
    parts = attributes(data)
    ip, proto = attributes(parts.get(CTA_TUPLE_IP, b"")), attributes(parts.get(CTA_TUPLE_PROTO, b""))
    try:
        return _Tuple(
            proto[CTA_PROTO_NUM][0],
            unpack_ip(ip[CTA_IP_SRC[family]]),
            _PORT.unpack(proto[CTA_PROTO_SRC_PORT])[0],
            unpack_ip(ip[CTA_IP_DST[family]]),
            _PORT.unpack(proto[CTA_PROTO_DST_PORT])[0],
        )
    except (KeyError, IndexError, struct.error):
        return None
