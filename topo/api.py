"""The Python API: load, plan, apply, destroy, check. The command line uses nothing else.

Every function raises subclasses of `topo.TopoError` only, beside what Python itself raises for a wrong call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from topo.engine import apply as _apply
from topo.engine import check as _check
from topo.engine import confirm as _confirm
from topo.engine import doctor as _doctor
from topo.engine import impair as _impair
from topo.engine import known, locks
from topo.engine import record as records
from topo.engine.apply import Report
from topo.engine.check import CheckResult
from topo.engine.confirm import Note
from topo.engine.doctor import Diagnosis, Finding
from topo.engine.known import Lowered
from topo.engine.record import DamagedError, Record
from topo.errors import InputError
from topo.facts import HOST, Desired, Fact, Ref, namespace
from topo.file import loading
from topo.file.model import Topology
from topo.file.model.values import TopologyName
from topo.kernel import Kernel, netns, privileges
from topo.kernel.outcome import Progress
from topo.planning.plan import Plan, SavedPlan
from topo.reading import load, loads, lower, schema, uncollected

__all__ = [
    "Applied", "CheckResult", "Diagnosis", "Finding", "Plan", "Report", "SavedPlan", "Shown", "Topology",
    "applied", "apply", "check", "clear", "confirm", "destroy", "doctor", "enter", "impair", "impaired", "load", "loads",
    "lower", "plan", "revert", "schema", "show",
]  # fmt: skip


Impairments = Mapping[Ref, Fact]
"""Shaping that is laid over what files state, by ("shaping", namespace, (interface,))."""


class Applied(NamedTuple):
    """One topology that has a record on this host.

    `state`: applied, unconfirmed, interrupted, elsewhere or damaged; reverted where nothing but the word of that is left.
    `reverts_in`: seconds until an unconfirmed one goes back by itself, negative where that is overdue; None for others.
    `word`: what else there is to say of that: an overdue revert, and why, or one that was done.
    """

    name: str
    namespaces: int
    links: int
    applied_at: float
    state: str
    reverts_in: float | None = None
    word: str = ""


class Shown(NamedTuple):
    """One applied topology in full; `plan` is its drift, `namespaces` the paths of its namespaces."""

    name: str
    applied: Applied
    desired: Desired
    plan: Plan
    namespaces: dict[str, str]


@contextmanager
def _located(topology: Topology | None) -> Iterator[None]:
    """Errors that turn up only at run time (a missing NIC, a dead pid) get their place in the file too."""
    try:
        yield
    except InputError as error:
        raise (loading.located(error, topology) if topology else error) from None


@uncollected
def plan(topology: Topology, *, adopt: bool = False) -> Plan:
    """What `apply` would do. Changes nothing. Raises InputError, OwnershipError, UnsupportedError, KernelError."""
    desired = lower(topology)
    privileges.require("reading the live state of namespaces")
    with Kernel() as kernel, _located(topology):
        return _apply.prepare(kernel, desired, adopt=adopt).plan


@uncollected
def apply(
    what: Topology | Plan | SavedPlan,
    *,
    adopt: bool = False,
    keep: bool = False,
    confirm: float | None = None,
    progress: Progress | None = None,
) -> Report:
    """Make it so, and verify it. All or nothing: what fails is undone, unless `keep`.

    `confirm`: seconds within which `confirm(name)` is to come, or else a process of its own goes back to what was
    applied before. Until then no other apply is taken but one with `confirm`.
    A plan is refused (StaleError) when the live state has moved on since it was made. Raises ApplyError,
    VerifyError, OwnershipError, InputError, LockError, UnsupportedError.
    """
    topology = what if isinstance(what, Topology) else None
    expected = "" if isinstance(what, Topology) else what.fingerprint() if isinstance(what, Plan) else what.fingerprint
    if not isinstance(what, Topology):
        what = _planned(what.desired.document if isinstance(what, Plan) else what.document)
    desired = lower(what)
    privileges.require(f"applying {desired.name}")
    doing, lowered = f"topo apply {desired.name}", Lowered(desired)
    with Kernel() as kernel, _located(topology), _locked(kernel, desired.name, doing, desired, lowered):
        run = partial(
            _apply.apply, kernel, desired,
            adopt=adopt, keep=keep, expected=expected, progress=progress, lowered=lowered,
        )  # fmt: skip
        if confirm is not None:
            return _confirm.watched(desired.name, confirm, _overdue, run)
        _confirm.refuse_unconfirmed(desired.name)
        report = run()
        _confirm.forget(desired.name)  # the word of an earlier one that was reverted
        return report


def confirm(name: str) -> bool:
    """What was applied with `confirm` may stay. Whether there was anything to confirm.

    Raises RevertedError where it is too late, InputError where it is not applied, UnconfirmedError where
    it was killed midway.
    """
    with locks.held([f"topology-{_name(name)}"], f"topo confirm {name}"):
        if _confirm.load(name) is None and not _confirm.damaged(name) and records.load(name) is None:
            raise InputError(_not_applied(name))
        return _confirm.confirm(name)


@uncollected
def revert(name: str, *, progress: Progress | None = None) -> Report:
    """Go back at once from what is unconfirmed. Raises InputError where nothing is, and what `apply` raises."""
    privileges.require(f"reverting {_name(name)}")
    report = _revert(name, progress=progress)
    if report is None:
        raise InputError(f"{name}: there is nothing unconfirmed that could be reverted")
    return report


def _overdue(name: str, watchdog: _confirm.Process) -> None:
    """What a watchdog does in the end."""
    _revert(name, watchdog)


def _revert(name: str, watchdog: _confirm.Process | None = None, progress: Progress | None = None) -> Report | None:
    """Go back, unless it was confirmed, or begun anew with another watchdog, before the locks were had."""
    note = _confirm.pending(name)
    if note is None:
        return None
    before = _confirm.lowered(note)
    with Kernel() as kernel, _locked(kernel, name, f"topo confirm --revert {name}", before, Lowered(before)):
        note = _confirm.pending(name)
        if note is None or (watchdog and (note.watchdog != watchdog or note.remaining > 0)):
            return None
        report = _confirm.go_back(kernel, note, progress)
        if not watchdog:
            _confirm.forget(name)  # who asked for it need not be told
        return report


def _planned(document: Mapping[str, Any]) -> Topology:
    try:
        return Topology.model_validate(document)
    except ValidationError as error:
        raise InputError(f"this plan is damaged, or of another version of topo: {error}") from None


@uncollected
def destroy(what: Topology | str, *, keep: bool = False, progress: Progress | None = None) -> Report:
    """Remove everything that topo made for this topology, and put back what it changed. By name no file is needed."""
    desired = lower(what) if isinstance(what, Topology) else None
    name = desired.name if desired else _name(str(what))
    privileges.require(f"destroying {name}")
    lowered = Lowered(desired)
    with Kernel() as kernel, _locked(kernel, name, f"topo destroy {name}", desired, lowered):
        report = _apply.destroy(kernel, name, doubtful=desired, keep=keep, progress=progress, lowered=lowered)
        _confirm.forget(name)
        return report


def impaired(name: str) -> Impairments:
    """The impairments of an applied topology. Raises InputError where it is not applied."""
    return _record_to_impair(name).impaired


@uncollected
def impair(name: str, ns: str, interface: str, words: Mapping[str, str]) -> Report:
    """Lay shaping over what the file states for one interface, in place of it, until `clear` or `destroy`.

    `words`: those of `shaping` in a file, with values as a file has them. Nothing else is changed. Raises InputError,
    and what `apply` raises.
    """

    def laid(desired: Desired, was: Impairments) -> Impairments:
        fact = _impair.shaped(desired, ns, interface, words)
        return {**was, fact.ref: fact}

    return _impairments(name, laid)


@uncollected
def clear(name: str, ns: str | None = None, interface: str | None = None) -> Report:
    """Clear the impairments of one interface, of one namespace's interfaces, or all; what the file states is back.

    What is not impaired is no error. Raises InputError where the topology is not applied, and what `apply` raises.
    """
    cleared = (ns, interface)

    def left(desired: Desired, was: Impairments) -> Impairments:
        return {
            ref: fact
            for ref, fact in was.items()
            if any(one not in (None, other) for one, other in zip(cleared, (ref.ns, ref.key[0]), strict=True))
        }

    return _impairments(name, left)


def _impairments(name: str, change: Callable[[Desired, Impairments], Impairments]) -> Report:
    """`change` takes what is stated and the impairments that there are, and tells those that are to be."""
    privileges.require(f"impairing {_name(name)}")
    lowered = Lowered()
    with Kernel() as kernel, _locked(kernel, name, f"topo impair {name}", None, lowered):
        _confirm.refuse_unconfirmed(name)
        record = _record_to_impair(name)
        desired = known.stated(record, lowered)
        if desired is None:
            raise InputError(f"the record of {name} is of another version of topo; topo apply first")
        return _apply.apply(kernel, desired, lowered=lowered, impaired=change(desired, record.impaired))


def _record_to_impair(name: str) -> Record:
    try:
        record = records.load(_name(name))
    except DamagedError as error:
        raise InputError(f"{error}; topo apply writes a new one") from None
    if record is None or record.applied is None:
        raise InputError(_not_applied(name))
    if record.interrupted:
        raise InputError(f"a run of {name} was interrupted: topo apply, or topo destroy {name}, first")
    return record


def _name(name: str) -> str:
    """Raises InputError for what cannot be a topology's name: it becomes part of a path."""
    try:
        return TypeAdapter(TopologyName).validate_python(name)
    except ValidationError:
        raise InputError(f"{name!r} is neither a file nor a topology's name (a-z, 0-9 and -, at most 32)") from None


