"""The kernel that is made of facts answers as the real one does: the same requests, one by one, errno by errno.

The requests come in any order, so that most of them are wrong in some way: what they need is not there, or their name is
taken. What each kernel makes of one is seen in its answers to those that follow.
"""

from __future__ import annotations

import errno
from collections import Counter
from typing import Any, Final

import pytest
from fake import FakeKernel
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sandbox.host import Host, until

from faults.figures import FIGURES
from faults.killed import MORE, SEED
from faults.test_refused import LESS
from topo.changes import CREATE, DELETE, UPDATE, Op
from topo.errors import KernelError
from topo.facts import HOST, Desired, Fact, Facts, Live, Ref, link, namespace
from topo.kernel import Kernel

EXAMPLES: Final = 400 if MORE else 8 if LESS else 40
pytestmark = pytest.mark.timeout(1800 if MORE else 300)


def fact(of: str, where: str, *key: Any, **attrs: Any) -> Fact:
    return Fact(Ref(of, where, key), attrs)


def device(ns: str, name: str, kind: str, **attrs: Any) -> Fact:
    return fact("link", ns, name, kind=kind, **{"up": True, "master": None, **attrs})


def route(ns: str, to: str, dev: str | None, gateway: str | None = None, metric: int = 0, **attrs: Any) -> Fact:
    usual = {"type": "unicast", "nexthops": None, "onlink": False, "src": None, "mtu": None}
    return fact("route", ns, 4, 254, to, metric, **{**usual, "dev": dev, "gateway": gateway, **attrs})


POOL: Final = (
    fact("namespace", "a", up=True),
    fact("namespace", "b", up=True),
    device(HOST, "br0", "bridge"),
    device(HOST, "p0", "veth", peer=("a", "e0"), master="br0"),
    device("a", "e0", "veth", peer=(HOST, "p0")),
    device("a", "e1", "veth", peer=("b", "e1")),
    device("b", "e1", "veth", peer=("a", "e1")),
    device(HOST, "vx0", "vxlan", id=7, port=4789, learning=False, local="192.0.2.1", mtu=1450),
    device("a", "vx1", "vxlan", id=7, port=4789, learning=False, local="192.0.2.1", mtu=1450, created_in=HOST),
    device(HOST, "mv0", "macvlan", parent=(HOST, "br0"), mode="bridge"),
    device("b", "i0", "ifb"),
    fact("port", HOST, "p0", hairpin=True),
    fact("fdb", HOST, "vx0", "02:00:00:00:02:01", "", dst="192.0.2.3"),
    fact("address", HOST, "br0", "10.0.0.1/24"),
    fact("address", "a", "e0", "10.0.0.2/24"),
    fact("address", "a", "e0", "10.0.0.3/24"),
    fact("address", "a", "e1", "10.1.0.2/24"),
    fact("address", "b", "e1", "10.1.0.3/24"),
    fact("neighbour", "a", "e0", "10.0.0.9", lladdr="02:00:00:00:03:01"),
    route("a", "0.0.0.0/0", "e0", "10.0.0.1"),
    route("a", "10.8.0.0/16", "e0"),
    route("a", "10.9.0.0/16", "e1", "10.1.0.3", 5),
    route("a", "10.10.0.0/16", "e0", "10.0.0.1", src="10.0.0.3"),
    route("a", "10.11.0.0/16", "e1", "10.1.0.3", src="10.0.0.2"),
    route("b", "10.12.0.0/16", None, type="blackhole"),
    fact("rule", "a", 4, 500, "from 10.8.0.0/16 lookup 44", action="to_table", table=44, **{"from": "10.8.0.0/16"}),
)
WHOLE: Final[Facts] = {one.ref: one for one in POOL}
CHANGES: Final[tuple[tuple[Ref, dict[str, Any]], ...]] = (
    (link(HOST, "br0"), {"up": False}), (link(HOST, "br0"), {"up": True}), (link("a", "e0"), {"up": False}),
    (link("a", "e0"), {"up": True}), (link("a", "e1"), {"up": False}), (link(HOST, "p0"), {"master": None}),
    (link(HOST, "p0"), {"master": "br0"}), (link("b", "e1"), {"mtu": 1400}), (link("a", "e0"), {"mtu": 1000}),
)  # fmt: skip

