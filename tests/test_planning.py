"""Planning, rule by rule, with facts made by hand."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from fake import FakeKernel

from topo.changes import AGAIN, CREATE, DELETE, OWNER, REPLACE, UPDATE, Change, Op
from topo.errors import CycleError, InputError, OwnershipError
from topo.facts import FOREIGN, HOST, OWN, STATIC, TAGGED, Desired, Fact, Facts, Live, Ref, link, namespace
from topo.kinds.kind import Kind
from topo.kinds.registry import KINDS
from topo.planning.diff import diff
from topo.planning.graph import stages
from topo.planning.plan import Plan, from_json, lines, summary
from topo.planning.resolve import resolve
from topo.planning.restore import originals, still_needed
from topo.planning.undo import undo


def fact(kind: str, ns: str, key: tuple[Any, ...], /, origin: str = OWN, **attrs: Any) -> Fact:
    return Fact(Ref(kind, ns, key), attrs, origin)


def table(*some: Fact) -> Facts:
    return {one.ref: one for one in some}


def want(*some: Fact, **rest: Any) -> Desired:
    return Desired("lab", table(*some), **rest)


def device(ns: str, name: str, /, origin: str = OWN, **attrs: Any) -> Fact:
    whole = {"up": True, "master": None, "mtu": 1500, "txqueuelen": 1000, "alias": "", "mac": "02:00:00:00:00:01"}
    return fact("link", ns, (name,), origin, **{**whole, **attrs})


def bridge(name: str = "br0", /, origin: str = OWN, **attrs: Any) -> Fact:
    return device(HOST, name, origin, kind="bridge", **attrs)


def pair(a: tuple[str, str], b: tuple[str, str], **attrs: Any) -> tuple[Fact, Fact]:
    return device(*a, kind="veth", peer=b, **attrs), device(*b, kind="veth", peer=a, **attrs)


def ns(name: str, /, origin: str = OWN, **attrs: Any) -> Fact:
    return fact("namespace", name, (), origin, up=True, **attrs)


def route(space: str, dst: str, /, origin: str = TAGGED, metric: int = 0, **attrs: Any) -> Fact:
    whole = {
        "type": "unicast",
        "gateway": None,
        "dev": None,
        "nexthops": None,
        "onlink": False,
        "src": None,
        "mtu": None,
    }
    return fact("route", space, (4, 254, dst, metric), origin, **{**whole, **attrs})


def address(space: str, name: str, prefix: str, /, origin: str = TAGGED, **attrs: Any) -> Fact:
    return fact("address", space, (name, prefix), origin, **attrs)


def told(changes: tuple[Change, ...]) -> list[str]:
    return [f"{c.action} {c.ref.kind} {c.ref}" for c in changes]


def verbs(staged: list[list[Op]]) -> list[list[str]]:
    return [[f"{op.verb} {op.ref.kind} {op.ref}" for op in stage] for stage in staged]


# What is compared


def test_nothing_differs() -> None:
    both = (bridge(), address(HOST, "br0", "10.0.0.1/24"))
    assert diff(want(*both), Live(table(*both))) == ()


def test_only_what_is_stated_is_compared() -> None:
    stated = fact("link", HOST, ("br0",), kind="bridge", up=True)
    assert diff(want(stated), Live(table(bridge(mtu=9000, ageing=1)))) == ()


def test_an_update_names_what_differs_and_a_replacement_what_the_kernel_cannot_change() -> None:
    common: dict[str, Any] = {"kind": "vxlan", "port": 4789, "learning": True}
    live = Live(table(device(HOST, "vx0", id=42, ttl=0, **common)))
    (update,) = diff(want(device(HOST, "vx0", id=42, ttl=9, **common)), live)
    assert (update.action, update.attrs) == (UPDATE, ("ttl",))
    (replace,) = diff(want(device(HOST, "vx0", id=43, ttl=9, **common)), live)
    assert (replace.action, set(replace.attrs)) == (REPLACE, {"id", "ttl"})


def test_planning_imports_nothing_heavy_when_nothing_differs() -> None:
    code = (
        "import sys; from topo.planning.diff import diff; from topo.planning import graph, plan, resolve\n"
        "from topo.facts import *\n"
        "f = Fact(link(HOST, 'br0'), {'kind': 'bridge'})\n"
        "d = Desired('lab', {f.ref: f}); assert diff(d, Live({f.ref: f})) == () == tuple(graph.stages((), d, Live({})))\n"
        "print(*{'networkx', 'deepdiff', 'pyroute2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Whose it is


def test_every_name_that_is_taken_is_told_at_once() -> None:
    live = Live(
        table(
            bridge("br0", FOREIGN, alias="office"),
            bridge("br1", FOREIGN, _group=0x71234567),
            ns("web", FOREIGN),
            device(HOST, "nic0", FOREIGN),
            route(HOST, "10.9.0.0/16", FOREIGN, dev="nic0", _protocol=186),
            route(HOST, "10.8.0.0/16", STATIC, dev="nic0"),
        )
    )
    wanted = want(
        bridge("br0"),
        bridge("br1"),
        ns("web"),
        route(HOST, "10.9.0.0/16", dev="nic0"),
        route(HOST, "10.8.0.0/16", dev="nic0"),
    )
    with pytest.raises(OwnershipError) as caught:
        diff(wanted, live)
    words = dict(caught.value.taken)
    assert words[link(HOST, "br0")] == "a bridge with the alias 'office'"
    assert words[link(HOST, "br1")] == "a bridge of another topology (group 0x71234567)"
    assert "protocol 186" in words[Ref("route", HOST, (4, 254, "10.9.0.0/16", 0))]
    assert len(words) == 5
    adopted = diff(wanted, live, adopt=True)
    assert [(c.action, c.attrs) for c in adopted] == [(UPDATE, ("alias", OWNER))] + [(UPDATE, (OWNER,))] * 4


def test_another_topologys_route_is_not_changed() -> None:
    live = Live(table(bridge("other", FOREIGN), bridge(), route(HOST, "10.0.0.0/8", dev="other")))
    mine = want(bridge(), route(HOST, "10.0.0.0/8", dev="br0"))
    with pytest.raises(OwnershipError):
        diff(mine, live)
    assert told(diff(mine, live, previous=mine)) == ["update route 4 254 10.0.0.0/8 0"]


def test_drift_goes_from_what_topo_owns_and_stays_elsewhere() -> None:
    mine = (ns("web"), bridge())
    live = Live(
        table(
            *mine,
            device(HOST, "nic0", FOREIGN),
            address(HOST, "br0", "10.0.0.9/24", STATIC),
            address(HOST, "br0", "fe80::1/64", FOREIGN),
            address(HOST, "nic0", "10.0.1.9/24", STATIC),
            route(HOST, "10.1.0.0/16", STATIC, dev="br0"),
            route(HOST, "10.2.0.0/16", FOREIGN, dev="br0"),
            route(HOST, "10.3.0.0/16", TAGGED, dev="nic0"),
            route(HOST, "10.4.0.0/16", STATIC, type="blackhole"),
            route("web", "10.5.0.0/16", STATIC, type="blackhole"),
            fact("nft", HOST, ("inet", "topo-lab"), sets={}, chains={}),
            fact("nft", HOST, ("inet", "fw"), FOREIGN, sets={}, chains={}),
            fact("rule", HOST, (4, 9, "from 10.0.0.0/8"), TAGGED, action="blackhole"),
        )
    )
    gone = {
        "delete address br0 10.0.0.9/24",
        "delete route 4 254 10.1.0.0/16 0",
        "delete route web:4 254 10.5.0.0/16 0",
        "delete nft inet topo-lab",
    }
    assert set(told(diff(want(*mine), live))) == gone
    before = want(*mine, route(HOST, "10.3.0.0/16", dev="nic0"))
    assert set(told(diff(want(*mine), live, before))) == gone | {"delete route 4 254 10.3.0.0/16 0"}


def test_an_existing_device_must_be_there() -> None:
    nic = fact("link", HOST, ("eth7",), mtu=1400)
    paths = {nic.ref: "interfaces.eth7"}
    with pytest.raises(InputError) as caught:
        diff(want(nic, external=frozenset({nic.ref}), paths=paths), Live({}))
    assert caught.value.diagnostics[0].path == "interfaces.eth7"


def test_an_attached_namespace_is_only_detached() -> None:
    attached = Fact(namespace("ext"), {"from": {"pid": 7}})
    link_in_it = device("ext", "eth0", kind="ifb")
    live = Live(table(ns("ext", FOREIGN), link_in_it, device("ext", "theirs", FOREIGN)))
    changes = diff(want(), live, want(attached, link_in_it))
    assert set(told(changes)) == {"delete namespace ext", "delete link ext:eth0"}
    assert verbs(stages(changes, want(), live)) == [["delete link ext:eth0"], ["delete namespace ext"]]


# What is put back


def test_originals_are_kept_and_put_back() -> None:
    nic = device(HOST, "nic0", FOREIGN)
    forward = fact("sysctl", HOST, ("net/ipv4/ip_forward",), FOREIGN, value="0")
    stated = fact("link", HOST, ("nic0",), mtu=1400)
    wanted = want(stated, forward._replace(attrs={"value": "1"}), external=frozenset({nic.ref}))
    before = Live(table(nic, forward))
    kept = originals(diff(wanted, before), before, wanted)
    assert kept.keys() == {nic.ref, forward.ref}
    now = Live(table(nic._replace(attrs={**nic.attrs, "mtu": 1400}), forward._replace(attrs={"value": "1"})))
    assert diff(wanted, now, wanted, restore=kept) == ()
    back = diff(want(), now, wanted, restore=kept)
    assert [(c.ref, c.attrs, c.reason) for c in back] == [
        (nic.ref, ("mtu",), "put back"),
        (forward.ref, ("value",), "put back"),
    ]
    assert still_needed(kept, wanted) == kept
    assert still_needed(kept, want()) == {}


def test_what_is_adopted_is_not_put_back() -> None:
    live = Live(table(bridge("br0", FOREIGN)))
    wanted = want(fact("link", HOST, ("br0",), kind="bridge", mtu=9000))
    assert originals(diff(wanted, live, adopt=True), live, wanted) == {}


def test_what_is_no_longer_stated_goes_back_to_the_default() -> None:
    before = want(fact("link", HOST, ("br0",), kind="bridge", mtu=9000, ageing=100, mac="02:00:00:00:00:09"))
    live = Live(table(bridge(mtu=9000, ageing=100, mac="02:00:00:00:00:09")))
    (change,) = diff(want(fact("link", HOST, ("br0",), kind="bridge")), live, before)
    assert change.desired is not None
    assert (change.attrs, change.desired.attrs["mtu"], change.desired.attrs["ageing"]) == (
        ("mtu", "ageing"),
        1500,
        30000,
    )


@pytest.mark.parametrize(("kind", "length"), [("veth", 1000), ("tun", 500), ("ifb", 32)])
def test_a_queue_that_is_no_longer_stated_gets_the_length_of_its_kind(kind: str, length: int) -> None:
    before = want(fact("link", HOST, ("x0",), kind=kind, txqueuelen=77))
    live = Live(table(device(HOST, "x0", OWN, kind=kind, txqueuelen=77)))
    (change,) = diff(want(fact("link", HOST, ("x0",), kind=kind)), live, before)
    assert change.desired is not None
    assert change.desired.attrs["txqueuelen"] == length


@pytest.mark.parametrize(("kind", "mtu"), [("macvlan", 1300), ("vlan", 1300), ("ipvlan", 1300)])
def test_an_mtu_that_is_no_longer_stated_is_the_parents(kind: str, mtu: int) -> None:
    """As it will be: the parent's own is given up in the same run, and so is that of its ports."""
    port, peer = pair((HOST, "p0"), ("a", "eth0"), master="br0")

    def lab(**attrs: Any) -> Desired:
        ports = [
            fact("link", *end.ref[1:], **{k: v for k, v in end.attrs.items() if k != "mtu"}, mtu=mtu)
            for end in (port, peer)
        ]
        above = fact("link", HOST, ("x0",), kind=kind, parent=(HOST, "br0"), **attrs)
        return want(ns("a"), fact("link", HOST, ("br0",), kind="bridge", **attrs), *ports, above)

    live = Live(
        table(ns("a"), bridge(mtu=1200), port, peer, device(HOST, "x0", kind=kind, parent=(HOST, "br0"), mtu=1200))
    )
    changes = {str(c.ref): c.desired for c in diff(lab(), live, lab(mtu=1200))}
    for name in ("br0", "x0"):
        assert (desired := changes[name]) is not None
        assert desired.attrs["mtu"] == mtu