@contextmanager
def _locked(kernel: Kernel, name: str, doing: str, desired: Desired | None, lowered: Lowered) -> Iterator[None]:
    """The topology's lock; and the host's, where another topology's run could be met."""
    names = [f"topology-{name}"]
    if desired is None or known.touches_host(desired) or known.touches_host(known.of(name, kernel.home(), lowered)[1]):
        names.append(f"host-{kernel.home()}")
    with locks.held(names, doing):
        yield


def applied() -> list[Applied]:
    """Every topology that has a record on this host, or of which there is the word that it was reverted."""
    home = _home()
    return [_applied(name, home)[0] for name in sorted({*records.names(), *_confirm.names()})]


def _home() -> int:
    fd = netns.here()
    try:
        return netns.inode(fd)
    finally:
        os.close(fd)


def _applied(name: str, home: int) -> tuple[Applied, Record | None, Desired | None]:
    try:
        record = records.load(name)
    except DamagedError:
        return Applied(name, 0, 0, 0.0, "damaged"), None, None
    note = _confirm.load(name)
    if record is None:
        bare = "gone" if note is None else "reverted" if note.reverted else "unconfirmed"
        return Applied(name, 0, 0, 0.0, bare, *_unconfirmed(note)), None, None
    calm = "unconfirmed" if note and not note.reverted else "applied"
    state = "elsewhere" if record.home != home else "interrupted" if record.interrupted else calm
    desired = known.stated(record, Lowered())
    spaces = sum(ref.kind == "namespace" for ref in desired.facts) if desired else 0
    ends = ["peer" in fact.attrs for ref, fact in desired.facts.items() if ref.kind == "link"] if desired else []
    links = len(ends) - sum(ends) // 2
    return Applied(name, spaces, links, record.time, state, *_unconfirmed(note)), record, desired


