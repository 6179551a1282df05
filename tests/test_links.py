"""Links: what changing or deleting one takes down, what forces a replacement, and what one holds alone."""

from __future__ import annotations

from typing import Any

import pytest

from topo.changes import DELETE, UPDATE, Change
from topo.facts import HOST, Fact, Live, Ref, link, namespace
from topo.kinds.link import LINK
from topo.kinds.namespace import NAMESPACE


def test_what_a_change_takes_down() -> None:
    eth0 = link("web", "eth0")
    on = {
        "v4": Fact(Ref("route", "web", (4, 254, "10.0.0.0/8", 0)), {"dev": "eth0"}),
        "v6": Fact(Ref("route", "web", (6, 254, "fd00::/8", 1024)), {"dev": "eth0"}),
        "multi": Fact(
            Ref("route", "web", (4, 254, "11.0.0.0/8", 0)),
            {"nexthops": ((None, "eth0", 1, False), (None, "e1", 1, False))},
        ),
        "a4": Fact(Ref("address", "web", ("eth0", "10.0.0.1/24")), {}),
        "a6": Fact(Ref("address", "web", ("eth0", "fd00::1/64")), {}),
        "n4": Fact(Ref("neighbour", "web", ("eth0", "10.0.0.2")), {}),
        "n6": Fact(Ref("neighbour", "web", ("eth0", "fd00::2")), {}),
        "s6": Fact(Ref("sysctl", "web", ("net/ipv6/conf/eth0/accept_ra",)), {}),
        "port": Fact(Ref("port", "web", ("eth0",)), {}),
        "self": Fact(Ref("fdb", "web", ("eth0", "02:00:00:00:00:01", "self")), {}),
        "master": Fact(Ref("fdb", "web", ("eth0", "02:00:00:00:00:01", "master")), {}),
    }
    have = Fact(eth0, {"kind": "veth", "peer": (HOST, "p0"), "up": True, "mtu": 1500, "mac": "x", "master": "br0"})
    child = Fact(link("db", "mv"), {"kind": "macvlan", "parent": ("web", "eth0")})
    vxlan = Fact(link("db", "vx"), {"kind": "vxlan", "dev": None, "created_in": "web"})
    peer = Fact(link(HOST, "p0"), {"kind": "veth", "peer": ("web", "eth0")})
    live = Live({fact.ref: fact for fact in (have, child, vxlan, peer, *on.values())})
    named = {fact.ref: name for name, fact in on.items()}

    def taken(**attrs: Any) -> set[str]:
        change = Change(UPDATE, eth0, Fact(eth0, {**have.attrs, **attrs}), have, tuple(attrs))
        return {named[ref] for ref in LINK.takes(change, live)}

    assert taken(up=False) == {"v4", "v6", "a6", "n4", "n6"}
    assert taken(mac="y") == {"n4", "n6"}
    assert taken(mtu=1279) == {"v6", "a6", "n6", "s6"}
    assert taken(mtu=1280) == taken(alias="x") == taken(txqueuelen=1) == set()
    assert taken(master=None) == taken(master="br1") == {"port", "master"}
    assert set(LINK.takes(Change(DELETE, eth0, None, have), live)) == {peer.ref, child.ref}
    gone = Fact(namespace("web"), {"up": True})
    assert list(NAMESPACE.takes(Change(DELETE, gone.ref, None, gone), live)) == [vxlan.ref]


@pytest.mark.parametrize(
    ("want", "have", "fixed"),
    [
        ({"kind": "bridge"}, {"kind": "dummy"}, {"kind"}),
        ({"kind": "veth", "peer": (HOST, "a")}, {"kind": "veth", "peer": (HOST, "b")}, {"peer"}),
        ({"kind": "macvlan", "mode": "bridge"}, {"kind": "macvlan", "mode": "vepa"}, set()),
        ({"kind": "macvlan", "mode": "passthru"}, {"kind": "macvlan", "mode": "vepa"}, {"mode"}),
        ({"kind": "macvlan", "mode": "vepa"}, {"kind": "macvlan", "mode": "passthru"}, {"mode"}),
        ({"kind": "ifb", "mac": "x"}, {"kind": "ifb", "mac": "y"}, {"mac"}),
        ({"kind": "tap", "pi": True, "mtu": 1400}, {"kind": "tap", "pi": False}, {"pi"}),
        ({"kind": "vxlan", "id": 1, "ttl": 1, "dev": 1}, {"kind": "vxlan"}, {"id"}),
        ({"kind": "vxlan", "group": "239.1.1.1", "dev": 1}, {"kind": "vxlan", "dev": 2}, {"group", "dev"}),
        ({"kind": "vxlan", "group": "10.0.0.1"}, {"kind": "vxlan", "group": "10.0.0.2"}, set()),
        ({"kind": "vxlan", "local": "10.0.0.1"}, {"kind": "vxlan", "local": "fd00::1"}, {"local"}),
        ({"kind": "vxlan", "local": "10.0.0.1"}, {"kind": "vxlan"}, set()),
    ],
)
def test_what_forces_a_replacement(want: dict[str, Any], have: dict[str, Any], fixed: set[str]) -> None:
    ref = link(HOST, "x")
    desired, live = Fact(ref, want), Fact(ref, have)
    assert LINK.replace(desired, live) & set(LINK.compare(desired, live)) == fixed


def test_a_vxlan_claims_its_vni_where_its_socket_is() -> None:
    def claims(ns: str, **attrs: Any) -> set[tuple[Any, ...]]:
        return set(LINK.claims(Fact(link(ns, "vx"), {"kind": "vxlan", "id": 5, "port": 4789, **attrs})))

    assert claims("web", created_in=HOST) == claims(HOST)
    assert not claims("web") & claims(HOST)
    assert not claims(HOST) & claims(HOST, port=8472)
    assert not claims(HOST) & claims(HOST, local="fd00::1")
