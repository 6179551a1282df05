"""Executing: the stages of a plan, each as few sends as its namespaces allow.

Indexes and descriptors are resolved here and now. rtnetlink requests of one socket wait in a batch until something
else has to happen after them; every other request is made at once.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Final

from topo.changes import CREATE, DELETE, OWNER, Conntrack, Genl, Netns, Nft, Op, Request, Rtnl, Sysctl, Tun
from topo.errors import KernelError
from topo.facts import FOREIGN, OWN, Desired, Fact, Ref, doomed, link, mark
from topo.kernel import acquaintances, announce, conntrack, detour, generic, netconf, netns, rtnl, sysctl, tun
from topo.kernel.outcome import HINT, Outcome, Progress
from topo.kernel.spaces import Space, Spaces
from topo.kinds.ifla import IFLA_GROUP, body
from topo.kinds.registry import KINDS
from topo.wire import IFINFOMSG, RTM_DELLINK, RTM_NEWLINK, attr_u32, message

_ENODEV: Final = 19
_PACKED: Final = 64  # messages that wait until they are sent
_SENT: Final = 8192  # messages in one send at most
_FEW: Final = 3  # links deleted at once that are worth a group
_FIRST_INDEX: Final = 1000


class Executor:
    """Runs one plan; it is the `Env` of encoding."""

    def __init__(self, spaces: Spaces, desired: Desired, progress: Progress | None) -> None:
        self.spaces, self.progress = spaces, progress
        self.mark = mark(desired.name)
        self._desired = desired.facts
        self._news: dict[Ref, Fact] = {}
        self._next = self._first_index()
        self._waiting: dict[str, list[tuple[Op, Rtnl]]] = {}
        self._done: list[Op] = []
        self._failed: list[tuple[Op, KernelError]] = []
        self._excused: list[tuple[Op, KernelError]] = []
        self._before: list[Fact] = []
        self._parted: list[Space] = []  # closed together, as each that ends makes the kernel slow at taking names away
        self._heirs: acquaintances.Heirs = {}
        self._detours: dict[Ref, detour.Detour] = {}
        self._ways: dict[str, detour.Way] = {}  # by namespace: open until what waits there has been sent
        self._total = 0
        self._prepared = False

    def run(self, stages: Sequence[Sequence[Op]]) -> Outcome:
        """Stops behind the first batch in which something was refused."""
        self._total = sum(map(len, stages))
        self._news = {op.ref: op.new for stage in stages for op in stage if op.new is not None}
        self._heirs = acquaintances.heirs(op for stage in stages for op in stage)
        if self._heirs:
            self._detours = detour.detours(op for stage in stages for op in stage)
        try:
            with self.spaces.away():
                for stage in stages:
                    self._stage(stage)
                    if self._failed:
                        break
                else:
                    announce.tell(self.spaces, announce.worth_telling(self._done, self._desired))
        finally:
            for way in self._ways.values():  # torn out of a handover
                way.close()
            self._close_parted()
        return Outcome(self._done, self._failed, self._before, self._excused)

    # What encoding asks

    def index(self, ns: str, ifname: str) -> int:
        space = self.spaces.get(ns)
        found = space.indexes.get(ifname)
        if found is None:
            raise KernelError(_ENODEV, "no such interface", doing=f"{ns}:{ifname}")
        return found

    def assign(self, ns: str, ifname: str) -> int:
        self._next += 1
        self._known(self.spaces.get(ns), ifname, self._next)
        return self._next

    def rename(self, ns: str, old: str, new: str) -> None:
        space = self.spaces.get(ns)
        self._known(space, new, space.indexes.pop(old))

    def netns(self, ns: str) -> int:
        return self.spaces.get(ns).fd

    def desired(self, ref: Ref) -> Fact | None:
        return self._news.get(ref) or self._desired.get(ref)

    def secret(self, name: str) -> bytes:
        found = self.spaces.keys.known.get(name)
        if found is None:
            raise KernelError(errno.ENOKEY, doing=f"the key that goes by {name}")
        return found

    @staticmethod
    def _known(space: Space, ifname: str, index: int) -> None:
        space.indexes[ifname] = index
        space.names[index] = ifname
        space.marked.add(index)

    def _first_index(self) -> int:
        """Beyond what is in use, and a step away from what the kernel will give to others meanwhile."""
        used = max((i for space in self.spaces.open.values() for i in space.names), default=0)
        return max(_FIRST_INDEX, used + 64)

    # Running

    def _stage(self, stage: Iterable[Op]) -> None:
        for op in stage:
            try:
                self._op(op)
            except KernelError as error:
                if not self._excuses(op, error):
                    break
            self._done.append(op)
        self._flush()
        for ns in list(self._ways):  # a handover that was refused half way
            self._send(ns)
        self._close_parted()
        if self._failed:
            refused = {id(op) for op, _ in self._failed}
            self._done = [op for op in self._done if id(op) not in refused]

    def _excuses(self, op: Op, error: KernelError) -> bool:
        """Whether a refusal is none: what is to be deleted is not there."""
        absent = op.verb == DELETE and error.errno in KINDS[op.ref.kind].absent
        (self._excused if absent else self._failed).append((op, _about(error, op)))
        return absent

    def _close_parted(self) -> None:
        while self._parted:
            self._parted.pop().close()

    def _op(self, op: Op) -> None:
        if (self._detours or self._ways) and op.ref.kind in ("link", "address"):
            self._divert(op)
            if self._failed:
                return
        if self._heirs and op.verb == CREATE and op.ref.kind == "address":
            self._introduce(op.ref)
        if op.verb == DELETE and op.ref.kind == "address" and (request := detour.mending(op, self)):
            self._queue(Op(HINT, op.ref, None, None), request)
        asked = ""  # by which namespace's socket the last request of this op goes
        for item in KINDS[op.ref.kind].encode(op, self):
            if callable(item):
                self._flush()
                if self._failed:
                    return
                item = item()
            if isinstance(item, Rtnl):
                if asked not in ("", item.ns):  # made from one namespace, and then set in another
                    self._send(asked)
                    if self._failed:
                        return
                asked = item.ns
                self._queue(op, item)
                continue
            self._flush()
            if self._failed:
                return
            self._now(op, item)

    def _introduce(self, address: Ref) -> None:
        """The first address that comes to a link brings along what its former link knew."""
        source = self._heirs.pop((address.ns, address.key[0]), None)
        if source is not None:
            for request in acquaintances.learn(self.spaces.get(address.ns), address.key[0], source):
                self._queue(Op(HINT, address, None, None), request)

    def _divert(self, op: Op) -> None:
        """Ahead of the first op of a handover comes the way round it; it ends with the last of it."""
        if (way := self._ways.get(op.ref.ns)) and way.expect(op):
            self._ask(op.ref.ns, self._waiting.pop(op.ref.ns, []))
            way.await_addresses(self.spaces)
            return
        nic = link(op.ref.ns, op.ref.key[0])
        found = self._detours.get(nic)
        if found is None or not detour.begins(found, op):
            return
        del self._detours[nic]
        self._flush()
        if not self._failed:
            way = detour.open_way(self.spaces, self, found)
            if way is not None:
                self._ways[nic.ns] = way

    def _queue(self, op: Op, request: Rtnl) -> None:
        waiting = self._waiting.setdefault(request.ns, [])
        waiting.append((op, request))
        # Deletions wait for one another: together they cost the kernel one grace period, else one each.
        if len(waiting) >= _PACKED and request.type != RTM_DELLINK and request.ns not in self._ways:
            self._send(request.ns)

    def _flush(self) -> None:
        for ns in [ns for ns, waiting in self._waiting.items() if waiting]:
            self._send(ns)

    def _send(self, ns: str) -> None:
        waiting, way = self._waiting.pop(ns, []), self._ways.pop(ns, None)
        if way is None:
            self._ask(ns, waiting)
            return
        nic = way.target
        try:
            refused = self._ask(ns, [*waiting, *_hints(nic, way.behind)])
        finally:
            way.close()
        refused += self._ask(ns, _hints(nic, way.afterwards))
        self._ask(ns, refused)  # what else would be left of the handover

    def _ask(self, ns: str, waiting: Sequence[tuple[Op, Rtnl]]) -> list[tuple[Op, Rtnl]]:
        """Send what waits; those of the hints that were refused."""
        hints: list[tuple[Op, Rtnl]] = []
        space = self.spaces.get(ns)
        asked = list(_grouped(waiting, space, self.mark))
        packed = [message(r.type, r.flags, seq, r.body) for seq, (_, r) in enumerate(asked)]
        for start in range(0, len(packed), _SENT):
            try:
                refusals = rtnl.send(space.sock, packed[start : start + _SENT])
            except OSError as error:
                op = asked[start][0]
                self._failed.append((op, _about(KernelError(error.errno or 0, "while sending"), op)))
                return hints
            for refusal in refusals:
                op = asked[refusal.seq][0]
                refused = KernelError(refusal.errno, refusal.extack)
                if op.verb == HINT:
                    hints.append(asked[refusal.seq])
                    self._excused.append((op, _about(refused, op)))
                else:
                    self._excuses(op, refused)
            if self._failed:
                return hints
        if self.progress and waiting:
            self.progress(len(self._done), self._total, f"{waiting[-1][0].verb} {waiting[-1][0].ref}")
        return hints

    def _now(self, op: Op, request: Request) -> None:
        """A request that does not travel by rtnetlink. Raises KernelError."""
        if isinstance(request, Netns):
            self._netns(op, request)
        elif isinstance(request, Sysctl):
            self.spaces.enter(request.ns)
            if op.old is None and (value := self._sysctl(request)) is not None:
                self._before.append(Fact(op.ref, {"value": value}, FOREIGN))
            sysctl.write(request.path, request.value, request.optional)
        elif isinstance(request, Genl):
            sock = self.spaces.generic(request.ns)
            generic.request(sock, request.family, request.command, request.version, [request.body])
        elif isinstance(request, Nft):
            self.spaces.nftables(request.ns).run(request.commands)
        elif isinstance(request, Conntrack):
            conntrack.drop(self.spaces.netfilter(request.ns), request.flows)
        elif isinstance(request, Tun):
            space = self.spaces.enter(request.ns)
            self._known(space, request.ifname, tun.make(request, partial(self._claim, space)))
        if self.progress and len(self._done) % _PACKED == 0:
            self.progress(len(self._done), self._total, f"{op.verb} {op.ref}")

    def _sysctl(self, request: Sysctl) -> str | None:
        """What it is now; this thread is in its namespace."""
        value = netconf.value(self.spaces.get(request.ns), request.path, {})
        return sysctl.read(request.path) if value is None else value

    def _claim(self, space: Space, index: int) -> None:
        """Mark a link as topo's. Raises KernelError, OSError."""
        claim = message(RTM_NEWLINK, 0, 0, body(index, attr_u32(IFLA_GROUP, self.mark)))
        if refused := rtnl.send(space.sock, [claim]):
            raise KernelError(refused[0].errno, refused[0].extack)

    def _netns(self, op: Op, request: Netns) -> None:
        name = request.ns
        if request.action in ("create", "attach") and not self._prepared:
            netns.prepare()
            self._prepared = True
        try:
            if request.action == "create":
                self.spaces.create(name, request.setup, self.mark)
            elif request.action == "attach":
                self._attach(name, request)
            elif request.action == "delete":
                self._leave(name)
                netns.unname(name)
            else:
                self._detach(name, op)
        except OSError as error:
            raise KernelError(error.errno or 0, str(error) if error.filename else "") from None

    def _leave(self, name: str) -> None:
        """Part with the namespace that has this name, which topo made."""
        if held := self.spaces.part(name):
            self._parted.append(held)

    def _detach(self, name: str, op: Op) -> None:
        """Take away a name that topo gave."""
        have = op.old.attrs if op.old else {}
        if have.get("from") == {"name": name}:
            return
        if OWNER not in op.attrs and (have.get("_strange") or netns.named(name) not in (0, have.get("_inode", 0))):
            raise KernelError(errno.EEXIST, "someone else has given the name to another namespace")
        netns.unname(name)

    def _attach(self, name: str, request: Netns) -> None:
        """Give a namespace that someone else made its name here, or give it back."""
        source, back = request.source or {}, self.spaces.attachments.fds.get(request.inode)
        if back is None or "share" in source:  # what is shared may have been made again
            back = self.spaces.get(str(source.get("share", name))).fd
        if source != {"name": name}:
            netns.name(f"/proc/self/fd/{back}", name, self.mark)


