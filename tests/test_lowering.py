"""From a topology to facts: what comes of each section, and what cannot be right."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from topo.errors import InputError
from topo.facts import Desired, Fact, Ref, links_of
from topo.file.links import derived
from topo.file.lowering import lower
from topo.file.model import Topology, policy
from topo.file.sysctls import device_paths, path


def lowered(**sections: Any) -> Desired:
    return lower(Topology.model_validate({"topology": "lab", **sections}))


def wrong(**sections: Any) -> list[tuple[str, str]]:
    with pytest.raises(InputError) as caught:
        lowered(**sections)
    return [(diagnostic.path, diagnostic.message) for diagnostic in caught.value.diagnostics]


def keys(desired: Desired, kind: str, ns: str | None = None) -> list[tuple[Any, ...]]:
    return [ref.key for ref in desired.facts if ref.kind == kind and ns in (None, ref.ns)]


def attrs(desired: Desired, kind: str, ns: str, *key: Any) -> dict[str, Any]:
    return desired.facts[Ref(kind, ns, key)].attrs


STAR: dict[str, Any] = {
    "bridges": {"br0": {"subnet": "172.30.0.0/16"}},
    "namespaces": {"web": {}, "db": {}},
    "links": [["web:eth0", "br0"], ["db:eth0", "br0"]],
}
ANY_ROUTE = {"type": "unicast", "nexthops": None, "onlink": False, "src": None, "mtu": None}


def test_the_example_of_the_specification() -> None:
    desired = lowered(
        **STAR,
        nat={"masquerade": [{"from": "172.30.0.0/16", "out": "!br0"}], "publish": [{"port": 8080, "to": "web:80"}]},
        checks=[{"from": "web", "ping": "db"}],
    )
    port = derived("lab", "web:eth0", "")
    assert attrs(desired, "namespace", "web") == {"up": True}
    assert attrs(desired, "link", "host", "br0") == {"kind": "bridge", "master": None, "up": True}
    assert attrs(desired, "link", "web", "eth0") == {
        "kind": "veth", "master": None, "up": True, "peer": ("host", port),
    }  # fmt: skip
    assert attrs(desired, "link", "host", port) == {
        "kind": "veth", "master": "br0", "up": True, "peer": ("web", "eth0"),
    }  # fmt: skip
    assert keys(desired, "address") == [
        ("br0", "172.30.0.1/16"), ("eth0", "172.30.0.2/16"), ("eth0", "172.30.0.3/16"),
    ]  # fmt: skip
    assert attrs(desired, "route", "web", 4, 254, "0.0.0.0/0", 0) == {
        **ANY_ROUTE, "gateway": "172.30.0.1", "dev": "eth0",
    }  # fmt: skip
    assert keys(desired, "nft") == [("inet", "topo-lab")]
    assert attrs(desired, "sysctl", "host", "net/ipv4/ip_forward") == {"value": "1"}
    assert attrs(desired, "sysctl", "host", "net/ipv4/conf/br0/route_localnet") == {"value": "1"}
    (check,) = desired.checks
    assert (check.source, check.method, check.address, check.text) == ("web", "ping", "172.30.0.3", "web: ping db")
    assert Ref("namespace", "host") not in desired.facts
    assert desired.external == frozenset()


# -- names and ranges ----------------------------------------------------------------------------------------------


def test_a_thousand_by_range_and_fast() -> None:
    topology = Topology.model_validate(
        {
            "topology": "star",
            "bridges": {"br0": {"subnet": "10.0.0.0/16"}},
            "namespaces": {"h[1-1000]": {}},
            "links": [["h[1-1000]:eth0", "br0"]],
        }
    )
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        desired = lower(topology)
        best = min(best, time.perf_counter() - start)
    assert len(desired.facts) == 1000 * 5 + 3
    assert len({ref for ref in desired.facts if ref.kind == "link" and ref.ns == "host"}) == 1001
    assert ("eth0", "10.0.3.233/16") in keys(desired, "address", "h1000")
    assert best < 0.3  # 15 ms on an idle machine; the limit is for a busy one


def test_bridges_that_route_take_no_router_advertisements() -> None:
    """Unless the file says otherwise, in whichever way."""
    bridges = {
        "br0": {"subnet": "10.0.0.0/24"},
        "mine": {"subnet": "10.0.1.0/24", "sysctls": {"ipv6.accept_ra": 2}},
        "br2": {"addresses": ["10.0.2.1/24"]},
        "br3": {"subnet": "10.0.3.0/24", "take_over": "nic0"},
        "br4": {"subnet": "10.0.4.0/24", "external": True},
        "br5": {"subnet": "fd05::/64"},
    }
    stated = {"net.ipv6.conf.br5.accept_ra": 1}
    desired = lowered(
        bridges=bridges, sysctls=stated, namespaces={"ns": {"bridges": {"br0": {"subnet": "10.1.0.0/24"}}}}
    )
    default = {"value": "0", "optional": True}
    assert {(ref.ns, *ref.key): fact.attrs for ref, fact in desired.facts.items() if ref.kind == "sysctl"} == {
        ("host", "net/ipv6/conf/br0/accept_ra"): default,
        ("host", "net/ipv6/conf/mine/accept_ra"): {"value": "2"},
        ("host", "net/ipv6/conf/br5/accept_ra"): {"value": "1"},
        ("ns", "net/ipv6/conf/br0/accept_ra"): default,
    }
    everywhere = lowered(bridges={"br0": bridges["br0"]}, defaults={"sysctls": {"ipv6.accept_ra": 1}})
    assert attrs(everywhere, "sysctl", "host", "net/ipv6/conf/br0/accept_ra") == {"value": "1"}


def test_derived_names_are_short_stable_and_told_apart() -> None:
    names = {derived("lab", f"{'n' * 60}{i}:eth0", "") for i in range(5000)}
    assert len(names) == 5000
    assert {len(name) for name in names} == {11}
    assert derived("web-lab", "web:eth0", "") == "vc084456d83"  # names of applied labs stay
    assert derived("lab", "a:br0", "b:br0") != derived("lab", "b:br0", "a:br0")


def test_two_bridges_are_linked() -> None:
    desired = lowered(bridges={"br0": {}, "br1": {}}, links=[["br0", "br1"]])
    veths = {ref.key[0]: fact.attrs for ref, fact in desired.facts.items() if fact.attrs.get("kind") == "veth"}
    assert sorted(a["master"] for a in veths.values()) == ["br0", "br1"]
    assert all(veths[a["peer"][1]]["peer"] == ("host", name) for name, a in veths.items())


def test_ends_of_ranges_are_paired_in_order() -> None:
    desired = lowered(
        namespaces={"a[1-3]": {}, "b[01-03]": {}}, links=[{"ends": ["a[1-3]:x", "b[01-03]:y"], "subnet": "10.0.0.0/24"}]
    )
    for i in (1, 2, 3):
        assert attrs(desired, "link", f"a{i}", "x")["peer"] == (f"b0{i}", "y")
    assert keys(desired, "address") == [(("x", "y")[i % 2], f"10.0.0.{i}/31") for i in range(6)]


@pytest.mark.parametrize(
    ("sections", "place", "word"),
    [
        ({"namespaces": {"h5": {}, "h[1-10]": {}}}, "namespaces.h[1-10]", "first at namespaces.h5"),
        ({"namespaces": {"a[1-2]": {}, "b[1-3]": {}}, "links": [["a[1-2]:x", "b[1-3]:x"]]}, "links[0]", "2 and 3"),
        ({"namespaces": {"a[1-2]": {}, "b": {}}, "links": [["a[1-2]:x", "b:x"]]}, "links[0].ends[1]", "one interface"),
        ({"namespaces": {"a": {}}, "links": [["a:abcdefghijklm[99-100]", "b[1-2]"]]}, "links[0].ends[0]", "16"),
        ({"links": [["wbe:x", "y"]], "namespaces": {"web": {}}}, "links[0].ends[0]", "no namespace 'wbe'"),
        ({"links": [["x", {"bridge": "br1"}]], "bridges": {"br0": {}}}, "links[0].ends[1].bridge", "no bridge 'br1'"),
        (
            {"links": [["x", "br0"]], "namespaces": {"sw": {"bridges": {"br0": {}}}}},
            "links[0].ends[1]", "in namespace 'sw'",
        ),
        ({"links": [["x", "y"], ["x", "z"]]}, "links[1].ends[0]", "declared twice, first at links[0].ends[0]"),
        ({"bridges": {"x": {}}, "vxlans": {"x": {"id": 1}}}, "vxlans.x", "declared twice, first at bridges.x"),
        ({"bridges": {"br0": {}}, "links": [["p[1-1024]", "br0"]]}, "links[0].ends[1]", "1,023"),
        ({"namespaces": {"n[1-40000]": {"routes": [{"to": f"10.0.{i}.0/24", "dev": "lo"} for i in range(2)]}}},
         "namespaces.n[1-40000].routes", "65,536 routes"),
        ({"links": [["p[1-40000]", "q[1-40000]"], ["r[1-40000]", "s[1-40000]"]]}, "links[1]", "65,536"),
        ({"namespaces": {"a": {"from": {"share": "b"}}, "b": {"from": {"share": "a"}}}},
         "namespaces.a.from.share", "ring"),
        ({"namespaces": {"a": {}, "b": {"from": {"share": "a"}, "forwarding": True}}},
         "namespaces.b.forwarding", "second name"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_names(sections: dict[str, Any], place: str, word: str) -> None:
    (found,) = wrong(**sections)
    assert found[0] == place
    assert word in found[1]


def test_an_end_may_bear_the_name_of_a_bridge_elsewhere_if_it_says_so() -> None:
    desired = lowered(namespaces={"sw": {"bridges": {"br0": {}}}}, links=[[{"interface": "br0"}, "sw:br0"]])
    assert attrs(desired, "link", "host", "br0")["kind"] == "veth"


def test_a_second_name_leads_to_the_namespace() -> None:
    desired = lowered(
        namespaces={"pod": {}, "app": {"from": {"share": "side"}}, "side": {"from": {"share": "pod"}}},
        links=[["app:eth0", "pod:eth1"]],
        checks=[{"from": "app", "ping": "127.0.0.1"}],
    )
    assert attrs(desired, "namespace", "app") == {"from": {"share": "pod"}}
    assert attrs(desired, "link", "pod", "eth0")["peer"] == ("pod", "eth1")
    assert desired.checks[0].source == "pod"


# -- addresses -----------------------------------------------------------------------------------------------------


def test_stated_addresses_are_never_given_out() -> None:
    desired = lowered(
        bridges={"br0": {"subnet": "10.0.0.0/24"}},
        namespaces={"a": {}, "b": {}, "c": {}},
        links=[
            ["a:eth0", "br0"],
            [{"interface": "b:eth0", "addresses": "10.0.0.3/24", "gateway": "10.0.0.2"}, "br0"],
            [{"interface": "c:eth0", "gateway": False}, "br0"],
        ],
    )
    assert [key[1] for key in keys(desired, "address")] == ["10.0.0.1/24", "10.0.0.4/24", "10.0.0.3/24", "10.0.0.5/24"]
    assert attrs(desired, "route", "b", 4, 254, "0.0.0.0/0", 0)["gateway"] == "10.0.0.2"
    assert keys(desired, "route", "c") == []


def test_dual_stack_bridge() -> None:
    desired = lowered(
        bridges={"br0": {"subnet": ["10.0.0.0/24", "fd00::/64"]}}, namespaces={"a": {}}, links=[["a:eth0", "br0"]]
    )
    assert keys(desired, "address", "a") == [("eth0", "10.0.0.2/24"), ("eth0", "fd00::2/64")]
    assert attrs(desired, "address", "a", "eth0", "fd00::2/64") == {"nodad": True}
    assert attrs(desired, "route", "a", 6, 254, "::/0", 1024)["gateway"] == "fd00::1"


def test_a_bridge_keeps_the_address_that_it_states() -> None:
    desired = lowered(
        bridges={"br0": {"subnet": "10.0.0.0/24", "addresses": "10.0.0.254/24"}},
        namespaces={"a": {}},
        links=[["a:eth0", "br0"]],
    )
    assert [key[1] for key in keys(desired, "address")] == ["10.0.0.254/24", "10.0.0.1/24"]
    assert attrs(desired, "route", "a", 4, 254, "0.0.0.0/0", 0)["gateway"] == "10.0.0.254"


def test_a_bridge_takes_the_address_that_its_subnet_states() -> None:
    """As `dockerd --bip`, and FLANNEL_SUBNET, which is a node's first address with the length of its prefix."""
    desired = lowered(
        bridges={
            "br0": {"subnet": ["10.0.0.2/24", "fd00::ff/64"]},
            "br1": {"subnet": "10.1.0.254/24", "addresses": ["10.1.0.254/24", "10.1.0.1/24"]},
        },
        namespaces={"a": {}, "b": {}},
        links=[["a:eth0", "br0"], ["b:eth0", "br0"], ["b:eth1", "br1"]],
    )
    assert keys(desired, "address", "host") == [
        ("br0", "10.0.0.2/24"), ("br0", "fd00::ff/64"), ("br1", "10.1.0.254/24"), ("br1", "10.1.0.1/24"),
    ]  # fmt: skip
    assert keys(desired, "address", "a") == [("eth0", "10.0.0.1/24"), ("eth0", "fd00::1/64")]
    assert ("eth1", "10.1.0.2/24") in keys(desired, "address", "b")
    assert attrs(desired, "route", "a", 4, 254, "0.0.0.0/0", 0)["gateway"] == "10.0.0.2"


