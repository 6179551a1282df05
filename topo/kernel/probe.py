"""Probes from inside namespaces: ICMP echo, TCP connect and UDP by plain sockets, all at once.

No program is run. A worker thread moves from namespace to namespace to open sockets (a socket
stays in the namespace that it was opened in) and then waits for all of them together.
"""

from __future__ import annotations

import errno
import heapq
import os
import random
import resource
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Protocol

from topo.facts import HOST, Check
from topo.kernel.netns import here, setns

REACHABLE: Final = "reachable"
BLOCKED: Final = "blocked"
ERROR: Final = "error"

_PATIENCE: Final = 0.25  # seconds until the second attempt; each later one waits twice as long,
_MOST_PATIENCE: Final = 1.0  # but no longer than this,
_ALIVE: Final = 2  # and so many attempts of one check may still be answered
_MOST_AT_ONCE: Final = 4096
_SPARE_FILES: Final = 64
_LONGEST_WAIT: Final = 0.2  # seconds until the worker looks whether it is to stop
_REFUSALS: Final[Mapping[int, str]] = {
    errno.ECONNREFUSED: "connection refused",  # a reset, or ICMP port unreachable
    errno.EACCES: "prohibited by a route or rule",
    errno.EPERM: "dropped by the sender's own firewall",
    errno.EINVAL: "swallowed by a blackhole route",
}
"""Definite answers of the network; any other error may pass, and is waited out."""

_RECVERR: Final = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR and IPV6_RECVERR of linux/in.h and in6.h: ICMP errors of routers reach the socket at once."""

# A question that DNS servers answer (RFC 1035: the root's NS) and that echo servers send back.
_QUESTION: Final = struct.pack(">6H", 0x746F, 0x0100, 1, 0, 0, 0) + b"\0" + struct.pack(">2H", 2, 1)


class Answer(NamedTuple):
    """What a probe found: `outcome` is reachable, blocked, or error where it could not be run at all."""

    outcome: str
    detail: str
    seconds: float


class _CannotRunError(Exception):
    """A probe that no retry helps."""


class _Attempt(Protocol):
    sock: socket.socket
    events: int

    def finish(self) -> str | None:
        """Words on success, None to wait on. Raises OSError where the network refuses."""


class _Ping:
    """ICMP and ICMPv6 echo by a connected raw socket, which hears its target only."""

    events = selectors.EVENT_READ

    def __init__(self, check: Check) -> None:
        self.sock, address = _open(check, socket.SOCK_RAW, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
        self.v6 = self.sock.family == socket.AF_INET6
        self.ident = random.randrange(1, 0x10000).to_bytes(2, "big")
        with _closed_on_error(self.sock):
            self.sock.connect(address)
            self.sock.send(_echo(self.v6, self.ident))

    def finish(self) -> str | None:
        data = self.sock.recv(2048)
        if not self.v6:
            data = data[(data[0] & 15) * 4 :]  # an ICMP raw socket delivers the IP header too (raw(7))
        if data[:1] != (b"\x81" if self.v6 else b"\0") or data[4:6] != self.ident:
            return None
        return "answered"


class _Tcp:
    events = selectors.EVENT_WRITE

    def __init__(self, check: Check) -> None:
        self.sock, address = _open(check, socket.SOCK_STREAM)
        with _closed_on_error(self.sock):
            number = self.sock.connect_ex(address)
            if number not in (0, errno.EINPROGRESS):
                raise OSError(number, os.strerror(number))

    def finish(self) -> str | None:
        number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        return "connected"


class _Udp:
    """UDP has no handshake: any datagram that comes back is the answer."""

    events = selectors.EVENT_READ

    def __init__(self, check: Check) -> None:
        self.sock, address = _open(check, socket.SOCK_DGRAM)
        with _closed_on_error(self.sock):
            self.sock.connect(address)
            self.sock.send(_QUESTION)

    def finish(self) -> str | None:
        self.sock.recv(2048)
        return "answered"


_METHODS: Final[Mapping[str, type[_Ping | _Tcp | _Udp]]] = {"ping": _Ping, "tcp": _Tcp, "udp": _Udp}


@contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except OSError:
        sock.close()
        raise


def _open(check: Check, kind: int, protocol: int = 0, protocol6: int = 0) -> tuple[socket.socket, tuple[Any, ...]]:
    """A non-blocking socket of the address's family, and the address in the form which that family takes."""
    try:
        found = socket.getaddrinfo(check.address, check.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror as error:
        raise _CannotRunError(f"{check.address}: {error.strerror}") from None
    family, address = found[0][0], found[0][4]
    if family == socket.AF_INET6 and check.address.lower().startswith("fe80:") and "%" not in check.address:
        raise _CannotRunError(f"{check.address}: a link-local address needs its interface, as in fe80::1%eth0")
    number = protocol6 if family == socket.AF_INET6 else protocol
    try:
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, number)
    except PermissionError:
        raise _CannotRunError("a raw socket is not permitted (CAP_NET_RAW is missing)") from None
    sock.setsockopt(*_RECVERR[socket.AddressFamily(family)], 1)
    return sock, address


def _echo(v6: bool, ident: bytes) -> bytes:
    """An echo request (RFC 792, RFC 4443). The kernel fills in the checksum of ICMPv6 (RFC 3542, 3.1)."""
    packet = struct.pack(">BBH", 128 if v6 else 8, 0, 0) + ident + ident + b"topo" * 4
    if v6:
        return packet
    total = sum(struct.unpack(f">{len(packet) // 2}H", packet))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return packet[:2] + struct.pack(">H", ~total & 0xFFFF) + packet[4:]


