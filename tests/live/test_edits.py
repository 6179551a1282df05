"""Edits of the file converge, and what did not change is not built again: its ifindexes stay."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sandbox.host import Host
from sandbox.leaks import RECORD

STAR = """
topology: edit
bridges:
  br0: {subnet: 10.10.0.0/24}
  br1: {subnet: 10.11.0.0/24}
namespaces:
  a: {}
  b: {}
links:
  - [{interface: a:eth0, addresses: 10.10.0.2/24}, {bridge: br0, name: a-port}]
  - [{interface: b:eth0, addresses: 10.10.0.3/24}, {bridge: br0, name: b-port}]
"""

LINKS = [("host", "br0"), ("host", "br1"), ("host", "a-port"), ("host", "b-port"), ("a", "eth0"), ("b", "eth0")]


def _indexes(host: Host, links: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {link: host.ifindex(*link) for link in links}


def _inodes(host: Host) -> dict[str, int]:
    return {name: Path(f"/run/netns/{name}").stat().st_ino for name in host.namespaces()}


def _edit(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Lab:
    """One topology that is applied, edited and destroyed."""

    def __init__(self, host: Host, text: str = STAR) -> None:
        self.host, self.text = host, text
        self.before = host.settled()
        self.apply(text)

    def apply(self, text: str) -> str:
        """Apply; afterwards nothing differs. What was said."""
        self.text = text
        said = self.host.ok("apply", self.host.file(text)).text
        self.host.ok("diff", self.host.directory / "lab.yaml")
        return said

    def edit(self, *changes: tuple[str, str]) -> str:
        return self.apply(_edit(self.text, *changes))

    def destroy(self) -> None:
        self.host.ok("destroy", "edit")
        self.host.same(self.before)


@pytest.fixture
def star(host: Host) -> Lab:
    return Lab(host)


def test_namespace_added_and_removed(host: Host, star: Lab) -> None:
    kept, inodes = _indexes(host, LINKS), _inodes(host)
    star.edit(("  b: {}\n", "  b: {}\n  c: {}\n"), ("links:\n", "links:\n  - [c:eth0, br0]\n"))
    assert host.ping("c", "10.10.0.2")
    assert _indexes(host, LINKS) == kept
    star.apply(STAR)
    assert host.namespaces() == {"a", "b"}
    assert _indexes(host, LINKS) == kept
    assert _inodes(host) == inodes
    assert len(host.ip_json("host", "link", "show", "master", "br0")) == 2
    star.destroy()


def test_link_moved_to_another_bridge(host: Host, star: Lab) -> None:
    kept = _indexes(host, LINKS)
    star.edit(("{bridge: br0, name: b-port}", "{bridge: br1, name: b-port}"), ("10.10.0.3/24", "10.11.0.3/24"))
    assert host.link("host", "b-port")["master"] == "br1"
    assert host.ping("b", "10.11.0.1")
    assert host.silent("b", "10.10.0.2")
    assert _indexes(host, LINKS) == kept
    star.destroy()


def test_interface_renamed(host: Host, star: Lab) -> None:
    kept = _indexes(host, LINKS)
    star.edit(("interface: b:eth0", "interface: b:lan0"), ("name: b-port", "name: b-lan"))
    assert not host.link("b", "eth0")
    assert host.ifindex("b", "lan0") == kept[("b", "eth0")]
    assert host.ifindex("host", "b-lan") == kept[("host", "b-port")]
    assert host.addresses("b", "lan0") == {"10.10.0.3/24"}
    assert host.ping("b", "10.10.0.2")
    star.destroy()


def test_names_swapped(host: Host) -> None:
    text = STAR.replace("  b: {}\n", "").replace("interface: b:eth0", "interface: a:eth1")
    lab = Lab(host, text.replace("b-port", "a-port1"))
    lab.edit(("a:eth0, addresses: 10.10.0.2", "a:tmp, addresses: 10.10.0.2"), ("a:eth1", "a:eth0"), ("a:tmp", "a:eth1"))
    assert host.addresses("a", "eth0") == {"10.10.0.3/24"}
    assert host.addresses("a", "eth1") == {"10.10.0.2/24"}
    lab.destroy()


def test_mtu_mac_and_addresses_changed(host: Host, star: Lab) -> None:
    kept = _indexes(host, LINKS)
    star.edit(
        (
            "{interface: b:eth0, addresses: 10.10.0.3/24}",
            "{interface: b:eth0, mtu: 1400, mac: 02:00:00:00:00:0b, addresses: [10.10.0.33/24, 'fd10::b/64']}",
        ),
    )
    link = host.link("b", "eth0")
    assert (link["mtu"], link["address"]) == (1400, "02:00:00:00:00:0b")
    assert host.addresses("b", "eth0") == {"10.10.0.33/24", "fd10::b/64"}
    assert host.ping("a", "10.10.0.33")
    star.edit(("mtu: 1400, mac: 02:00:00:00:00:0b", "mtu: 1300, mac: 02:00:00:00:00:0c"), ("fd10::b", "fd10::c"))
    link = host.link("b", "eth0")
    assert (link["mtu"], link["address"]) == (1300, "02:00:00:00:00:0c")
    assert host.addresses("b", "eth0") == {"10.10.0.33/24", "fd10::c/64"}
    assert _indexes(host, LINKS) == kept
    star.destroy()


def test_addresses_swapped_between_namespaces(host: Host, star: Lab) -> None:
    kept = _indexes(host, LINKS)
    assert host.ping("a", "10.10.0.3")  # the neighbour caches are full now
    star.edit(
        ("a:eth0, addresses: 10.10.0.2/24", "a:eth0, addresses: 10.10.0.x/24"),
        ("b:eth0, addresses: 10.10.0.3/24", "b:eth0, addresses: 10.10.0.2/24"),
        ("10.10.0.x/24", "10.10.0.3/24"),
    )
    assert host.addresses("a", "eth0") == {"10.10.0.3/24"}
    assert host.addresses("b", "eth0") == {"10.10.0.2/24"}
    assert _indexes(host, LINKS) == kept
    for ns in ("a", "b"):
        host.run("ip neigh flush dev eth0", ns)
    assert host.ping("a", "10.10.0.2")
    star.destroy()


VXLANS = """
topology: edit
namespaces:
  a:
    vxlans:
      one: {id: 101, local: 192.0.2.1, peers: [192.0.2.2], addresses: 10.1.0.1/24}
      two: {id: 102, local: 192.0.2.1, peers: [192.0.2.2], addresses: 10.2.0.1/24}
  b:
    vxlans:
      one: {id: 101, local: 192.0.2.2, peers: [192.0.2.1], addresses: 10.1.0.2/24}
      two: {id: 102, local: 192.0.2.2, peers: [192.0.2.1], addresses: 10.2.0.2/24}
