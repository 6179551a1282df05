"""rtnetlink sockets (netlink(7), rtnetlink(7)): dumps, and batches of requests that are answered only by failures.

A batch is sent without NLM_F_ACK: the kernel works inside send() and reports each refusal with its sequence
number, errno and extended ack. A batch goes on after a refusal.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from topo.errors import KernelError
from topo.kinds.alike import LEAST, Block, uniform
from topo.wire import (
    HEADER_SIZE,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSGHDR,
    S32,
    STR,
    attributes,
    message,
)

_SOL_NETLINK: Final = 270
_CAP_ACK, _EXT_ACK, _GET_STRICT_CHK = 10, 11, 12  # NETLINK_* of linux/netlink.h
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER: Final = 1 << 16
_SPACE: Final = 1 << 24
_ATTEMPTS: Final = 20
_NLMSGERR_ATTR_MSG: Final = 1

Messages = list[tuple[int, bytes, int, int]]
"""(message type, buffer, offset of the body, end of the message)"""


class Refusal(NamedTuple):
    seq: int
    errno: int
    extack: str


def open_socket(large: bool = False, protocol: int = 0) -> socket.socket:
    """A socket of this thread's namespace; it stays there. `large`: with room for great batches, where permitted.
    `protocol`: NETLINK_ROUTE, or another whose messages are framed alike."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    for option in (_EXT_ACK, _CAP_ACK, _GET_STRICT_CHK):
        sock.setsockopt(_SOL_NETLINK, option, 1)
    if large:
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            try:
                sock.setsockopt(socket.SOL_SOCKET, option, _SPACE)
            except PermissionError:
                break
    sock.bind((0, 0))
    return sock


def dump(sock: socket.socket, kind: int, body: bytes) -> Messages:
    """Every object of a table. Repeated when the table changed meanwhile.

    Raises KernelError, also for an error that comes in NLMSG_DONE.
    """
    return dump_blocks(sock, kind, body, blocks=False)[0]


def dump_blocks(sock: socket.socket, kind: int, body: bytes, blocks: bool = True) -> tuple[Messages, list[Block]]:
    """As `dump`; what comes in blocks of messages of one size, with nothing else between them, apart and whole."""
    for _ in range(_ATTEMPTS):
        found = _dump_once(sock, kind, body, blocks)
        if found is not None:
            return found
    raise KernelError(errno.EINTR, "it kept changing while it was read", doing="reading the kernel's tables")


def _dump_once(sock: socket.socket, kind: int, body: bytes, blocks: bool) -> tuple[Messages, list[Block]] | None:
    sock.send(message(kind, NLM_F_DUMP, 1, body))
    found: Messages = []
    whole: list[Block] = []
    seen = 0
    header = NLMSGHDR.unpack_from
    while True:
        data = sock.recv(_BUFFER)
        if blocks and (block := _block(data)):
            whole.append(block)
            continue
        at, end = 0, len(data)
        while at < end:
            size, answer, flags, _, _ = header(data, at)
            seen |= flags
            if answer > NLMSG_DONE:
                found.append((answer, data, at + HEADER_SIZE, at + size))
            elif answer == NLMSG_ERROR or (answer == NLMSG_DONE and size >= HEADER_SIZE + 4):
                number = -S32.unpack(data[at + HEADER_SIZE :])
                if number > 0:
                    raise KernelError(number, extack(data, at, size, flags), doing="reading the kernel's tables")
                if answer == NLMSG_DONE:
                    return None if seen & NLM_F_DUMP_INTR else (found, whole)
            elif answer == NLMSG_DONE:
                return None if seen & NLM_F_DUMP_INTR else (found, whole)
            at += (size + 3) & ~3


def _block(data: bytes) -> Block | None:
    """`data` as a block; None where it is none, or anything but objects is in it, or the dump was disturbed."""
    size, answer, flags, _, _ = NLMSGHDR.unpack_from(data, 0)
    if answer <= NLMSG_DONE or flags & NLM_F_DUMP_INTR or size & 3 or len(data) % size or len(data) < LEAST * size:
        return None
    block = Block(data, size)
    return block if uniform(block, 0, 8) else None  # size, type and flags


def gathered(found: Messages) -> tuple[Messages, list[Block]]:
    """Messages of one size that came one behind the other as blocks, and the rest."""
    rest: Messages = []
    blocks: list[Block] = []
    first = 0
    for i in range(1, len(found) + 1):
        _, data, at, end = found[i - 1]
        size = end - at + HEADER_SIZE
        if i < len(found) and found[i][1] is data and found[i][2] == at + size and found[i][3] == end + size:
            continue
        if i - first < LEAST or size & 3:
            rest += found[first:i]
        else:
            blocks.append(Block(data[found[first][2] - HEADER_SIZE : end], size))
        first = i
    return rest, blocks


def messages(block: Block) -> Messages:
    """The messages of a block, one by one."""
    data, size = block
    kind = NLMSGHDR.unpack_from(data, 0)[1]
    return [(kind, data, at + HEADER_SIZE, at + size) for at in range(0, len(data), size)]


def send(sock: socket.socket, messages: Sequence[bytes]) -> list[Refusal]:
    """Send a batch; what the kernel refused. Raises OSError where the socket itself fails."""
    sock.send(b"".join(messages))
    return list(_refusals(sock))


def _refusals(sock: socket.socket) -> Iterator[Refusal]:
    while True:
        try:
            data = sock.recv(_BUFFER, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            size, answer, flags, seq, _ = NLMSGHDR.unpack_from(data, at)
            if answer == NLMSG_ERROR and (number := -S32.unpack(data[at + HEADER_SIZE :])):
                yield Refusal(seq, number, extack(data, at, size, flags))
            at += (size + 3) & ~3


def ask(sock: socket.socket, kind: int, body: bytes) -> tuple[bytes, int, int]:
    """One object. Returns (buffer, offset of the body, end). Raises KernelError."""
    sock.send(message(kind, 0, 1, body))
    data = sock.recv(_BUFFER)
    size, answer, flags, _, _ = NLMSGHDR.unpack_from(data, 0)
    if answer == NLMSG_ERROR:
        raise KernelError(-S32.unpack(data[HEADER_SIZE:]), extack(data, 0, size, flags))
    return data, HEADER_SIZE, size


def extack(data: bytes, at: int, size: int, flags: int) -> str:
    """The kernel's own words: NLMSGERR_ATTR_MSG behind the echoed header (linux/netlink.h)."""
    if not flags & NLM_F_ACK_TLVS:
        return ""
    echoed = at + HEADER_SIZE + 4
    if echoed + HEADER_SIZE > at + size:
        return ""
    length = HEADER_SIZE if flags & NLM_F_CAPPED else (NLMSGHDR.unpack_from(data, echoed)[0] + 3) & ~3
    words = attributes(data, echoed + length, at + size).get(_NLMSGERR_ATTR_MSG)
    return STR.unpack(words) if words else ""
