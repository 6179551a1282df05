"""What the floor speaks: netlink by struct, namespaces by system call. Nothing here is topo's.

Numbers are those of linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h and linux/netlink.h.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

AF_NETLINK, ROUTE, NETFILTER = 16, 0, 12
SOL_NETLINK, MEMBERSHIP, STRICT = 270, 1, 12  # NETLINK_ADD_MEMBERSHIP, NETLINK_GET_STRICT_CHK
SNDBUFFORCE, RCVBUFFORCE = 32, 33
NEWLINK, DELLINK, GETLINK, NEWADDR, GETADDR, NEWROUTE, GETROUTE = 16, 17, 18, 20, 22, 24, 26
NEWNEIGH, GETNEIGH, NEWNETCONF, GETNETCONF, NEWNSID, DELNSID = 28, 30, 80, 82, 88, 89
REQUEST, DUMP, NEW, APPEND = 1, 0x301, 0x601, 0xC01  # NEW: NLM_F_REQUEST | NLM_F_EXCL | NLM_F_CREATE
GROUP: Final = 4242
DIRECTORY: Final = "/run/netns/"
_NSID_GROUP, _CANARY = 28, 2_000_000_000  # RTNLGRP_NSID
_SELF: Final = b"/proc/thread-self/ns/net"

HEADER = struct.Struct("=IHHII")
ATTR = struct.Struct("=HH")
IFINFO = struct.Struct("=BxHiII")
IFADDR = struct.Struct("=BBBBI")
RTMSG = struct.Struct("=BBBBBBBBI")
NDMSG = struct.Struct("=BxxxiHBB")
NEXTHOP = struct.Struct("=HBBi")
U32 = struct.Struct("=I")
S32 = struct.Struct("=i")
NEIGHBOURS: Final = HEADER.pack(28, GETNEIGH, DUMP, 1, 0) + NDMSG.pack(2, 0, 0, 0, 0)
FDB: Final = HEADER.pack(28, GETNEIGH, DUMP, 1, 0) + NDMSG.pack(7, 0, 0, 0, 0)  # AF_BRIDGE
# Whether packets are forwarded, of the namespace and of each device: a tenth of what opening files of /proc/sys takes,
# which takes the longer the more namespaces there are (the files of all have the same names in one cache).
NETCONF: Final = tuple(HEADER.pack(20, GETNETCONF, DUMP, 1, 0) + bytes((family, 0, 0, 0)) for family in (2, 10))
_libc = ctypes.CDLL(None, use_errno=True)


# Messages


def attr(nla: int, data: bytes) -> bytes:
    return ATTR.pack(len(data) + 4, nla) + data + bytes(-len(data) % 4)


def u32(nla: int, value: int) -> bytes:
    return attr(nla, U32.pack(value))


def message(kind: int, flags: int, body: bytes) -> bytes:
    return HEADER.pack(16 + len(body), kind, flags, 1, 0) + body


def ip4(text: str) -> bytes:
    return socket.inet_aton(text)


def address(index: int, text: str, length: int) -> bytes:
    data = ip4(text)
    return message(NEWADDR, NEW, IFADDR.pack(2, length, 0, 0, index) + attr(2, data) + attr(1, data))


def up(index: int) -> bytes:
    return message(NEWLINK, REQUEST, IFINFO.pack(0, 0, index, 1, 1))


def route(to: str, via: str, index: int, onlink: bool = False) -> bytes:
    """A route to `to`, "10.0.0.0/8" or "default"."""
    net, _, length = "0.0.0.0/0".partition("/") if to == "default" else to.partition("/")
    body = RTMSG.pack(2, int(length), 0, 0, 254, 4, 0, 1, 4 if onlink else 0)  # RTPROT_STATIC; RTNH_F_ONLINK
    body += attr(1, ip4(net)) if length != "0" else b""
    return message(NEWROUTE, NEW, body + attr(5, ip4(via)) + u32(4, index))


def spread(to: str, hops: Iterable[tuple[str, int]]) -> bytes:
    """A route over several next hops, each (gateway, ifindex)."""
    net, _, length = "0.0.0.0/0".partition("/") if to == "default" else to.partition("/")
    body = RTMSG.pack(2, int(length), 0, 0, 254, 4, 0, 1, 0) + (attr(1, ip4(net)) if length != "0" else b"")
    packed = b"".join(NEXTHOP.pack(16, 0, 0, index) + attr(5, ip4(via)) for via, index in hops)
    return message(NEWROUTE, NEW, body + attr(9, packed))


def bridge(name: str, index: int) -> bytes:
    body = IFINFO.pack(0, 0, index, 1, 1) + attr(3, name.encode() + b"\0") + u32(27, GROUP)
    return message(NEWLINK, NEW, body + attr(18, attr(1, b"bridge")))


class Veth:
    """A pair with one queue each way (with more, each end waits for RCU), a group, and ifindexes chosen beforehand.

    `encode` patches descriptors in: those of the peer's namespace, and of the other end's where it is not the socket's.
    """

    __slots__ = ("_at", "_message", "spaces")

    def __init__(self, one: tuple[str, str, int], other: tuple[str, str, int], master: int = 0) -> None:
        """Each end is (namespace, name, ifindex); "" is the namespace of the socket. `master`: of the first one."""
        (space, name, index), (peer_space, peer_name, peer_index) = one, other
        queues = u32(31, 1) + u32(32, 1) + u32(27, GROUP)
        first = u32(28, 0) if space else b""  # IFLA_NET_NS_FD; at the front, where it is easily found
        second = u32(28, 0) if peer_space else b""
        peer = IFINFO.pack(0, 0, peer_index, 0, 0) + second + attr(3, peer_name.encode() + b"\0") + queues
        before = IFINFO.pack(0, 0, index, 1, 1) + first
        info = attr(18, attr(1, b"veth") + attr(2, attr(1, peer)))
        rest = attr(3, name.encode() + b"\0") + queues + (u32(10, master) if master else b"")
        self._message = bytearray(message(NEWLINK, NEW, before + info + rest))
        inner = 16 + len(before) + 4 + len(attr(1, b"veth")) + 4 + 4 + IFINFO.size + 4
        self.spaces = [ns for ns in (space, peer_space) if ns]
        self._at = [at for ns, at in ((space, 16 + IFINFO.size + 4), (peer_space, inner)) if ns]

    def encode(self, descriptors: dict[str, int]) -> bytes:
        for ns, at in zip(self.spaces, self._at, strict=True):
            U32.pack_into(self._message, at, descriptors[ns])
        return bytes(self._message)


# Sockets


def opened(family: int = ROUTE, large: bool = False) -> socket.socket:
    sock = socket.socket(AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
    if large:
        sock.setsockopt(socket.SOL_SOCKET, SNDBUFFORCE, 1 << 24)
        sock.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, 1 << 24)
    return sock


def sent(sock: socket.socket, data: bytes) -> None:
    """Send; the kernel works inside send and answers only refusals."""
    sock.send(data)
    try:
        answer = sock.recv(65536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
    raise AssertionError(f"refused: {os.strerror(-S32.unpack_from(answer, 16)[0])}")


def events(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """What has arrived: the type and the body of each message."""
    while True:
        try:
            data = sock.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            size, kind, *_ = HEADER.unpack_from(data, at)
            yield kind, data[at + 16 : at + size]
            at += (size + 3) & ~3


def places(data: bytes, at: int, end: int) -> dict[int, int]:
    """Where the value of each attribute is."""
    found = {}
    unpack = ATTR.unpack_from
    while at < end:
        size, nla = unpack(data, at)
        found[nla] = at + 4
        at += (size + 3) & ~3
    return found


# Namespaces


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def many_files(size: int) -> None:
    """Room for two descriptors for each of `size` namespaces."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * size + 64)), hard))


