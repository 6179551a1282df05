"""nfnetlink by struct (linux/netfilter/nfnetlink.h): dumps, requests that are acknowledged, transactions."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from topo.errors import KernelError
from topo.wire import HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSGHDR, message

NETLINK_NETFILTER: Final = 12
_NFNL_MSG_BATCH_BEGIN, _NFNL_MSG_BATCH_END = 16, 17
_SO_SNDBUFFORCE: Final = 32
_SPACE: Final = 1 << 24
_READING: Final = "reading netfilter's tables"
_CHANGING: Final = "changing netfilter's tables"
NFGENMSG: Final = struct.Struct(">BBH")  # family (NFPROTO_*), version, resource id
_ERRNO: Final = struct.Struct("=i")
_BUFFER: Final = 1 << 17
_ATTEMPTS: Final = 10
_PACKED: Final = 64  # acknowledged requests in one send: their answers must fit the receive buffer


class Entry(NamedTuple):
    """One message of a dump; `body` is what follows the nfgenmsg."""

    family: int
    body: bytes


def open_socket(large: bool = False) -> socket.socket:
    """A socket of this thread's network namespace; it stays there. `large`: with room for great transactions, where
    permitted."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    if large:
        with suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SPACE)
    sock.bind((0, 0))
    return sock


def dump(sock: socket.socket, kind: int, family: int = 0, only: bytes = b"") -> list[Entry]:
    """Every object of `kind` (subsystem << 8 | message). Repeated when it changed meanwhile.

    `only`: attributes by which the kernel chooses, where it does. Raises KernelError; a kernel without the subsystem
    says EINVAL or EOPNOTSUPP.
    """
    for _ in range(_ATTEMPTS):
        entries, whole = _dump_once(sock, kind, family, only)
        if whole:
            return entries
    raise KernelError(errno.EINTR, "it kept changing while it was read", doing=_READING)


def _dump_once(sock: socket.socket, kind: int, family: int, only: bytes) -> tuple[list[Entry], bool]:
    sock.send(message(kind, NLM_F_DUMP, 1, NFGENMSG.pack(family, 0, 0) + only))
    entries: list[Entry] = []
    whole = True
    while True:
        for answer, flags, data in _messages(sock.recv(_BUFFER)):
            if answer in (NLMSG_ERROR, NLMSG_DONE):
                number = -_ERRNO.unpack_from(data)[0]
                if number > 0:
                    raise KernelError(number, doing=_READING)
                return entries, whole
            whole = whole and not flags & NLM_F_DUMP_INTR
            entries.append(Entry(data[0], data[NFGENMSG.size :]))


def ask(sock: socket.socket, kind: int, body: bytes) -> list[Entry]:
    """The answers to a question about one thing, or a few; `body` is an nfgenmsg with attributes. Raises KernelError."""
    sock.send(message(kind, NLM_F_ACK, 1, body))
    entries: list[Entry] = []
    while True:
        for answer, _, data in _messages(sock.recv(_BUFFER)):
            if answer != NLMSG_ERROR:
                entries.append(Entry(data[0], data[NFGENMSG.size :]))
            elif number := -_ERRNO.unpack_from(data)[0]:
                raise KernelError(number, doing=_READING)
            else:
                return entries


def request(sock: socket.socket, kind: int, bodies: Iterable[bytes]) -> list[int]:
    """Send requests, each an nfgenmsg with its attributes; the errno of each, 0 for those that were done."""
    waiting = list(bodies)
    answers: list[int] = []
    for start in range(0, len(waiting), _PACKED):
        part = waiting[start : start + _PACKED]
        sock.send(b"".join(message(kind, NLM_F_ACK, seq, body) for seq, body in enumerate(part)))
        found = 0
        while found < len(part):
            for answer, _, data in _messages(sock.recv(_BUFFER)):
                if answer == NLMSG_ERROR:
                    answers.append(-_ERRNO.unpack_from(data)[0])
                    found += 1
    return answers


def transact(sock: socket.socket, subsystem: int, messages: Sequence[tuple[int, int, bytes]]) -> None:
    """Send messages (kind, flags, body with its nfgenmsg) as one transaction of a subsystem: all of them, or none.

    Raises KernelError with the reason for which the kernel refused the first of those that it refused.
    """
    here, last = NFGENMSG.pack(0, 0, subsystem), len(messages)
    packed = [message(_NFNL_MSG_BATCH_BEGIN, 0, 0, here)]
    packed += [
        message(kind, flags | (NLM_F_ACK if seq == last else 0), seq, body)
        for seq, (kind, flags, body) in enumerate(messages, 1)
    ]
    answers: dict[int, int] = {}
    try:
        sock.send(b"".join((*packed, message(_NFNL_MSG_BATCH_END, 0, 0, here))))
        with suppress(BlockingIOError):  # the kernel has worked inside of send()
            while True:
                for answer, _, data in _messages(sock.recv(_BUFFER, socket.MSG_DONTWAIT)):
                    if answer == NLMSG_ERROR:
                        answers[NLMSGHDR.unpack_from(data, _ERRNO.size)[3]] = -_ERRNO.unpack_from(data)[0]
    except OSError as error:
        raise KernelError(error.errno or 0, doing=_CHANGING) from None
    if number := next((answers[seq] for seq in sorted(answers) if answers[seq]), 0):
        raise KernelError(number, doing=_CHANGING)
    if last not in answers:
        raise KernelError(errno.EPROTO, "the kernel did not say that it was done", doing=_CHANGING)


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + HEADER_SIZE <= len(data):
        size, kind, flags, _, _ = NLMSGHDR.unpack_from(data, at)
        yield kind, flags, data[at + HEADER_SIZE : at + size]
        at += (size + 3) & ~3