def test_one_list_of_peers_serves_every_host() -> None:
    peers = [
        "192.0.2.1",
        {"address": "192.0.2.2", "mac": "0a:00:00:00:00:02", "ip": "10.2.0.0", "subnets": "10.2.0.0/24"},
        {"address": "192.0.2.3", "mac": "0a:00:00:00:00:03", "ip": "10.3.0.0", "subnets": "10.3.0.0/24"},
    ]
    desired = lowered(vxlans={"vx": {"id": 1, "local": "192.0.2.2", "peers": peers}})
    assert [fact.attrs["dst"] for ref, fact in desired.facts.items() if ref.kind == "fdb"] == ["192.0.2.1", "192.0.2.3"]
    assert keys(desired, "neighbour") == [("vx", "10.3.0.0")]
    assert keys(desired, "route") == [(4, 254, "10.3.0.0/24", 0)]


def test_an_end_that_is_down_gets_no_default_route_from_a_bridge() -> None:
    ends = [{"interface": "a:eth0", "up": False}, "br0"]
    found = lowered(bridges={"br0": {"subnet": "10.0.0.0/24"}}, namespaces={"a": {}}, links=[ends])
    assert keys(found, "address", "a") == [("eth0", "10.0.0.2/24")]
    assert keys(found, "route", "a") == []


def test_the_host_and_who_has_a_default_route_get_none_from_a_bridge() -> None:
    desired = lowered(
        namespaces={
            "sw": {"bridges": {"br0": {"subnet": "10.0.0.0/24"}, "br1": {"subnet": "10.1.0.0/24"}}},
            "a": {"routes": [{"to": "default", "via": "10.0.0.9"}]},
            "b": {},
        },
        links=[["up", "sw:br0"], ["a:eth0", "sw:br0"], ["b:eth0", "sw:br0"], ["b:eth1", "sw:br1"]],
    )
    assert keys(desired, "route", "host") == []
    assert attrs(desired, "route", "a", 4, 254, "0.0.0.0/0", 0)["gateway"] == "10.0.0.9"
    assert attrs(desired, "route", "b", 4, 254, "0.0.0.0/0", 0)["dev"] == "eth0"