# What goes along


def test_a_replacement_makes_again_what_it_takes() -> None:
    common: dict[str, Any] = {"kind": "vxlan", "port": 4789}
    entry = fact("fdb", HOST, ("vx0", "02:00:00:00:00:09", ""), STATIC, dst="192.0.2.9")
    bgp = route(HOST, "10.6.0.0/16", FOREIGN, dev="vx0")
    static = route(HOST, "10.7.0.0/16", dev="vx0")
    live = Live(table(device(HOST, "vx0", id=42, **common), entry, bgp, static))
    changes = {c.ref: c for c in diff(want(device(HOST, "vx0", id=43, **common), entry, static), live)}
    assert set(changes[link(HOST, "vx0")].takes) == {entry.ref, bgp.ref, static.ref}
    assert (changes[static.ref].action, changes[static.ref].attrs) == (CREATE, (AGAIN,))
    assert changes[entry.ref].reason == "goes with vx0"
    assert bgp.ref not in changes


def test_the_last_address_takes_the_routes_and_a_new_one_saves_them() -> None:
    old, new = address(HOST, "br0", "10.0.0.1/24"), address(HOST, "br0", "10.1.0.1/24")
    kept = route(HOST, "10.9.0.0/16", dev="br0")
    live = Live(table(bridge(), old, kept))
    lost = diff(want(bridge(), kept), live)
    assert told(lost) == ["create route 4 254 10.9.0.0/16 0", "delete address br0 10.0.0.1/24"]
    assert verbs(stages(lost, want(bridge(), kept), live)) == [
        ["delete address br0 10.0.0.1/24", "create route 4 254 10.9.0.0/16 0"]
    ]
    wanted = want(bridge(), new, kept)
    saved = diff(wanted, live)
    assert told(saved) == ["create address br0 10.1.0.1/24", "delete address br0 10.0.0.1/24"]
    assert verbs(stages(saved, wanted, live)) == [["create address br0 10.1.0.1/24", "delete address br0 10.0.0.1/24"]]


