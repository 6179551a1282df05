"""Properties of planning, against a kernel made of facts: from any topology to any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fake import FakeKernel
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from topo.changes import DELETE, KEPT, Change
from topo.facts import FOREIGN, HOST, STATIC, Desired, Fact, Facts, Ref, link, links_of
from topo.kinds.inet6 import unset
from topo.kinds.registry import KINDS
from topo.planning.compare import View
from topo.planning.diff import diff
from topo.planning.graph import stages
from topo.planning.restore import originals, still_needed
from topo.planning.undo import undo

SPACES = ("a", "b", "c")
NIC = link(HOST, "nic0")


class Draft:
    """Facts in the making: names are given out once."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.facts: Facts = {}

    def some(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def coin(self) -> bool:
        return bool(self.draw(st.booleans()))

    def add(self, kind: str, ns: str, key: tuple[Any, ...], /, **attrs: Any) -> Ref:
        ref = Ref(kind, ns, key)
        self.facts.setdefault(ref, Fact(ref, attrs))
        return ref

    def maybe(self, **attrs: tuple[Any, ...]) -> dict[str, Any]:
        return {name: self.some(*values) for name, values in attrs.items() if self.coin()}


@st.composite
def topologies(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Desired:
    d = Draft(draw)
    spaces = [ns for ns in SPACES if d.coin()]
    for ns in spaces:
        d.add("namespace", ns, (), up=True)
    bridges = [name for name in ("br0", "br1") if d.coin()]
    for name in bridges:
        settings = d.maybe(mtu=(1500, 9000), stp=(True, False), ageing=(30000, 100), mac=("02:00:00:00:00:aa",))
        d.add("link", HOST, (name,), kind="bridge", up=True, master=None, **settings)
    _pairs(d, spaces, bridges)
    _devices(d, spaces, bridges)
    if d.coin():
        ports = {"master": d.some(None, *bridges)} if bridges else {}
        d.add("link", HOST, ("nic0",), **ports, **d.maybe(mtu=(1500, 1400), up=(True,)))
    links = [ref for ref in d.facts if ref.kind == "link"]
    for ref in links:
        _upon(d, ref)
    for ns in (HOST, *spaces):
        _beside(d, ns)
    external = frozenset({NIC} & d.facts.keys())
    return Desired("lab", d.facts, external=external)


def _pairs(d: Draft, spaces: list[str], bridges: list[str]) -> None:
    for number in range(d.some(0, 1, 2, 3, 4)):
        ends = []
        for _ in range(2):
            ns = d.some(HOST, *spaces)
            free = [n for n in ("e0", "e1", "v0", "v1", "v2") if link(ns, n) not in d.facts and (ns, n) not in ends]
            if free:
                ends.append((ns, d.some(*free)))
        if len(ends) < 2:
            continue
        for end, peer in (ends, ends[::-1]):
            master = d.some(None, *bridges) if end[0] == HOST and number % 2 else None
            settings = d.maybe(mtu=(1500, 1400, 1000), mac=(f"02:00:00:00:01:{number:02x}",), alias=("x", ""))
            up = d.some(True, True, True, False)
            d.add("link", end[0], (end[1],), kind="veth", peer=peer, up=up, master=master, **settings)


def _devices(d: Draft, spaces: list[str], bridges: list[str]) -> None:
    free = [1, 2, 3]
    for name in ("vx0", "vx1"):
        if d.coin():
            number = free.pop(d.some(*range(len(free))))
            ns, made = d.some(HOST, *spaces), {"created_in": HOST} if d.coin() else {}
            made = {} if ns == HOST else made
            attrs = d.maybe(ttl=(0, 64))  # what has no default that topo knows is always stated
            attrs |= {"mtu": d.some(1450, 1400), "local": d.some("192.0.2.1", "192.0.2.2")}
            master = d.some(None, *bridges) if ns == HOST else None
            ref = d.add("link", ns, (name,), kind="vxlan", id=number, port=4789, learning=d.coin(), up=True, master=master,
                        **made, **attrs)  # fmt: skip
            for mac in ("02:00:00:00:02:01", "02:00:00:00:02:02"):
                if d.coin():
                    d.add("fdb", ns, (ref.key[0], mac, ""), dst=d.some("192.0.2.3", "192.0.2.4"))
    parents = [ref for ref in d.facts if ref.kind == "link" and d.facts[ref].attrs.get("kind") in ("bridge", "veth")]
    if parents and d.coin():
        parent = d.some(*parents)
        d.add("link", d.some(HOST, *spaces), ("mv0",), kind="macvlan", parent=(parent.ns, *parent.key), up=True,
              master=None, mode=d.some("bridge", "private", "passthru"))  # fmt: skip
    if d.coin():
        d.add("link", d.some(HOST, *spaces), ("ifb0",), kind="ifb", up=True, master=None, **d.maybe(mtu=(1500, 1400)))


def _upon(d: Draft, ref: Ref) -> None:
    ns, name, attrs = ref.ns, ref.key[0], d.facts[ref].attrs
    if attrs.get("master") and d.coin() and ref != NIC:
        d.add("port", ns, (name,), **d.some({"hairpin": True}, {"isolated": True, "cost": 9}))
    up = attrs.get("up", True)
    if d.coin():
        addresses = [f"10.0.{d.some(0, 1)}.{d.some(1, 2, 3)}/24" for _ in range(d.some(1, 2, 3))]
        for address in dict.fromkeys(addresses):
            d.add("address", ns, (name, address))
            net = address.rpartition(".")[0]
            key = d.some("0.0.0.0/0", "10.9.0.0/16")
            if up and d.coin():
                source = d.some(None, address.partition("/")[0])
                _route(d, ns, (4, 254, key, d.some(0, 5)), gateway=f"{net}.254", dev=name, src=source)
    if up and d.coin() and attrs.get("mtu", 1500) >= 1280:
        d.add("address", ns, (name, "fd00::1/64"), nodad=True)
        _route(d, ns, (6, 254, "::/0", 1024), gateway="fd00::fe", dev=name)
    if up and d.coin():
        _route(d, ns, (4, 254, "10.8.0.0/16", 0), dev=name)
        d.add("neighbour", ns, (name, "10.0.0.9"), lladdr=d.some("02:00:00:00:03:01", "02:00:00:00:03:02"))
    if d.coin():
        rate = d.some(1000, 2000)
        d.add("shaping", ns, (name,), kind="tbf", rate=rate, burst=100, latency=5)
    if d.coin():
        d.add("sysctl", ns, (f"net/ipv4/conf/{name}/rp_filter",), value=d.some("0", "1", "2"))


def _beside(d: Draft, ns: str) -> None:
    if d.coin():
        d.add("sysctl", ns, ("net/ipv4/ip_forward",), value=d.some("0", "1"))
    if d.coin():
        d.add("rule", ns, (4, 100, "from 10.0.0.0/8"), action="to_table", table=100, **{"from": "10.0.0.0/8"})
    if d.coin():
        _route(d, ns, (4, 100, "10.7.0.0/16", 0), type="blackhole", dev=None)
    if d.coin():
        d.add("nft", ns, ("inet", "topo-lab"), sets={}, chains={"nat": {"rules": (d.some("a", "b"),)}}, other=())


def _route(d: Draft, ns: str, key: tuple[Any, ...], **attrs: Any) -> None:
    whole = {"type": "unicast", "gateway": None, "nexthops": None, "onlink": False, "src": None, "mtu": None}
    d.add("route", ns, key, **{**whole, **attrs})


def a_host() -> list[Fact]:
    """What is there before: a NIC with an address and a route that are not topo's, and a foreign bridge."""
    common = {"up": True, "master": None, "txqueuelen": 1000, "alias": ""}
    default = {"type": "unicast", "gateway": "10.0.5.254", "nexthops": None, "onlink": False, "src": None, "mtu": None}
    return [
        Fact(NIC, {"mtu": 1600, "mac": "02:00:00:00:09:01", **common}, FOREIGN),
        Fact(link(HOST, "docker0"), {"kind": "bridge", "mtu": 1500, "mac": "02:00:00:00:09:02", **common}, FOREIGN),
        Fact(Ref("address", HOST, ("nic0", "10.0.5.1/24")), {"_protocol": 0}, STATIC),
        Fact(Ref("route", HOST, (4, 254, "0.0.0.0/0", 77)), {**default, "dev": "nic0", "_protocol": 16}, FOREIGN),
        Fact(Ref("sysctl", HOST, ("net/ipv4/ip_forward",)), {"value": "0"}, FOREIGN),
    ]


def plan(kernel: FakeKernel, want: Desired, previous: Desired | None, restore: Facts) -> tuple[Change, ...]:
    return diff(want, kernel.read(want, previous), previous, restore=restore)


def converge(
    kernel: FakeKernel, want: Desired, previous: Desired | None = None, restore: Facts | None = None
) -> dict[Ref, Fact]:
    """Applies `want`, sees that nothing is left to do, and gives what the record would keep."""
    live = kernel.read(want, previous)
    restore = restore or {}
    changes = diff(want, live, previous, restore=restore)
    outcome = kernel.execute(stages(changes, want, live), want)
    assert not outcome.failed, (outcome.failed, kernel.log)
    left = [change for change in plan(kernel, want, previous, restore) if change.reason != KEPT]  # as if not told yet
    assert not left, left
    return still_needed({**originals(changes, live, want, previous), **restore}, want)


def state(kernel: FakeKernel, *, macs: bool) -> dict[Ref, Any]:
    """The state, without MAC addresses where they are chance, and without the sysctls of topo's own links and
    namespaces: what those were before is not known for links that were made or renamed since it was read."""
    hidden = () if macs else ("mac",)
    return {
        ref: ({k: v for k, v in fact.attrs.items() if k[0] != "_" and k not in hidden}, fact.origin)
        for ref, fact in kernel.facts.items()
        if not (ref.kind == "inet6" and unset(fact.attrs))  # which every link has
        and (
            ref.kind != "sysctl" or (fact.attrs != {"value": "0"} and ref.ns == HOST and links_of(fact) in ((), (NIC,)))
        )
    }


MANY = settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
EMPTY = Desired("lab", {})


@MANY
@given(topologies())
def test_what_is_applied_differs_no_more(a: Desired) -> None:
    kernel = FakeKernel(a_host())
    converge(kernel, a)
    again = plan(kernel, a, a, {})
    assert again == ()


@MANY
@given(topologies(), topologies())
def test_from_any_topology_to_any_other_and_back(a: Desired, b: Desired) -> None:
    kernel = FakeKernel(a_host())
    kept = converge(kernel, a)
    before = state(kernel, macs=False)
    kept = converge(kernel, b, a, kept)
    kept = converge(kernel, a, b, kept)
    assert state(kernel, macs=False) == before


@MANY
@given(topologies(), topologies())
def test_destroying_leaves_what_was_there(a: Desired, b: Desired) -> None:
    kernel = FakeKernel(a_host())
    before = state(kernel, macs=True)
    kept = converge(kernel, a)
    kept = converge(kernel, b, a, kept)
    converge(kernel, EMPTY, b, kept)
    assert state(kernel, macs=True) == before


@MANY
@given(topologies(), topologies(), st.data())
def test_a_failure_at_any_op_is_undone(a: Desired, b: Desired, data: st.DataObject) -> None:
    kernel = FakeKernel(a_host())
    kept = converge(kernel, a)
    before = state(kernel, macs=True)
    snapshot = kernel.read(b, a)
    changes = diff(b, snapshot, a, restore=kept)
    todo = stages(changes, b, snapshot)
    count = sum(map(len, todo))
    if not count:
        return
    kernel.count, kernel.fail_at = 0, data.draw(st.integers(0, count - 1))
    outcome = kernel.execute(todo, b)
    assert len(outcome.failed) >= 1
    kernel.fail_at = None
    now = kernel.read(b, a)
    back = undo(snapshot, now, changes, b)
    wanted = Desired("lab", {c.ref: c.desired for c in back if c.desired})
    wanted = wanted._replace(facts={**snapshot.facts, **wanted.facts})
    undone = kernel.execute(stages(back, wanted, now), wanted)
    assert not undone.failed, undone.failed
    assert state(kernel, macs=True) == before
    assert undo(snapshot, kernel.read(b, a), changes, b) == ()


@MANY
@given(topologies(), topologies())
def test_the_order_respects_every_requirement(a: Desired, b: Desired) -> None:
    kernel = FakeKernel(a_host())
    converge(kernel, a)
    live = kernel.read(b, a)
    changes = diff(b, live, a)
    order = [op for stage in stages(changes, b, live) for op in stage]
    made = {op.ref: i for i, op in enumerate(order) if op.verb != DELETE}
    gone = {op.ref: i for i, op in enumerate(order) if op.verb == DELETE}
    wanted = View({**b.facts, **{c.ref: c.desired for c in changes if c.desired}})
    for i, op in enumerate(order):
        if op.new is not None:
            needed = KINDS[op.ref.kind].requires(op.new, wanted)
            assert all(made[need] < i for need in needed if need in made)
            assert gone.get(op.ref, -1) < i
    assert len(made) == sum(1 for op in order if op.verb != DELETE)


@settings(max_examples=60)
@given(topologies(), st.randoms(use_true_random=False))
def test_the_order_of_the_file_matters_not(a: Desired, random: Any) -> None:
    facts = list(a.facts.items())
    random.shuffle(facts)
    shuffled = a._replace(facts=dict(facts))
    one, other = FakeKernel(a_host()), FakeKernel(a_host())
    converge(one, a)
    converge(other, shuffled)
    assert {r: f.origin for r, f in one.facts.items()} == {r: f.origin for r, f in other.facts.items()}