links:
  - [{interface: a:eth0, addresses: 192.0.2.1/24}, {interface: b:eth0, addresses: 192.0.2.2/24}]
"""


def test_two_vnis_swapped(host: Host) -> None:
    """The kernel cannot change a VNI, and allows each once: both devices are replaced, in an order that works."""
    lab = Lab(host, VXLANS)
    assert host.ping("a", "10.1.0.2")
    underlay = [("a", "eth0"), ("b", "eth0")]
    kept = _indexes(host, underlay)
    lab.apply(VXLANS.replace("id: 101", "id: x").replace("id: 102", "id: 101").replace("id: x", "id: 102"))
    for ns in ("a", "b"):
        assert host.link(ns, "one")["linkinfo"]["info_data"]["id"] == 102
        assert host.link(ns, "two")["linkinfo"]["info_data"]["id"] == 101
    assert host.ping("a", "10.1.0.2")
    assert host.ping("a", "10.2.0.2")
    assert _indexes(host, underlay) == kept
    lab.destroy()


def test_vxlan_changed_in_place(host: Host) -> None:
    lab = Lab(host, VXLANS)
    links = [(ns, name) for ns in ("a", "b") for name in ("eth0", "one", "two")]
    kept = _indexes(host, links)
    lab.apply(VXLANS.replace("id: 101,", "id: 101, ttl: 9,").replace("id: 102,", "id: 102, learning: false,"))
    assert host.link("a", "one")["linkinfo"]["info_data"]["ttl"] == 9
    assert host.link("a", "two")["linkinfo"]["info_data"]["learning"] is False
    assert _indexes(host, links) == kept
    lab.destroy()


def test_bridge_replaced_under_its_ports(host: Host, star: Lab) -> None:
    """The same ports under a bridge of another name: the bridge is another one, the ports are not."""
    ports = [link for link in LINKS if link[1] not in ("br0", "br1")]
    kept = _indexes(host, ports)
    star.apply(star.text.replace("br0", "br9"))
    assert not host.link("host", "br0")
    assert {link["ifname"] for link in host.ip_json("host", "link", "show", "master", "br9")} == {"a-port", "b-port"}
    assert host.addresses("host", "br9") == {"10.10.0.1/24"}
    assert _indexes(host, ports) == kept
    assert host.ping("a", "10.10.0.1")
    assert host.ping("a", "10.10.0.3")
    star.destroy()


NAT = (
    STAR
    + """
