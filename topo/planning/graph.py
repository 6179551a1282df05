"""The order of the ops: a graph built by small steps, and the stages in which it is executed.

Each step adds edges "this op before that one". Those that the kernel insists on are hard, and a ring of
them is an error; those that are only better that way are soft, and dropped where they would close a ring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from topo.changes import CREATE, DELETE, OWNER, REPLACE, UPDATE, Change, Op
from topo.errors import CycleError
from topo.facts import BELOW, ON_LINK, Desired, Fact, Facts, Live, Ref, lasting, link, links_of, namespace
from topo.kinds.address import deleted_first
from topo.kinds.kind import nothing
from topo.kinds.nexthop import used
from topo.kinds.registry import KINDS, LINK_KINDS
from topo.kinds.veth import leads
from topo.planning import underlay
from topo.planning.compare import View
from topo.planning.lost import dying
from topo.planning.staging import Graph, Socket, handovers_last, levels
from topo.planning.underlay import Handover, handovers

Edges = Iterator[tuple[int, int]]

_OTHER_CHANNELS: Final = frozenset({"namespace", "sysctl", "nft"})


def ops(changes: Sequence[Change], live: Live, moving: Sequence[Handover]) -> list[Op]:
    """The ops of the changes, unordered. What goes down with its link or namespace needs none of its own, but for
    links that would outlive it for a while: those with a foot in a namespace that stays."""
    elided, explicit = _cascades(changes, live)
    found = [Op(DELETE, ref, None, fact) for ref, fact in explicit.items()]
    for change in changes:
        if change.action == CREATE:
            found.append(Op(CREATE, change.ref, change.desired, None, change.attrs))
        elif change.action == UPDATE:
            found.append(Op(UPDATE, change.ref, change.desired, change.live, change.attrs))
        elif change.ref not in elided and change.live:
            found.append(Op(DELETE, change.live.ref, None, change.live, tuple(a for a in change.attrs if a == OWNER)))
            if change.action == REPLACE:
                found.append(Op(CREATE, change.ref, change.desired, None, change.attrs))
    for handover in moving:
        found = list(underlay.step_by_step(found, handover, live))
    return found


def _cascades(changes: Sequence[Change], live: Live) -> tuple[set[Ref], Facts]:
    """What goes without an op of its own, and the links among it that are deleted all the same."""
    elided: set[Ref] = set()
    explicit: Facts = {}
    gone, ours = dying(changes), {change[1] for change in changes if change[1][0] == "link"}
    for change in changes:
        if change[1][0] not in ("link", "namespace") or change.action not in (DELETE, REPLACE):
            continue
        elided.update(change.takes)
        for ref in change.takes if change.ref.kind == "namespace" else ():
            if ref[0] == "link" and ref in ours and (fact := live.get(ref)) and _outlives(fact, gone):
                explicit[ref] = fact
    return elided, explicit


def _outlives(fact: Fact, gone: frozenset[str]) -> bool:
    if fact.ref.ns not in gone:
        return True
    attrs = fact.attrs
    below = [attrs[name][0] for name in ("parent", "dev") if isinstance(attrs.get(name), tuple)]
    below += [attrs["created_in"]] if attrs.get("created_in") else []
    return any(ns not in gone for ns in below)


class Ordering:
    """What the steps look things up in."""

    def __init__(self, changes: tuple[Change, ...], desired: Desired, live: Live) -> None:
        self.changes, self.desired = changes, desired
        found = handovers(changes, live)
        self.ops = ops(changes, live, found)
        self.handovers = [underlay.steps(self.ops, handover) for handover in found]
        self.let_go = {
            steps[-1][0]: handover.bridge
            for handover, steps in zip(found, self.handovers, strict=True)
            if not handover.taking
        }
        self.wanted = View({**desired.facts, **{c.ref: c.desired for c in changes if c.desired}})
        self.live = View({**live.facts, **{c.ref: c.live for c in changes if c.live}})
        self.makes: dict[Ref, int] = {}
        self.breaks: dict[Ref, int] = {}
        for i, op in enumerate(self.ops):
            if op.verb == DELETE:
                self.breaks[op.ref] = i
            elif i not in self.let_go:  # all is there before the NIC is let go
                self.makes.setdefault(op.ref, i)
        for change in changes:  # a link that is renamed and replaced goes by its new name in other facts
            if change.live and change.live.ref != change.ref and change.live.ref in self.breaks:
                self.breaks[change.ref] = self.breaks[change.live.ref]
        self.cause = {
            ref: taker
            for c in changes
            if c.takes and (taker := self.breaks.get(c.ref, self.makes.get(c.ref))) is not None
            for ref in c.takes
        }

    def made(self) -> Iterator[tuple[int, Op, Fact]]:
        return ((i, op, op.new) for i, op in enumerate(self.ops) if op.new is not None)

    def deleted(self) -> Iterator[tuple[int, Op, Fact]]:
        return ((i, op, op.old) for i, op in enumerate(self.ops) if op.verb == DELETE and op.old is not None)

    def on_link(self, kind: str, verbs: tuple[str, ...]) -> dict[Ref, list[int]]:
        """The ops on facts of a kind, by the link that they sit on."""
        found: dict[Ref, list[int]] = {}
        for i, op in enumerate(self.ops):
            if op.ref.kind == kind and op.verb in verbs and (fact := op.new or op.old):
                for below in links_of(fact):
                    found.setdefault(below, []).append(i)
        return found


# Hard steps


def requirements(order: Ordering) -> Edges:
    """What an object needs is there before it."""
    for i, op, fact in order.made():
        for need in KINDS[op.ref.kind].requires(fact, order.wanted):
            j = order.makes.get(need)
            if j is not None:
                yield j, i


def dismantling(order: Ordering) -> Edges:
    """An object goes before what it needs."""
    for i, op, fact in order.deleted():
        for need in KINDS[op.ref.kind].requires(fact, order.live):
            j = order.breaks.get(need)
            if j is not None:
                yield i, j


def within_namespaces(order: Ordering) -> Edges:
    """A namespace is made before all that is in it, and goes after what is deleted by itself."""
    for i, op in enumerate(order.ops):
        if op.ref.kind == "namespace":
            continue
        home = namespace(op.ref.ns)
        if op.verb != DELETE:
            made = order.makes.get(home)
            if made is not None and order.ops[made].verb == CREATE:
                yield made, i
            continue
        around = {op.ref.ns}
        if op.ref.kind == "link" and op.old is not None:
            around |= {op.old.attrs[name][0] for name in BELOW if isinstance(op.old.attrs.get(name), tuple)}
        for ns in around:
            j = order.breaks.get(namespace(ns))
            if j is not None:
                yield i, j


def replacements(order: Ordering) -> Edges:
    """The old one goes, or gets another name, before the new one comes; a veth pair comes with both its ends."""
    renamed = {op.old.ref: i for i, op in enumerate(order.ops) if op.verb == UPDATE and op.old and op.old.ref != op.ref}
    for j, op, fact in order.made():
        names = [op.ref]
        if op.verb == CREATE and (peer := fact.attrs.get("peer")):
            names.append(link(*peer))
        for name in names:
            before = (order.breaks.get(name), order.cause.get(name), renamed.get(name))
            yield from ((i, j) for i in before if i is not None and i != j)


def side_effects(order: Ordering) -> Edges:
    """What is taken down is made again after that."""
    deleted = order.on_link("address", (DELETE,))
    for ref, i in order.cause.items():
        j = order.makes.get(ref)
        if j is None or i == j:
            continue
        yield i, j
        cause = order.ops[i]
        if cause.ref.kind == "address" and cause.old is not None:  # flushed with the last one of them
            yield from ((k, j) for k in deleted.get(links_of(cause.old)[0], ()) if k != i)


def claims(order: Ordering) -> Edges:
    """Who holds what can be held once lets go before the next one takes it."""
    if not any(order.made()):
        return
    held: dict[Any, list[int]] = {}
    taken: list[tuple[int, Any]] = []
    elided = [(i, fact) for ref, i in order.cause.items() if ref not in order.breaks and (fact := order.live.get(ref))]
    for i, fact in (*((i, op.old) for i, op in enumerate(order.ops) if op.old is not None), *elided):
        if (kind := KINDS[fact.ref.kind]).claims is not nothing:
            for key in kind.claims(fact):
                held.setdefault(key, []).append(i)
    for i, op, fact in order.made() if held else ():
        if (kind := KINDS[op.ref.kind]).claims is not nothing:
            taken += [(i, key) for key in kind.claims(fact)]
    for i, key in taken:
        yield from ((j, i) for j in held.get(key, ()) if j != i)


def address_order(order: Ordering) -> Edges:
    """In one subnet the old address goes first, lest the new one is its secondary; else the new one comes first,
    lest the last one takes the routes with it."""
    made = order.on_link("address", (CREATE,))
    for below, gone in order.on_link("address", (DELETE,)).items():
        for j in made.get(below, ()):
            new = order.ops[j].new
            assert new is not None
            if ":" in new.ref.key[1]:
                continue
            old = [(i, fact) for i in gone if (fact := order.ops[i].old) and ":" not in fact.ref.key[1]]
            before = [i for i, fact in old if deleted_first(fact, new)]
            yield from ((i, j) for i in before) if before else ((j, i) for i, _ in old)


def after_flush(order: Ordering) -> Edges:
    """The last IPv4 address of a link takes its routes and neighbours along: one comes to a link when its old addresses are
    gone."""
    gone = order.on_link("address", (DELETE,))
    for i, op, fact in order.made() if gone else ():
        key = op.ref.key
        if (op.ref.kind == "route" and key[0] == 4) or (op.ref.kind == "neighbour" and ":" not in key[1]):
            for below in set(links_of(fact)) - set(links_of(op.old) if op.old else ()):
                yield from ((j, i) for j in gone.get(below, ()) if ":" not in order.ops[j].ref.key[1])


def renamed_first(order: Ordering) -> Edges:
    """What sits on a link that is renamed goes by the new name."""
    for i, _, fact in order.deleted():
        for below in links_of(fact):
            j = order.makes.get(below)
            if j is not None and (old := order.ops[j].old) is not None and old.ref != below:
                yield j, i


def handing_over(order: Ordering) -> Edges:
    """One after the other, as `underlay.steps` has them; a bridge that goes does so behind all of it."""
    for steps in order.handovers:
        for k, before in enumerate(steps):
            yield from ((i, j) for after in steps[k + 1 :] for i in before for j in after)
    yield from ((i, order.breaks[bridge]) for i, bridge in order.let_go.items() if bridge in order.breaks)


# Soft steps


def updates_of_links(order: Ordering) -> Edges:
    """What is deleted from a link, or a nexthop, goes before that or the link's bridge is changed, but for what is handed
    over."""
    nics = {order.ops[i].ref for steps in order.handovers for step in steps for i in step}
    changed = {ref: i for ref, i in order.makes.items() if order.ops[i].old is not None and ref not in nics}
    for i, op, fact in order.deleted() if changed else ():
        needs = KINDS[op.ref.kind].requires(fact, order.live) if op.ref.kind in ON_LINK else ()
        for below in dict.fromkeys((*links_of(fact), *used(fact), *(need for need in needs if need.kind == "link"))):
            if (j := changed.get(below)) is not None:
                yield i, j


def moved_routes(order: Ordering) -> Edges:
    """A route leaves its link before the link or its addresses go; and its nexthop, as a group does, before that goes."""
    gone = order.on_link("address", (DELETE,))
    for i, op, fact in order.made():
        if op.verb == UPDATE and op.ref.kind in ("route", "nexthop") and op.old is not None:
            for below in {*links_of(op.old), *used(op.old)} - {*links_of(fact), *used(fact)}:
                yield from ((i, j) for j in gone.get(below, ()))
                if (j := order.breaks.get(below, order.cause.get(below))) is not None:
                    yield i, j


def departures(order: Ordering) -> Edges:
    """What is changed no longer needs what goes, by then: a filter leads to another class."""
    for i, op, _ in order.made():
        if op.verb == UPDATE and op.old is not None and op.ref.kind not in ("link", "route", "nexthop"):
            for need in KINDS[op.ref.kind].requires(op.old, order.live):
                if (j := order.breaks.get(need)) is not None:
                    yield i, j


def sysctls_first(order: Ordering) -> Edges:
    """A namespace's sysctls before its links, which copy the defaults; a device's before its addresses and routes."""
    links: dict[str, list[int]] = {}
    for i, op in enumerate(order.ops):
        if op.verb == CREATE and op.ref.kind == "link" and op.new is not None:
            links.setdefault(op.ref.ns, []).append(i)
            if peer := op.new.attrs.get("peer"):  # whichever op makes both ends
                links.setdefault(peer[0], []).append(i)
    above = [order.on_link(kind, (CREATE, UPDATE)) for kind in ("address", "route")]
    for i, op, fact in order.made():
        if op.ref.kind != "sysctl":
            continue
        below = links_of(fact)
        after = [found.get(ref, ()) for found in above for ref in below] if below else [links.get(op.ref.ns, ())]
        yield from ((i, j) for some in after for j in some)


def one_by_one(order: Ordering) -> Edges:
    """What has one name is changed in the order of the plan: addresses of a link are made as the file has them."""
    for made in order.on_link("address", (CREATE,)).values():
        yield from pairwise(made)


def former_first(order: Ordering) -> Edges:
    """A name leads elsewhere when all is done in the namespace that it led to: if topo is killed before, it finds that again."""
    for i, op in enumerate(order.ops):
        if (ns := lasting(op.ref.ns)) != op.ref.ns and (j := order.breaks.get(namespace(ns))) is not None:
            yield i, j


HARD: Final[tuple[Callable[[Ordering], Edges], ...]] = (
    requirements,
    dismantling,
    within_namespaces,
    replacements,
    side_effects,
    claims,
    address_order,
    after_flush,
    renamed_first,
    handing_over,
)
SOFT: Final[tuple[Callable[[Ordering], Edges], ...]] = (
    updates_of_links,
    moved_routes,
    departures,
    sysctls_first,
    one_by_one,
    former_first,
)


def graph(order: Ordering) -> tuple[Graph, list[int]]:
    """The graph of the ops, and an order that respects every edge. Raises CycleError for a ring of hard edges."""
    waits: Graph = [{} for _ in order.ops]
    for step in HARD:
        for i, j in step(order):
            waits[j][i] = None
    soft = [(i, j) for step in SOFT for i, j in step(order) if i not in waits[j]]
    for i, j in soft:
        waits[j][i] = None
    found = _sorted(waits)
    if len(found) < len(waits):
        _open_rings(order, waits, soft)
        found = _sorted(waits)
    return waits, found


def _sorted(waits: Graph) -> list[int]:
    """Every op behind those that it waits for; what is in a ring, or behind one, is left out."""
    behind: list[list[int]] = [[] for _ in waits]
    missing = [len(before) for before in waits]
    for j, before in enumerate(waits):
        for i in before:
            behind[i].append(j)
    ready = [i for i, number in enumerate(missing) if not number]
    for i in ready:  # it grows meanwhile
        for j in behind[i]:
            missing[j] -= 1
            if not missing[j]:
                ready.append(j)
    return ready


def _open_rings(order: Ordering, waits: Graph, soft: Iterable[tuple[int, int]]) -> None:
    """Take the soft edges out of every ring. Raises CycleError where it is one without them."""
    import networkx  # takes a tenth of a second, and rings are rare

    built: networkx.DiGraph[int] = networkx.DiGraph((i, j) for j, before in enumerate(waits) for i in before)
    part = {node: n for n, ring in enumerate(networkx.strongly_connected_components(built)) for node in ring}
    inside = [(i, j) for i, j in soft if part[i] == part[j]]
    built.remove_edges_from(inside)
    if not networkx.is_directed_acyclic_graph(built):
        raise CycleError([order.ops[edge[0]].ref for edge in networkx.find_cycle(built)])
    for i, j in inside:
        waits[j].pop(i, None)


def _socket(order: Ordering, i: int) -> Socket | None:
    """What carries all of the op; None where it needs more, or another channel."""
    op = order.ops[i]
    if op.ref.kind in _OTHER_CHANNELS:
        return None
    if op.ref.kind != "link" or op.verb == UPDATE or op.new is None:
        return op.ref.ns, op.ref.kind == "link" and op.verb == DELETE
    if (peer := op.new.attrs.get("peer")) and not leads(op.new, order.wanted.get(link(*peer))):
        return op.ref.ns, False  # the op of the other end makes it
    kind = LINK_KINDS.get(op.new.attrs.get("kind", ""))
    return (kind.home(op.new), False) if kind and kind.make is None else None


def stages(changes: Iterable[Change], desired: Desired, live: Live) -> list[list[Op]]:
    """The ops in as few stages as possible, those of a stage grouped by the namespace of their socket and, within it, in order.

    An op is in the stage after the last one that it waits for, or in the same one where both travel in one
    packed send: plain rtnetlink on the socket of one namespace. Raises CycleError.
    """
    changes = tuple(changes)
    if not changes:
        return []
    order = Ordering(changes, desired, live)
    waits, found = graph(order)
    sockets = [_socket(order, i) for i in range(len(order.ops))]
    stage = levels(waits, found, sockets, order.handovers)
    staged: list[dict[str, list[Op]]] = [{} for _ in range(max(stage) + 1)]
    for i in handovers_last(waits, found, stage, order.handovers):
        mine = sockets[i]
        staged[stage[i]].setdefault(mine[0] if mine else order.ops[i].ref.ns, []).append(order.ops[i])
    return [[op for group in by_namespace.values() for op in group] for by_namespace in staged]
