"""The floor: what the kernel itself takes for the star, asked with as little around it as can be.

Nothing here is topo's. Every message is encoded before the clock starts (the descriptors of the namespaces are
patched in), sent packed and without acknowledgements; links have one queue and a group. That is the quickest way
known: docs/performance.md. Numbers are those of linux/rtnetlink.h, linux/if_link.h and linux/netlink.h.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import struct
from typing import Any, Final

from .lab import BRIDGE, IFNAME, PREFIX, Star

_NETLINK, _SOL_NETLINK = 16, 270
_STRICT, _MEMBERSHIP, _NSID_GROUP = 12, 1, 28  # NETLINK_GET_STRICT_CHK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_NSID
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 16, 17, 18, 20, 22, 24, 26
_NEWNSID, _DELNSID = 88, 89
_REQUEST, _ACK, _DUMP, _NEW = 1, 4, 0x301, 0x601  # _NEW: NLM_F_REQUEST | NLM_F_EXCL | NLM_F_CREATE
_GROUP, _BRIDGE_INDEX, _FIRST_INDEX, _CANARY = 4242, 100_000, 1000, 2_000_000_000
_PACKED: Final = 64
_SELF: Final = b"/proc/thread-self/ns/net"
_DIRECTORY: Final = "/run/netns/"

_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")
_libc = ctypes.CDLL(None, use_errno=True)


def _attr(nla: int, data: bytes) -> bytes:
    return _ATTR.pack(len(data) + 4, nla) + data + bytes(-len(data) % 4)


def _u32(nla: int, value: int) -> bytes:
    return _attr(nla, _U32.pack(value))


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(16 + len(body), kind, flags, 1, 0) + body


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _many_files(size: int) -> None:
    """Room for two descriptors for each of `size` namespaces."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * size + 64)), hard))


def _socket(large: bool = False) -> socket.socket:
    sock = socket.socket(_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    if large:
        sock.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, 1 << 24)
        sock.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 24)
    return sock


def _sent(sock: socket.socket, data: bytes) -> None:
    """Send; the kernel works inside send and answers only refusals."""
    sock.send(data)
    try:
        answer = sock.recv(65536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
    raise AssertionError(f"refused: {os.strerror(-struct.unpack_from('=i', answer, 16)[0])}")


def _here() -> int:
    return os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)


def _make_namespace(name: str) -> None:
    """Leaves this thread in it."""
    path = _DIRECTORY + name
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    _checked(_libc.unshare(0x40000000))  # CLONE_NEWNET
    _checked(_libc.mount(_SELF, path.encode(), b"none", ctypes.c_ulong(0x1000), None))  # MS_BIND


def _drop_namespace(name: str) -> None:
    path = _DIRECTORY + name
    _checked(_libc.umount2(path.encode(), 2))  # MNT_DETACH
    os.unlink(path)


def _setns(fd: int) -> None:
    _checked(_libc.setns(fd, 0x40000000))


# Making


class Making:
    """Everything encoded; `run` is what is measured."""

    def __init__(self, star: Star) -> None:
        _many_files(star.size)
        self.names = star.namespaces()
        self.bridge = _bridge(star)
        self.links = [_veth(index) for index in range(star.size)]
        self.fd_at = self.links[0].index(_ATTR.pack(8, 28)) + 4  # the peer's IFLA_NET_NS_FD: at one place in all
        self.inside = [_inside(star, index) for index in range(star.size)]

    def run(self) -> None:
        home = _here()
        fds, sockets = [], []
        for name in self.names:
            _make_namespace(name)
            fds.append(_here())
            sockets.append(_socket())
        _setns(home)
        sock = _socket(large=True)
        _sent(sock, self.bridge)
        for link, fd in zip(self.links, fds, strict=True):
            _U32.pack_into(link, self.fd_at, fd)
        for start in range(0, len(self.links), _PACKED):
            _sent(sock, b"".join(self.links[start : start + _PACKED]))
        for inner, messages in zip(sockets, self.inside, strict=True):
            _sent(inner, messages)
        for inner, fd in zip(sockets, fds, strict=True):
            inner.close()
            os.close(fd)
        sock.close()
        os.close(home)


def _bridge(star: Star) -> bytes:
    body = _IFINFO.pack(0, 0, _BRIDGE_INDEX, 1, 1) + _attr(3, BRIDGE.encode() + b"\0") + _u32(27, _GROUP)
    made = _message(_NEWLINK, _NEW, body + _attr(18, _attr(1, b"bridge")))
    return made + _address(_BRIDGE_INDEX, star.gateway)


def _veth(index: int) -> bytearray:
    number = _FIRST_INDEX + index
    one_queue = _u32(31, 1) + _u32(32, 1)
    peer = _IFINFO.pack(0, 0, number, 0, 0) + _u32(28, 0) + _attr(3, IFNAME.encode() + b"\0") + one_queue
    info = _attr(18, _attr(1, b"veth") + _attr(2, _attr(1, peer + _u32(27, _GROUP))))
    head = _attr(3, f"v{index}".encode() + b"\0") + _u32(10, _BRIDGE_INDEX) + _u32(27, _GROUP) + one_queue
    # The names are of different lengths; in front of them the descriptor would not be at one place in all.
    return bytearray(_message(_NEWLINK, _NEW, _IFINFO.pack(0, 0, number, 1, 1) + info + head))


