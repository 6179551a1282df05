"""The conformance suite on the real kernel, with iproute2 and nft as witnesses (tests/conformance)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import networkx
import pytest
from conformance.case import INNER, OTHER, Case, a_pair, spaces
from conformance.cases import CASES
from conformance.losses import CHANGES, everything, lame, objects
from conformance.rig import Refusing, Rig
from conformance.wireguard import SECRETS
from conformance.witness import Seen, agrees, identity, outline, stated, witness
from sandbox.host import Host, has_realms, until
from sandbox.snapshot import shape

from topo.changes import CREATE, DELETE, UPDATE, Change, Op
from topo.errors import ApplyError, LackingError
from topo.facts import HOST, Fact, Ref
from topo.kernel import Kernel
from topo.planning.compare import replaced
from topo.planning.graph import stages


def parameters(*values: str) -> Any:
    """Of a test of the case that comes first: those of a kind that only a full kernel has bear that mark."""
    return pytest.param(*values, id="-".join(values), marks=pytest.mark.full if CASES[values[0]].full else ())


EVERY = [parameters(name) for name in CASES]
ATTRIBUTES = [
    parameters(name, attribute)
    for name, case in CASES.items()
    for attribute in case.attributes
    if case.ns != HOST or case.external  # of the host's own, test_object is enough
]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with Kernel() as kernel:
        kernel._spaces.keys.known.update(SECRETS)
        rig = Rig(kernel, monkeypatch)
        yield rig
        rig.destroy()


@pytest.fixture
def case(request: pytest.FixtureRequest, host: Host, rig: Rig) -> Iterator[Case]:
    """A case, with what is not topo's there; when the test is over, all that is topo's is destroyed before that."""
    case = CASES[request.param]
    by_hand(host, HOST, case.before)
    before = witness(case.first(next(iter(case.attributes)))) if case.external else None
    yield case
    rig.destroy()
    if case.external:
        assert witness(case.first(next(iter(case.attributes)))) == before, "what was changed is put back"
    by_hand(host, HOST, case.after)


def by_hand(host: Host, ns: str, commands: tuple[str, ...]) -> None:
    for command in commands:
        where, colon, words = command.partition(": ")
        host.run(words if colon else command, where if colon else ns)


def shown(fact: Fact) -> Seen:
    """The object, which has to be as the fact states."""
    seen = witness(fact)
    assert seen is not None, f"{fact.ref.kind} {fact.ref} is not there"
    if not agrees(fact, seen):
        assert stated(fact, seen) == fact.attrs, "iproute2 shows it otherwise"
        raise AssertionError("and yet they are equal")
    return seen


def every_pair(count: int) -> list[tuple[int, int]]:
    """A round trip from 0 that goes from each of 0 .. count-1 to each other once."""
    return list(networkx.eulerian_circuit(networkx.complete_graph(count, networkx.DiGraph), source=0))


def glance(host: Host) -> dict[str, list[str]]:
    return {ns: outline(ns) for ns in (HOST, *sorted(host.namespaces()))}


@pytest.mark.parametrize("case, attribute", ATTRIBUTES, indirect=["case"])
def test_attribute(host: Host, rig: Rig, case: Case, attribute: str) -> None:
    facts = [case.of(state) for state in case.attributes[attribute]]
    if attribute == "realms" and not has_realms():
        with pytest.raises(LackingError, match="CONFIG_IP_ROUTE_CLASSID"):
            rig.apply_case(case, facts[0])
        return
    rig.apply_case(case, facts[0])
    shown(facts[0])
    for before, after in every_pair(len(facts)):
        changed(rig, case, attribute, facts[before], facts[after])
    if attribute not in case.unseen:
        undone(rig, case, facts[0], facts[1])
    by_hand(host, case.ns, case.by_hand[attribute])
    found = {change.ref for change in rig.differences(rig.desired(case, facts[0]))}
    assert found & {facts[0].ref, *(fact.ref for fact in case.beside(facts[0]))}
    rig.apply_case(case, facts[0])
    shown(facts[0])


def changed(rig: Rig, case: Case, attribute: str, before: Fact, after: Fact) -> None:
    """From one state to another: in place or replaced, as the kind declares."""
    if attribute in case.unseen:  # it tells how to make one
        assert rig.differences(rig.desired(case, after)) == ()
        rig.apply_case(case, None)
    was = identity(before) if attribute not in case.unseen else None
    live = rig.prepare(rig.desired(case, after)).live.get(after.ref)
    rig.apply_case(case, after)
    shown(after)
    if before.ref != after.ref:
        assert witness(before) is None, "the one before is still there"
    if was is not None:  # an address has nothing that would tell
        declared = live is not None and replaced(after, live)
        assert (identity(after) != was) == declared, f"{attribute}: declared {'fixed' if declared else 'changeable'}"


def undone(rig: Rig, case: Case, before: Fact, after: Fact) -> None:
    """A refusal right behind the change: everything is as it was."""
    was, seen = identity(before), [outline(ns) for ns in (case.ns, OTHER)]
    live = rig.prepare(rig.desired(case, after)).live.get(after.ref)
    refuse(rig, case, after)
    assert [outline(ns) for ns in (case.ns, OTHER)] == seen
    shown(before)
    if live is None or not replaced(after, live):
        assert identity(before) == was


def refuse(rig: Rig, case: Case, after: Fact | None, stage: int | None = None) -> None:
    kernel = Refusing(rig.kernel, stage)
    with pytest.raises(ApplyError) as error:
        rig.apply(rig.desired(case, after), kernel)
    assert [op.ref for op in kernel.refused] == [("link", HOST, ("lo",))], error.value
    assert error.value.undone, error.value


@pytest.mark.parametrize("case", EVERY, indirect=True)
def test_object(host: Host, rig: Rig, case: Case) -> None:
    """Made and deleted by topo and by hand, and refused behind a stage of either."""
    fact = case.first(next(iter(case.attributes)))
    rig.apply_case(case, None)
    without, bare, there = shape(host.everywhere()), glance(host), witness(fact)
    for stage in (1, None):
        refuse(rig, case, fact, stage)
        assert glance(host) == bare
        assert witness(fact) == there
    rig.apply_case(case, fact)
    shown(fact)
    if case.gone:
        by_hand(host, case.ns, case.gone)
        assert [c.action for c in rig.differences(rig.desired(case, fact)) if c.ref == fact.ref] == [CREATE]
        rig.apply_case(case, fact)
        shown(fact)
        delete_what_is_gone(host, rig, case, fact)
    whole = glance(host)
    refuse(rig, case, None)
    assert glance(host) == whole
    shown(fact)
    rig.apply_case(case, None)
    assert witness(fact) == there
    assert shape(host.everywhere()) == without


def delete_what_is_gone(host: Host, rig: Rig, case: Case, fact: Fact) -> None:
    """Someone is quicker than topo: what is to be deleted is gone when its turn comes."""
    state = rig.prepare(rig.desired(case, None))
    assert fact.ref in {change.ref for change in state.plan.changes if change.action == DELETE}
    by_hand(host, case.ns, case.gone)
    outcome = rig.kernel.execute(stages(state.plan.changes, state.desired, state.live), state.desired)
    assert outcome.failed == []
    rig.apply_case(case, fact)


def seen(host: Host) -> set[Ref]:
    return {ref for ns in host.namespaces() for ref in objects(ns)}


@pytest.mark.parametrize("change", CHANGES)
def test_what_goes_with_it(host: Host, rig: Rig, change: str) -> None:
    """The planner says what the kernel takes down with a change: all of it, and nothing else."""
    whole = rig.desired_facts(everything())
    rig.apply(whole)
    before = seen(host)
    assert {ref for ref in whole.facts if ref.kind != "namespace"} == before
    state = rig.prepare(rig.desired_facts(CHANGES[change](whole.facts)))
    said = {ref for one in state.plan.changes for ref in one.takes} & before
    roots = [one for one in state.plan.changes if one.live is not None and one.ref not in said]
    assert not rig.kernel.execute([[root(one) for one in roots]], state.desired).failed
    expected = before - said - {one.ref for one in roots if one.action != UPDATE}
    if INNER in host.namespaces():
        expected |= before & lame(INNER)
    until(lambda: seen(host) == expected, 3)  # what goes with a namespace does so when the kernel has time
    after = seen(host)
    assert (after - expected, expected - after) == (set(), set()), "said to go and stays; goes unsaid"
    rig.apply(whole)
    assert seen(host) == before
    rig.destroy()


def root(change: Change) -> Op:
    """The first op of a change: where it replaces, only the deletion."""
    if change.action == UPDATE:
        return Op(UPDATE, change.ref, change.desired, change.live, change.attrs)
    return Op(DELETE, change.ref, None, change.live)


def test_a_sysctl_overwrites_others(host: Host, rig: Rig) -> None:
    one, every = (Ref("sysctl", INNER, (path,)) for path in ("net/ipv4/conf/c0/forwarding", "net/ipv4/ip_forward"))
    facts = {fact.ref: fact for fact in (*spaces(INNER), *a_pair(INNER), Fact(one, {"value": "0"}))}
    rig.apply(rig.desired_facts(facts))
    both = rig.desired_facts({**facts, every: Fact(every, {"value": "1"})})
    state = rig.prepare(both)
    (change,) = (change for change in state.plan.changes if change.ref == every)
    assert one in change.takes
    assert not rig.kernel.execute([[Op(UPDATE, every, change.desired, change.live, ("value",))]], both).failed
    assert witness(Fact(one, {})) == {"value": "1"}, "the kernel does overwrite it"
    rig.apply(both)
    assert witness(Fact(one, {})) == {"value": "0"}
    assert witness(Fact(every, {})) == {"value": "1"}
    rig.destroy()
