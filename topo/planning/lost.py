"""What changes take down: everything that goes when a link, a namespace or an address goes, to the fixpoint."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from topo.changes import AGAIN, CREATE, DELETE, REPLACE, UPDATE, Change
from topo.facts import FOREIGN, OF_PORTS, Fact, Facts, Live, Ref, links_of, namespace
from topo.kinds.address import flushed
from topo.kinds.kind import nothing
from topo.kinds.nexthop import used
from topo.kinds.registry import KINDS
from topo.planning.compare import changed
from topo.planning.ownership import attached

_FIRST = {"namespace": 0, "link": 1}
_WAYS = ("route", "nexthop")
_LOOPBACK = {("lo", "127.0.0.1/8"), ("lo", "::1/128")}


def _of_kernel(ref: Ref, fact: Fact) -> bool:
    """What the kernel makes by itself, each time: `lo` with its addresses, and link-local addresses."""
    if ref.kind == "link":
        return bool(ref.key[0] == "lo")
    if ref.kind != "address" or fact.origin != FOREIGN:
        return False
    return ref.key[:2] in _LOOPBACK or str(ref.key[1]).startswith("fe80:")


class _Closure:
    def __init__(self, found: dict[Ref, Change], goal: Facts, live: Live) -> None:
        self.found, self.goal, self.live = found, goal, live
        self.takes: dict[Ref, list[Ref]] = {}
        self.cause: dict[Ref, Ref] = {}
        self.whole = dying(found.values())
        causes = [
            change
            for change in found.values()
            if change.ref[1] not in self.whole and (change.action != CREATE or self._is_home(change.ref.ns))
        ]
        causes.sort(key=lambda change: (change.action in (CREATE, UPDATE), _FIRST.get(change.ref.kind, 2)))
        self.queue = deque(causes)

    def run(self) -> dict[Ref, Change]:
        for ns in sorted(self.whole):
            self._take_whole(namespace(ns))
        while True:
            while self.queue:
                change = self.queue.popleft()
                if change.ref not in self.cause and self.found.get(change.ref) is change:
                    self._take(change.ref, self._down_with(change))
                    if change.ref.kind == "link" and change.action in (DELETE, REPLACE):
                        self._release(change.ref)
            if not self._addresses():
                break
        reasons = {cause: f"goes with {cause}" for cause in self.takes}
        for ref, cause in self.cause.items():
            self._settle(ref, reasons[cause])
        for ref, taken in self.takes.items():
            self.found[ref] = self.found[ref]._replace(takes=tuple(dict.fromkeys(taken)))
        return self.found

    def _is_home(self, ns: str) -> bool:
        """Whether there is anything in a namespace that making something in it could take."""
        return not all(_of_kernel(fact.ref, fact) for fact in self.live.within(ns))

    def _down_with(self, change: Change) -> Iterator[Ref]:
        """What goes when the change's live fact goes; and for any change what its kind says."""
        ref, live = change.ref, self.live
        if change.action in (DELETE, REPLACE):
            if ref.kind == "namespace" and change.live and not attached(change.live):
                yield from (fact.ref for fact in live.within(ref.ns))
            elif ref.kind == "link":
                yield from (fact.ref for fact in live.on(ref))
                yield from live.above(ref)
                for port in live.ports(ref):
                    yield from (fact.ref for fact in live.on(port) if fact.ref.kind in OF_PORTS)
        if ref.kind != "address":
            have = change.live
            if have is not None and have.ref != ref:  # it is renamed, and what sits on it goes by the new name
                change = change._replace(live=have._replace(ref=ref))
            yield from KINDS[ref.kind].takes(change, live)

    def _take_whole(self, home: Ref) -> None:
        """All that is in a namespace goes with it, and what goes with that elsewhere."""
        beyond = list(KINDS["namespace"].takes(self.found[home], self.live))
        taken = self.takes.setdefault(home, [])
        for fact in self.live.within(home.ns):
            ref = fact[0]
            if ref != home and ref not in self.cause and not _of_kernel(ref, fact):
                self.cause[ref] = home
                taken.append(ref)
                if ref[0] == "link":
                    beyond += self.live.above(ref)
        self._take(home, beyond)

    def _take(self, root: Ref, lost: Iterable[Ref]) -> None:
        """Everything that goes with `lost` goes with `root`: also what an earlier change had taken."""
        stack = list(lost)
        while stack:
            ref = stack.pop()
            have = self.live.get(ref)
            if have is None or ref in self.cause or ref == root or _of_kernel(ref, have):
                continue
            if ref in self.found and self._leaves(ref, have):
                continue
            self.cause[ref] = root
            self.takes.setdefault(root, []).append(ref)
            if ref in self.takes:
                for further in self.takes.pop(ref):
                    self.cause.pop(further, None)
                    stack.append(further)
            kind = ref[0]
            if ref[1] in self.whole:  # all that is in its namespace goes anyway
                stack.extend(self.live.above(ref) if kind == "link" else ())
                continue
            if kind in _FIRST or KINDS[kind].takes is not nothing:
                stack.extend(self._down_with(Change(DELETE, ref, None, have)))
            if kind == "link":
                self._release(ref)

    def _leaves(self, ref: Ref, have: Fact) -> bool:
        """Whether it is a route or group that moves to a link or nexthop which stays, before its old one goes."""
        planned = self.found.get(ref)
        if ref.kind not in _WAYS or planned is None or planned.desired is None:
            return False
        if planned.action == REPLACE and ref.kind == "nexthop":  # a group may outlive one that it has
            return True
        if planned.action != UPDATE:
            return False
        there, was = ((*links_of(fact), *used(fact)) for fact in (planned.desired, have))
        return there != was and all(self._stays(below) for below in there)

    def _stays(self, ref: Ref) -> bool:
        """Whether a link is there after the run without having been taken down by it."""
        planned = self.found.get(ref)
        if ref in self.cause:
            return False
        return ref in self.live if planned is None else planned.action in (CREATE, UPDATE)

    def _addresses(self) -> bool:
        """What deleted addresses take, which depends on all that happens to the addresses of their link."""
        gone: dict[Ref, list[Fact]] = {}
        made: dict[Ref, list[Fact]] = {}
        for ref, change in self.found.items():
            if ref.kind == "address" and ref not in self.cause:
                if change.action == DELETE and change.live:
                    gone.setdefault(links_of(change.live)[0], []).append(change.live)
                elif change.action == CREATE and change.desired:
                    made.setdefault(links_of(change.desired)[0], []).append(change.desired)
        for ref, cause in self.cause.items() if gone else ():
            if ref.kind == cause.kind == "address":
                gone[links_of(self.live.facts[ref])[0]].append(self.live.facts[ref])
                if (want := self.goal.get(ref)) is not None:
                    made.setdefault(links_of(want)[0], []).append(want)
        before = len(self.cause)
        for home, deleted in gone.items():
            names = {fact.ref for fact in deleted}
            lost = flushed(deleted, made.get(home, ()), self.live)
            self._take(deleted[0].ref, (ref for ref in lost if ref not in names))
        return len(self.cause) > before

    def _release(self, bridge: Ref) -> None:
        """The ports of a bridge that goes have no master from then on."""
        for port in self.live.ports(bridge):
            want, planned = self.goal.get(port), self.found.get(port)
            if want is None or port in self.cause or (planned is not None and planned.action != UPDATE):
                continue
            have = self.live.facts[port]
            have = have._replace(attrs={**have.attrs, "master": None})
            owner = planned is not None and "owner" in planned.attrs
            change = changed(want, have, port, owner=owner, reason=f"{bridge} goes")
            if change is None:
                self.found.pop(port, None)
                continue
            self.found[port] = change
            self.queue.append(change)

    def _settle(self, ref: Ref, reason: str) -> None:
        planned = self.found.get(ref)
        if (want := self.goal.get(ref)) is not None:
            attrs = () if ref.kind in _FIRST else (AGAIN,)
            self.found[ref] = Change(CREATE, ref, want, None, attrs, reason)
        elif planned is not None:
            self.found[ref] = Change(*planned[:5], reason, planned.takes)


def with_losses(found: dict[Ref, Change], goal: Facts, live: Live) -> dict[Ref, Change]:
    """`found` and what it entails: lost facts that are desired are made again, and each change lists what it takes."""
    if not live.facts:
        return found
    return _Closure(found, goal, live).run()


def dying(changes: Iterable[Change]) -> frozenset[str]:
    """The namespaces that go, with all that is in them: those that topo made, not those it is attached to."""
    return frozenset(
        change.ref.ns
        for change in changes
        if change.ref.kind == "namespace"
        and change.action in (DELETE, REPLACE)
        and change.live is not None
        and not attached(change.live)
    )
