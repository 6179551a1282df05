"""The difference between what is desired and what is live.

Where nothing differs this is one pass of look-ups and comparisons; all else is done only when something does.
"""

from __future__ import annotations

from topo.changes import CREATE, DELETE, PUT_BACK, Change
from topo.errors import OwnershipError
from topo.facts import OWN, Desired, Fact, Facts, Live, Ref
from topo.kinds.kind import stated_differences
from topo.kinds.registry import KINDS
from topo.planning.compare import changed
from topo.planning.lost import with_losses
from topo.planning.ownership import BY_PROTOCOL, Ownership, require_external
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
    Raises OwnershipError for every name that is taken, InputError for every missing device.
    """
    if desired.external:
        require_external(desired, live)
    return _Diff(desired, live, previous, adopt, restore or {}).run()


class _Diff:
    def __init__(self, desired: Desired, live: Live, previous: Desired | None, adopt: bool, restore: Facts) -> None:
        if names := _renames(desired, live):
            live, restore = rekeyed(live, names), rekeyed(Live(restore), names).facts
            if previous is not None:
                previous = previous._replace(facts=rekeyed(Live(previous.facts), names).facts)
        self.desired, self.live, self.adopt = desired, live, adopt
        self.wanted, self.back = goal(desired, live, previous, restore)
        self.owner = Ownership(desired, live, previous, adopt)
        self.taken: list[tuple[Ref, str]] = []

    def run(self) -> tuple[Change, ...]:
        found: dict[Ref, Change] = {}
        self._wanted(found)
        self._extra(found)
        if self.taken:
            raise OwnershipError(self.taken)
        return self._ordered(with_losses(found, self.wanted, self.live)) if found else ()

    def _wanted(self, found: dict[Ref, Change]) -> None:
        have = self.live.facts
        compares = {name: kind.compare for name, kind in KINDS.items()}
        plain = {name for name, compare in compares.items() if compare is stated_differences}
        for ref, want in self.wanted.items():
            there = have.get(ref)
            if there is None:
                found[ref] = Change(CREATE, ref, want, None)
                continue
            kind = ref.kind
            same = kind in plain and want.attrs.items() <= there.attrs.items()  # far faster than a call
            if (not same and compares[kind](want, there)) or there.ref != ref:
                self._differs(found, ref, want, there)
            elif there.origin != OWN and kind in _CAN_BE_TAKEN:
                self._foreign(found, ref, want, there)

    def _differs(self, found: dict[Ref, Change], ref: Ref, want: Fact, there: Fact) -> None:
        owner = False
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

    def _extra(self, found: dict[Ref, Change]) -> None:
        wanted, deletes = self.wanted, self.owner.deletes
        for ref, there in self.live.facts.items():
            if ref not in wanted and (reason := deletes(there, ref)):
                if source := self.owner.attached(ref):
                    there = there._replace(attrs={**there.attrs, "from": source})
                found[ref] = Change(DELETE, ref, None, there, reason=reason)

    def _ordered(self, closed: dict[Ref, Change]) -> tuple[Change, ...]:
        """In the order of the file, then what is deleted, in the order in which it was read."""
        kept = [closed[ref] for ref in self.wanted if ref in closed]
        return (*kept, *(change for ref, change in closed.items() if ref not in self.wanted))


def _renames(desired: Desired, live: Live) -> Names:
    absent = [ref for ref in desired.facts if ref not in live.facts]
    extra = [ref for ref in live.facts if ref not in desired.facts] if absent else []
    return renames(desired.facts, live, absent, extra) if extra else {}