def test_a_dead_namespace_takes_all_and_links_elsewhere_are_deleted_first() -> None:
    inside, outside = pair(("web", "eth0"), (HOST, "v0"))
    vxlan = device("web", "vx0", kind="vxlan", id=7, port=4789, created_in=HOST)
    mine = (ns("web"), inside, outside, vxlan, address("web", "eth0", "10.0.0.2/24"))
    live = Live(table(*mine, route("web", "10.0.0.0/8", FOREIGN, dev="eth0")))
    changes = diff(want(), live, want(*mine))
    first, *rest = verbs(stages(changes, want(), live))
    assert (sorted(first), rest) == (["delete link v0", "delete link web:vx0"], [["delete namespace web"]])
    assert len(changes) == 5


# Renames


def test_a_renamed_end_keeps_what_sits_on_it() -> None:
    before, after = pair(("web", "eth0"), (HOST, "v0")), pair(("web", "lan0"), (HOST, "v0"))
    live = Live(
        table(ns("web"), *before, address("web", "eth0", "10.0.0.2/24"), route("web", "10.0.0.0/8", dev="eth0"))
    )
    wanted = want(ns("web"), *after, address("web", "lan0", "10.0.0.2/24"), route("web", "10.0.0.0/8", dev="lan0"))
    (change,) = diff(wanted, live)
    assert (change.action, change.ref, change.attrs) == (UPDATE, link("web", "lan0"), ())
    assert change.live is not None and change.live.ref == link("web", "eth0")
    ((op,),) = stages((change,), wanted, live)
    assert op.old is not None and (op.ref, op.old.ref) == (link("web", "lan0"), link("web", "eth0"))


