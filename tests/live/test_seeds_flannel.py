"""Flannel's nodes, each a host of its own: the state is what flanneld makes, and pods reach each other and the world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox.host import SAMPLES, Host
from sandbox.machines import Machine, Wire
from sandbox.snapshot import output, read_json, ruleset

SEEDS = SAMPLES / "seeds"
# Nodes 1 and 2 on one network, node 3 on another, behind a router that is also the world outside.
WIRE = """
topology: wire
bridges: { lan: {} }
links:
  - [{ interface: "node1:eth0", addresses: 192.0.2.1/24, gateway: 192.0.2.254 }, lan]
  - [{ interface: "node2:eth0", addresses: 192.0.2.2/24, gateway: 192.0.2.254 }, lan]
  - [{ interface: "world:lan", addresses: 192.0.2.254/24 }, lan]
"""
NEAR = '  - [{ interface: "node3:eth0", addresses: 192.0.2.3/24, gateway: 192.0.2.254 }, lan]\n'
FAR = """  - - { interface: "node3:eth0", addresses: 198.51.100.3/24, gateway: 198.51.100.254 }
    - { interface: "world:far", addresses: 198.51.100.254/24 }
"""
MARK = "0x4000/0x4000"
Nodes = Callable[..., Wire]


@pytest.fixture
def nodes(host: Host) -> Iterator[Nodes]:
    """Makes the wire: `nodes(WIRE + ..., "node1", ...)`. What is applied on its machines is destroyed in the end."""
    made: list[Wire] = []

    def make(text: str, *names: str) -> Wire:
        made.append(Wire(host, text, *names))
        output(made[0]["world"].home, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        return made[0]

    yield make
    for wire in made:
        for machine in wire.machines.values():
            for record in machine.path("/run/topo").glob("*.json"):
                machine.ok("destroy", record.stem)
            assert machine.namespaces() == set()
            assert ruleset(machine.home) == []
        wire.close()


def of_node(host: Host, number: int, ip: str) -> Path:
    return host.file(f"vars: {{ NODE: {number}, IP: {ip} }}\n", f"node{number}.yaml")


def flannel_device(machine: Machine) -> dict[str, Any]:
    [link] = read_json(machine.home, "ip", "-d", "-j", "addr", "show", "dev", "flannel.1")
    return link


def entries(machine: Machine) -> set[tuple[str, ...]]:
    """The FDB entries, neighbours and routes of flannel.1, as Flannel's documentation lists them."""
    fdb = read_json(machine.home, "bridge", "-j", "fdb", "show", "dev", "flannel.1")
    neighbours = read_json(machine.home, "ip", "-j", "neigh", "show", "dev", "flannel.1")
    routes = read_json(machine.home, "ip", "-j", "route", "show", "dev", "flannel.1")
    found = {("fdb", e["mac"], e["dst"], *e["flags"], e["state"]) for e in fdb if "dst" in e}
    found |= {("neighbour", n["dst"], n["lladdr"], *n["state"]) for n in neighbours if "PERMANENT" in n["state"]}
    return found | {("route", r["dst"], r["gateway"], *r["flags"]) for r in routes}


def of_peer(number: int, ip: str) -> set[tuple[str, ...]]:
    """What flanneld adds for the lease of a peer."""
    mac, network = f"0e:00:00:00:00:0{number}", f"10.244.{number}.0"
    return {
        ("fdb", mac, ip, "self", "permanent"),
        ("neighbour", network, mac, "PERMANENT"),
        ("route", f"{network}/24", network, "onlink"),
    }


def rules(machine: Machine, chain: str) -> list[str]:
    """The rules of a chain of topo's table, in nft's language."""
    listing = output(machine.home, "nft", "list", "ruleset")
    body = listing.partition(f"chain {chain} {{")[2].partition("}")[0] if f"chain {chain} {{" in listing else ""
    return [line.strip() for line in body.splitlines()[2:] if line.strip()]


def of_flannel(number: int) -> list[str]:
    """Flannel's FLANNEL-POSTRTG, in its order."""
    network, own = "10.244.0.0/16", f"10.244.{number}.0/24"
    return [
        "meta mark & 0x00004000 == 0x00004000 return",
        f"ip saddr {own} ip daddr {network} return",
        f"ip saddr {network} ip daddr {own} return",
        f"ip saddr != {network} ip daddr {own} return",
        f"ip saddr {network} ip daddr != 224.0.0.0/4 masquerade fully-random",
        f"ip saddr != {network} ip daddr {network} masquerade fully-random",
    ]