def _hints(ref: Ref, requests: Iterable[Rtnl]) -> list[tuple[Op, Rtnl]]:
    """Requests that may be refused."""
    return [(Op(HINT, ref, None, None), request) for request in requests]


def _grouped(waiting: Sequence[tuple[Op, Rtnl]], space: Space, mark: int) -> Iterator[tuple[Op, Rtnl]]:
    """The requests, with links that are deleted one behind the other turned into one deletion of a link group:
    a thousand cost the kernel one wait for RCU instead of a thousand."""
    for delete, run in groupby(waiting, key=lambda item: item[1].type == RTM_DELLINK):
        asked = list(run)
        if not delete:
            yield from asked
            continue
        indexes = {IFINFOMSG.unpack_from(request.body)[2] for _, request in asked}
        peers = {space.indexes.get(_peer_here(op.old), 0) for op, _ in asked}
        rest = space.marked - indexes - peers
        space.marked = rest
        spared = space.doomed - indexes - peers  # by a run that was killed: they are in the group that is to go
        space.doomed = spared
        if len(asked) < _FEW or spared:
            yield from asked
            continue
        group = mark
        if rest or not all(op.old and op.old.origin == OWN and "_group" not in op.old.attrs for op, _ in asked):
            group = doomed(mark)
            for op, request in asked:
                index = IFINFOMSG.unpack_from(request.body)[2]
                yield op, Rtnl(space.name, RTM_NEWLINK, 0, body(index, attr_u32(IFLA_GROUP, group)))
        yield asked[0][0], Rtnl(space.name, RTM_DELLINK, 0, body(0, attr_u32(IFLA_GROUP, group)))


def _peer_here(fact: Fact | None) -> str:
    """The other end of a veth pair that has both in one namespace; it goes too."""
    peer = fact.attrs.get("peer") if fact else None
    return str(peer[1]) if fact and peer and peer[0] == fact.ref.ns else ""


def _about(error: KernelError, op: Op) -> KernelError:
    """The same error, with what was being done to what."""
    extack = error.extack or (error.doing if error.ref is None and error.doing else "")
    return KernelError(error.errno, extack, op.ref, op.verb)
