"""Generic netlink by struct (linux/genetlink.h): families by name, dumps, requests that are acknowledged."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final

from topo.errors import KernelError
from topo.kernel import rtnl
from topo.wire import HEADER_SIZE, NLM_F_ACK, NLMSG_ERROR, NLMSGHDR, S32, U16, attr_str, attributes, message

NETLINK_GENERIC: Final = 16
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 0x10, 3, 1, 2
_GENLMSGHDR: Final = struct.Struct("=BBxx")  # command, version
_BUFFER: Final = 1 << 16

_families: dict[str, int] = {}  # their numbers are the running kernel's, the same in every namespace


def open_socket() -> socket.socket:
    """A socket of this thread's network namespace; it stays there."""
    return rtnl.open_socket(protocol=NETLINK_GENERIC)


def family(sock: socket.socket, name: str) -> int:
    """The number of a family. Raises KernelError (ENOENT) where the kernel has none of that name."""
    if name not in _families:
        asked = _GENLMSGHDR.pack(_CTRL_CMD_GETFAMILY, 1) + attr_str(_CTRL_ATTR_FAMILY_NAME, name)
        data, at, end = rtnl.ask(sock, _GENL_ID_CTRL, asked)
        _families[name] = U16.unpack(attributes(data, at + _GENLMSGHDR.size, end)[_CTRL_ATTR_FAMILY_ID])
    return _families[name]


def dump(sock: socket.socket, name: str, command: int, version: int, body: bytes) -> list[bytes]:
    """The attributes of every message of a dump. Raises KernelError."""
    found = rtnl.dump(sock, family(sock, name), _GENLMSGHDR.pack(command, version) + body)
    return [data[at + _GENLMSGHDR.size : end] for _, data, at, end in found]


def request(sock: socket.socket, name: str, command: int, version: int, bodies: Sequence[bytes]) -> None:
    """Ask for these one after the other, each answered before the next. Raises KernelError."""
    head = _GENLMSGHDR.pack(command, version)
    for body in bodies:
        sock.send(message(family(sock, name), NLM_F_ACK, 1, head + body))
        data = sock.recv(_BUFFER)
        size, answer, flags, _, _ = NLMSGHDR.unpack_from(data, 0)
        if answer != NLMSG_ERROR:
            raise KernelError(errno.EPROTO, "the kernel did not say that it was done")
        if number := -S32.unpack(data[HEADER_SIZE:]):
            raise KernelError(number, rtnl.extack(data, 0, size, flags))
