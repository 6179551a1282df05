"""libnetwork's overlay on two hosts: the kernel's state is what Docker makes of it, and containers reach each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sandbox.host import SAMPLES, Host
from sandbox.machines import Machine, Wire
from sandbox.snapshot import output, read_json

FILES = {name: SAMPLES / "seeds" / f"overlay-{name}.yaml" for name in ("host1", "host2")}
CONTAINERS = {"host1": ("ca", "10.70.0.2", "02:42:0a:46:00:02"), "host2": ("cb", "10.70.0.3", "02:42:0a:46:00:03")}
VTEPS = {"host1": "192.0.2.1", "host2": "192.0.2.2"}
OTHER = {"host1": "host2", "host2": "host1"}
WIRE = """
topology: wire
bridges: { lan: {} }
links:
  - [{ interface: "host1:eth0", addresses: 192.0.2.1/24, gateway: 192.0.2.254 }, lan]
  - [{ interface: "host2:eth0", addresses: 192.0.2.2/24, gateway: 192.0.2.254 }, lan]
  - [{ interface: "world:eth0", addresses: 192.0.2.254/24 }, lan]
"""

# What `ip -d -j link` showed of the devices that dockerd 20.10 made for an overlay of a swarm of two (Linux 6.18).
DOCKERS_BRIDGE = {
    "forward_delay": 1500, "hello_time": 200, "max_age": 2000, "ageing_time": 30000, "stp_state": 0, "priority": 32768,
    "vlan_filtering": 0, "group_fwd_mask": "0", "mcast_snooping": 1, "mcast_router": 1, "nf_call_iptables": 0,
}  # fmt: skip
DOCKERS_VXLAN = {
    "id": 4097, "port_range": {"low": 0, "high": 0}, "port": 4789, "learning": True, "proxy": True, "l2miss": True,
    "l3miss": True, "ttl": 0, "df": "unset", "ageing": 300, "udp_csum": True, "udp_zero_csum6_tx": False,
    "udp_zero_csum6_rx": False,
}  # fmt: skip
DOCKERS_PORT = {
    "state": "forwarding", "priority": 32, "hairpin": False, "guard": False, "root_block": False, "fastleave": False,
    "learning": True, "flood": True, "proxy_arp": False, "mcast_flood": True, "bcast_flood": True,
    "mcast_to_unicast": False, "neigh_suppress": False, "isolated": False,
}  # fmt: skip


@pytest.fixture
def wire(host: Host) -> Iterator[Wire]:
    wire = Wire(host, WIRE, "host1", "host2", "world")
    yield wire
    wire.close()


@pytest.fixture
def applied(wire: Wire, host: Host) -> Iterator[Wire]:
    for name, file in FILES.items():
        wire[name].ok("apply", file)
    host.settle(*(wire[name].ns("ov") for name in FILES))
    yield wire
    for name in FILES:
        wire[name].ok("destroy", "overlay")


def links(ns: str) -> dict[str, dict[str, Any]]:
    return {link["ifname"]: link for link in read_json(ns, "ip", "-d", "-j", "addr")}


def held(table: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return {name: found.get(name) for name in table}


def devices_are_dockers(machine: Machine) -> None:
    found = links(machine.ns("ov"))
    assert found.keys() == {"lo", "br0", "vxlan0", "veth1"}
    for link in found.values():
        assert "UP" in link["flags"]
    assert {found[ifname]["mtu"] for ifname in ("br0", "vxlan0", "veth1")} == {1450}

    bridge = found["br0"]["linkinfo"]
    assert (bridge["info_kind"], held(DOCKERS_BRIDGE, bridge["info_data"])) == ("bridge", DOCKERS_BRIDGE)
    assert [(a["local"], a["prefixlen"]) for a in found["br0"]["addr_info"] if a["family"] == "inet"] == [
        ("10.70.0.1", 24)
    ]

    vxlan = found["vxlan0"]
    assert (vxlan["linkinfo"]["info_kind"], vxlan["linkinfo"]["info_data"]) == ("vxlan", DOCKERS_VXLAN)
    assert "link_netnsid" in vxlan, "its underlay is another namespace's, the host's"
    for port in ("vxlan0", "veth1"):
        assert found[port]["master"] == "br0"
        assert held(DOCKERS_PORT, found[port]["linkinfo"]["info_slave_data"]) == DOCKERS_PORT


def entries_are_dockers(machine: Machine, name: str) -> None:
    _, address, mac = CONTAINERS[OTHER[name]]
    ns = machine.ns("ov")
    lasting = [entry for entry in read_json(ns, "bridge", "-j", "fdb", "show", "dev", "vxlan0") if "dst" in entry]
    permanent = [entry for entry in lasting if entry["state"] == "permanent"]
    [entry] = permanent
    assert (entry["mac"], entry["dst"], entry["flags"]) == (mac, VTEPS[OTHER[name]], ["self"])
    neighbours = read_json(ns, "ip", "-j", "neigh", "show", "dev", "vxlan0", "nud", "permanent")
    assert [(n["dst"], n["lladdr"], n["state"]) for n in neighbours] == [(address, mac, ["PERMANENT"])]


def container_is_dockers(machine: Machine, host: Host, name: str) -> None:
    """eth0 is the overlay, eth1 the way out, with the default route; Docker's two ports of the gateway bridge."""
    container, address, mac = CONTAINERS[name]
    ns = machine.ns(container)
    found = links(ns)
    assert found.keys() == {"lo", "eth0", "eth1"}
    assert (found["eth0"]["address"], found["eth0"]["mtu"]) == (mac, 1450)
    assert host.addresses(ns, "eth0") == {f"{address}/24"}
    assert [(r["gateway"], r["dev"]) for r in host.routes(ns, "default")] == [("172.18.0.1", "eth1")]