def _inside(star: Star, index: int) -> bytes:
    number = _FIRST_INDEX + index
    up = [_message(_NEWLINK, _REQUEST, _IFINFO.pack(0, 0, i, 1, 1)) for i in (1, number)]
    route = _RTMSG.pack(2, 0, 0, 0, 254, 4, 0, 1, 0) + _attr(5, socket.inet_aton(star.gateway)) + _u32(4, number)
    return b"".join((*up, _address(number, star.address(index)), _message(_NEWROUTE, _NEW, route)))


def _address(index: int, ip: str) -> bytes:
    data = socket.inet_aton(ip)
    return _message(_NEWADDR, _NEW, _IFADDR.pack(2, PREFIX, 0, 0, index) + _attr(2, data) + _attr(1, data))


# Reading

_TABLES: Final = (
    _message(_GETLINK, _DUMP, _IFINFO.pack(0, 0, 0, 0, 0) + _u32(29, 8)),  # IFLA_EXT_MASK: RTEXT_FILTER_SKIP_STATS
    _message(_GETADDR, _DUMP, _IFADDR.pack(0, 0, 0, 0, 0)),
    _message(_GETROUTE, _DUMP, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)),
)
Row = tuple[Any, ...]


def read() -> list[Row]:
    """Links, addresses and routes of the host and of all that has a name, decoded by struct."""
    _many_files(len(os.listdir(_DIRECTORY)))
    home = _here()
    rows: list[Row] = []
    sockets = [_read_here(rows)]
    for name in os.listdir(_DIRECTORY):
        fd = os.open(_DIRECTORY + name, os.O_RDONLY | os.O_CLOEXEC)
        _setns(fd)
        os.close(fd)
        sockets.append(_read_here(rows))
    _setns(home)
    os.close(home)
    for sock in sockets:
        sock.close()
    return rows


def _read_here(rows: list[Row]) -> socket.socket:
    """The socket is left open: closing it at once takes longer by the clock, closing all in the end does not."""
    sock = _socket()
    sock.setsockopt(_SOL_NETLINK, _STRICT, 1)
    for table in _TABLES:
        sock.send(table)
        while _decode(sock.recv(65536), rows):
            pass
    return sock


def _decode(data: bytes, rows: list[Row]) -> bool:
    """Whether more is to come."""
    at, end, ntop, u32 = 0, len(data), socket.inet_ntop, _U32.unpack_from
    while at < end:
        size, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if kind == _NEWLINK:
            index, flags = _IFINFO.unpack_from(data, at + 16)[2:4]
            a = _places(data, at + 32, at + size)
            name, master = data[a[3] : data.index(0, a[3])].decode(), u32(data, a[10])[0] if 10 in a else 0
            rows.append((index, name, flags, u32(data, a[4])[0], master, data[a[1] : a[1] + 6], u32(data, a[27])[0]))
        elif kind == _NEWADDR:
            family, length, _, scope, index = _IFADDR.unpack_from(data, at + 16)
            a = _places(data, at + 24, at + size)
            start = a.get(2) or a[1]
            rows.append((index, ntop(family, data[start : start + (4 if family == 2 else 16)]), length, scope))
        elif kind == _NEWROUTE:
            family, length, _, _, table, protocol, scope, what, _ = _RTMSG.unpack_from(data, at + 16)
            a, bits = _places(data, at + 28, at + size), 4 if family == 2 else 16
            to = ntop(family, data[a[1] : a[1] + bits]) if 1 in a else ""
            via = ntop(family, data[a[5] : a[5] + bits]) if 5 in a else ""
            dev = u32(data, a[4])[0] if 4 in a else 0
            rows.append((to, length, via, dev, table, protocol, scope, what))
        elif kind == 3:  # NLMSG_DONE
            return False
        else:
            raise AssertionError(f"refused: {os.strerror(-struct.unpack_from('=i', data, at + 16)[0])}")
        at += (size + 3) & ~3
    return True


def _places(data: bytes, at: int, end: int) -> dict[int, int]:
    """Where the value of each attribute is."""
    found = {}
    unpack = _ATTR.unpack_from
    while at < end:
        size, nla = unpack(data, at)
        found[nla] = at + 4
        at += (size + 3) & ~3
    return found


# Deleting


def delete() -> None:
    """The links by their group, with one wait for RCU; the bridge is among them; then the names."""
    sock = _socket()
    _sent(sock, _message(_DELLINK, _REQUEST, _IFINFO.pack(0, 0, 0, 0, 0) + _u32(27, _GROUP)))
    sock.close()
    for name in os.listdir(_DIRECTORY):
        _drop_namespace(name)


def finished() -> None:
    """Wait until the kernel is done with every namespace that was let go: it takes them in turn, in batches, and a
    namespace's end is announced when its batch begins; so when a second one ends, the first one's batch is over."""
    for _ in range(2):
        _wait_for_canary()


def _wait_for_canary() -> None:
    home, sock = _here(), _socket()
    listening = _socket(large=True)  # the lab's own namespaces have numbers too, and are announced when they end
    listening.bind((0, 0))
    listening.setsockopt(_SOL_NETLINK, _MEMBERSHIP, _NSID_GROUP)
    listening.settimeout(120)
    _make_namespace("canary")
    canary = _here()
    _setns(home)
    os.close(home)
    _sent(sock, _message(_NEWNSID, _REQUEST, bytes(4) + _u32(1, _CANARY) + _u32(3, canary)))
    os.close(canary)
    _drop_namespace("canary")
    end = _u32(1, _CANARY)  # NETNSA_NSID
    while not ((data := listening.recv(65536))[4] == _DELNSID and end in data):
        pass
    listening.close()
    sock.close()