def test_subnets_of_links() -> None:
    desired = lowered(
        namespaces={"a": {}, "b": {}},
        links=[
            {"ends": ["a:x", "b:x"], "subnet": ["10.0.0.0/30", "fd00::/126"]},
            {"ends": ["a:y[1-2]", "b:y[1-2]"], "subnet": ["10.1.0.0/24", "fd01::/64"], "prefix": 30},
        ],
    )
    assert [key[1] for key in keys(desired, "address", "a")] == [
        "10.0.0.1/30", "fd00::1/126", "10.1.0.1/30", "fd01::1/126", "10.1.0.5/30", "fd01::5/126",
    ]  # fmt: skip


def test_settings_of_a_link_defaults_of_the_file() -> None:
    desired = lowered(
        defaults={"mtu": 1400, "sysctls": {"rp_filter": 2}},
        namespaces={"a": {}, "b": {}},
        links=[{"ends": ["a:x", {"interface": "b:x", "mtu": 9000, "mac": "02:00:00:00:00:0a", "up": False}], "mtu": 1300}],
        bridges={"br0": {"sysctls": {"rp_filter": 0}, "comment": "here"}},
        interfaces={"eth0": {"kind": "existing"}},
        vxlans={"vx0": {"id": 1, "local": "fd00::1"}},
    )  # fmt: skip
    assert attrs(desired, "link", "a", "x")["mtu"] == 1300
    assert attrs(desired, "link", "b", "x") | {"mtu": 9000, "mac": "02:00:00:00:00:0a", "up": False} == attrs(
        desired, "link", "b", "x"
    )
    assert attrs(desired, "link", "host", "br0") == {
        "kind": "bridge", "master": None, "up": True, "mtu": 1400, "alias": "here",
    }  # fmt: skip
    assert attrs(desired, "sysctl", "a", "net/ipv4/conf/x/rp_filter") == {"value": "2"}
    assert attrs(desired, "sysctl", "host", "net/ipv4/conf/br0/rp_filter") == {"value": "0"}
    assert attrs(desired, "link", "host", "eth0") == {}
    assert "mtu" not in attrs(desired, "link", "host", "vx0")
    assert desired.underlay_mtu == {Ref("link", "host", ("vx0",)): 70}