def test_of_several_pairs_those_that_share_an_end_belong_together() -> None:
    before = (*pair(("web", "a"), (HOST, "v0")), *pair(("web", "b"), (HOST, "v1")))
    after = (*pair(("web", "x"), (HOST, "v1")), *pair(("web", "y"), (HOST, "v0")))
    changes = diff(want(ns("web"), *after), Live(table(ns("web"), *before)))
    assert {(c.live.ref.key[0], c.ref.key[0]) for c in changes if c.live} == {("b", "x"), ("a", "y")}


def test_a_name_that_is_in_use_is_not_renamed_to() -> None:
    before = (*pair(("web", "e0"), (HOST, "v0")), *pair(("db", "e0"), (HOST, "v1")))
    after = (*pair(("web", "e0"), (HOST, "v1")), *pair(("db", "e0"), (HOST, "v0")))
    spaces = (ns("web"), ns("db"))
    changes = diff(want(*spaces, *after), Live(table(*spaces, *before)))
    assert {c.action for c in changes} == {REPLACE, CREATE}


def test_a_bridge_is_renamed_where_there_is_one_of_each() -> None:
    port = device(HOST, "v0", kind="ifb", master="br0")
    renamed = diff(
        want(bridge("br9"), port._replace(attrs={**port.attrs, "master": "br9"})), Live(table(bridge(), port))
    )
    assert told(renamed) == ["update link br9"]
    two = diff(want(bridge("br8"), bridge("br9")), Live(table(bridge())))
    assert sorted(told(two)) == ["create link br8", "create link br9", "delete link br0"]


