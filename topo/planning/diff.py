"""The difference between what is desired and what is live.

Where nothing differs this is one pass of look-ups and comparisons; all else is done only when something does.
"""

from __future__ import annotations

from topo.changes import CREATE, DELETE, Change
from topo.errors import OwnershipError
from topo.facts import OWN, Desired, Fact, Facts, Live, Ref
from topo.kinds.registry import KINDS
from topo.planning.compare import changed
from topo.planning.lost import with_losses
from topo.planning.ownership import BY_PROTOCOL, Ownership, require_external
from topo.planning.rename import rekeyed, renames
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
    wanted, back = goal(desired, live, previous, restore or {})
    return _Diff(desired, live, previous, adopt, wanted, back).run()


class _Diff:
    def __init__(
        self,
        desired: Desired,
        live: Live,
        previous: Desired | None,
        adopt: bool,
        wanted: Facts,
        back: frozenset[Ref],
    ) -> None:
        self.desired, self.live, self.previous, self.adopt = desired, live, previous, adopt
        self.wanted, self.back = wanted, back
        self.taken: list[tuple[Ref, str]] = []

    def run(self) -> tuple[Change, ...]:

        if self.desired.external:
            require_external(self.desired, self.live)
        have, wanted = self.live.facts, self.wanted
        absent = [ref for ref in wanted if ref not in have]
        extra = [ref for ref in have if ref not in wanted]
        if absent and extra and (names := renames(wanted, self.live, absent, extra)):
            self.live = rekeyed(self.live, names)
            extra = [ref for ref in self.live.facts if ref not in wanted]
        self.owner = Ownership(self.desired, self.live, self.previous, self.adopt)
        found: dict[Ref, Change] = {}
        self._wanted(found)
        self._extra(found, extra)
        if self.taken:
            raise OwnershipError(self.taken)
        return self._ordered(with_losses(found, wanted, self.live)) if found else ()

    def _wanted(self, found: dict[Ref, Change]) -> None:
        have = self.live.facts
        compares = {name: kind.compare for name, kind in KINDS.items()}
        for ref, want in self.wanted.items():
            there = have.get(ref)
            if there is None:
                found[ref] = Change(CREATE, ref, want, None)
            elif compares[ref.kind](want, there) or there.ref != ref:
                self._differs(found, ref, want, there)
            elif there.origin != OWN and ref.kind in _CAN_BE_TAKEN:
                self._foreign(found, ref, want, there)

    def _differs(self, found: dict[Ref, Change], ref: Ref, want: Fact, there: Fact) -> None:
        owner = False
        if there.origin != OWN and ref not in self.back and (what := self.owner.taken(there, want, differs=True)):
            owner = self.adopt
            if not owner:
                self.taken.append((ref, what))
                return
        reason = "put back" if ref in self.back else "renamed" if there.ref != ref else ""
        if change := changed(want, there, ref, owner=owner, reason=reason):
            found[ref] = change

    def _foreign(self, found: dict[Ref, Change], ref: Ref, want: Fact, there: Fact) -> None:
        """It is as it should be, but someone else's."""
        if ref in self.back or not (what := self.owner.taken(there, want, differs=False)):
            return
        if not self.adopt:
            self.taken.append((ref, what))
        elif change := changed(want, there, ref, owner=True, reason="taken over"):
            found[ref] = change

    def _extra(self, found: dict[Ref, Change], extra: list[Ref]) -> None:
        for ref in extra:
            there = self.live.facts[ref]
            if reason := self.owner.deletes(there, ref):
                if source := self.owner.attached(ref):
                    there = there._replace(attrs={**there.attrs, "from": source})
                found[ref] = Change(DELETE, ref, None, there, reason=reason)

    def _ordered(self, closed: dict[Ref, Change]) -> tuple[Change, ...]:
        """In the order of the file, then what is deleted, in the order in which it was read."""
        kept = [closed[ref] for ref in self.wanted if ref in closed]
        return (*kept, *(change for ref, change in closed.items() if ref not in self.wanted))