@pytest.mark.parametrize(
    ("sections", "place", "word"),
    [
        ({"bridges": {"b": {"subnet": "10.0.0.0/30"}}, "links": [["x[1-5]", "b"]]}, "links[0].ends[0]", "used up"),
        ({"links": [{"ends": ["a[1-3]", "b[1-3]"], "subnet": "10.0.0.0/30"}]}, "links[0].subnet", "used up"),
        ({"links": [[{"interface": "x", "addresses": "10.0.0.1/24", "gateway": "10.0.1.1"}, "y"]]},
         "links[0].ends[0].gateway", "no address of x reaches"),
        ({"bridges": {"b": {"addresses": "10.0.0.1/24"}, "c": {"addresses": "10.0.0.1/8"}}}, "bridges.c", "first at"),
        ({"bridges": {"b": {"addresses": ["10.0.0.1/24", "10.0.0.1/8"]}}}, "bridges.b", "twice"),
        ({"bridges": {"b": {}}, "namespaces": {"p": {}, "q": {}}, "links": [
            [{"interface": "p:x", "addresses": "10.0.0.1/24"}, "b"],
            [{"interface": "q:x", "addresses": "10.0.0.1/24"}, "b"]]}, "links[1].ends[0]", "first at links[0].ends[0]"),
        ({"bridges": {"b": {"mtu": 1200, "addresses": "fd00::1/64"}}}, "bridges.b", "1280"),
        ({"bridges": {"b": {"sysctls": {"rp_fliter": 1}}}}, "bridges.b.sysctls.rp_fliter", "no sysctl"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_addresses(sections: dict[str, Any], place: str, word: str) -> None:
    (found,) = wrong(**sections)[-1:]
    assert found[0] == place
    assert word in found[1]


# -- devices -------------------------------------------------------------------------------------------------------


def test_bridges() -> None:
    desired = lowered(
        bridges={
            "br0": {
                "stp": True, "forward_delay": 4, "hello_time": "2s", "ageing": "500ms", "priority": 4096,
                "mcast_snooping": False, "group_fwd_mask": 0x4000,
                "ports": ["eth1", {"interface": "tap0", "hairpin": True, "learning": True}, "nic"],
            },
            "docker0": {"external": True, "ports": ["eth2"], "subnet": "172.17.0.0/16"},
            "up0": {"take_over": "eth3"},
        },
        interfaces={"tap0": {"kind": "tap"}, "nic": {"kind": "existing", "mtu": 9000}},
        namespaces={"a": {}},
        links=[["a:eth0", {"bridge": "docker0", "name": "to-a", "isolated": True}], ["a:eth1", {"bridge": "br0", "flood": True}]],
    )  # fmt: skip
    assert attrs(desired, "link", "host", "br0") == {
        "kind": "bridge", "master": None, "up": True, "stp": True, "priority": 4096, "group_fwd_mask": 0x4000,
        "mcast_snooping": False, "forward_delay": 400, "hello_time": 200, "ageing": 50,
    }  # fmt: skip
    assert attrs(desired, "link", "host", "eth1") == {"master": "br0"}
    assert attrs(desired, "link", "host", "nic") == {"mtu": 9000, "master": "br0"}
    assert attrs(desired, "link", "host", "tap0")["master"] == "br0"
    assert attrs(desired, "link", "host", "docker0") == {}
    assert attrs(desired, "link", "host", "eth3") == {"master": "up0"}
    assert {ref.key[0] for ref in desired.external} == {"eth1", "eth2", "eth3", "nic", "docker0"}
    assert desired.take_over == {Ref("link", "host", ("up0",)): Ref("link", "host", ("eth3",))}
    assert attrs(desired, "port", "host", "tap0") == {"hairpin": True, "learning": True}
    assert attrs(desired, "port", "host", "to-a") == {"isolated": True}
    assert len(keys(desired, "port")) == 2  # a port with the kernel's settings has no fact
    assert keys(desired, "address") == [("eth0", "172.17.0.2/16")]
    assert desired.paths[Ref("link", "host", ("eth1",))] == "bridges.br0.ports[0]"


def test_vxlans_of_many_vnis() -> None:
    desired = lowered(
        bridges={"br0": {"vlan_filtering": True, "ports": [
            {"interface": "vx0", "vlan": {"tagged": [10, "20-22"], "tunnels": {"20-22": "1020-1022", 10: 1023}}}
        ]}},
        vxlans={"vx0": {"vnis": ["1020-1021", {"vni": 1023, "group": "239.1.1.1"}], "dev": "eth0", "peers": [
            {"address": "192.0.2.2", "vni": 1020}, {"address": "192.0.2.2", "vni": 1023, "mac": "02:00:00:00:00:02"}
        ]}},
        interfaces={"eth0": {"kind": "existing"}},
    )  # fmt: skip
    link_attrs = attrs(desired, "link", "host", "vx0")
    assert (link_attrs["external"], link_attrs["vnifilter"], "id" in link_attrs) == (True, True, False)
    vnis = {ref.key: fact.attrs for ref, fact in desired.facts.items() if ref.kind == "vni"}
    assert vnis == {
        ("vx0", 1020): {"group": None},
        ("vx0", 1021): {"group": None},
        ("vx0", 1023): {"group": "239.1.1.1"},
    }
    assert attrs(desired, "fdb", "host", "vx0", "00:00:00:00:00:00", "192.0.2.2", "src_vni 1020") == {
        "dst": "192.0.2.2"
    }
    assert attrs(desired, "fdb", "host", "vx0", "02:00:00:00:00:02", "", "src_vni 1023") == {"dst": "192.0.2.2"}
    assert attrs(desired, "bridge_vlan", "host", "vx0")["tunnels"] == "10:1023,20-22:1020-1022"
    assert attrs(desired, "port", "host", "vx0") == {"vlan_tunnel": True}


def test_vxlans_of_others() -> None:
    peer = {"address": "192.0.2.2", "mac": "02:00:00:00:00:02", "ip": "10.0.0.2", "subnets": ["10.1.0.0/24"]}
    vxlan = {"external": True, "peers": [peer, "192.0.2.3"]}
    desired = lowered(namespaces={"ov": {"from": {"path": "/run/x"}, "vxlans": {"vx0": vxlan}}})
    assert desired.external == {Ref("link", "ov", ("vx0",))}
    assert attrs(desired, "link", "ov", "vx0") == {}
    assert attrs(desired, "fdb", "ov", "vx0", "02:00:00:00:00:02", "") == {"dst": "192.0.2.2"}
    assert attrs(desired, "fdb", "ov", "vx0", "00:00:00:00:00:00", "192.0.2.3") == {"dst": "192.0.2.3"}
    assert attrs(desired, "neighbour", "ov", "vx0", "10.0.0.2") == {"lladdr": "02:00:00:00:00:02"}
    assert keys(desired, "route", "ov") == [(4, 254, "10.1.0.0/24", 0)]


def test_vxlans() -> None:
    desired = lowered(
        namespaces={"ov": {
            "bridges": {"br0": {}},
            "vxlans": {"vx0": {
                "id": 42, "local": "192.0.2.1", "dev": "eth0", "bridge": "br0", "proxy": True, "ttl": 16, "tos": "inherit",
                "created_in": "host", "peers": [
                    "192.0.2.2",
                    {"address": "192.0.2.3", "mac": "0A:00:00:00:00:03", "ip": "10.244.3.0", "subnets": "10.244.3.0/24",
                     "port": 8472},
                ]}},
        }},
    )  # fmt: skip
    assert attrs(desired, "link", "ov", "vx0") == {
        "kind": "vxlan", "master": "br0", "up": True, "id": 42, "learning": True, "port": 4789, "local": "192.0.2.1",
        "proxy": True, "ttl": 16, "tos": 1, "created_in": "host", "dev": ("host", "eth0"),
    }  # fmt: skip
    assert attrs(desired, "fdb", "ov", "vx0", "00:00:00:00:00:00", "192.0.2.2") == {"dst": "192.0.2.2"}
    assert attrs(desired, "fdb", "ov", "vx0", "0a:00:00:00:00:03", "") == {"dst": "192.0.2.3", "port": 8472}
    assert attrs(desired, "neighbour", "ov", "vx0", "10.244.3.0") == {"lladdr": "0a:00:00:00:00:03"}
    assert attrs(desired, "route", "ov", 4, 254, "10.244.3.0/24", 0) == {
        **ANY_ROUTE, "gateway": "10.244.3.0", "dev": "vx0", "onlink": True,
    }  # fmt: skip
    assert Ref("link", "host", ("eth0",)) in desired.external
    assert desired.underlay_mtu == {Ref("link", "ov", ("vx0",)): 50}


def test_interfaces() -> None:
    desired = lowered(
        namespaces={"a": {
            "interfaces": {
                "mv[0-1]": {"kind": "macvlan", "parent": "host:eth0", "mode": "bridge"},
                "lo": {"kind": "existing", "addresses": "10.255.0.1/32"},
                "ifb0": {"kind": "ifb", "shaping": {"kind": "htb", "rate": "8mbit"}},
            },
        }},
    )  # fmt: skip
    assert attrs(desired, "link", "a", "mv1") == {
        "kind": "macvlan", "master": None, "up": True, "parent": ("host", "eth0"), "mode": "bridge",
    }  # fmt: skip
    assert attrs(desired, "link", "a", "lo") == {}
    assert keys(desired, "address", "a") == [("lo", "10.255.0.1/32")]
    assert attrs(desired, "shaping", "a", "ifb0")["rate"] == 1_000_000


def test_ports_of_bonds_and_vrfs() -> None:
    desired = lowered(
        interfaces={
            "bond0": {"kind": "bond", "mode": "active-backup", "primary": "p0", "ports": ["p0", "p1"], "mtu": 9000},
            "p0": {"kind": "dummy", "mtu": 9000},
            "p1": {"kind": "existing"},
            "red": {"kind": "vrf", "table": 10, "ports": ["bond0", "v5"]},
            "v5": {"kind": "vlan", "parent": "bond0", "id": 5, "addresses": "10.1.0.2/24", "gateway": "10.1.0.1"},
            "blue": {"kind": "vrf", "table": 20, "ports": ["v6"]},
            "v6": {"kind": "vlan", "parent": "bond0", "id": 6, "addresses": "10.1.0.2/24"},
        },
    )
    assert attrs(desired, "link", "host", "bond0") == {
        "kind": "bond", "up": True, "mode": "active-backup", "primary": ("host", "p0"), "mtu": 9000,
        "master": "red", "_port_of": "vrf",
    }  # fmt: skip
    assert attrs(desired, "link", "host", "p1") == {"master": "bond0", "_port_of": "bond"}
    assert keys(desired, "route") == [(4, 10, "0.0.0.0/0", 0)], "the default route is in the table of the VRF"
    assert desired.external == {Ref("link", "host", ("p1",))}
    assert desired.paths[Ref("link", "host", ("v5",))] == "interfaces.v5"


def test_a_range_of_names_is_as_long_as_that_of_the_ends() -> None:
    ((place, message),) = wrong(
        namespaces={"a": {}, "n[1-2]": {"bridges": {"e[1-2]": {}}}},
        links=[{"ends": ["a:eth0", {"bridge": "n[1-2]:e[1-2]", "name": "p[1-2]"}]}],
    )
    assert place == "links[0].ends[1].name"
    assert message == "a range of 2 names for a range of 4 ends: both need one length"


def test_states_of_vlans() -> None:
    def of(bridge: dict[str, Any]) -> Desired:
        vlan = {"pvid": 10, "tagged": "20-30", "states": {"20-21": "learning", 10: "blocking", 30: "forwarding"}}
        return lowered(
            bridges={"br0": {"vlan_filtering": True, "ports": [{"interface": "eth0", "vlan": vlan}], **bridge}},
            interfaces={"eth0": {"kind": "dummy"}},
        )

    states = {ref.key: fact.attrs["state"] for ref, fact in of({}).facts.items() if ref.kind == "vlan_state"}
    assert states == {("eth0", 10): "blocking", ("eth0", 20): "learning", ("eth0", 21): "learning"}
    with pytest.raises(InputError) as found:
        of({"stp": True})
    (diagnostic,) = found.value.diagnostics
    assert "decides itself" in diagnostic.message
    assert diagnostic.path == "bridges.br0.ports[0].vlan.states"


def test_tunnels() -> None:
    desired = lowered(
        interfaces={
            "u0": {"kind": "dummy"},
            "g0": {
                "kind": "gre",
                "remote": "192.0.2.2",
                "key": 7,
                "okey": 8,
                "seq": True,
                "tos": "inherit",
                "parent": "u0",
            },
            "g6": {"kind": "ip6tnl", "remote": "2001:DB8::2", "tclass": "inherit", "mode": "ip6ip6"},
        },
    )
    assert attrs(desired, "link", "host", "g0") == {
        "kind": "gre", "master": None, "up": True, "remote": "192.0.2.2", "ikey": 7, "okey": 8, "iseq": True,
        "oseq": True, "tos": 1, "link": ("host", "u0"),
    }  # fmt: skip
    assert attrs(desired, "link", "host", "g6") == {
        "kind": "ip6tnl", "master": None, "up": True, "remote": "2001:db8::2", "encaplimit": 4, "tclass": "inherit",
        "mode": "ip6ip6",
    }  # fmt: skip


_BOND = {"kind": "bond", "ports": ["p"]}


@pytest.mark.parametrize(
    ("sections", "place", "word"),
    [
        ({"interfaces": {"b": _BOND, "p": {"kind": "dummy", "mac": "02:00:00:00:00:01"}}},
         "interfaces.b.ports[0]", "its MAC address is b's to choose"),
        ({"interfaces": {"b": _BOND, "p": {"kind": "dummy", "mtu": 9000}}}, "interfaces.b.ports[0]", "its MTU is b's"),
        ({"interfaces": {"b": _BOND, "c": _BOND, "p": {"kind": "dummy"}}}, "interfaces.c.ports[0]", "port of b already"),
        ({"interfaces": {"b": _BOND, "p": {"kind": "bond"}}}, "interfaces.b.ports[0]", "cannot be in another one"),
        ({"interfaces": {"b": {"kind": "vrf", "table": 1, "ports": ["p"]}, "p": {"kind": "vrf", "table": 2}}},
         "interfaces.b.ports[0]", "it is a VRF"),
        ({"namespaces": {"a": {"interfaces": {"b": {"kind": "vrf", "table": 1, "ports": ["lo"]}}}}},
         "namespaces.a.interfaces.b.ports[0]", "lo cannot be a port"),
        ({"interfaces": {"v": {"kind": "vlan", "parent": "b", "id": 1}, "b": {"kind": "bond", "ports": ["v"]}}},
         "interfaces.v", "vlan v over bond b over vlan v"),
        ({"interfaces": {f"i{n}": {"kind": "ipvlan", "parent": "e", "mode": f"l{n}"} for n in (2, 3)}},
         "interfaces.i3.mode", "all ipvlans on e have one `mode`: l2 at interfaces.i2, l3 here"),
        ({"namespaces": {"a": {"interfaces": {"g": {"kind": "gre", "parent": "e"}}}}},
         "namespaces.a.interfaces.g.parent", "no interface 'e'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_ports_and_parents(sections: dict[str, Any], place: str, word: str) -> None:
    (found,) = wrong(**sections)
    assert found[0] == place
    assert word in found[1]


@pytest.mark.parametrize(
    ("sections", "place", "word"),
    [
        ({"namespaces": {"a": {"interfaces": {"m": {"kind": "macvlan", "parent": "eth7"}}}}},
         "namespaces.a.interfaces.m.parent", "no interface 'eth7'"),
        ({"namespaces": {"a": {"interfaces": {"m": {"kind": "macvlan", "parent": "hots:eth7"}}}}},
         "namespaces.a.interfaces.m.parent", "no namespace 'hots'"),
        ({"namespaces": {"a": {"interfaces": {"e": {"kind": "existing"}}}}}, "namespaces.a.interfaces.e", "only lo"),
        ({"namespaces": {"a": {"bridges": {"b": {"ports": ["e"]}}}}}, "namespaces.a.bridges.b.ports[0]", "no interface"),
        ({"bridges": {"b": {"ports": ["e"]}, "c": {"ports": ["e"]}}}, "bridges.c.ports[0]", "port of b already"),
        ({"bridges": {"b": {"ports": ["c"]}, "c": {}}}, "bridges.b.ports[0]", "is a bridge"),
        ({"bridges": {"b": {"ports": ["x"]}, "c": {}}, "links": [["y", {"bridge": "c", "name": "x"}]]},
         "bridges.b.ports[0]", "port of c already"),
        ({"bridges": {"b": {"take_over": "x"}}, "links": [["x", "y"]]}, "bridges.b.take_over", "made by this file"),
        ({"links": [["x", {"interface": "y", "gateway": "10.0.0.1"}]]}, "links[0].ends[1].gateway", "it has none"),
        ({"vxlans": {"v": {"id": 1, "bridge": "br0"}}}, "vxlans.v.bridge", "no bridge 'br0'"),
        ({"namespaces": {"a": {"vxlans": {"v": {"external": True}}}}}, "namespaces.a.vxlans.v.external", "is new"),
        ({"vxlans": {"v": {"id": 1}, "w": {"id": 1}}}, "vxlans.w.id", "VNI 1 is used twice on UDP port 4789"),
        ({"vxlans": {"v": {"id": 1, "peers": ["192.0.2.1", "192.0.2.1"]}}}, "vxlans.v.peers[1]", "twice"),
        ({"bridges": {"b": {"ports": ["m"]}}, "interfaces": {"m": {"kind": "macvlan", "parent": "b"}}},
         "interfaces.m", "macvlan m over bridge b over macvlan m"),
        ({"bridges": {"b": {}}, "vxlans": {"v": {"id": 1, "dev": "b", "bridge": "b"}}}, "vxlans.v", "ring"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_devices(sections: dict[str, Any], place: str, word: str) -> None:
    (found,) = wrong(**sections)
    assert found[0] == place
    assert word in found[1]


def test_a_vni_may_be_there_again_elsewhere() -> None:
    vxlan = {"id": 1, "local": "192.0.2.1"}
    desired = lowered(
        namespaces={"a": {"vxlans": {"v": vxlan}}, "b": {"vxlans": {"v": vxlan}}},
        vxlans={"v": vxlan, "w": {**vxlan, "port": 8472}, "x": {"id": 1, "local": "fd00::1"}},
    )
    assert len(keys(desired, "link")) == 5


# -- routes, rules, neighbours -------------------------------------------------------------------------------------

LINE: dict[str, Any] = {
    "links": [
        [{"interface": "r:a", "addresses": ["10.0.0.1/24", "fd00::1/64"]}, "x"],
        [{"interface": "r:b", "addresses": "10.1.0.1/24"}, "y"],
    ]
}


def in_r(**sections: Any) -> Desired:
    return lowered(**LINE, namespaces={"r": sections})


@pytest.mark.parametrize(
    ("route", "key", "found"),
    [
        ({"to": "default", "via": "10.1.0.9"}, (4, 254, "0.0.0.0/0", 0), {"gateway": "10.1.0.9", "dev": "b"}),
        ({"to": "default", "via": "fd00::9"}, (6, 254, "::/0", 1024), {"gateway": "fd00::9", "dev": "a"}),
        ({"to": "10.9.0.0/16", "via": "fd00::9"}, (4, 254, "10.9.0.0/16", 0), {"gateway": "fd00::9", "dev": "a"}),
        ({"to": "10.9.0.1", "dev": "lo", "table": "local"}, (4, 255, "10.9.0.1/32", 0), {"gateway": None, "dev": "lo"}),
        ({"to": "10.9.0.0/16", "via": "10.77.0.1", "dev": "a", "onlink": True}, (4, 254, "10.9.0.0/16", 0),
         {"gateway": "10.77.0.1", "dev": "a", "onlink": True}),
        ({"to": "fe00::/16", "via": "fe80::1", "dev": "b", "metric": 5}, (6, 254, "fe00::/16", 5),
         {"gateway": "fe80::1", "dev": "b"}),
        ({"to": "10.0.0.0/8", "type": "blackhole", "table": 100}, (4, 100, "10.0.0.0/8", 0),
         {"type": "blackhole", "gateway": None, "dev": None}),
        ({"to": "10.9.0.0/16", "via": "10.0.0.2", "src": "10.1.0.1", "mtu": 1300}, (4, 254, "10.9.0.0/16", 0),
         {"gateway": "10.0.0.2", "dev": "a", "src": "10.1.0.1", "mtu": 1300}),
        ({"to": "10.9.0.0/16", "dev": "a", "encap": {"mpls": {"labels": [100, 200], "ttl": 3}}}, (4, 254, "10.9.0.0/16", 0),
         {"gateway": None, "dev": "a", "encap": "mpls 100/200 ttl 3"}),
        ({"to": "fe00::/16", "dev": "a", "encap": {"seg6local": {"action": "End.DT6", "table": "main"}}},
         (6, 254, "fe00::/16", 1024), {"gateway": None, "dev": "a", "encap": "seg6local action End.DT6 table 254"}),
        ({"to": "10.9.0.0/16", "type": "throw", "advmss": 1000, "rtt": "100ms", "rttvar": "50ms", "rto_min": 30,
          "lock": ["advmss", "mtu"], "features": "ecn", "quickack": True, "congctl": "bbr"}, (4, 254, "10.9.0.0/16", 0),
         {"type": "throw", "gateway": None, "dev": None, "advmss": 1000, "rtt": 800, "rttvar": 200, "rto_min": 30,
          "lock": ("mtu", "advmss"), "features": ("ecn",), "quickack": 1, "congctl": "bbr"}),
        ({"to": "10.9.0.0/16", "via": "10.0.0.2", "tos": 16, "scope": "global", "quickack": False},
         (4, 254, "10.9.0.0/16", 0, "tos 0x10"), {"gateway": "10.0.0.2", "dev": "a", "_tos": 16}),
        ({"to": "10.9.0.0/16", "dev": "a", "realms": "5/7"}, (4, 254, "10.9.0.0/16", 0),
         {"gateway": None, "dev": "a", "realms": 0x50007}),
        ({"to": "10.9.0.0/16", "dev": "a", "scope": "global", "table": "named"}, (4, 77, "10.9.0.0/16", 0),
         {"gateway": None, "dev": "a", "scope": "global"}),
        ({"to": "10.9.0.0/16", "type": "local", "dev": "lo", "scope": "host"}, (4, 255, "10.9.0.0/16", 0),
         {"type": "local", "gateway": None, "dev": "lo"}),
        ({"to": "fe00::/16", "via": "fd00::9", "pref": "low"}, (6, 254, "fe00::/16", 1024),
         {"gateway": "fd00::9", "dev": "a", "pref": "low"}),
        ({"to": "10.9.0.0/16", "nexthops": [{"via": "10.0.0.2"}, {"via": "10.1.0.2", "weight": 3}]},
         (4, 254, "10.9.0.0/16", 0),
         {"gateway": None, "dev": None, "nexthops": (("10.0.0.2", "a", 1, False), ("10.1.0.2", "b", 3, False))}),
    ],
)  # fmt: skip
def test_routes(
    route: dict[str, Any], key: tuple[Any, ...], found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rt_tables.d").mkdir()
    (tmp_path / "rt_tables.d" / "ours.conf").write_text("# number name\n0x4d\tnamed # as 77\n")
    monkeypatch.setattr(policy, "RT_TABLES", (str(tmp_path / "rt_tables"),))
    desired = in_r(routes=[route])
    assert desired.facts[Ref("route", "r", key)] == Fact(Ref("route", "r", key), {**ANY_ROUTE, **found})


def test_nexthops() -> None:
    desired = in_r(
        nexthops=[
            {"id": 20, "group": [8, {"id": 7, "weight": 3}], "type": "resilient", "buckets": 32, "idle_timer": "1.5s"},
            {"id": 7, "via": "10.1.0.9"},
            {"id": 8, "dev": "a", "encap": {"mpls": {"labels": 100}}},
            {"id": 9, "blackhole": True, "family": "inet6"},
        ],
        routes=[{"to": "default", "nhid": 20}, {"to": "default", "nhid": 9}],
    )
    found = {ref.key[0]: fact.attrs for ref, fact in desired.facts.items() if ref.kind == "nexthop"}
    one = {"family": 4, "gateway": None, "dev": None, "onlink": False, "blackhole": False, "group": None, "type": None}
    assert found == {
        7: {**one, "gateway": "10.1.0.9", "dev": "b"},
        8: {**one, "dev": "a", "encap": "mpls 100"},
        9: {**one, "family": 6, "blackhole": True},
        20: {**one, "family": None, "group": "7,3/8", "type": "resilient", "buckets": 32, "idle_timer": 150},
    }
    for family, number, key in ((4, 20, "0.0.0.0/0"), (6, 9, "::/0")):
        metric = 0 if family == 4 else 1024
        assert attrs(desired, "route", "r", family, 254, key, metric) == {
            "type": "unicast", "src": None, "mtu": None, "nhid": number,
        }  # fmt: skip


def test_a_gateway_behind_a_route_of_its_own() -> None:
    """As the CNI's ptp plugin has it: a route to the gateway alone, and everything else via it."""
    desired = in_r(routes=[{"to": "169.254.1.1", "dev": "a"}, {"to": "default", "via": "169.254.1.1"}])
    assert attrs(desired, "route", "r", 4, 254, "0.0.0.0/0", 0)["dev"] == "a"


def test_the_kernel_finds_the_device_where_the_file_does_not_know() -> None:
    desired = lowered(routes=[{"to": "10.9.0.0/16", "via": "192.168.1.1"}, {"to": "10.8.0.0/16", "dev": "eth0"}])
    assert "dev" not in attrs(desired, "route", "host", 4, 254, "10.9.0.0/16", 0)
    assert Ref("link", "host", ("eth0",)) in desired.external


def test_rules_and_neighbours() -> None:
    desired = in_r(
        rules=[
            {"from": "10.0.0.0/24", "table": 100},
            {"fwmark": "0x1/0xff", "table": "main", "priority": 7, "ipproto": "tcp", "dport": "80-90", "invert": True},
            {"to": "fd00::/8", "action": "prohibit", "uidrange": "0-99"},
            {"priority": 8, "fwmark": 1, "goto": 9, "dscp": 46},
            {"priority": 9, "action": "nop", "ipproto": 200, "tun_id": 7},
            {"priority": 10, "l3mdev": True, "suppress_ifgroup": 3, "realms": 7},
            {"priority": 11, "flowlabel": "0x7/0xff", "sport": 80, "dport": "0x1f00/0xff00", "action": "nop"},
            {"priority": 12, "flowlabel": 7, "dscp": "8/0x38", "action": "nop"},
        ],
        neighbours=[{"ip": "10.1.0.7", "mac": "02:00:00:00:00:07"}],
    )
    rules = {ref.key[:2]: fact.attrs for ref, fact in desired.facts.items() if ref.kind == "rule"}
    assert rules == {
        (4, 20000): {"action": "to_table", "table": 100, "from": "10.0.0.0/24"},
        (4, 7): {
            "action": "to_table", "table": 254, "invert": True, "fwmark": 1, "fwmask": 255, "ipproto": 6,
            "dport": (80, 90),
        },
        (6, 20002): {"action": "prohibit", "to": "fd00::/8", "uidrange": (0, 99)},
        (4, 8): {"action": "goto", "goto": 9, "dscp": 46, "fwmark": 1, "fwmask": 0xFFFFFFFF},
        (4, 9): {"action": "nop", "ipproto": 200, "tun_id": 7},
        (4, 10): {"action": "to_table", "l3mdev": True, "suppress_ifgroup": 3, "realms": 7},
        (6, 11): {
            "action": "nop", "flowlabel": 7, "flowlabel_mask": 0xFF, "sport": (80, 80), "dport": (0x1F00, 0x1F00),
            "dport_mask": 0xFF00,
        },
        (6, 12): {"action": "nop", "flowlabel": 7, "dscp": 8, "dscp_mask": 0x38},
    }  # fmt: skip
    assert attrs(desired, "neighbour", "r", "b", "10.1.0.7") == {"lladdr": "02:00:00:00:00:07"}


@pytest.mark.parametrize(
    ("sections", "place", "word"),
    [
        ({"routes": [{"to": "default", "via": "10.9.0.1"}]}, "routes[0].via", "reaches the gateway 10.9.0.1"),
        ({"routes": [{"to": "default", "via": "10.1.0.9", "dev": "a"}]}, "routes[0].via", "no address of a of"),
        ({"routes": [{"to": "default", "via": "10.1.0.1"}]}, "routes[0].via", "itself"),
        ({"routes": [{"to": "default", "via": "fe80::1"}]}, "routes[0].via", "link-local"),
        ({"routes": [{"to": "default", "dev": "c"}]}, "routes[0].dev", "no interface 'c'"),
        ({"routes": [{"to": "default", "dev": "a", "src": "10.7.0.1"}]}, "routes[0].src", "no address 10.7.0.1"),
        ({"routes": [{"to": "10.7.0.0/16", "dev": "a"}, {"to": "10.7.0.0/16", "dev": "b"}]}, "routes[1]", "first at"),
        ({"routes": [{"to": "default", "nexthops": [{"dev": "a"}, {"via": "10.9.0.1"}]}]},
         "routes[0].nexthops[1].via", "reaches"),
        ({"rules": [{"priority": 1, "table": 7}, {"priority": 1, "table": 7}]}, "rules[1]", "first at"),
        ({"routes": [{"to": "10.9.0.0/16", "nhid": 7}]}, "routes[0].nhid", "has no nexthop 7"),
        ({"nexthops": [{"id": 7, "dev": "a"}], "routes": [{"to": "fe00::/16", "nhid": 7}]}, "routes[0].nhid", "IPv4"),
        ({"nexthops": [{"id": 7, "dev": "a", "encap": {"seg6local": {"action": "End"}}}]}, "nexthops[0].encap", "IPv6"),
        ({"nexthops": [{"id": 7, "group": [8]}]}, "nexthops[0].group[0]", "has no nexthop 8"),
        ({"nexthops": [{"id": 7, "group": [8]}, {"id": 8, "group": [9]}, {"id": 9, "dev": "a"}]},
         "nexthops[0].group[0]", "is a group"),
        ({"nexthops": [{"id": 7, "group": [8, 9]}, {"id": 8, "blackhole": True}, {"id": 9, "dev": "a"}]},
         "nexthops[0].group[0]", "blackhole"),
        ({"nexthops": [{"id": 7, "via": "10.9.0.1", "dev": "a"}]}, "nexthops[0].via", "reaches the gateway"),
        ({"nexthops": [{"id": 7, "dev": "a"}, {"id": 7, "dev": "b"}]}, "nexthops[1]", "first at"),
        ({"rules": [{"priority": 9, "goto": 9}]}, "rules[0].goto", "goes on only"),
        ({"rules": [{"priority": 1, "goto": 7}, {"priority": 1, "goto": 8}]}, "rules[1]", "one matches all"),
        ({"neighbours": [{"ip": "10.9.0.1", "mac": "02:00:00:00:00:07"}]}, "neighbours[0]", "reaches 10.9.0.1"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_routing(sections: dict[str, Any], place: str, word: str) -> None:
    (found,) = wrong(**LINE, namespaces={"r": sections})
    assert found[0].removeprefix("namespaces.r.") == place
    assert word in found[1]


# -- targets and sysctls -------------------------------------------------------------------------------------------


def test_targets_of_publishes_and_checks() -> None:
    desired = lowered(
        bridges={"br0": {"subnet": ["10.0.0.0/24", "fd00::/64"]}},
        namespaces={"web": {"interfaces": {"lo": {"kind": "existing", "addresses": "10.255.0.1/32"}}}, "b[1-2]": {}},
        links=[["web:eth0", "br0"]],
        nat={"publish": [
            {"ports": [8080, "9000-9001"], "to": "web:80"},
            {"port": 53, "to": "web", "protocol": "udp", "address": "fd00::1"},
        ]},
        checks=[
            {"from": "b[1-2]", "tcp": "web:80", "expect": "blocked", "within": "200ms"},
            {"from": "host", "tcp": "[::1]:8080"},
            {"from": "host", "udp": "127.0.0.1:53"},
        ],
    )  # fmt: skip
    table = str(desired.facts[Ref("nft", "host", ("inet", "topo-lab"))].attrs)
    assert "10.0.0.2" in table and "fd00::2" in table and "10.255" not in table
    assert [tuple(check)[:6] for check in desired.checks] == [
        ("b1", "tcp", "10.0.0.2", 80, "blocked", 0.2),
        ("b2", "tcp", "10.0.0.2", 80, "blocked", 0.2),
        ("host", "tcp", "::1", 8080, "reachable", 5.0),
        ("host", "udp", "127.0.0.1", 53, "reachable", 5.0),
    ]


def test_many_ports_however_they_are_written() -> None:
    """Entries that are alike are lowered together; what is not alike is not, though its text may look so."""
    bridges, links = {"br0": {"subnet": ["10.0.0.0/24", "fd00::/64"]}}, [["web:eth0", "br0"]]
    entries = [
        {"port": 1, "to": "web:80"}, {"port": 2, "to": "web"}, {"port": 3, "to": "web:81"}, {"port": 4, "to": "web"},
        {"ports": [5, "6-7"], "to": "web:80"}, {"port": 8, "to": "web:80"}, {"port": "9", "to": "web:80"},
        {"port": "10-11", "to": "web:90-91"}, {"port": 12, "to": "10.0.0.9:80"}, {"port": 13, "to": "10.0.0.9:81"},
        {"port": 20, "to": "fd00::2"}, {"port": 21, "to": "[fd00::2]:80"}, {"port": 22, "to": "fd00::2:80"},
        {"port": 23, "to": "[fd00::2]"}, {"port": 24, "to": "[fd00::2]:81"}, {"port": 25, "to": "fd00::2:81"},
        {"port": 1, "to": "web:80"}, {"port": 1, "to": "web:80", "protocol": "udp"},
        {"port": 1, "to": "web:80", "in": "eth0"}, {"port": 1, "to": "web:82", "address": "10.0.0.1"},
    ]  # fmt: skip
    desired = lowered(bridges=bridges, namespaces={"web": {}}, links=links, nat={"publish": entries})
    sets = attrs(desired, "nft", "host", "inet", "topo-lab")["sets"]
    four = {1: 80, 2: 2, 3: 81, 4: 4, 5: 80, 6: 80, 7: 80, 8: 80, 9: 80, 10: 90, 11: 91, 12: 80, 13: 81}
    six = {p: t for p, t in four.items() if p < 12} | {20: 20, 21: 80, 22: 22, 23: 23, 24: 81, 25: 25}
    assert sets["publish_tcp4_port"]["elements"] == {str(port): str(to) for port, to in four.items()}
    assert sets["publish_tcp6_port"]["elements"] == {str(port): str(to) for port, to in six.items()}
    others = {"22": "fd00::2:80", "25": "fd00::2:81"}
    assert sets["publish_tcp6_addr"]["elements"] == {str(port): others.get(str(port), "fd00::2") for port in six}
    assert sets["publish_udp4_port"]["elements"] == {"1": "80"}
    assert sets["publish_in_tcp4_port"]["elements"] == {"eth0 . 1": "80"}
    assert sets["publish_bound_tcp4_port"]["elements"] == {"10.0.0.1 . 1": "82"}


@pytest.mark.parametrize(
    ("sections", "place", "word"),
    [
        ({"nat": {"publish": [{"port": n, "to": "web:80"} for n in (1, 2, 3)] + [{"port": 2, "to": "web:81"}]}},
         "nat.publish[3]", "tcp port 2 is published twice: to 10.0.0.2 port 80 and to 10.0.0.2 port 81"),
        ({"nat": {"publish": [{"port": 1, "to": "wbe"}]}}, "nat.publish[0].to", "no namespace 'wbe'"),
        ({"nat": {"publish": [{"port": 1, "to": "bare"}]}}, "nat.publish[0].to", "has no address"),
        ({"nat": {"publish": [{"port": 1, "to": "web", "address": "::"}]}}, "nat.publish[0]", "family"),
        ({"nat": {"publish": [{"ports": "1-3", "to": "web:1-2"}]}}, "nat.publish[0]", "lengths"),
        ({"nat": {"publish": [{"port": 1, "to": "web"}, {"port": 2, "to": "web"}, {"ports": "2-3", "to": "web:9"}]}},
         "nat.publish[2]", "twice"),
        ({"nat": {"dnat": [{"from": "fd00::/8", "to": "web"}]}}, "nat.dnat[0].to", "family"),
        ({"firewall": {"isolate": ["br0"]}}, "firewall.isolate", "two at least"),
        ({"checks": [{"from": "wbe", "ping": "web"}]}, "checks[0].from", "no namespace"),
        ({"sysctls": {"net.ipv4.ip_forward": 0, "net/ipv4/ip_forward": 1}}, "sysctls.net/ipv4/ip_forward", "twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_targets(sections: dict[str, Any], place: str, word: str) -> None:
    (found,) = wrong(
        **sections,
        bridges={"br0": {"subnet": "10.0.0.0/24"}},
        namespaces={"web": {}, "bare": {}},
        links=[["web:eth0", "br0"]],
    )
    assert found[0] == place
    assert word in found[1]


def test_sysctls() -> None:
    desired = lowered(
        forwarding=True,
        sysctls={"net.ipv4.conf.eth0.10.rp_filter": 1, "net.ipv4.ip_local_port_range": "1000   2000"},
        namespaces={"a": {"forwarding": False, "nat": {"masquerade": [{"out": "eth0"}]}}},
    )
    found = {(ref.ns, ref.key[0]): fact.attrs["value"] for ref, fact in desired.facts.items() if ref.kind == "sysctl"}
    assert found == {
        ("host", "net/ipv4/conf/eth0.10/rp_filter"): "1",
        ("host", "net/ipv4/ip_local_port_range"): "1000 2000",
        ("host", "net/ipv4/ip_forward"): "1",
        ("host", "net/ipv6/conf/all/forwarding"): "1",
        ("a", "net/ipv4/ip_forward"): "0",
        ("a", "net/ipv6/conf/all/forwarding"): "0",
    }


def test_names_of_sysctls() -> None:
    assert device_paths("rp_filter") == ("net/ipv4/conf/{}/rp_filter",)
    assert device_paths("accept_ra") == ("net/ipv6/conf/{}/accept_ra",)
    assert device_paths("forwarding") == ("net/ipv4/conf/{}/forwarding", "net/ipv6/conf/{}/forwarding")
    assert device_paths("ipv6.brand_new") == ("net/ipv6/conf/{}/brand_new",)
    assert device_paths("ipv4.neigh.gc_stale_time") == ("net/ipv4/neigh/{}/gc_stale_time",)
    assert path("net/ipv4/conf/eth0.10/rp_filter") == "net/ipv4/conf/eth0.10/rp_filter"
    assert path("net.ipv4.conf.eth0/10.rp_filter") == "net/ipv4/conf/eth0.10/rp_filter"
    for name in ("rp_fliter", "ipv4.a.b.c"):
        with pytest.raises(ValueError):
            device_paths(name)


def test_lowering_is_a_function_of_the_file() -> None:
    first, second = lowered(**STAR), lowered(**STAR)
    assert first == second
    assert list(first.facts) == list(second.facts)


def test_every_error_at_once() -> None:
    found = wrong(
        namespaces={"a": {"routes": [{"to": "default", "via": "10.0.0.1"}]}},
        links=[["b:x", "y"], ["y", "z"], ["z", "q"]],
        vxlans={"v": {"id": 1, "bridge": "nope"}},
        checks=[{"from": "c", "ping": "a"}],
    )
    assert {place for place, _ in found} == {
        "namespaces.a.routes[0].via", "links[0].ends[0]", "links[2].ends[0]", "vxlans.v.bridge", "checks[0].ping",
        "checks[0].from",
    }  # fmt: skip


# -- whatever the file says ----------------------------------------------------------------------------------------

spaces = st.sampled_from(["", "host:", "a:", "b:", "n[1-2]:", "nowhere:"])
ifnames = st.sampled_from(["x", "y", "br0", "br1", "e[1-2]", "e[1-3]", "vx", "mv", "lo"])
addresses = st.sampled_from(["10.0.0.1/24", "10.0.0.2/24", "10.0.1.1/30", "fd00::1/64", "fe80::1/64", "127.0.0.1/8"])
ips = st.sampled_from(["10.0.0.1", "10.0.0.9", "10.0.1.2", "fd00::9", "fe80::7", "192.0.2.1"])
subnets = st.sampled_from(["10.0.0.0/24", "10.0.1.0/30", "fd00::/64", "10.0.0.0/31"])


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


ends = st.one_of(
    st.builds("{}{}".format, spaces, ifnames),
    st.builds(
        lambda interface, rest: {"interface": interface, **rest},
        st.builds("{}{}".format, spaces, ifnames),
        some(addresses=addresses, gateway=ips, mtu=st.sampled_from([1200, 1500])),
    ),
    st.builds(lambda b, n: {"bridge": b, "name": n}, st.builds("{}{}".format, spaces, ifnames), ifnames),
)
section = some(
    bridges=st.dictionaries(
        ifnames,
        some(
            subnet=subnets, addresses=addresses, ports=st.lists(ifnames.filter(str.isalnum), max_size=2),
            external=st.booleans(), take_over=st.just("x"), gateway=ips,
        ),
        max_size=2,
    ),
    vxlans=st.dictionaries(
        ifnames,
        some(
            local=ips, dev=st.just("x"), bridge=st.just("br0"), created_in=st.sampled_from(["host", "a", "nowhere"]),
            peers=st.lists(ips, max_size=2), addresses=addresses,
        ).map(lambda d: {"id": 1, **d}),
        max_size=2,
    ),
    interfaces=st.dictionaries(
        ifnames,
        st.one_of(
            some(addresses=addresses).map(lambda d: {"kind": "existing", **d}),
            st.builds("{}{}".format, spaces, ifnames).map(lambda p: {"kind": "macvlan", "parent": p}),
        ),
        max_size=2,
    ),
    routes=st.lists(some(via=ips, dev=ifnames, src=ips).map(lambda d: {"to": "default", **d}), max_size=2),
    neighbours=st.lists(ips.map(lambda ip: {"ip": ip, "mac": "02:00:00:00:00:01"}), max_size=2),
    nat=some(
        publish=st.lists(
            st.builds(lambda to: {"port": 80, "to": to}, st.sampled_from(["a:80", "b", "nowhere", "10.0.0.9", "host"])),
            max_size=2,
        )
    ),
    forwarding=st.booleans(),
)  # fmt: skip
documents = st.builds(
    lambda top, named, links, checks: {"topology": "lab", **top, "namespaces": named, "links": links, "checks": checks},
    section,
    st.dictionaries(
        st.sampled_from(["a", "b", "n[1-2]", "n1"]),
        st.one_of(section, st.sampled_from([{"from": {"share": "a"}}, {"from": {"pid": 7}}])),
    ),
    st.lists(
        st.builds(lambda a, b, rest: {"ends": [a, b], **rest}, ends, ends, some(subnet=subnets, mtu=st.just(1300))),
        max_size=4,
    ),
    st.lists(
        st.builds(lambda a, b: {"from": a, "ping": b}, *[st.sampled_from(["host", "a", "b", "n1"])] * 2), max_size=1
    ),
)


@settings(max_examples=400, deadline=None)
@given(documents)
def test_nothing_but_facts_or_an_error_with_its_place(document: dict[str, Any]) -> None:
    try:
        topology = Topology.model_validate(document)
    except ValidationError:
        return
    try:
        desired = lower(topology)
    except InputError as error:
        assert all(diagnostic.path for diagnostic in error.diagnostics)
        return
    for ref, fact in desired.facts.items():
        assert fact.ref == ref
        for on in links_of(fact):
            if on.key != ("lo",) and ref.kind != "sysctl":
                assert on in desired.facts
        if fact.attrs.get("kind") == "veth":
            peer = Ref("link", fact.attrs["peer"][0], (fact.attrs["peer"][1],))
            assert desired.facts[peer].attrs["peer"] == (ref.ns, ref.key[0])
        if fact.attrs.get("master"):
            assert Ref("link", ref.ns, (fact.attrs["master"],)) in desired.facts
    assert lower(Topology.model_validate(desired.document)) == desired