# What only the live state tells


def test_a_vxlans_mtu_comes_from_its_underlay() -> None:
    nic = device(HOST, "nic0", FOREIGN, mtu=9000)
    by_dev = fact("link", HOST, ("vx0",), kind="vxlan", id=1, dev=(HOST, "nic0"))
    by_ip = fact("link", "web", ("vx1",), kind="vxlan", id=2, local="192.0.2.1", created_in=HOST)
    nowhere = fact("link", HOST, ("vx2",), kind="vxlan", id=3, local="198.51.100.1")
    wanted = want(by_dev, by_ip, nowhere, underlay_mtu={by_dev.ref: 50, by_ip.ref: 70, nowhere.ref: 50})
    facts = resolve(wanted, Live(table(nic, address(HOST, "nic0", "192.0.2.1/24", STATIC)))).facts
    assert (facts[by_dev.ref].attrs["mtu"], facts[by_ip.ref].attrs["mtu"]) == (8950, 8930)
    assert "mtu" not in facts[nowhere.ref].attrs
    assert resolve(want(nic), Live({})) == want(nic)


def test_a_bridge_takes_over_a_nic_and_a_second_time_nothing_differs() -> None:
    nic = device(HOST, "nic0", FOREIGN, mtu=1600, mac="02:00:00:00:00:77")
    theirs = (
        address(HOST, "nic0", "192.0.2.1/24", STATIC),
        address(HOST, "nic0", "2001:db8::1/64", STATIC),
        address(HOST, "nic0", "fe80::1/64", FOREIGN),
        route(HOST, "0.0.0.0/0", FOREIGN, gateway="192.0.2.254", dev="nic0", _protocol=16),
    )
    br0 = fact("link", HOST, ("br0",), kind="bridge", master=None, up=True)
    wanted = want(
        br0, fact("link", HOST, ("nic0",), master="br0"), external=frozenset({nic.ref}), take_over={br0.ref: nic.ref}
    )
    kernel = FakeKernel([nic, *theirs])
    before = kernel.read(wanted)
    resolved = resolve(wanted, before)
    assert resolved.facts[br0.ref].attrs["mac"] == "02:00:00:00:00:77"
    changes = diff(resolved, before)
    staged = stages(changes, resolved, before)
    assert verbs(staged) == [
        [
            "create link br0",
            "update link nic0",
            "create address br0 192.0.2.1/24",
            "create address br0 2001:db8::1/64",
            "update route 4 254 0.0.0.0/0 0",
            "delete address nic0 192.0.2.1/24",
            "delete address nic0 2001:db8::1/64",
        ]
    ]
    kept = originals(changes, before, resolved)
    assert kernel.execute(staged, resolved).failed == []
    now = kernel.read(wanted)
    assert diff(resolve(wanted, now, kept), now, wanted, restore=kept) == ()
    assert diff(resolve(wanted, now), now, wanted) == ()  # without a record as well
    back = diff(want(), now, wanted, restore=kept)
    assert kernel.execute(stages(back, want(), now), want()).failed == []
    assert kernel.facts.keys() == {nic.ref, *(one.ref for one in theirs)}
    assert kernel.facts[nic.ref].attrs == nic.attrs


