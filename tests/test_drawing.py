"""The pictures of a topology, as text."""

from __future__ import annotations

import re
import subprocess

from topo.facts import Desired, Fact, Ref, link, namespace
from topo.planning.drawing import FORMATS, dot, drawing, mermaid


def desired(*facts: Fact) -> Desired:
    return Desired("lab", {fact.ref: fact for fact in facts})


def a_link(ns: str, ifname: str, **attrs: object) -> Fact:
    return Fact(link(ns, ifname), dict(attrs))


def an_address(ns: str, ifname: str, address: str) -> Fact:
    return Fact(Ref("address", ns, (ifname, address)), {})


WEB = (
    Fact(namespace("web"), {"up": True}),
    a_link("host", "br0", kind="bridge"),
    an_address("host", "br0", "172.30.0.1/16"),
    a_link("web", "eth0", kind="veth", peer=("host", "web-port"), master=None),
    a_link("host", "web-port", kind="veth", peer=("web", "eth0"), master="br0"),
    an_address("web", "eth0", "172.30.0.2/16"),
)

WEB_MERMAID = """\
graph LR
  subgraph s0["web"]
    n1["eth0<br/>172.30.0.2/16"]
  end
  subgraph s1["host"]
    n0(["br0<br/>172.30.0.1/16"])
  end
  n1 ---|"web-port"| n0
"""

WEB_DOT = """\
graph "lab" {
  rankdir=LR;
  subgraph cluster_0 {
    label="web";
    n1 [shape=box, label="eth0\\n172.30.0.2/16"];
  }
  subgraph cluster_1 {
    label="host";
    n0 [shape=box, style="rounded,bold", label="br0\\n172.30.0.1/16"];
  }
  n1 -- n0 [label="web-port"];
}
"""


def test_a_host_on_a_bridge_as_mermaid() -> None:
    assert mermaid(desired(*WEB)) == WEB_MERMAID


def test_a_host_on_a_bridge_as_dot() -> None:
    assert dot(desired(*WEB)) == WEB_DOT


def test_a_cable_between_two_interfaces_is_drawn_once() -> None:
    picture = drawing(
        desired(a_link("a", "x", kind="veth", peer=("b", "y")), a_link("b", "y", kind="veth", peer=("a", "x")))
    )
    assert len(picture.edges) == 1
    assert {picture.edges[0].a, picture.edges[0].b} == {node.id for box in picture.boxes.values() for node in box}


def test_a_cable_between_two_bridges_bears_both_ports() -> None:
    picture = drawing(
        desired(
            a_link("host", "br0", kind="bridge"),
            a_link("host", "br1", kind="bridge"),
            a_link("host", "p0", kind="veth", peer=("host", "p1"), master="br0"),
            a_link("host", "p1", kind="veth", peer=("host", "p0"), master="br1"),
        )
    )
    assert [edge.label for edge in picture.edges] == ["p0 - p1"]
    assert len(picture.boxes["host"]) == 2


def test_devices_on_top_of_others_are_joined_by_dashed_lines() -> None:
    text = mermaid(
        desired(a_link("host", "eth0"), a_link("c", "mv0", kind="macvlan", parent=("host", "eth0"), mode="bridge"))
    )
    assert '["mv0<br/>macvlan"]' in text
    assert re.search(r"n1 -\.- n0$", text, re.MULTILINE)


def vxlan(ns: str, local: str, remote: str) -> tuple[Fact, ...]:
    return (
        a_link(ns, "eth0", kind="veth", peer=("r2" if ns == "r1" else "r1", "eth0")),
        an_address(ns, "eth0", f"{local}/24"),
        a_link(ns, "vx42", kind="vxlan", id=42, local=local),
        Fact(Ref("fdb", ns, ("vx42", "00:00:00:00:00:00", remote)), {"dst": remote}),
    )


def test_a_vxlan_leads_to_the_interface_that_has_the_peers_address() -> None:
    picture = drawing(desired(*vxlan("r1", "192.0.2.1", "192.0.2.2"), *vxlan("r2", "192.0.2.2", "192.0.2.1")))
    ids = {(ns, node.lines[0]): node.id for ns, box in picture.boxes.items() for node in box}
    assert {(e.a, e.b) for e in picture.edges if e.dashed} == {
        (ids["r1", "vx42"], ids["r2", "eth0"]),
        (ids["r2", "vx42"], ids["r1", "eth0"]),
    }
    assert not picture.outside


def test_a_peer_elsewhere_is_a_node_outside_and_is_drawn_once() -> None:
    picture = drawing(
        desired(
            *vxlan("r1", "192.0.2.1", "198.51.100.7"),
            Fact(Ref("fdb", "r1", ("vx42", "0a:00:00:00:00:01", "")), {"dst": "198.51.100.7"}),
        )
    )
    assert [node.lines for node in picture.outside] == [("198.51.100.7",)]
    assert len([edge for edge in picture.edges if edge.b == picture.outside[0].id]) == 1


def test_a_namespace_without_interfaces_is_drawn_too() -> None:
    picture = drawing(desired(Fact(namespace("lonely"), {"up": True})))
    assert [node.lines for node in picture.boxes["lonely"]] == [("lo",)]


def test_ids_are_unique() -> None:
    picture = drawing(
        desired(
            Fact(namespace("lonely"), {}),
            Fact(namespace("alone"), {}),
            *WEB,
            *vxlan("r1", "192.0.2.1", "198.51.100.7"),
            *vxlan("r2", "192.0.2.2", "198.51.100.8"),
        )
    )
    ids = [node.id for box in picture.boxes.values() for node in box] + [node.id for node in picture.outside]
    assert len(ids) == len(set(ids)) == 10


HOSTILE = 'a"]<b>;#\\'


def test_names_cannot_break_out_of_mermaid() -> None:
    text = mermaid(desired(a_link("host", HOSTILE, kind="bridge")))
    assert 'n0(["a#34;#93;#60;b#62;#59;#35;#92;"])' in text


def test_names_cannot_break_out_of_dot() -> None:
    text = dot(desired(a_link("host", HOSTILE, kind="bridge")))
    assert 'label="a\\"]<b>;#\\\\"' in text


def test_graphviz_reads_it() -> None:
    hostile = a_link("host", HOSTILE, kind="bridge")
    subprocess.run(["dot", "-Tsvg"], input=dot(desired(*WEB, hostile)), text=True, check=True, capture_output=True)


def test_the_same_topology_gives_the_same_text() -> None:
    for draw in FORMATS.values():
        assert draw(desired(*WEB)) == draw(desired(*WEB))
