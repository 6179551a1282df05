"""The floor: what the kernel itself takes for a lab, asked with as little around it as can be.

Nothing here is topo's. Every message is encoded before the clock starts (the descriptors of the namespaces are
patched in), sent packed and without acknowledgements; links have one queue and a group. That is the quickest way
known: docs/performance.md.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, Final

from . import netlink as nl
from .lab import Lab, Reading

_PACKED: Final = 64
Row = tuple[Any, ...]


class Making:
    """Everything encoded; `run` is what is measured."""

    def __init__(self, lab: Lab) -> None:
        self.pieces = lab.pieces()
        nl.many_files(len(self.pieces.namespaces))

    def run(self) -> None:
        home = nl.here()
        fds: dict[str, int] = {}
        sockets: dict[str, socket.socket] = {}
        for name in self.pieces.namespaces:
            nl.make_namespace(name)
            fds[name] = nl.here()
            sockets[name] = nl.opened()
            for path, value in self.pieces.sysctls.get(name, ()):
                _write(path, value)
        nl.setns(home)
        sockets[""] = nl.opened(large=True)
        for first in self.pieces.before:
            nl.sent(sockets[first[0]], first[1])
        self._links(sockets, fds)
        for name, messages in self.pieces.inside.items():
            for start in range(0, len(messages), _PACKED):
                nl.sent(sockets[name], b"".join(messages[start : start + _PACKED]))
        for name, action in self.pieces.then:
            nl.setns(fds[name])
            action()
        if self.pieces.then:
            nl.setns(home)
        for sock in sockets.values():
            sock.close()
        for fd in (home, *fds.values()):
            os.close(fd)

    def _links(self, sockets: dict[str, socket.socket], fds: dict[str, int]) -> None:
        for name, links in self.pieces.links.items():
            for start in range(0, len(links), _PACKED):
                nl.sent(sockets[name], b"".join([link.encode(fds) for link in links[start : start + _PACKED]]))


def _write(path: str, value: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, value)
    os.close(fd)


# Reading

_TABLES: Final = (
    nl.message(nl.GETLINK, nl.DUMP, nl.IFINFO.pack(0, 0, 0, 0, 0) + nl.u32(29, 8)),  # without statistics
    nl.message(nl.GETADDR, nl.DUMP, nl.IFADDR.pack(0, 0, 0, 0, 0)),
    nl.message(nl.GETROUTE, nl.DUMP, nl.RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)),
)


def read(lab: Lab) -> list[Row]:
    """All of the lab's tables, of the host and of all that has a name, decoded by struct."""
    names = os.listdir(nl.DIRECTORY)
    nl.many_files(len(names))
    home = nl.here()
    rows: list[Row] = []
    extra = lab.reading()
    sockets = [_read_here(rows, extra.get("", Reading()))]
    for name in names:
        fd = os.open(nl.DIRECTORY + name, os.O_RDONLY | os.O_CLOEXEC)
        nl.setns(fd)
        os.close(fd)
        sockets.append(_read_here(rows, extra.get(name, Reading())))
    nl.setns(home)
    os.close(home)
    for sock in sockets:
        sock.close()
    return rows


def _read_here(rows: list[Row], extra: Reading) -> socket.socket:
    """The socket is left open: closing it at once takes longer by the clock, closing all in the end does not."""
    sock = nl.opened()
    sock.setsockopt(nl.SOL_NETLINK, nl.STRICT, 1)
    for table in (*_TABLES, *extra.tables):
        sock.send(table)
        while _decode(sock.recv(65536), rows):
            pass
    for path in extra.sysctls:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        rows.append((path, os.read(fd, 4096)))
        os.close(fd)
    if extra.also:
        rows.append((extra.also(),))
    return sock


def _decode(data: bytes, rows: list[Row]) -> bool:
    """Whether more is to come."""
    at, end = 0, len(data)
    while at < end:
        size, kind, _, _, _ = nl.HEADER.unpack_from(data, at)
        decode = _DECODERS.get(kind)
        if decode:
            rows.append(decode(data, at + 16, at + size))
        elif kind == 3:  # NLMSG_DONE
            return False
        else:
            raise AssertionError(f"refused: {os.strerror(-nl.S32.unpack_from(data, at + 16)[0])}")
        at += (size + 3) & ~3
    return True


def _link(data: bytes, at: int, end: int) -> Row:
    index, flags = nl.IFINFO.unpack_from(data, at)[2:4]
    a, u32 = nl.places(data, at + 16, end), nl.U32.unpack_from
    name, master = data[a[3] : data.index(0, a[3])].decode(), u32(data, a[10])[0] if 10 in a else 0
    return (index, name, flags, u32(data, a[4])[0], master, data[a[1] : a[1] + 6], u32(data, a[27])[0])


def _address(data: bytes, at: int, end: int) -> Row:
    family, length, _, scope, index = nl.IFADDR.unpack_from(data, at)
    a = nl.places(data, at + 8, end)
    start = a.get(2) or a[1]
    return (index, socket.inet_ntop(family, data[start : start + (4 if family == 2 else 16)]), length, scope)


def _route(data: bytes, at: int, end: int) -> Row:
    family, length, _, _, table, protocol, scope, what, _ = nl.RTMSG.unpack_from(data, at)
    a, bits, ntop = nl.places(data, at + 12, end), 4 if family == 2 else 16, socket.inet_ntop
    to = ntop(family, data[a[1] : a[1] + bits]) if 1 in a else ""
    via = ntop(family, data[a[5] : a[5] + bits]) if 5 in a else ""
    dev = nl.U32.unpack_from(data, a[4])[0] if 4 in a else data[a[9] : end] if 9 in a else 0
    return (to, length, via, dev, table, protocol, scope, what)


def _neighbour(data: bytes, at: int, end: int) -> Row:
    family, index, state, flags, _ = nl.NDMSG.unpack_from(data, at)
    a, bits = nl.places(data, at + 12, end), 16 if family == 10 else 4
    to = socket.inet_ntop(10 if family == 10 else 2, data[a[1] : a[1] + bits]) if 1 in a else ""
    return (index, state, flags, to, data[a[2] : a[2] + 6] if 2 in a else b"")


def _netconf(data: bytes, at: int, end: int) -> Row:
    a = nl.places(data, at + 4, end)
    return (data[at], nl.S32.unpack_from(data, a[1])[0], nl.S32.unpack_from(data, a[2])[0])


_DECODERS: Final[dict[int, Callable[[bytes, int, int], Row]]] = {
    nl.NEWLINK: _link,
    nl.NEWADDR: _address,
    nl.NEWROUTE: _route,
    nl.NEWNEIGH: _neighbour,
    nl.NEWNETCONF: _netconf,
}


# Deleting


def delete(lab: Lab) -> None:
    """The host's links by their group, with one wait for RCU (bridges are among them); then the names."""
    if lab.in_host:
        sock = nl.opened()
        nl.sent(sock, nl.message(nl.DELLINK, nl.REQUEST, nl.IFINFO.pack(0, 0, 0, 0, 0) + nl.u32(27, nl.GROUP)))
        sock.close()
    for name in os.listdir(nl.DIRECTORY):
        nl.drop_namespace(name)