nat:
  publish: [{port: 8080, to: a:80}]
"""
)


def test_publish_moved(host: Host) -> None:
    lab = Lab(host, NAT)
    host.serve("a", 80, "a")
    host.serve("b", 80, "b")
    assert host.fetch("host", "http://10.10.0.1:8080/").startswith("a ")
    kept = _indexes(host, LINKS)
    lab.edit(("to: a:80", "to: b:80"))
    assert host.fetch("host", "http://10.10.0.1:8080/").startswith("b ")
    assert host.fetch("a", "http://10.10.0.1:8080/").startswith("b ")
    lab.edit(("port: 8080", "port: 8081"))
    assert host.fetch("host", "http://10.10.0.1:8080/") == ""
    assert host.fetch("host", "http://10.10.0.1:8081/").startswith("b ")
    assert _indexes(host, LINKS) == kept
    lab.destroy()


def test_sections_emptied(host: Host) -> None:
    """Everything that a namespace may hold goes when it is no longer stated, one thing at a time."""
    lab = Lab(host, NAT)
    lab.apply(STAR)
    assert host.nft_json() == []
    kept = _indexes(host, [("host", "br0"), ("a", "eth0")])
    bare = "topology: edit\nbridges:\n  br0: {subnet: 10.10.0.0/24}\nnamespaces:\n  a: {}\n"
    lab.apply(bare + "links:\n  - [{interface: a:eth0, addresses: 10.10.0.2/24}, {bridge: br0, name: a-port}]\n")
    assert _indexes(host, [("host", "br0"), ("a", "eth0")]) == kept
    lab.apply("topology: edit\nnamespaces:\n  a: {}\n")
    assert {link["ifname"] for link in host.ip_json("a", "link")} == {"lo"}
    lab.apply("topology: edit\n")
    assert host.namespaces() == set()
    lab.destroy()


@pytest.mark.parametrize(
    ("old", "new", "ns", "command", "shows"),
    [
        (
            "  a: {}",
            "  a: {routes: [{to: 10.99.0.0/16, via: 10.10.0.1}]}",
            "a",
            "ip route show 10.99.0.0/16",
            "10.10.0.1",
        ),
        (
            "  a: {}",
            "  a: {rules: [{priority: 7, from: 10.1.0.0/16, table: 7}]}",
            "a",
            "ip rule show pref 7",
            "10.1.0.0",
        ),
        ("  a: {}", "  a: {sysctls: {net.ipv4.ip_forward: 1}}", "a", "sysctl -n net.ipv4.ip_forward", "1"),
        (
            "  a: {}",
            "  a: {neighbours: [{ip: 10.10.0.9, mac: 02:00:00:00:00:09}]}",
            "a",
            "ip neigh show 10.10.0.9",
            "02:00:00:00:00:09",
        ),
        ("name: a-port}", "name: a-port, hairpin: true}", "host", "bridge -d link show dev a-port", "hairpin on"),
        ("a:eth0,", "a:eth0, shaping: {rate: 1mbit},", "a", "tc qdisc show dev eth0", "rate 1Mbit"),
        ("a:eth0,", "a:eth0, txqueuelen: 77,", "a", "ip link show eth0", "qlen 77"),
        ("a:eth0,", "a:eth0, comment: hello,", "a", "ip link show eth0", "alias hello"),
        ("a:eth0,", "a:eth0, sysctls: {rp_filter: 2},", "a", "sysctl -n net.ipv4.conf.eth0.rp_filter", "2"),
        ("br0: {subnet", "br0: {stp: true, subnet", "host", "ip -d link show br0", "stp_state 1"),
        ("br0: {subnet", "br0: {ageing: 77, subnet", "host", "ip -d link show br0", "ageing_time 7700"),
    ],
)
def test_setting_added_changed_in_place(
    host: Host, star: Lab, old: str, new: str, ns: str, command: str, shows: str
) -> None:
    def told() -> str:
        return re.sub(r"\w+_timer +\S+", "", host.run(command, ns))

    kept, before = _indexes(host, LINKS), told()
    star.edit((old, new))
    now = told()
    assert shows in now
    assert now != before
    star.apply(STAR)
    assert told() == before, "what is no longer stated goes back to the kernel's default"
    assert _indexes(host, LINKS) == kept
    star.destroy()


def test_mtu_that_went_down_with_its_parents(host: Host) -> None:
    """The kernel takes a macvlan's down with its parent's, and not up again."""
    host.run("ip link add nic0 type veth peer name nic0-peer")
    host.run("ip link set nic0 up")
    bare = "topology: edit\nnamespaces: {c: {interfaces: {i0: {kind: macvlan, parent: 'host:nic0'}, i1: {kind: macvlan, parent: 'host:nic0', mtu: 1300}}}}\n"
    lab = Lab(host, bare)
    lower = "interfaces: {nic0: {kind: existing, mtu: 1400}}\n"
    for text, mtu in (
        (bare + lower, 1400),
        (bare, 1500),
        (bare + lower, 1400),
        (bare + lower.replace("1400", "1450"), 1450),
    ):
        lab.apply(text)
        assert [host.link("c", name)["mtu"] for name in ("i0", "i1")] == [mtu, 1300]
    host.run("ip link set nic0 mtu 1500")  # as far as a run had come that was killed
    lab.apply(bare)
    assert [host.link("c", name)["mtu"] for name in ("i0", "i1")] == [1500, 1300]
    lab.destroy()
    host.run("ip link del nic0")


def test_what_goes_with_another_end_is_not_there_for_others(host: Host) -> None:
    """The end of a link that the file does not make any more cannot be what a neighbour of the host is on."""
    link = "links: [{ends: [{interface: e0}, {interface: e1, addresses: [10.30.1.1/24]}]}]\n"
    bare = "topology: edit\nneighbours: [{ip: 10.30.1.77, mac: '02:00:00:00:07:77', dev: e1}]\n"
    lab = Lab(host, bare + link)
    before = host.settled()
    result = host.topo("apply", host.file(bare, "bare.yaml"))
    assert result.code == 2, result.text
    assert "neighbours[0].dev: interface e1 goes with e0, which the file does not make any more" in result.err
    host.same(before)
    lab.destroy()


def test_settings_of_a_port_whose_cost_is_its_drivers(host: Host) -> None:
    """Of a VXLAN nobody knows the cost that is the kernel's default: it stays, and is no reason to go on."""
    bare = "topology: edit\nvxlans:\n  vx0: {id: 7, local: 127.0.0.1}\nbridges:\n  br0: {ports: [{interface: vx0%s}]}\n"
    lab = Lab(host, bare % ", neigh_suppress: true, learning: false")
    lab.apply(bare % "")
    assert {"neigh_suppress off", "learning on"} <= set(re.findall(r"(?:neigh_suppress|learning) \w+", _port(host)))
    lab.apply(bare % ", cost: 77")
    lab.apply(bare % "")
    lab.destroy()


