"""The conformance suite on the fake kernel, and that it has cases for all there is (tests/conformance)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import networkx
import pytest
from conformance.case import INNER, Case
from conformance.cases import CASES, cases
from conformance.rig import Rig
from fake import FakeKernel, live_address

from topo.changes import CREATE, DELETE, Op
from topo.engine import record
from topo.errors import ApplyError
from topo.facts import FOREIGN, HOST, Desired, Fact, Facts, Ref
from topo.kernel.outcome import Outcome, Progress
from topo.kinds.registry import KINDS, LINK_KINDS
from topo.planning.compare import replaced

DOCUMENT = Path(__file__).parents[1] / "docs" / "facts.md"
COMMON = ("up", "master", "mtu", "mac", "txqueuelen", "alias")
ATTRIBUTES = [(name, attribute) for name, case in CASES.items() for attribute in case.attributes]


# Nothing is without cases


def test_every_kind_has_cases() -> None:
    assert {case.kind for case in CASES.values()} == set(KINDS)
    assert {case.link_kind for case in CASES.values()} - {""} == set(LINK_KINDS)


@pytest.mark.parametrize("kind", LINK_KINDS)
def test_every_attribute_of_a_link_has_cases(kind: str) -> None:
    stated, cannot = _stated("link", kind)
    own = LINK_KINDS[kind].own | {LINK_KINDS[kind].below} - {""}
    assert own <= stated
    assert set(COMMON) == (set(COMMON) & stated) | cannot
    assert not stated & cannot


def _stated(kind: str, link_kind: str = "") -> tuple[set[str], set[str]]:
    """The attributes that the cases have states for, and those that they say are not to be had."""
    mine = [case for case in CASES.values() if (case.kind, case.link_kind) == (kind, link_kind)]
    return {name for case in mine for name in case.attributes}, {name for case in mine for name in case.cannot}


def _documented() -> dict[str, set[str]]:
    """Of docs/facts.md: each kind, and each kind of link, with the words of its row: attributes, and values of them."""
    found: dict[str, set[str]] = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| `") else []
        if cells:
            for kind in re.findall(r"`([a-z0-9_]+)`", cells[0]):
                found[kind] = set(re.findall(r"`([a-z_0-9]+)`", cells[-1]))
        elif line.startswith("Every link:"):
            found["common"] = set(COMMON) | set(re.findall(r"`([a-z]+)`", line))
    return found


def _values(value: Any) -> set[str]:
    return {value} if isinstance(value, str) else set(value) if isinstance(value, dict) else set()


NEVER_ANOTHER = {
    # iproute2 shows these from 6.14 to 6.16 on: tests/live/test_routing.py has them by the way that packets take
    "rule": {"dscp", "flowlabel", "flowlabel_mask", "dscp_mask", "sport_mask", "dport_mask"},
    "nft": {"other"},  # what topo's table never has: always empty where desired
    "sysctl": {"optional"},  # how it is desired, not what: tests/test_lowering.py, tests/live/test_traps.py
}


@pytest.mark.parametrize("kind, words", [(kind, words) for kind, words in _documented().items() if kind != "link"])
def test_every_documented_word_has_cases(kind: str, words: set[str]) -> None:
    mine = [
        c for c in CASES.values() if kind in ((c.kind, c.link_kind) if c.kind != "link" else (c.link_kind, "common"))
    ]
    assert mine
    states = [state for case in mine for states in case.attributes.values() for state in (*states, case.fact.attrs)]
    known = {name for case in mine for name in case.attributes} | {
        w for s in states for v in s.values() for w in _values(v)
    }
    assert words - NEVER_ANOTHER.get(kind, set()) <= known


def test_the_page_lists_every_kind() -> None:
    assert set(KINDS) | set(LINK_KINDS) - {"existing"} | {"common"} == set(_documented())


@pytest.mark.parametrize("name", CASES)
def test_every_attribute_has_two_states_and_a_way_to_drift(name: str) -> None:
    case = CASES[name]
    for attribute, states in case.attributes.items():
        assert len(states) > 1, attribute
        facts = [case.of(state) for state in states]
        assert all(one != other for i, one in enumerate(facts) for other in facts[:i]), attribute
        assert case.by_hand[attribute], attribute
    assert case.by_hand.keys() == case.attributes.keys()
    assert case.gone or case.external or case.kind in ("sysctl", "inet6")  # which are there as long as their link


def test_the_host_has_the_same_cases() -> None:
    only_inside = {"namespace", "namespace-attached"}
    assert cases(INNER).keys() - only_inside == cases(HOST).keys() - {"existing"}


# On the fake kernel


class Kernel(FakeKernel):
    """The fake, with what the engine asks beside."""

    def inodes(self, desired: Desired) -> dict[str, int]:
        return {}

    def home(self) -> int:
        return 1

    def sweep(self, names: Iterable[str], topology: str) -> None:
        """Nothing lies about."""

    def reset(self) -> None:
        """Nothing is held open."""

    def execute(  # type: ignore[override]
        self, stages: Sequence[Sequence[Op]], desired: Desired, progress: Progress | None = None
    ) -> Outcome:
        return super().execute([list(stage) for stage in stages], desired)

    def state(self) -> dict[Ref, Any]:
        return {ref: ({k: v for k, v in f.attrs.items() if k[0] != "_"}, f.origin) for ref, f in self.facts.items()}


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def rig(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(record, "DIRECTORY", tmp_path / "topo")
    return Rig(kernel, monkeypatch)


@pytest.fixture
def case(request: pytest.FixtureRequest, kernel: Kernel) -> Case:
    case = CASES[request.param]
    if case.external:
        common = {"kind": "veth", "up": True, "master": None, "mtu": 1500, "txqueuelen": 1000, "alias": ""}
        kernel.facts[case.fact.ref] = Fact(case.fact.ref, {**common, "mac": "02:00:00:00:0f:01"}, FOREIGN)
    return case


def shows(kernel: Kernel, case: Case, fact: Fact) -> bool:
    have = kernel.facts.get(fact.ref)
    return have is not None and not KINDS[case.kind].compare(fact, have)


@pytest.mark.parametrize("case, attribute", ATTRIBUTES, indirect=["case"], ids=["-".join(pair) for pair in ATTRIBUTES])
def test_attribute(kernel: Kernel, rig: Rig, case: Case, attribute: str) -> None:
    facts = [case.of(state) for state in case.attributes[attribute]]
    rig.apply_case(case, facts[0])
    assert shows(kernel, case, facts[0])
    if attribute in case.unseen:
        assert all(rig.differences(rig.desired(case, fact)) == () for fact in facts)
        return
    for before, after in networkx.eulerian_circuit(networkx.complete_graph(len(facts), networkx.DiGraph), source=0):
        _change(kernel, rig, case, facts[before], facts[after])
    _undo_at_every_op(kernel, rig, case, facts[0], facts[1])
    if attribute == "peer":  # an end of a pair cannot have another by itself
        return
    _drift(kernel, rig, case, facts[0], facts[1])


def _change(kernel: Kernel, rig: Rig, case: Case, before: Fact, after: Fact) -> None:
    have = kernel.facts[before.ref]
    kernel.log.clear()
    rig.apply_case(case, after)
    assert shows(kernel, case, after)
    if before.ref != after.ref:
        assert before.ref not in kernel.facts
        return
    deleted = any(op.verb == DELETE and op.ref == after.ref for op in kernel.log)
    made = any(op.verb == CREATE and op.ref == after.ref for op in kernel.log)
    assert (made or deleted) == replaced(after, have)


def _undo_at_every_op(kernel: Kernel, rig: Rig, case: Case, before: Fact, after: Fact) -> None:
    state = kernel.state()
    for number in range(100):
        kernel.count, kernel.fail_at = 0, number
        try:
            rig.apply_case(case, after)
        except ApplyError as error:
            assert error.undone, error
            assert kernel.state() == state
            assert shows(kernel, case, before)
        else:
            assert number > 0
            break
    kernel.fail_at = None
    rig.apply_case(case, before)


def _drift(kernel: Kernel, rig: Rig, case: Case, first: Fact, second: Fact) -> None:
    have = kernel.facts[first.ref]
    if first.ref == second.ref:
        kernel.facts[first.ref] = have._replace(attrs=_after(have, second))
    else:
        kernel._delete(first.ref)
    desired = rig.desired(case, first)
    assert first.ref in {change.ref for change in rig.differences(desired)}
    rig.apply(desired)
    assert shows(kernel, case, first)


def _after(have: Fact, second: Fact) -> dict[str, Any]:
    """What a live fact has when somebody has changed it so."""
    if have.ref.kind == "address":
        return live_address(have.ref, second.attrs)
    return {**have.attrs, **second.attrs}


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_object(kernel: Kernel, rig: Rig, case: Case) -> None:
    there: Facts = dict(kernel.facts)
    fact = case.first(next(iter(case.attributes)))
    rig.apply_case(case, fact)
    whole = kernel.state()
    if case.gone:
        kernel._delete(fact.ref)
        rig.apply_case(case, fact)
        assert kernel.state().keys() == whole.keys()
        assert shows(kernel, case, fact)
        state = rig.prepare(rig.desired(case, None))
        kernel._delete(fact.ref)
        assert fact.ref in {change.ref for change in state.plan.changes if change.action == DELETE}
    rig.apply_case(case, None)
    if case.gone:
        assert fact.ref not in kernel.facts
    rig.destroy()
    assert {ref for ref in kernel.facts if ref.kind != "sysctl"} == set(there)