def serve(host: Host, wire: Wire) -> None:
    """Every pod and the world serve their names on port 80."""
    for name, machine in wire.machines.items():
        host.serve(machine.home if name == "world" else machine.ns("pod"), 80, name)


def pods_reach(host: Host, wire: Wire, pairs: list[tuple[int, int]]) -> None:
    for one, two in pairs:
        answer = host.fetch(wire[f"node{one}"].ns("pod"), f"http://10.244.{two}.2/")
        assert answer == f"node{two} ::ffff:10.244.{one}.2", f"pod {one} to pod {two}, its address kept"


def test_vxlan_on_three_nodes(host: Host, nodes: Nodes) -> None:
    wire = nodes(WIRE + NEAR, "node1", "node2", "node3", "world")
    ips = {number: f"192.0.2.{number}" for number in (1, 2, 3)}
    for number, ip in ips.items():
        wire[f"node{number}"].ok("apply", SEEDS / "flannel-vxlan.yaml", of_node(host, number, ip))
    for number, ip in ips.items():
        node = wire[f"node{number}"]
        link = flannel_device(node)
        data = link["linkinfo"]["info_data"]
        assert (data["id"], data["link"], data["local"], data["port"]) == (1, "eth0", ip, 8472)
        assert (data["learning"], link["mtu"], link["address"]) == (False, 1450, f"0e:00:00:00:00:0{number}")
        assert host.addresses(node.home, "flannel.1") == {f"10.244.{number}.0/32"}
        assert output(node.home, "sysctl", "-n", "net.ipv6.conf.flannel/1.accept_ra").strip() == "0"
        assert entries(node) == set().union(*(of_peer(other, ips[other]) for other in ips if other != number))
        assert rules(node, "nat_postrouting") == of_flannel(number)
        assert rules(node, "forward") == ["ip saddr 10.244.0.0/16 accept", "ip daddr 10.244.0.0/16 accept"]
        assert host.addresses(node.home, "cni0") == {f"10.244.{number}.1/24"}

    serve(host, wire)
    pods_reach(host, wire, [(1, 2), (2, 3), (3, 1)])
    pod = wire["node1"].ns("pod")
    assert host.ping(pod, "10.244.3.2", "-s", "1422", "-M", "do")
    assert host.seconds_to_fetch(pod, "http://10.244.3.2", 5_000_000) < 5, "large segments, with offloads as they are"
    assert host.fetch(pod, "http://192.0.2.254/") == "world ::ffff:192.0.2.1", "masqueraded on the way out"
    assert host.fetch(wire["node1"].home, "http://10.244.2.2/") == "node2 ::ffff:10.244.1.0", "the node itself"
    wire["node2"].ok("check", "flannel-vxlan")
    for number in ips:
        wire[f"node{number}"].ok("diff", SEEDS / "flannel-vxlan.yaml", host.directory / f"node{number}.yaml")


def direct_routing(host: Host, number: int, ip: str, direct: dict[int, str], tunnelled: dict[int, str]) -> Path:
    """The file of a node other than the sample's."""
    routes = [f"{{ to: 10.244.{n}.0/24, via: {via} }}" for n, via in direct.items()]
    peer = "{{ address: {1}, mac: 0e:00:00:00:00:0{0}, ip: 10.244.{0}.0, subnets: 10.244.{0}.0/24 }}"
    peers = [peer.format(*entry) for entry in tunnelled.items()]
    text = f"""
topology: flannel-direct-routing
include: {SEEDS}/parts/flannel-vxlan.yaml
vars: {{ NODE: {number}, IP: {ip} }}
routes: [{", ".join(routes)}]
vxlans: {{ flannel.1: {{ id: 1, peers: [{", ".join(peers)}] }} }}
"""
    return host.file(text, f"node{number}.yaml")


def test_direct_routing(host: Host, nodes: Nodes) -> None:
    """Node 2 is on the same network: a route. Node 3 is behind a router: VXLAN."""
    wire = nodes(WIRE + FAR, "node1", "node2", "node3", "world")
    one, two, three = "192.0.2.1", "192.0.2.2", "198.51.100.3"
    wire["node1"].ok("apply", SEEDS / "flannel-direct-routing.yaml")
    wire["node2"].ok("apply", direct_routing(host, 2, two, direct={1: one}, tunnelled={3: three}))
    wire["node3"].ok("apply", direct_routing(host, 3, three, direct={}, tunnelled={1: one, 2: two}))

    assert entries(wire["node1"]) == of_peer(3, "198.51.100.3")
    [route] = host.routes(wire["node1"].home, "10.244.2.0/24")
    assert (route["gateway"], route["dev"], route["flags"]) == ("192.0.2.2", "eth0", [])
    serve(host, wire)
    pods_reach(host, wire, [(1, 2), (2, 1), (1, 3), (3, 2)])
    wire["node1"].ok("check", "flannel-direct-routing")
    received = read_json(wire["node2"].home, "ip", "-s", "-j", "link", "show", "flannel.1")[0]["stats64"]["rx"]
    assert received["packets"] > 0, "from node 3"


