"""Confirm, or it goes back: a run that is taken back by itself unless somebody says in time that it may stay.

Before the kernel is touched a *note* is written beside the record (`/run/topo/.NAME.confirm`), and a *watchdog* is
started: a process in a session of its own, without a terminal, that needs neither the run nor who started it. When the
time is over it applies what was applied before, or destroys the topology where nothing was. Whoever changes a note holds
the topology's lock. The time is CLOCK_BOOTTIME's, which goes on while a machine sleeps.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import syslog
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from topo.changes import OWNER
from topo.engine import locks
from topo.engine import record as records
from topo.engine.apply import KernelLike, Report, State, apply, destroy
from topo.errors import ApplyError, KernelError, LockError, RevertedError, TopoError, UnconfirmedError
from topo.facts import OWN, Desired
from topo.file.lowering import lower
from topo.file.model import Topology
from topo.kernel.outcome import Progress

_FORMAT: Final = 1
_LOOK: Final = 5.0  # seconds after which a watchdog looks whether it is still needed, whatever happens
_ATTEMPTS: Final = 10  # to go back
_PAUSE: Final = 3.0  # seconds between them
_PATIENCE: Final = 10.0  # seconds that starting a watchdog may take


Process = tuple[int, int]
"""A process: its pid, and when it started, in clock ticks since boot (proc(5)): pids are used again."""

Revert = Callable[[str, Process], object]
"""What a watchdog calls in the end, with the topology's name and with who it is."""


class Terminal(NamedTuple):
    """A terminal that a word may be said on later, and what tells it from another one of its name."""

    path: str
    inode: int
    changed: int  # ctime, in ns