# The order


def test_a_star_is_three_stages() -> None:
    facts = [bridge()]
    for name in ("a", "b", "c"):
        inside, outside = pair((name, "eth0"), (HOST, f"v{name}"))
        outside = outside._replace(attrs={**outside.attrs, "master": "br0"})
        facts += [ns(name), inside, outside, address(name, "eth0", "10.0.0.2/24")]
        facts += [route(name, "0.0.0.0/0", gateway="10.0.0.1", dev="eth0")]
    wanted = want(*facts)
    staged = stages(diff(wanted, Live({})), wanted, Live({}))
    assert [len(stage) for stage in staged] == [4, 3, 9]
    assert [op.ref.kind for op in staged[2][:3]] == ["link", "address", "route"]


def test_ops_of_a_stage_stand_together_by_namespace() -> None:
    facts = []
    for name in ("a", "b"):
        facts += [ns(name), device(name, "e0", kind="ifb"), device(name, "e1", kind="ifb")]
    wanted = want(*facts)
    staged = stages(diff(wanted, Live({})), wanted, Live({}))
    assert [[op.ref.ns for op in stage] for stage in staged] == [["a", "b"], ["a", "a", "b", "b"]]


def test_a_ring_is_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two kinds need each other; one that does is made up."""
    other = {("a",): ("b",), ("b",): ("a",)}
    ring = Kind("rule", lambda op, env: [], requires=lambda one, _: (Ref("rule", HOST, other[one.ref.key]),))
    monkeypatch.setitem(KINDS, "rule", ring)
    wanted = want(fact("rule", HOST, ("a",)), fact("rule", HOST, ("b",)))
    with pytest.raises(CycleError) as caught:
        stages([Change(CREATE, ref, one, None) for ref, one in wanted.facts.items()], wanted, Live({}))
    assert set(caught.value.refs) == set(wanted.facts)


def test_swapped_vnis_are_freed_before_they_are_taken() -> None:
    def two(first: int, second: int) -> tuple[Fact, Fact]:
        common: dict[str, Any] = {"kind": "vxlan", "port": 4789}
        return device(HOST, "vx0", id=first, **common), device(HOST, "vx1", id=second, **common)

    live, wanted = Live(table(*two(1, 2))), want(*two(2, 1))
    staged = stages(diff(wanted, live), wanted, live)
    assert [{op.verb for op in stage} for stage in staged] == [{DELETE}, {CREATE}]


def large(count: int) -> Desired:
    facts = [bridge()]
    for number in range(count):
        inside, outside = pair((f"h{number}", "eth0"), (HOST, f"v{number}"))
        outside = outside._replace(attrs={**outside.attrs, "master": "br0"})
        name, ip = f"h{number}", f"10.{number >> 8}.{number & 255}.2/8"
        facts += [ns(name), inside, outside, address(name, "eth0", ip)]
        facts += [route(name, "0.0.0.0/0", gateway="10.255.0.1", dev="eth0")]
    return want(*facts)


def test_a_large_plan_is_quick() -> None:
    """Generous bounds, for slow machines: what must not come is a square."""
    wanted = large(4000)
    live = Live({})
    started = time.process_time()
    changes = diff(wanted, live)
    staged = stages(changes, wanted, live)
    assert time.process_time() - started < 5
    assert sum(map(len, staged)) == len(wanted.facts)
    started = time.process_time()
    assert diff(wanted, Live(wanted.facts), wanted) == ()
    assert time.process_time() - started < 0.5
    started = time.process_time()
    assert stages(diff(want(), Live(wanted.facts), wanted), want(), Live(wanted.facts))
    assert time.process_time() - started < 5


# Undo


def test_undo_leaves_what_someone_else_made_meanwhile() -> None:
    wanted = want(bridge())
    changes = diff(wanted, Live({}))
    assert undo(Live({}), Live(table(bridge("br0", FOREIGN))), changes, wanted) == ()
    assert told(undo(Live({}), Live(table(bridge())), changes, wanted)) == ["delete link br0"]


def test_undo_looks_at_nothing_else() -> None:
    before = Live(table(bridge(), bridge("br1")))
    wanted = want(bridge(mtu=9000), bridge("br1"))
    now = Live(table(bridge(mtu=9000), bridge("br1", mtu=1400), bridge("br2")._replace(origin=FOREIGN)))
    (change,) = undo(before, now, diff(wanted, before), wanted)
    assert (change.ref, change.attrs) == (link(HOST, "br0"), ("mtu",))


def test_undo_takes_away_what_the_run_was_helped_with() -> None:
    """No change of the plan names it, but it bears the mark, and was not there before."""
    before, wanted = Live(table(bridge())), want(bridge(mtu=9000))
    now = Live(table(bridge(mtu=9000), bridge("topo7a")))
    changes = undo(before, now, diff(wanted, before), wanted)
    assert [(change.action, change.ref) for change in changes] == [
        ("update", link(HOST, "br0")),
        ("delete", link(HOST, "topo7a")),
    ]


def test_undo_makes_again_what_was_lost_of_others() -> None:
    bgp = route(HOST, "10.6.0.0/16", FOREIGN, dev="br0", _protocol=186)
    before = Live(table(bridge(), bgp))
    changes = diff(want(), before, want(bridge()))
    (first, second) = undo(before, Live({}), changes, want())
    assert (first.ref, second.ref) == (link(HOST, "br0"), bgp.ref)
    assert second.desired is not None and second.desired.attrs["_protocol"] == 186


# The plan


def test_a_saved_plan_comes_back() -> None:
    before = Live(table(bridge()))
    wanted = want(bridge(mtu=9000), ns("web"), document={"topology": "lab"})
    plan = Plan("lab", diff(wanted, before), wanted, ("mind",))
    saved = from_json(plan.to_json())
    assert saved.changes == plan.changes
    assert (saved.fingerprint, saved.document, saved.warnings) == (plan.fingerprint(), {"topology": "lab"}, ("mind",))
    other = Plan("lab", diff(wanted, Live(table(bridge(mtu=1400)))), wanted)
    assert other.fingerprint() != plan.fingerprint()


@pytest.mark.parametrize("data", [None, [], {}, {"format": 2}, {"format": 1}, {"format": 1, "changes": 5}])
def test_what_is_no_plan_is_refused(data: Any) -> None:
    with pytest.raises(InputError):
        from_json(data)


def test_the_lines_of_a_plan() -> None:
    inside, outside = pair(("web", "eth0"), (HOST, "v0"))
    outside = outside._replace(attrs={**outside.attrs, "master": "br0"})
    live = Live(table(bridge(), route("web", "0.0.0.0/0", gateway="172.30.0.254", dev="eth1"), ns("web")))
    wanted = want(ns("web"), bridge(mtu=9000), inside, outside)
    plan = Plan("lab", diff(wanted, live, wanted), wanted)
    text = [" ".join(line.split()) for line in lines(plan)]
    assert text[:3] == [
        "lab: 1 to create, 1 to change, 1 to delete",
        "~ bridge br0 mtu 1500 -> 9000",
        "+ link web:eth0 <-> br0",
    ]
    assert text[3].startswith("- route web: default via 172.30.0.254")
    assert summary(Plan("lab", (), wanted)) == "nothing to do"
    assert namespace("web") in wanted.facts
