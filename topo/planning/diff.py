"""The difference between what is desired and what is live.

Where nothing differs this is one pass of look-ups and comparisons; all else is done only when something does.
"""

from __future__ import annotations

from collections.abc import Iterable

from topo.changes import CREATE, DELETE, KEPT, PUT_BACK, UPDATE, Change
from topo.errors import OwnershipError
from topo.facts import OWN, Desired, Fact, Facts, Live, Ref
from topo.kinds.kind import stated_differences
from topo.kinds.registry import KINDS
from topo.planning.compare import changed
from topo.planning.lost import with_losses
from topo.planning.ownership import BY_PROTOCOL, Ownership, require_external, require_lasting
from topo.planning.rename import Names, rekeyed, renames
from topo.planning.restore import goal

_CAN_BE_TAKEN = BY_PROTOCOL | {"link", "namespace"}


def diff(
    desired: Desired,
    live: Live,
    previous: Desired | None = None,
    adopt: bool = False,
    restore: Facts | None = None,
) -> tuple[Change, ...]:
    """The changes that lead from `live` to `desired`; empty where the kernel is as the file says.

    `desired` is resolved (`planning.resolve`). `previous`: what the last apply stated. `adopt`: take
    over what others own. `restore`: the record's originals of foreign things (`planning.restore.originals`).
    Raises OwnershipError for every name that is taken, InputError for every device that is missing, or would be.
    """
    if desired.external:
        require_external(desired, live)
    restore = restore or {}
    first = _Diff(desired, live, previous, adopt, restore)
    found = first.run()
    names = _renames(desired, live) if first.creates else {}
    if names:
        if previous is not None:
            previous = previous._replace(facts=rekeyed(Live(previous.facts), names).facts)
        first = _Diff(desired, rekeyed(live, names), previous, adopt, rekeyed(Live(restore), names).facts, renamed=True)
        found = first.run()
    if first.taken:
        raise OwnershipError(first.taken)
    changes = first.ordered(found)
    if desired.external:
        require_lasting(desired, changes)
    return changes