class Note(NamedTuple):
    """A run of `topology` that is to be confirmed, or, from `reverted` on, was gone back from.

    `before`: the document to go back to, None for nothing at all. `seconds`: how long one may take to confirm.
    `deadline`: on CLOCK_BOOTTIME. `reverted`: when it was, in seconds since 1970, else 0. `problem`: why it could not be.
    """

    topology: str
    before: dict[str, Any] | None
    seconds: float
    deadline: float
    watchdog: Process = (0, 0)
    reverted: float = 0.0
    problem: str = ""

    @property
    def remaining(self) -> float:
        """Seconds until it goes back; negative where that is over."""
        return self.deadline - _now()

    @property
    def watched(self) -> bool:
        """Whether its watchdog lives."""
        pid, started = self.watchdog
        return bool(pid) and _started(pid) == started

    def outlook(self) -> str:
        """What will come of it, in words: reverts in 23 s."""
        if self.problem:
            return f"could not be reverted: {self.problem}"
        if not self.watched:
            return "its watchdog is gone, so it does not revert by itself"
        return f"reverts in {self.remaining:.0f} s" if self.remaining > 0 else "is being reverted"


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _started(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


# The note


def _path(name: str) -> Path:
    return records.DIRECTORY / f".{name}.confirm"


def names() -> list[str]:
    """The topologies that have a note."""
    return sorted(path.name[1:].removesuffix(".confirm") for path in records.DIRECTORY.glob(".*.confirm"))


def load(name: str) -> Note | None:
    """The note of a topology; None where there is none, or it is of another boot, or damaged."""
    try:
        data = json.loads(records.read(_path(name)) or b"")
        if (data.pop("format"), data.pop("boot")) != (_FORMAT, records.boot()):
            return None
        return Note(**{**data, "watchdog": tuple(data["watchdog"])})
    except (records.DamagedError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def damaged(name: str) -> bool:
    """Whether there is a note that cannot be read: cut short, of another version, or of another boot."""
    return os.path.lexists(_path(name)) and load(name) is None


def pending(name: str) -> Note | None:
    """The note of a topology that is still to be confirmed."""
    note = load(name)
    return note if note and not note.reverted else None


def save(note: Note) -> None:
    """Raises KernelError."""
    data = {"format": _FORMAT, "boot": records.boot(), **note._asdict()}
    records.write(_path(note.topology), data)


def forget(name: str) -> None:
    """Take the note away, and end its watchdog: this stays as it is."""
    note = load(name)
    try:
        records.discard(_path(name))
    except KernelError:
        if note:
            raise
    if note:
        _dismiss(note)


def _dismiss(note: Note) -> None:
    """End the watchdog of a note. The caller holds the lock, so that it is not at work."""
    pid, started = note.watchdog
    if not pid:
        return
    with suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            if _started(pid) == started:
                signal.pidfd_send_signal(fd, signal.SIGTERM)
        finally:
            os.close(fd)


# One run


class Watch:
    """What keeps watch over one run of `apply`."""

    def __init__(self, name: str, seconds: float, revert: Revert) -> None:
        self.name, self.seconds, self.revert = name, seconds, revert
        self.earlier = pending(name)
        self.note: Note | None = None

    def arm(self, state: State) -> None:
        """The kernel is about to be touched. Raises UnconfirmedError where one could not go back, KernelError."""
        applied = state.record.applied if state.record else None
        before = self.earlier.before if self.earlier else applied
        _can_go_back(state, before)
        self._start(before)

    def _start(self, before: dict[str, Any] | None) -> None:
        self.note = _start(Note(self.name, before, self.seconds, _now() + self.seconds), self.revert)

    def succeeded(self) -> float | None:
        """The run is over, and the time counts from now; None where there is nothing to confirm. A run that changed
        nothing gives one that is unconfirmed more time."""
        if self.note is None and self.earlier:
            self._start(self.earlier.before)
        if self.note is None:
            forget(self.name)
            return None
        if self.earlier:
            _dismiss(self.earlier)
        self.note = self.note._replace(deadline=_now() + self.seconds)
        save(self.note)
        return self.seconds

    def undone(self) -> None:
        """Nothing of the run is left."""
        if self.note is None:
            return
        if self.earlier:
            save(self.earlier)
        else:
            records.discard(_path(self.name))
        _dismiss(self.note)


def watched(name: str, seconds: float, revert: Revert, run: Callable[..., Report]) -> Report:
    """An `apply` (`run`, short of `ready`) that is gone back from unless it is confirmed in time. The caller holds the
    locks. Raises UnconfirmedError where one could not go back, and what `run` raises."""
    watch = Watch(name, seconds, revert)
    try:
        report = run(ready=watch.arm)
    except BaseException as error:
        if not isinstance(error, ApplyError) or error.undone:
            watch.undone()
        raise
    return report._replace(reverts_in=watch.succeeded())


def _can_go_back(state: State, before: dict[str, Any] | None) -> None:
    name = state.plan.topology
    if any(OWNER in change.attrs for change in state.plan.changes):
        raise UnconfirmedError(
            f"{name}: what is adopted cannot be given back: apply with --adopt first, without --confirm"
        )
    if before is None:
        if state.record is None and any(fact.origin == OWN for fact in state.live.facts.values()):
            raise UnconfirmedError(
                f"{name}: its record is lost, so that nobody knows what to go back to: apply it first"
            )
        return
    try:
        lower(Topology.model_validate(before))
    except (ValueError, TopoError):
        raise UnconfirmedError(f"{name}: what is applied is of another version of topo: apply it first") from None


def refuse_unconfirmed(name: str) -> None:
    """A plain apply is no confirmation: whoever runs it, cron say, need not be who would be cut off."""
    if note := pending(name):
        raise UnconfirmedError(
            f"{name} is unconfirmed ({note.outlook()}): topo confirm {name} keeps it, topo confirm --revert {name} "
            "goes back now, and apply with --confirm changes it and begins the time anew"
        )


# Going back


def confirm(name: str) -> bool:
    """It may stay. Whether there was anything to confirm. The caller holds the lock. Raises RevertedError, UnconfirmedError."""
    note = load(name)
    if note is None:
        if there := damaged(name):  # its watchdog would go back all the same
            forget(name)
        return there
    if note.reverted:
        when = time.strftime("%H:%M:%S", time.localtime(note.reverted))
        raise RevertedError(f"{name}: too late: it was not confirmed within {note.seconds:g} s, and reverted at {when}")
    record = records.load(name)
    if record is not None and record.interrupted:
        raise UnconfirmedError(
            f"{name}: the run was killed midway, so there is nothing that could stay: it {note.outlook()}"
        )
    forget(name)
    return True


def go_back(kernel: KernelLike, note: Note, progress: Progress | None = None) -> Report:
    """To what was before. The caller holds the locks. Raises what `apply` and `destroy` raise."""
    name = note.topology
    if note.before is not None:
        report = apply(kernel, lowered(note), progress=progress)
    else:
        report = destroy(kernel, name, progress=progress)
    save(note._replace(before=None, reverted=time.time(), problem=""))
    return report


def lowered(note: Note) -> Desired:
    """What to go back to; nothing at all where nothing was."""
    return lower(Topology.model_validate(note.before)) if note.before is not None else Desired(note.topology, {})


# The watchdog


def _start(note: Note, revert: Revert) -> Note:
    """Start a watchdog, and write the note. The watchdog has been heard of when this returns."""
    terminal = _terminal()
    records.prepare()
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            try:
                child = os.fork()
            except OSError as error:
                raise KernelError(error.errno or 0, doing="starting the watchdog") from None
            if not child:
                _become_watchdog(theirs, note, revert, terminal)
        os.waitpid(child, 0)
        ours.settimeout(_PATIENCE)
        try:
            words = ours.recv(64).split()
        except TimeoutError:
            words = []
        if len(words) != 2:
            raise KernelError(0, "it did not answer", doing="starting the watchdog")
        note = note._replace(watchdog=(int(words[0]), int(words[1])))
        save(note)
    return note


def _become_watchdog(sock: socket.socket, note: Note, revert: Revert, terminal: Terminal | None) -> NoReturn:
    """In the child: leave all behind, and watch."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        _leave_all_behind(sock.fileno())
        me = os.getpid(), _started(os.getpid())
        sock.send(f"{me[0]} {me[1]}".encode())
        sock.recv(1)  # the end of it: the note is written, or who was to write it is dead
        sock.close()
        _watch(note._replace(watchdog=me), revert, terminal)
    finally:
        os._exit(0)


def _leave_all_behind(keep: int) -> None:
    """The terminal and its signals, the directory, and every open file: locks and namespaces would be held by them."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))


def _watch(known: Note, revert: Revert, terminal: Terminal | None) -> None:
    """Until it is confirmed, or gone back. `known`: the note as it is to begin with; the note of another watchdog is not
    this one's affair, and one that was damaged is written anew."""
    name, me = known.topology, known.watchdog
    attempts = 0
    while (note := _mended(known)) and note.watchdog == me:
        known = note
        if note.remaining > 0:
            time.sleep(min(note.remaining, _LOOK))
            continue
        try:
            revert(name, me)
        except LockError:  # somebody is at it for long
            continue
        except BaseException as error:  # noqa: BLE001 - nobody else is there to hear it
            attempts += 1
            problem = str(error) or type(error).__name__
            if attempts < _ATTEMPTS:
                time.sleep(_PAUSE)
                continue
            save(note._replace(problem=problem))
            _say(f"{name}: not confirmed within {note.seconds:g} s, and could not be reverted: {problem}", terminal)
            return
    if (note := load(name)) and note.reverted and note.watchdog == me:
        _say(f"{name}: not confirmed within {note.seconds:g} s: reverted", terminal)


def _mended(known: Note) -> Note | None:
    """The note that is still to be confirmed; `known` where it is damaged, and written anew unless somebody is at it."""
    name = known.topology
    if not damaged(name):
        return pending(name)
    with suppress(TopoError), locks.held([f"topology-{name}"], f"the watchdog of {name}"):
        if not damaged(name):
            return pending(name)
        save(known)
    return known


def _terminal() -> Terminal | None:
    for fd in (2, 1, 0):
        with suppress(OSError):
            path = os.ttyname(fd)
            found = os.stat(path)
            return Terminal(path, found.st_ino, found.st_ctime_ns)
    return None


def _say(words: str, terminal: Terminal | None) -> None:
    """To the system's log, and on the terminal where it still is the one that it was."""
    syslog.openlog("topo", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, words)
    if terminal is None:
        return
    with suppress(OSError):
        fd = os.open(terminal.path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(fd)
        if (found.st_ino, found.st_ctime_ns) == terminal[1:]:
            os.write(fd, f"\r\ntopo: {words}\r\n".encode())
        os.close(fd)