class _Watch:
    """One check under way: attempts follow each other until one succeeds or the time is over."""

    __slots__ = ("attempts", "check", "patience", "refusal", "started")

    def __init__(self, check: Check) -> None:
        self.check = check
        self.started = time.monotonic()
        self.patience = _PATIENCE
        self.attempts: list[_Attempt] = []
        self.refusal: OSError | None = None

    @property
    def deadline(self) -> float:
        return self.started + self.check.within

    def next_attempt_at(self, now: float) -> float:
        at = min(now + self.patience, max(self.deadline, now))
        self.patience = min(self.patience * 2, _MOST_PATIENCE)
        return at

    def answer(self, outcome: str, detail: str) -> Answer:
        return Answer(outcome, detail, time.monotonic() - self.started)

    def given_up(self) -> Answer:
        if self.refusal is None:
            return self.answer(BLOCKED, f"no answer within {self.check.within:g} s")
        words = os.strerror(self.refusal.errno or 0)
        return self.answer(BLOCKED, _REFUSALS.get(self.refusal.errno or 0, words[:1].lower() + words[1:]))


class _Prober:
    """Runs every watch from one thread, as many at once as there are file descriptors for."""

    def __init__(self, checks: Sequence[Check], paths: Mapping[str, str], stop: threading.Event) -> None:
        self.checks, self.paths, self.stop = checks, paths, stop
        self.answers: dict[int, Answer] = {}
        self.selector = selectors.DefaultSelector()
        self.due: list[tuple[float, int]] = []
        self.active: dict[int, _Watch] = {}

    def run(self) -> None:
        room = _room()
        waiting = iter(range(len(self.checks)))
        with self.selector:
            while not self.stop.is_set():
                while len(self.active) < room and (number := next(waiting, None)) is not None:
                    self._start(number)
                if not self.active:
                    break
                self._wait()
            for watch in self.active.values():
                self._close(watch)

    def _start(self, number: int) -> None:
        self.active[number] = _Watch(self.checks[number])
        self._try(number)

    def _wait(self) -> None:
        timeout = max(0.0, min(self.due[0][0] - time.monotonic(), _LONGEST_WAIT)) if self.due else 0.0
        for key, _ in self.selector.select(timeout):
            self._heard(*key.data)
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            number = heapq.heappop(self.due)[1]
            watch = self.active.get(number)
            if watch is None:
                continue
            if now >= watch.deadline:
                self._settle(number, watch.given_up())
            else:
                self._try(number)

    def _try(self, number: int) -> None:
        """A new attempt, on a new socket in the check's namespace."""
        watch = self.active[number]
        self._close(watch, keep=_ALIVE - 1)
        heapq.heappush(self.due, (watch.next_attempt_at(time.monotonic()), number))
        try:
            self._enter(watch.check.source)
            attempt = _METHODS[watch.check.method](watch.check)
        except _CannotRunError as error:
            self._settle(number, watch.answer(ERROR, str(error)))
        except OSError as error:
            self._refused(number, error)
        else:
            watch.attempts.append(attempt)
            self.selector.register(attempt.sock, attempt.events, (number, attempt))

    def _enter(self, ns: str) -> None:
        try:
            fd = os.open(self.paths[ns], os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(fd)
            finally:
                os.close(fd)
        except (KeyError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not applied"
            raise _CannotRunError(f"namespace {ns} cannot be entered: {why}") from None

    def _heard(self, number: int, attempt: _Attempt) -> None:
        watch = self.active.get(number)
        if watch is None or attempt not in watch.attempts:
            return
        try:
            words = attempt.finish()
        except BlockingIOError:
            return
        except OSError as error:
            watch.attempts.remove(attempt)
            self._end(attempt)
            self._refused(number, error)
        else:
            if words is not None:
                self._settle(number, watch.answer(REACHABLE, words))

    def _refused(self, number: int, error: OSError) -> None:
        watch = self.active[number]
        watch.refusal = error
        if watch.check.expect == BLOCKED and error.errno in _REFUSALS:
            self._settle(number, watch.given_up())

    def _settle(self, number: int, answer: Answer) -> None:
        self._close(self.active.pop(number))
        self.answers[number] = answer

    def _close(self, watch: _Watch, keep: int = 0) -> None:
        """Give up a check's oldest attempts, all but `keep`."""
        while len(watch.attempts) > keep:
            self._end(watch.attempts.pop(0))

    def _end(self, attempt: _Attempt) -> None:
        self.selector.unregister(attempt.sock)
        attempt.sock.close()


def _room() -> int:
    """How many checks may be under way at once: each has up to two sockets."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_AT_ONCE
    used = len(os.listdir("/proc/self/fd"))
    return max(1, min(_MOST_AT_ONCE, (soft - used - _SPARE_FILES) // _ALIVE))


def probe(checks: Sequence[Check], paths: Mapping[str, str]) -> list[Answer]:
    """Run `checks`, all at once, each tried again until it succeeds or its `within` is over.

    `paths`: namespace -> the path of its file (/run/netns/web); the host's may be left out.
    A check that expects `blocked` ends early only by a definite refusal: silence takes its whole time.
    An error of one check is its answer; nothing is raised.
    """
    home = here()
    stop = threading.Event()
    prober = _Prober(checks, {HOST: f"/proc/self/fd/{home}", **paths}, stop)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            prober.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            failed.append(error)

    worker = threading.Thread(target=work, name="topo-probe")  # its namespace changes, so it is not used again
    try:
        worker.start()
        worker.join()
    finally:  # on Ctrl-C too
        stop.set()
        worker.join()
        os.close(home)
    if failed:
        raise failed[0]
    return [prober.answers[number] for number in range(len(checks))]