class _Diff:
    """`renamed`: links of `live` go by the names that they are to have; their facts tell those that they have."""

    def __init__(
        self,
        desired: Desired,
        live: Live,
        previous: Desired | None,
        adopt: bool,
        restore: Facts,
        renamed: bool = False,
    ) -> None:
        self.desired, self.live, self.adopt, self.renamed = desired, live, adopt, renamed
        self.wanted, self.back = goal(desired, live, previous, restore)
        self.owner = Ownership(desired, live, previous, adopt)
        self.taken: list[tuple[Ref, str]] = []
        self.creates = False

    def run(self) -> dict[Ref, Change]:
        found: dict[Ref, Change] = {}
        left = self._wanted(found)
        if self.owner.stated and self.owner.stated is not self.desired.facts:
            self._keep_mtus(found)
        self._extra(found, left)
        for ref in found if not self.adopt else ():
            if ref in self.desired.facts and (what := self.owner.queued(ref)):
                self.taken.append((ref, what))
        return found

    def _keep_mtus(self, found: dict[Ref, Change]) -> None:
        """A bridge that states the MTU which it has by its ports is told all the same: else it goes on to follow them."""
        for ref, was in self.owner.stated.items():
            if ref[0] != "link" or was[1].get("kind") != "bridge" or "mtu" in was[1] or ref in self.desired.take_over:
                continue
            want, there, change = self.wanted.get(ref), self.live.get(ref), found.get(ref)
            if want is None or there is None or "mtu" not in want.attrs or ref not in self.desired.facts:
                continue
            if change is None:
                found[ref] = Change(UPDATE, ref, want, there, ("mtu",), KEPT)
            elif change.action == UPDATE and "mtu" not in change.attrs:
                found[ref] = change._replace(attrs=(*change.attrs, "mtu"))

    def _wanted(self, found: dict[Ref, Change]) -> Facts:
        """Compare what is wanted with what is live; the rest of what is live."""
        wanted, left = self._doubtful()
        there_is, renamed, stated = left.pop, self.renamed, self.owner.stated
        compares = {name: kind.compare for name, kind in KINDS.items()}
        literal = {name for name, kind in KINDS.items() if kind.literal or kind.compare is stated_differences}
        for ref, want in wanted:
            there = there_is(ref, None)
            if there is None:
                self.creates = True
                found[ref] = Change(CREATE, ref, want, None)
                continue
            kind = ref[0]
            same = kind in literal and want[1].items() <= there[1].items()  # far faster than a call
            if (not same and compares[kind](want, there)) or (renamed and there.ref != ref):
                self._differs(found, ref, want, there)
            elif there[2] != OWN and kind in _CAN_BE_TAKEN and not (kind in BY_PROTOCOL and ref in stated):
                self._foreign(found, ref, want, there)
            elif kind == "link" and _spared(there):
                self._differs(found, ref, want, there)
        return left

    def _doubtful(self) -> tuple[Iterable[tuple[Ref, Fact]], Facts]:
        """What has to be compared: what is wanted, and what is live; without what reading has found to be as it is wanted."""
        thought = self.live.thought
        if thought is None or len(thought.facts) > len(self.wanted):
            return self.wanted.items(), dict(self.live.facts)
        found = {ref: self.wanted[ref] for ref in thought.missing}
        if thought.facts is not self.wanted:
            wanted = iter(self.wanted.items())
            for (ref, fact), (here, want) in zip(thought.facts.items(), wanted, strict=False):
                if ref is not here:  # in another order
                    return self.wanted.items(), dict(self.live.facts)
                if fact is not want:
                    found[ref] = want
            found.update(wanted)
        more = {ref: there for ref in found if (there := self.live.get(ref))}
        return found.items(), {**thought.read, **more}

    def _differs(self, found: dict[Ref, Change], ref: Ref, want: Fact, there: Fact) -> None:
        owner = ref.kind == "link" and _spared(there)
        if there.origin != OWN and ref not in self.back and (what := self.owner.taken(there, want, differs=True)):
            owner = self.adopt
            if not owner:
                self.taken.append((ref, what))
                return
        reason = PUT_BACK if ref in self.back else "renamed" if there.ref != ref else ""
        if change := changed(want, there, ref, owner=owner, reason=reason):
            found[ref] = change

    def _foreign(self, found: dict[Ref, Change], ref: Ref, want: Fact, there: Fact) -> None:
        """It is as it should be, but someone else's."""
        if ref in self.back or not (what := self.owner.taken(there, want, differs=False)):
            return
        if not self.adopt:
            self.taken.append((ref, what))
        elif change := changed(want, there, ref, owner=True):
            found[ref] = change

    def _extra(self, found: dict[Ref, Change], left: Facts) -> None:
        for ref, there in left.items():
            if reason := self.owner.deletes(there, ref):
                if source := self.owner.attached(ref):
                    there = there._replace(attrs={**there.attrs, "from": source})
                found[ref] = Change(DELETE, ref, None, there, reason=reason)

    def ordered(self, found: dict[Ref, Change]) -> tuple[Change, ...]:
        """With all that they entail, in the order of the file, then what is deleted, in the order in which it was read."""
        if not found:
            return ()
        closed = with_losses(found, self.wanted, self.live)
        kept = [closed[ref] for ref in self.wanted if ref in closed]
        return (*kept, *(change for ref, change in closed.items() if ref not in self.wanted))


def _spared(there: Fact) -> bool:
    """Whether this link of topo's was about to be deleted when that run was killed: its mark is not the usual one."""
    return there.origin == OWN and "_group" in there.attrs


def _renames(desired: Desired, live: Live) -> Names:
    absent = [ref for ref in desired.facts if ref not in live.facts]
    extra = [ref for ref in live.facts if ref not in desired.facts] if absent else []
    return renames(desired.facts, live, absent, extra) if extra else {}