def here() -> int:
    return os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)


def make_namespace(name: str) -> None:
    """Leaves this thread in it."""
    path = DIRECTORY + name
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    _checked(_libc.unshare(0x40000000))  # CLONE_NEWNET
    _checked(_libc.mount(_SELF, path.encode(), b"none", ctypes.c_ulong(0x1000), None))  # MS_BIND


def drop_namespace(name: str) -> None:
    path = DIRECTORY + name
    _checked(_libc.umount2(path.encode(), 2))  # MNT_DETACH
    os.unlink(path)


def setns(fd: int) -> None:
    _checked(_libc.setns(fd, 0x40000000))


def finished() -> None:
    """Wait until the kernel is done with every namespace that was let go: it takes them in turn, in batches, and a
    namespace's end is announced when its batch begins; so when a second one ends, the first one's batch is over."""
    for _ in range(2):
        _wait_for_canary()


def _wait_for_canary() -> None:
    home, sock = here(), opened()
    listening = opened(large=True)  # the lab's own namespaces have numbers too, and are announced when they end
    listening.bind((0, 0))
    listening.setsockopt(SOL_NETLINK, MEMBERSHIP, _NSID_GROUP)
    listening.settimeout(300)
    make_namespace("canary")
    canary = here()
    setns(home)
    os.close(home)
    sent(sock, message(NEWNSID, REQUEST, bytes(4) + u32(1, _CANARY) + u32(3, canary)))
    os.close(canary)
    drop_namespace("canary")
    end = u32(1, _CANARY)  # NETNSA_NSID
    while not ((data := listening.recv(65536))[4] == DELNSID and end in data):
        pass
    listening.close()
    sock.close()