Asked = tuple[str, Any]
BEGUN: Final[tuple[Asked, ...]] = tuple((CREATE, number) for number in range(7))  # so that something can be done at all
ASKED: Final = st.one_of(
    st.tuples(st.just(CREATE), st.sampled_from(range(len(POOL)))),
    st.tuples(st.just(CREATE), st.sampled_from(range(len(POOL)))),
    st.tuples(st.just(DELETE), st.sampled_from(range(len(POOL)))),
    st.tuples(st.just(UPDATE), st.sampled_from(range(len(CHANGES)))),
)


def op(asked: Asked, live: Live) -> Op | None:
    """The request, in terms of what is there; None where topo has no such request: nobody can change what is not there."""
    verb, number = asked
    if verb == UPDATE:
        ref, attrs = CHANGES[number]
        old = live.get(ref)
        return Op(UPDATE, ref, old._replace(attrs={**old.attrs, **attrs}), old, tuple(attrs)) if old else None
    want = POOL[number]
    if verb == CREATE:
        return Op(CREATE, want.ref, want, None)
    if want.ref.ns != HOST and namespace(want.ref.ns) not in live:
        return None
    return Op(DELETE, want.ref, None, live.get(want.ref) or want)


class Two:
    """Both kernels, asked the same."""

    def __init__(self, real: Kernel) -> None:
        self.real, self.fake = real, FakeKernel()
        self.desired = Desired("answers", WHOLE)
        self.answers: Counter[str] = Counter()

    def ask(self, asked: Asked) -> tuple[str, str]:
        found = []
        for kernel in (self.real, self.fake):
            live = kernel.read(self.desired, self.desired)
            request = op(asked, live)
            if request is None:
                found.append("not there")
                continue
            try:
                failed = [error for _, error in kernel.execute([[request]], self.desired).failed]
            except KernelError as error:  # of a namespace that is not there
                failed = [error]
            found.append(errno.errorcode[failed[0].errno] if failed else "done")
        self.answers[found[0]] += 1
        return found[0], found[1]

    def differing(self) -> set[Ref]:
        """What is there in one and not in the other; a namespace's links go behind it (cleanup_net)."""
        fake = self.fake.read(self.desired).facts.keys() & WHOLE.keys()

        def differing() -> set[Ref]:
            return (self.real.read(self.desired, self.desired).facts.keys() & WHOLE.keys()) ^ fake

        until(lambda: not differing(), 5)
        return differing()

    def clear(self) -> None:
        live = self.real.read(self.desired, self.desired)
        for name in ("a", "b"):
            if namespace(name) in live:
                self.real.execute([[Op(DELETE, namespace(name), None, live.get(namespace(name)))]], self.desired)
        for name in ("mv0", "vx0", "p0", "br0"):
            live = self.real.read(self.desired, self.desired)
            if there := live.get(link(HOST, name)):
                self.real.execute([[Op(DELETE, there.ref, None, there)]], self.desired)
        self.real.reset()


def words(asked: Asked) -> str:
    verb, number = asked
    return f"{verb} {POOL[number].ref}" if verb != UPDATE else f"{verb} {CHANGES[number][0]} {CHANGES[number][1]}"


def test_the_fake_kernel_answers_as_the_real_one(host: Host) -> None:
    before = host.settled()
    with Kernel() as real:

        @seed(SEED)
        @settings(max_examples=EXAMPLES, database=None, phases=[Phase.generate], deadline=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(st.lists(ASKED, min_size=15, max_size=60))
        def example(drawn: list[Asked]) -> None:
            two, requests = Two(real), [*BEGUN, *drawn]
            try:
                for number, asked in enumerate(requests):
                    real_says, fake_says = two.ask(asked)
                    said = [words(one) for one in requests[: number + 1]][::-1]
                    assert fake_says == real_says, f"real {real_says}, fake {fake_says}: {said}"
                    assert not (differing := two.differing()), f"{differing}: {said}"
            finally:
                two.clear()
            for answer, number in two.answers.items():
                FIGURES.count("requests to the fake kernel and the real one", answer, number=number)

        example()
    host.same(before)