def _port(host: Host) -> str:
    return host.run("bridge -d link show dev vx0")


def test_sysctls_stated_from_the_first_apply_on(host: Host) -> None:
    """Those of a namespace and of a link that are made in the same run go back to what the kernel had given them."""
    sysctls = "sysctls: {net.ipv4.ip_forward: 1, net.ipv4.tcp_syncookies: 0}"
    text = STAR.replace("  a: {}", f"  a: {{{sysctls}}}").replace("a:eth0,", "a:eth0, sysctls: {rp_filter: 2},")
    names = ("net.ipv4.ip_forward", "net.ipv4.tcp_syncookies", "net.ipv4.conf.eth0.rp_filter")
    lab = Lab(host)
    usual = [host.run(f"sysctl -n {name}", "a") for name in names]
    lab.destroy()
    lab.apply(text)
    assert [host.run(f"sysctl -n {name}", "a").strip() for name in names] == ["1", "0", "2"]
    lab.apply(STAR)
    assert [host.run(f"sysctl -n {name}", "a") for name in names] == usual
    lab.destroy()


def test_port_of_a_bridge_that_goes_gets_an_address(host: Host) -> None:
    """Which looks like the underlay given back, but for the bridge: it is gone before."""
    text = "topology: edit\nnamespaces: {a: {}}\nlinks:\n  - [e0, a:e0]\n  - [{interface: e2, addresses: 10.30.1.1/24}, e1]\n"
    lab = Lab(host, text)
    lab.apply(
        "topology: edit\nnamespaces: {b: {}}\nbridges: {br0: {}}\nlinks:\n  - [e0, b:e1]\n  - [e1, {bridge: br0, name: p2}]\n"
    )
    lab.apply(text)
    assert host.addresses("host", "e2") == {"10.30.1.1/24"}
    lab.destroy()