def _unconfirmed(note: Note | None) -> tuple[float | None, str]:
    """`reverts_in` and `word` of a topology that has this note."""
    if note is None:
        return None, ""
    if note.reverted:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(note.reverted))
        return None, f"reverted {when}: it was not confirmed within {note.seconds:g} s"
    return note.remaining, note.outlook()


@uncollected
def show(name: str) -> Shown:
    """One applied topology, and how the live state differs from it. Raises InputError where it is not applied."""
    summary, record, desired = _applied(_name(name), _home())
    if record is None or desired is None or summary.state == "elsewhere":
        raise InputError(_not_applied(name) + (f"; {summary.word}" if summary.word else ""))
    privileges.require("reading the live state of namespaces")
    with Kernel() as kernel:
        drift = _apply.prepare(kernel, desired).plan
    return Shown(name, summary, desired, drift, _paths(desired))


def _paths(desired: Desired) -> dict[str, str]:
    return {ref.ns: netns.path(ref.ns) for ref in desired.facts if ref == namespace(ref.ns)}


def _not_applied(name: str) -> str:
    have = ", ".join(records.names())
    return f"{name} is not applied here" + (f"; there are: {have}" if have else "")


def doctor(topology: Topology | None = None) -> Diagnosis:
    """What the running kernel, this host and this process's privileges allow: all of it, or what `topology` needs.

    Changes nothing. Raises InputError for a topology that is wrong. It forks: not for a process with other threads.
    """
    diagnosis = _doctor.examine(None if topology is None else lower(topology))
    if topology is None or not diagnosis.diagnostics:
        return diagnosis
    placed = loading.located(InputError(diagnosis.diagnostics), topology)
    return diagnosis._replace(diagnostics=placed.diagnostics)


def check(what: Topology | str) -> list[CheckResult]:
    """Run the `checks` of a topology, all at once, from inside its namespaces."""
    desired = lower(what) if isinstance(what, Topology) else _recorded(_name(what))
    return _check.run(desired, _paths(desired))


def _recorded(name: str) -> Desired:
    _, record, desired = _applied(name, _home())
    if record is None or desired is None:
        raise InputError(_not_applied(name))
    return desired


def enter(name: str, ns: str) -> str:
    """The path of a namespace of an applied topology. Raises InputError where there is no such namespace."""
    desired = _recorded(_name(name))
    if ns == HOST:
        return netns.SELF
    paths = _paths(desired)
    if ns not in paths:
        raise InputError(f"{name} has no namespace {ns!r}; it has {', '.join(paths) or 'none'}")
    return paths[ns]
