"""The way back after a failed run: converge to the snapshot that was read before it (docs/adr/0002-undo-converges.md)."""

from __future__ import annotations

from collections.abc import Iterable

from topo.changes import AGAIN, CREATE, DELETE, OWNER, REPLACE, Change
from topo.facts import FOREIGN, OWN, Desired, Fact, Facts, Live, Ref, link
from topo.planning.compare import changed, stated
from topo.planning.lost import with_losses
from topo.planning.rename import Names, rekeyed, renamed


def undo(snapshot: Live, now: Live, touched: Iterable[Change], desired: Desired) -> tuple[Change, ...]:
    """The changes that lead from `now` back to `snapshot`, of what the failed run touched: nothing else is looked at.

    `touched` are the changes of the run, done or not. `desired` is what it was to reach.
    """
    touched = tuple(touched)
    refs = list(dict.fromkeys((*_touched(touched, snapshot), *_left(snapshot, now))))
    whole: Facts = {ref: Fact(ref, fact.attrs, fact.origin) for ref, fact in snapshot.facts.items()}
    if names := _renamed_by(touched, now):
        now = rekeyed(now, names)
        refs = list(dict.fromkeys((*refs, *(renamed(ref, names) for ref in refs))))
    adopted = {change.ref for change in touched if OWNER in change.attrs}
    found: dict[Ref, Change] = {}
    for ref in refs:
        have, want = now.get(ref), snapshot.get(ref)
        if have is not None and want is not None and have.attrs.get("_inode") == 0 != want.attrs.get("_inode"):
            have = None  # a name that leads nowhere any more
        if want is None:
            if have is not None and _made_here(have, desired):
                found[ref] = Change(DELETE, ref, None, have, reason="made by the run that failed")
        elif have is None:
            again = () if ref.kind in ("link", "namespace") else (AGAIN,)
            found[ref] = Change(CREATE, ref, want, None, again, "as it was")
        else:
            owner = (ref in adopted and have.origin != want.origin) or _doomed(have, want)
            if change := changed(_without(want, have), have, ref, owner=owner, reason="as it was"):
                found[ref] = change
    closed = with_losses(found, whole, now) if found else found
    kept = [closed[ref] for ref in whole if ref in closed]
    return (*kept, *(change for ref, change in closed.items() if ref not in whole))


def _left(snapshot: Live, now: Live) -> Iterable[Ref]:
    """What bears the mark, and no change has asked for: what a handover was helped with (topo.kernel.detour)."""
    return (fact.ref for fact in now.of("link") if fact.origin == OWN and fact.ref not in snapshot)


def _doomed(have: Fact, want: Fact) -> bool:
    """Whether a link has lost its mark to the group that was to be deleted (topo.kernel.executor)."""
    return want.origin == OWN and "_group" in have.attrs.keys() - want.attrs.keys()


def _without(want: Fact, have: Fact) -> Fact:
    """`want`, and that a link does not have what it has only now: an attribute that was not there is None."""
    new = stated(have.attrs).keys() - want.attrs.keys() if want.ref.kind == "link" else ()
    return want._replace(attrs={**dict.fromkeys(sorted(new)), **want.attrs}) if new else want


def _renamed_by(changes: Iterable[Change], now: Live) -> Names:
    """The renames of the run that were done and can be taken back: new name -> old name."""
    return {
        change.ref: change.live.ref
        for change in changes
        if change.live is not None
        and change.live.ref != change.ref
        and change.ref in now
        and change.live.ref not in now
    }


def _touched(changes: Iterable[Change], snapshot: Live) -> list[Ref]:
    refs: dict[Ref, None] = {}
    gone: set[Ref] = set()
    for change in changes:
        if change.action in (DELETE, REPLACE):
            gone |= {change.ref, *change.takes}
        refs[change.ref] = None
        refs.update(dict.fromkeys(change.takes))
        if change.live is not None and change.live.ref != change.ref:  # what sat on it bears its old name here
            refs[change.live.ref] = None
            refs.update((fact.ref, None) for fact in snapshot.on(change.live.ref))
    for fact in snapshot.of("link") if gone else ():
        if (master := fact.attrs.get("master")) and link(fact.ref.ns, master) in gone:
            refs[fact.ref] = None  # its bridge went, which left it without a master
    return list(refs)


def _made_here(have: Fact, desired: Desired) -> bool:
    """Whether what was not there before is the run's work, and not someone else's who came in between."""
    if have.ref.kind == "sysctl":
        return False  # it came with a device, and goes with it
    if have.ref.kind in ("link", "namespace"):
        want = desired.facts.get(have.ref)
        return have.origin == OWN or bool(want and want.attrs.get("from"))
    return have.origin != FOREIGN or have.ref in desired.facts
