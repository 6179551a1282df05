"""Where a run of topo touches anything, from outside of topo: each touch is a *step*, counted from 1.

A step is one rtnetlink message or nfnetlink batch, one system call on namespaces, mounts, sysctls, TUN devices, and on
files under /run. The seams are the calls of Python's library and of libc that every such touch goes through, replaced in
a child process (`running.run`); topo itself knows nothing of it. At the step that a `Fault` names the process is
killed, or the call is refused in the kernel's manner. The messages of one send are steps of their own: the kernel
takes them one by one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, NamedTuple

from topo.kernel import netns, nftables
from topo.wire import NLMSGHDR

KILL: Final = "kill"
REFUSE: Final = "refuse"
DO: Final = "do"  # a command is run, behind topo's back
STALE: Final = "stale"  # a dump says that the table changed while it was read (NLM_F_DUMP_INTR)

_NETFILTER: Final = 12
_GET: Final = 2  # the last two bits of an RTM_GET* type (linux/rtnetlink.h)
_DUMP, _INTR = 0x300, 0x10  # NLM_F_DUMP, NLM_F_DUMP_INTR
_CAPPED, _TLVS = 0x100, 0x200  # NLM_F_CAPPED, NLM_F_ACK_TLVS
_ERROR: Final = 2  # NLMSG_ERROR
_CT_DELETE: Final = 1 << 8 | 2
_BEGIN: Final = 0x10  # NFNL_MSG_BATCH_BEGIN
_WATCHED: Final = ("/run/", "/proc/sys/", "/dev/net/")
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT
WORDS: Final = b"refused by a test\0"


class Fault(NamedTuple):
    """What goes wrong: `what` happens at the steps `at`, and, with `on`, at every step from the last of `at` on.

    `reads`: questions are counted, too.
    """

    what: str = ""
    at: Collection[int] = ()
    number: int = 0  # an errno
    on: bool = False
    reads: bool = False
    command: str = ""

    def hits(self, step: int) -> bool:
        return step in self.at or (self.on and step > max(self.at))


class Seams:
    """Installed once, in a process that is for this alone. `log`: a descriptor that a line per step is written to."""

    def __init__(self, fault: Fault, log: int) -> None:
        self.fault, self.log = fault, log
        self.count = 0
        self.answers: dict[socket.socket, list[bytes]] = defaultdict(list)
        self.stale: set[socket.socket] = set()
        self.write = os.write
        self.attempts = False  # whether nftables is asked for a transaction that is given up

    def step(self, words: str, read: bool = False) -> int:
        """The errno with which this step is to be refused, 0 for none; KILL is up to the caller, by `dies`."""
        if read and not self.fault.reads:
            return 0
        self.count += 1
        self.write(self.log, f"{words}\n".encode(errors="replace"))
        if self.fault.what == DO and self.fault.hits(self.count):
            self._do(self.fault.command)
        return self.fault.number if self.fault.what == REFUSE and self.fault.hits(self.count) else 0

    @staticmethod
    def _do(command: str) -> None:
        """In a process of its own, which is where this one was when it began."""
        subprocess.run(["nsenter", f"--net=/proc/{os.getpid()}/ns/net", "sh", "-c", command], check=False)

    def dies(self) -> bool:
        return self.fault.what == KILL and self.fault.hits(self.count)

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        socket.socket.send = self._send(socket.socket.send)  # type: ignore[method-assign]
        socket.socket.recv = self._recv(socket.socket.recv)  # type: ignore[method-assign]
        for module, names in (
            (os, ("unlink", "rename", "mkdir", "rmdir", "fsync", "utime", "link")),
            (netns, ("unshare", "mount", "umount")),
            (fcntl, ("ioctl",)),
        ):
            for name in names:
                setattr(module, name, self._call(name, getattr(module, name)))
        os.open = self._open(os.open)
        nft: Any = nftables.Nftables
        nft._run = self._nft(nft._run)
        nft.attempt = self._attempt(nft.attempt)

    # Calls

    def _call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self._before(f"{name} {' '.join(str(a) for a in arguments[:2])}")
            return real(*arguments, **more)

        return call

    def _before(self, words: str, read: bool = False) -> None:
        number = self.step(words, read)
        if self.dies():
            self.die()
        if number:
            raise OSError(number, os.strerror(number))

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if str(path).startswith(_WATCHED) and not flags & os.O_DIRECTORY:
                writes = bool(flags & _WRITING)
                self._before(f"open {path}", read=not writes)
            return real(path, flags, *more, **named)

        return call

    def _nft(self, real: Callable[..., str]) -> Callable[..., str]:
        def call(context: Any, commands: list[dict[str, Any]]) -> str:
            read = self.attempts or all("list" in command for command in commands)
            try:
                self._before("nft --check" if self.attempts else "nft list" if read else "nft", read)
            except OSError as error:
                raise nftables._error(f"Error: Could not process rule: {error.strerror}") from None
            return real(context, commands)

        return call

    def _attempt(self, real: Callable[..., None]) -> Callable[..., None]:
        """A transaction that is given up is a question."""

        def call(context: Any, commands: list[dict[str, Any]]) -> None:
            self.attempts = True
            try:
                real(context, commands)
            finally:
                self.attempts = False

        return call

    # Netlink

    def _send(self, real: Callable[..., int]) -> Callable[..., int]:
        def send(sock: socket.socket, data: bytes, *flags: int) -> int:
            if sock.family != socket.AF_NETLINK:
                return real(sock, data, *flags)
            passed: list[bytes] = []
            for message in _asked(sock, data):
                self._ask(real, sock, message, passed)
            if passed:
                real(sock, b"".join(passed), *flags)
            return len(data)

        return send

    def _ask(self, real: Callable[..., int], sock: socket.socket, message: bytes, passed: list[bytes]) -> None:
        """Let `message` through, answer it ourselves, or let those before it through and die."""
        _, kind, flags, seq, _ = NLMSGHDR.unpack_from(message)
        read = _reads(sock, kind, flags)
        number = self.step(f"{'ask' if read else 'tell'} netlink {sock.proto} type {kind}", read)
        if self.dies():
            if passed:
                real(sock, b"".join(passed))
            self.die()
        if number:
            self.answers[sock].append(_refusal(message, seq, number))
            return
        if self.fault.what == STALE and read and self.fault.hits(self.count):
            self.stale.add(sock)
        passed.append(message)

    def _recv(self, real: Callable[..., bytes]) -> Callable[..., bytes]:
        def recv(sock: socket.socket, *arguments: int) -> bytes:
            if self.answers[sock]:
                return self.answers[sock].pop(0)
            data = real(sock, *arguments)
            if sock in self.stale:
                self.stale.discard(sock)
                size, kind, flags, seq, pid = NLMSGHDR.unpack_from(data)
                data = NLMSGHDR.pack(size, kind, flags | _INTR, seq, pid) + data[NLMSGHDR.size :]
            return data

        return recv


def _asked(sock: socket.socket, data: bytes) -> Iterator[bytes]:
    """What the kernel takes one by one: each message, or a batch of nfnetlink's as a whole."""
    if sock.proto == _NETFILTER and NLMSGHDR.unpack_from(data)[1] == _BEGIN:
        yield data
        return
    at = 0
    while at < len(data):
        size = NLMSGHDR.unpack_from(data, at)[0]
        yield data[at : at + ((size + 3) & ~3)]
        at += (size + 3) & ~3


def _reads(sock: socket.socket, kind: int, flags: int) -> bool:
    if sock.proto == _NETFILTER:
        return kind not in (_BEGIN, _CT_DELETE)
    return kind & 3 == _GET


def _refusal(message: bytes, seq: int, number: int) -> bytes:
    """An error as the kernel sends it with NETLINK_EXT_ACK and NETLINK_CAP_ACK."""
    words = struct.pack("=HH", 4 + len(WORDS), 1) + WORDS + bytes(-len(WORDS) % 4)
    body = struct.pack("=i", -number) + message[: NLMSGHDR.size] + words
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), _ERROR, _CAPPED | _TLVS, seq, 0) + body


ERRORS: Final = (
    errno.EEXIST, errno.EBUSY, errno.ENOMEM, errno.ENOBUFS, errno.ENODEV, errno.EPERM, errno.EINTR, errno.EINVAL,
)  # fmt: skip