def test_made_from_one_namespace_and_then_set_in_another(host: Host) -> None:
    """A macvtap is made by the socket of its parent's namespace and gets its alias by that of its own, where others wait."""
    host.run("ip link add nic0 type veth peer name nic1")
    interface = "i0: {kind: macvtap, parent: 'host:nic0', comment: what it is for}"
    lab = Lab(host, "topology: edit\nnamespaces:\n  a: {bridges: {br1: {}}, interfaces: {" + interface + "}}\n")
    assert host.link("a", "i0")["ifalias"] == "what it is for"
    lab.destroy()
    host.run("ip link del nic0")


def test_an_mtu_that_is_no_longer_stated_is_what_the_kernel_would_give(host: Host) -> None:
    """A macvlan gets its parent's, a bridge the least of its ports': as when they are made so."""
    host.run("ip link add nic0 mtu 1450 type veth peer name nic1")
    text = (
        "topology: edit\nnamespaces: {a: {}}\nbridges: {br0: {}}\n"
        "interfaces: {mv0: {kind: macvlan, parent: nic0}}\n"
        "links: [{ends: [a:eth0, br0], mtu: 1400}]\n"
    )
    lab = Lab(host, text)
    made = {name: host.link("host", name)["mtu"] for name in ("mv0", "br0")}
    assert made == {"mv0": 1450, "br0": 1400}
    lab.apply(_edit(text, ("br0: {}", "br0: {mtu: 1300}"), ("parent: nic0", "parent: nic0, mtu: 1300")))
    assert {name: host.link("host", name)["mtu"] for name in made} == dict.fromkeys(made, 1300)
    lab.apply(text)
    assert {name: host.link("host", name)["mtu"] for name in made} == made
    lab.destroy()
    host.run("ip link del nic0")


def test_no_route_is_asked_for_where_the_kernel_takes_none(host: Host) -> None:
    """It is an error of the file, and the kernel agrees."""
    host.run("ip link add nic0 type veth peer name nic1")
    assert "Device for nexthop is not up" in host.refusal("ip route add 10.8.0.0/16 dev nic0")
    lab = host.file(
        "topology: edit\ninterfaces: {nic0: {kind: existing, up: false}}\nroutes: [{to: 10.8.0.0/16, dev: nic0}]\n"
    )
    result = host.topo("apply", lab)
    assert result.code == 2 and "`up: false`" in result.text and "lab.yaml:3:10" in result.text, result.text
    host.run("ip link del nic0")


def test_an_mtu_that_a_bridge_has_by_its_ports_already(host: Host) -> None:
    """Stated, it stays, whatever ports come in the same run or later: nothing but the kernel's memory has to change."""
    text = "topology: edit\nbridges: {br0: {}}\nlinks:\n  - {ends: [e0, {bridge: br0, name: p0}], mtu: 1400}\n"
    lab = Lab(host, text)
    lab.apply(_edit(text, ("br0: {}", "br0: {mtu: 1400}")))
    lab.apply(text.replace("br0: {}", "br0: {mtu: 1400}") + "  - {ends: [e1, {bridge: br0, name: p1}], mtu: 1300}\n")
    assert host.link("host", "br0")["mtu"] == 1400
    lab.apply(text)
    assert host.link("host", "br0")["mtu"] == 1400
    lab.destroy()


def test_destroyed_by_another_version_of_the_file_when_the_record_is_lost(host: Host) -> None:
    """The marks lead to what only the file that was applied names."""
    result = host.topo("apply", host.file("topology: edit\nnamespaces: {b: {}}\nlinks: [[h0, b:eth0]]\n"))
    assert result.code == 0, result.text
    (RECORD / "edit.json").unlink()
    result = host.topo("destroy", host.file("topology: edit\nnamespaces: {a: {}}\n"))
    assert result.code == 0 and not host.namespaces(), result.text
    assert "does not exist" in host.refusal("ip link show h0")
