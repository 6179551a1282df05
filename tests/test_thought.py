"""What reading has found to be as it was thought is not compared again: the diff is the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from topo.facts import OWN, STATIC, TAGGED, Desired, Fact, Facts, Live, Ref, Thought, namespace
from topo.planning.diff import diff

HOME = Fact(namespace("n"), {"up": True})
VXLAN = Fact(Ref("link", "n", ("vx0",)), {"kind": "vxlan", "id": 1, "up": True})


def _entry(number: int, dst: str) -> Fact:
    return Fact(Ref("fdb", "n", ("vx0", f"02:00:00:00:00:{number:02x}", "")), {"dst": dst})


def _neighbour(number: int, mac: str) -> Fact:
    return Fact(Ref("neighbour", "n", ("vx0", f"10.0.0.{number}")), {"lladdr": mac})


def _as_read(fact: Fact) -> Fact:
    return fact._replace(
        attrs={**fact.attrs, "_state": 0xC0}, origin=STATIC if fact.ref.kind == "fdb" else TAGGED
    )  # fmt: skip


_facts = st.lists(
    st.builds(_entry, st.integers(0, 9), st.sampled_from(["192.0.2.1", "192.0.2.2"]))
    | st.builds(_neighbour, st.integers(0, 9), st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02"])),
    max_size=12,
).map(lambda some: {fact.ref: fact for fact in some})


@given(_facts, _facts, _facts, st.data())
def test_the_diff_is_the_same(desired: Facts, live: Facts, before: Facts, data: st.DataObject) -> None:
    thought: Facts = {HOME.ref: HOME, VXLAN.ref: VXLAN, **desired}
    found = [fact for ref, fact in desired.items() if live.get(ref) == fact]  # some of them are known by their bytes
    known = {fact.ref for fact in found if data.draw(st.booleans())}
    read = {ref: _as_read(fact) for ref, fact in live.items() if ref not in known}
    if data.draw(st.booleans()):
        read |= {fact.ref: Fact(fact.ref, {**fact.attrs, "mtu": 1500}, OWN) for fact in (HOME, VXLAN)}
    missing = tuple(ref for ref in thought if ref not in known)
    facts: Facts = {**{ref: thought[ref] for ref in known}, **read}
    wanted: dict[Ref, Any] = dict(thought)
    for fact in data.draw(_facts).values():  # what only the live state can tell, or what is put back
        wanted[fact.ref] = fact
    previous = data.draw(st.sampled_from([None, Desired("lab", {**thought, **before}), Desired("lab", thought)]))
    for goal in (thought, dict(thought), wanted, dict(reversed(wanted.items()))):
        state = Desired("lab", goal)
        told = diff(state, Live(facts, Thought(thought, missing, read)), previous)
        assert told == diff(state, Live(facts), previous)