def udp_ports(ns: str) -> set[int]:
    lines = output(ns, "ss", "-Hunl").splitlines()
    return {int(line.split()[3].rpartition(":")[2]) for line in lines}


def test_the_state_is_dockers(applied: Wire, host: Host) -> None:
    for name in FILES:
        machine = applied[name]
        devices_are_dockers(machine)
        entries_are_dockers(machine, name)
        container_is_dockers(machine, host, name)
        assert 4789 in udp_ports(machine.home), "the socket stays in the host"
        assert udp_ports(machine.ns("ov")) == set()


def packets(machine: Machine) -> int:
    [link] = read_json(machine.ns("ov"), "ip", "-s", "-j", "link", "show", "vxlan0")
    received: int = link["stats64"]["rx"]["packets"]
    return received


def test_containers_reach_each_other_and_the_world(applied: Wire, host: Host) -> None:
    one, two, world = applied["host1"], applied["host2"], applied["world"]
    ca, cb = one.ns("ca"), two.ns("cb")
    assert host.ping(ca, "10.70.0.3", "-s", "1422", "-M", "do"), "1450 bytes, unfragmented"
    assert host.fails("ping -c1 -W1 -s 1423 -M do 10.70.0.3", ca)
    assert packets(two) > 0
    host.serve(cb, 80, "cb")
    host.serve(world.home, 80, "world")
    assert host.fetch(ca, "http://10.70.0.3/") == "cb ::ffff:10.70.0.2", "source kept"
    assert host.fetch(ca, "http://192.0.2.254/") == "world ::ffff:192.0.2.1", "masqueraded, by the host's own address"
    for name in FILES:
        applied[name].ok("check", "overlay")

    host.run("ip neigh del 10.70.0.3 dev vxlan0", one.ns("ov"))
    host.run("ip neigh flush dev eth0", ca)
    assert host.silent(ca, "10.70.0.3"), "in proxy mode ARP is answered from the neighbour entries, or not at all"
    assert one.topo("diff", FILES["host1"]).code == 1
    one.ok("apply", FILES["host1"])
    assert host.ping(ca, "10.70.0.3")


def test_one_container_more_is_two_entries_more(applied: Wire, host: Host) -> None:
    one, two = applied["host1"], applied["host2"]
    container = host.file(
        "namespaces: { cc: {} }\nlinks:\n"
        "  - { ends: [{ interface: cc:eth0, addresses: 10.70.0.9/24, mac: 02:42:0a:46:00:09 }, ov:br0], mtu: 1450 }\n",
        "container.yaml",
    )
    two.ok("apply", FILES["host2"], container)
    entry = "{ address: 192.0.2.2, mac: 02:42:0a:46:00:09, ip: 10.70.0.9 }"
    peer = host.file(f"namespaces: {{ ov: {{ vxlans: {{ vxlan0: {{ peers: [{entry}] }} }} }} }}\n", "peer.yaml")
    plan = one.topo("diff", FILES["host1"], peer, "--output", "json").json()
    assert sorted(change["kind"] for change in plan["changes"]) == ["fdb", "neighbour"]
    one.ok("apply", FILES["host1"], peer)
    assert host.ping(one.ns("ca"), "10.70.0.9")
    assert host.ping(one.ns("ca"), "10.70.0.3")


def test_destroy_leaves_nothing(wire: Wire, host: Host) -> None:
    before = {name: host.snapshot(wire[name].home) for name in FILES}
    for name, file in FILES.items():
        wire[name].ok("apply", file)
        wire[name].ok("diff", file)
        assert wire[name].namespaces() > {"ov"}
        wire[name].ok("destroy", file)
        assert wire[name].namespaces() == set()
        assert 4789 not in udp_ports(wire[name].home)
    assert {name: host.snapshot(wire[name].home) for name in FILES} == before


def hidden(host: Host) -> dict[str, Any]:
    """The namespace ov with a vxlan0, as someone else makes it, with an entry of theirs; a snapshot of it."""
    host.run("ip netns add ov")
    host.run("ip link add vxlan0 type vxlan id 4097 dstport 4789 proxy l2miss l3miss")
    host.run("ip link set vxlan0 netns ov")
    host.run("ip link set vxlan0 up", "ov")
    host.run("bridge fdb add 02:42:0a:46:00:03 dev vxlan0 dst 192.0.2.9 self permanent", "ov")
    return host.snapshot("ov")


def test_peers_on_a_vxlan_of_others(host: Host) -> None:
    """They come and go, and stand in for entries that are there; also where its namespace is made anew meanwhile."""
    text = (SAMPLES / "seeds" / "overlay-swarm.yaml").read_text()
    file = host.file(text.replace("/run/docker/netns/1-${NETWORK}", "/run/netns/ov").replace("  ov:", "  hidden:"))
    for _ in range(2):  # the second finds its name to lead to what was deleted
        hidden(host)
        host.ok("apply", file)
        host.ok("diff", file)
        [entry] = [e for e in read_json("ov", "bridge", "-j", "fdb", "show", "dev", "vxlan0") if "dst" in e]
        assert (entry["mac"], entry["dst"]) == ("02:42:0a:46:00:03", "192.0.2.2")
        [neighbour] = read_json("ov", "ip", "-j", "neigh", "show", "nud", "permanent")
        assert (neighbour["dst"], neighbour["lladdr"]) == ("10.70.0.3", "02:42:0a:46:00:03")
        host.run("ip link del vxlan0", "ov")
        host.run("ip netns del ov")

    before = hidden(host)
    host.ok("apply", file)
    host.ok("destroy", file)
    assert host.snapshot("ov") == before
    host.run("ip netns del ov")