def test_host_gw(host: Host, nodes: Nodes) -> None:
    wire = nodes(WIRE, "node1", "node2", "world")
    file = SEEDS / "flannel-host-gw.yaml"
    wire["node1"].ok("apply", file)
    wire["node2"].ok("apply", file, host.file("vars: { NODE: 2, PEER: 1 }\n"))
    for number, peer in ((1, 2), (2, 1)):
        node = wire[f"node{number}"]
        [route] = host.routes(node.home, f"10.244.{peer}.0/24")
        assert (route["gateway"], route["dev"], route["flags"]) == (f"192.0.2.{peer}", "eth0", [])
        assert rules(node, "nat_postrouting") == of_flannel(number)
    serve(host, wire)
    pods_reach(host, wire, [(1, 2), (2, 1)])
    pod = wire["node1"].ns("pod")
    assert host.ping(pod, "10.244.2.2", "-s", "1472", "-M", "do"), "no tunnel: the whole MTU"
    assert host.fetch(pod, "http://192.0.2.254/") == "world ::ffff:192.0.2.1"
    wire["node1"].ok("check", "flannel-host-gw")


def test_each_masquerade_rule_does_what_it_says(host: Host, nodes: Nodes) -> None:
    """The returns in front are what keeps the source of everything within the network, and of what is marked."""
    wire = nodes(WIRE, "node1", "node2", "world")
    file = SEEDS / "flannel-host-gw.yaml"
    wire["node1"].ok("apply", file)
    wire["node2"].ok("apply", file, host.file("vars: { NODE: 2, PEER: 1 }\n"))
    serve(host, wire)
    one, world = wire["node1"], wire["world"]
    host.run("ip route add 10.244.0.0/16 via 192.0.2.1", world.home)
    assert host.fetch(world.home, "http://10.244.1.2/") == "node1 ::ffff:192.0.2.254", "other -> own pod: kept"
    assert host.fetch(world.home, "http://10.244.2.2/") == "node2 ::ffff:192.0.2.1", "other -> cluster: masqueraded"
    output(one.home, "nft", "add table ip m; add chain ip m c { type filter hook forward priority 0; }")
    output(one.home, "nft", "add rule ip m c mark set 0x4001")
    assert host.fetch(one.ns("pod"), "http://192.0.2.254/") == "world ::ffff:10.244.1.2", f"marked {MARK}: kept"
    output(one.home, "nft", "delete table ip m")


def test_pods_follow_a_running_flanneld(host: Host, nodes: Nodes) -> None:
    """flanneld's part is played by its subnet.env; a lease that changes moves the bridge and the pods."""
    wire = nodes(WIRE, "node1", "node2", "world")
    node, file = wire["node1"], SEEDS / "flannel-pods.yaml"
    missing = node.topo("apply", file)
    assert missing.code == 2
    assert "env_file: cannot read /run/flannel/subnet.env: No such file or directory" in missing.err

    lease = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.{}.1/24\nFLANNEL_MTU={}\nFLANNEL_IPMASQ=true\n"
    env = node.path("/run/flannel/subnet.env")
    env.parent.mkdir()
    env.write_text(lease.format(7, 1450))
    node.ok("apply", file)
    assert host.addresses(node.home, "cni0") == {"10.244.7.1/24"}
    assert host.addresses(node.ns("pod2"), "eth0") == {"10.244.7.3/24"}
    assert host.link(node.ns("pod1"), "eth0")["mtu"] == host.link(node.home, "cni0")["mtu"] == 1450
    assert [r["gateway"] for r in host.routes(node.ns("pod1"), "default")] == ["10.244.7.1"]
    node.ok("check", file)
    node.ok("diff", file)

    env.write_text(lease.format(9, 1400))
    assert node.topo("diff", file).code == 1
    node.ok("apply", file)
    assert host.addresses(node.home, "cni0") == {"10.244.9.1/24"}
    assert host.addresses(node.ns("pod2"), "eth0") == {"10.244.9.3/24"}
    assert host.link(node.ns("pod1"), "eth0")["mtu"] == 1400
    env.unlink()
    node.ok("check", "flannel-pods")  # the record has the values
