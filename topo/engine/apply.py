"""Apply and destroy: plan under a lock, write the record, execute, verify; undo where anything fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, NoReturn, Protocol

from topo.changes import Change, Op
from topo.engine import impair, known
from topo.engine import record as records
from topo.engine.known import Lowered
from topo.engine.record import Record, Written
from topo.errors import ApplyError, OwnershipError, StaleError, TopoError, UnsupportedError, VerifyError
from topo.facts import Desired, Fact, Facts, Live, Ref, mark
from topo.kernel.outcome import HINT, Outcome, Progress
from topo.kinds.shaping import INSIDE
from topo.planning import rehome, strangers, underlay
from topo.planning.diff import diff
from topo.planning.graph import stages
from topo.planning.plan import Plan
from topo.planning.resolve import resolve
from topo.planning.restore import originals, still_needed
from topo.planning.touched import Touched, is_in, touched, within
from topo.planning.undo import undo

_UNDO_ATTEMPTS = 3
_SHOWN = 8


class KernelLike(Protocol):
    """What a run needs of the kernel; tests have one of their own."""

    def begin(self, desired: Desired, earlier: Sequence[Desired], recorded: Mapping[str, int]) -> dict[str, str]: ...

    def told(self, desired: Desired) -> Desired: ...

    def read(self, desired: Desired, previous: Desired | None) -> Live: ...

    def reread(self, known: Live, where: Touched, desired: Desired, previous: Desired | None) -> Live: ...

    def execute(
        self, stages: Sequence[Sequence[Op]], desired: Desired, progress: Progress | None = None
    ) -> Outcome: ...

    def require(self, changes: Sequence[Change], desired: Desired) -> None: ...

    def warnings(self, desired: Desired, changes: Sequence[Change]) -> list[str]: ...

    def inodes(self, desired: Desired) -> dict[str, int]: ...

    def home(self) -> int: ...

    def sweep(self, names: Iterable[str], topology: str) -> None: ...

    def reset(self) -> None: ...


class State(NamedTuple):
    """What a plan is made of."""

    desired: Desired  # resolved
    live: Live
    previous: Desired | None
    record: Record | None
    plan: Plan
    restore: Facts  # the record's originals, but for those that pass to another topology
    heirs: Mapping[Ref, tuple[str, Fact]]  # these: sysctls that this topology lets go of and another one holds
    homes: Mapping[str, str]  # what recorded namespaces go by now: planning.rehome
    only: frozenset[Ref] | None = None  # all that may be changed


class Report(NamedTuple):
    """What a run did: `plan.changes`, empty where there was nothing to do.

    `reverts_in`: seconds within which it is to be confirmed, else it is gone back from; None where it stays.
    """

    plan: Plan
    seconds: float
    reverts_in: float | None = None


def prepare(
    kernel: KernelLike,
    desired: Desired,
    *,
    adopt: bool = False,
    doubtful: Desired | None = None,
    lowered: Lowered | None = None,
    impaired: Mapping[Ref, Fact] | None = None,
) -> State:
    """Read and compare; changes nothing. `doubtful`: what may have been applied though no record says so. `impaired`:
    the impairments that are to be, and all that is to be changed; None: those of the record, beside all else."""
    lowered = lowered or Lowered(desired, doubtful)
    stated, desired = desired, kernel.told(desired)
    record, previous, warnings = known.of(desired.name, kernel.home(), lowered)
    if previous is None and doubtful is not None:
        previous = known.unrecorded(doubtful)
    restore = dict(record.restore) if record else {}
    homes = kernel.begin(desired, known.earlier(record, previous, lowered), record.namespaces if record else {})
    if homes:
        previous = rehome.stated(previous, homes) if previous else None
        restore = rehome.originals(restore, homes)
    was = record.impaired if record else {}
    wearing = was if impaired is None else impaired
    only = None if impaired is None else frozenset(was.keys() | impaired.keys())
    as_before = previous is stated and wearing == was
    desired, worn = impair.over(desired, wearing)
    if was and previous is not None:
        previous = impair.over(previous, was)[0]
    live = kernel.read(desired, previous)
    heirs = {ref: (name, restore.pop(ref)) for ref, name in known.heirs(desired, restore, previous).items()}
    wanted = resolve(desired, live, restore)
    previous = wanted if as_before and not desired.take_over else previous
    try:
        changes = diff(wanted, live, previous, adopt, restore)
    except OwnershipError as error:
        raise OwnershipError([(ref, _by_name(what)) for ref, what in error.taken]) from None
    if only is not None:
        changes = tuple(change for change in changes if _within(change.ref, only))
    spoken_of = wanted.external | (previous.external if previous else frozenset())
    warnings += [
        *kernel.warnings(wanted, changes),
        *underlay.warnings(desired, live),
        *strangers.warnings(changes, live, spoken_of),
    ]
    plan = Plan(desired.name, changes, wanted, tuple(warnings), worn)
    return State(wanted, live, previous, record, plan, restore, heirs, homes, only)


def _within(ref: Ref, only: frozenset[Ref]) -> bool:
    kind = "shaping" if ref.kind in INSIDE else ref.kind
    return Ref(kind, ref.ns, ref.key[:1]) in only


def _by_name(what: str) -> str:
    """What has a name, in words, with the name of the topology that a link group stands for, where it has a record."""
    for name in records.names():
        what = what.replace(f"another topology (group {mark(name):#x})", f"another topology, {name}")
    return what


def apply(
    kernel: KernelLike,
    desired: Desired,
    *,
    adopt: bool = False,
    keep: bool = False,
    expected: str = "",
    progress: Progress | None = None,
    ready: Callable[[State], None] | None = None,
    lowered: Lowered | None = None,
    impaired: Mapping[Ref, Fact] | None = None,
) -> Report:
    """Make it so. `expected`: the fingerprint of a saved plan. `ready`: is called right before anything is touched,
    where anything is to be done. `impaired`: as `prepare` has it. The caller holds the locks.

    Raises ApplyError (undone or not), OwnershipError, InputError, StaleError.
    """
    started = time.monotonic()
    state = prepare(kernel, desired, adopt=adopt, lowered=lowered, impaired=impaired)
    if expected and expected != state.plan.fingerprint():
        raise StaleError(f"the plan of {desired.name} no longer fits: the live state has changed since; plan again")
    return _Run(kernel, state, progress, keep, ready).run(started)


def destroy(
    kernel: KernelLike,
    name: str,
    *,
    doubtful: Desired | None = None,
    keep: bool = False,
    progress: Progress | None = None,
    lowered: Lowered | None = None,
) -> Report:
    """Remove what topo made, put back what it changed. What is not there is no error. The caller holds the locks."""
    started = time.monotonic()
    state = prepare(kernel, Desired(name, {}), doubtful=doubtful, lowered=lowered)
    return _Run(kernel, state, progress, keep).run(started)


class _Run:
    """One run: from a plan to the report, or back to where it began."""

    def __init__(
        self,
        kernel: KernelLike,
        state: State,
        progress: Progress | None,
        keep: bool,
        ready: Callable[[State], None] | None = None,
    ) -> None:
        self.kernel, self.state, self.progress, self.keep, self.ready = kernel, state, progress, keep, ready
        self.name = state.plan.topology
        self.restore = state.restore
        self.destroying = not state.desired.facts and not state.desired.document
        self.document = dict(state.desired.document)

    def run(self, started: float) -> Report:
        state = self.state
        if not state.plan.changes:
            self._settled()
            return Report(state.plan, time.monotonic() - started)
        self.kernel.require(state.plan.changes, state.desired)
        staged = stages(state.plan.changes, state.desired, state.live)
        outcome = Outcome([], [], [])
        if self.ready:
            self.ready(state)
        self._begin()
        try:
            outcome = self.kernel.execute(staged, state.desired, self.progress)
            if outcome.failed:
                self._failed(outcome, None)
            self.restore = {**{fact.ref: fact for fact in outcome.before}, **self.restore}
            self._verify(outcome)
            self._settled()
        except ApplyError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, what was done is undone; then it goes on
            self.kernel.reset()  # it may have been torn out of reading an answer
            self._failed(outcome, error)
        return Report(state.plan, time.monotonic() - started)

    # The record

    def _begin(self) -> None:
        """Write what this run is about to do, and what it will have to put back, before anything is touched."""
        state = self.state
        old = state.record or Record(self.name, self.kernel.home())
        restore = {**originals(state.plan.changes, state.live, state.desired, state.previous), **state.restore}
        passing = {ref: original for ref, (_, original) in state.heirs.items()}
        self.document = Written(self.document)
        begun = records.update(
            old,
            pending=None if self.destroying else self.document,
            destroying=self.destroying,
            restore={**passing, **restore},
            namespaces=rehome.recorded(old.namespaces, state.homes) | self.kernel.inodes(state.desired),
            impaired={**old.impaired, **state.plan.impaired},
        )
        try:
            records.save(begun)
        except TopoError:
            self._back()  # it may be there already, and not be synced
            raise
        self.restore = restore

    def _settled(self) -> None:
        """All is as desired: say so in the record, unless it says so already."""
        state, old = self.state, self.state.record
        self._bequeath()
        if self.destroying or old is None or old.interrupted or state.previous is None:
            stated = state.previous.facts if state.previous else {}
            self.kernel.sweep((ref.ns for ref in stated if ref.kind == "namespace"), self.name)
        if self.destroying:
            records.remove(self.name)
            return
        restore = still_needed(self.restore, state.desired)
        inodes = self.kernel.inodes(state.desired)
        new = Record(
            self.name, self.kernel.home(), self.document, None, False, restore, inodes, state.plan.impaired, 0.0
        )
        if state.plan.changes or old is None or records.update(old, time=0.0) != new:
            records.save(new)
        else:
            records.tidy_draft(self.name)

    def _bequeath(self) -> None:
        """Originals of what another topology still holds are that one's to put back."""
        for ref, (name, original) in self.state.heirs.items():
            if other := records.load(name):
                records.save(records.update(other, restore={ref: original, **other.restore}))

    def _back(self) -> str:
        """Nothing of this run is left: the record is what it was, or why it is not, in words."""
        try:
            if self.state.record is None:
                records.remove(self.name)
            else:
                records.save(self.state.record)
        except TopoError as error:
            return f"; but for its record: {error}"
        return ""

    # The end of it

    def _verify(self, outcome: Outcome) -> None:
        """Read again the namespaces in which something was changed, of them the tables that can be other than they were,
        also for what is no longer stated; what still differs is an error, and the run is undone."""
        state = self.state
        desired, before, restore = state.desired, state.previous, self.restore
        where = {} if self.destroying else touched(state.plan.changes)
        links = None in where.values()
        everywhere = links and where.keys() >= {ref.ns for ref in desired.facts}
        whole = self.destroying or desired.take_over or (links and desired.underlay_mtu) or everywhere
        if not whole:
            before = within(before, where) if before and before is not desired else None
            desired = within(desired, where)
        if not self.destroying:
            before = known.together(before, desired) if before and before is not desired else desired
        if whole:
            live = self.kernel.read(desired, before)
            desired = resolve(desired, live, restore)
        else:
            live = self.kernel.reread(state.live, where, desired, before)
            restore = {ref: fact for ref, fact in restore.items() if is_in(ref, where)}
        left = diff(desired, live, before, False, restore)
        if state.only is not None:
            left = tuple(change for change in left if _within(change.ref, state.only))
        if left:
            names = "; ".join(f"{c.action} {c.ref.kind} {c.ref} {' '.join(c.attrs)}".rstrip() for c in left[:_SHOWN])
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            differs = {change.ref for change in left}
            excused = [f"\n{error}" for op, error in outcome.excused if op.verb == HINT or op.ref in differs]
            self._failed(
                outcome,
                None,
                f"verification: the live state still differs: {names}{more}{''.join(excused[:_SHOWN])}",
                left,
            )

    def _failed(
        self, outcome: Outcome, error: BaseException | None, words: str = "", left: Sequence[Change] = ()
    ) -> NoReturn:
        """Undo, and raise what fits: ApplyError, or what came from below where that says more."""
        plan = self.state.plan
        words = words or "\n".join(str(e) for _, e in outcome.failed[:_SHOWN]) or str(error)
        if isinstance(error, KeyboardInterrupt):
            words = "interrupted"
        if self.keep:
            raise ApplyError(
                f"{plan.topology}: {words}\nleft as it is for inspection (--keep); apply or destroy goes on from here",
                done=outcome.done,
                failed=outcome.failed,
                undone=False,
                left=left,
            ) from error
        remaining = self._undo()
        undone = isinstance(remaining, tuple) and not remaining
        if undone:
            self._back()
            tail = f"undone: everything is as it was before{_through(outcome.done)}"
        else:
            names = remaining if isinstance(remaining, str) else _names(remaining)
            tail = f"could not undo all of it; left: {names}"
        if undone and isinstance(error, UnsupportedError):
            raise error
        if undone and isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"{plan.topology}: interrupted; {tail}") from None
        kind = VerifyError if left else ApplyError
        raise kind(
            f"{plan.topology}: {words}\n{tail}",
            done=outcome.done,
            failed=outcome.failed,
            undone=undone,
            left=left if undone or isinstance(remaining, str) else remaining,
        ) from error

    def _undo(self) -> tuple[Change, ...] | str:
        """Converge to the snapshot; what could not be brought back, or why nothing could."""
        state = self.state
        changes: tuple[Change, ...] = ()
        try:
            for _ in range(_UNDO_ATTEMPTS):
                now = self.kernel.read(state.desired, state.previous)
                changes = undo(state.live, now, state.plan.changes, state.desired)
                if not changes:
                    return self._swept()
                goal = state.desired._replace(facts={c.ref: c.desired for c in changes if c.desired})
                self.kernel.execute(stages(changes, goal, now), goal)
            now = self.kernel.read(state.desired, state.previous)
            return undo(state.live, now, state.plan.changes, state.desired)
        except (TopoError, OSError) as error:
            return f"{_names(changes)} ({error})" if changes else f"what it did, as it could not be read: {error}"

    def _swept(self) -> tuple[Change, ...] | str:
        """Of names that could not be given no empty file is left; or why there is one."""
        try:
            self.kernel.sweep((c.ref.ns for c in self.state.plan.changes if c.ref.kind == "namespace"), self.name)
        except TopoError as error:
            return str(error)
        return ()


def _through(done: Sequence[Op]) -> str:
    return f" ({len(done):,} {'request was' if len(done) == 1 else 'requests were'} through)" if done else ""


def _names(changes: Sequence[Change]) -> str:
    shown = ", ".join(f"{change.ref.kind} {change.ref}" for change in changes[:_SHOWN])
    return shown + (f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else "")
