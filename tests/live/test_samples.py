"""Every sample: applied, witnessed, checked, applied again without a change, destroyed without a trace."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sandbox.host import SAMPLES, Host, until
from sandbox.monitor import Quiet
from sandbox.snapshot import changed

FILES = sorted(SAMPLES.glob("*.yaml"))
FULL = {
    "bad-line",
    "ipvlan",
    "tunnels",
    "vlan-bridge",
    "vlans",
    "vrfs",
    "vxlan-vlans",
    "wireguard",
}  # what distributions' kernels may lack
MANY = 30  # namespaces; of more, a few are watched


def _default(host: Host, ns: str) -> list[Any]:
    return [route["gateway"] for route in host.routes(ns, "default")]


def _two_hosts(host: Host) -> None:
    assert host.addresses("host", "br0") == {"10.10.0.1/24"}
    assert host.addresses("alice", "eth0") == {"10.10.0.2/24"}
    assert host.addresses("bob", "eth0") == {"10.10.0.3/24"}
    assert _default(host, "alice") == ["10.10.0.1"]
    assert len(host.ip_json("host", "link", "show", "master", "br0")) == 2
    assert host.ping("alice", "10.10.0.3")
    assert host.ping("bob", "10.10.0.1")


def _routers(host: Host) -> None:
    assert host.ping("left", "10.20.2.2", "-t", "4")
    assert host.fails("ping -c1 -W1 -t3 10.20.2.2", "left"), "three routers are in between"


def _dual_stack(host: Host) -> None:
    host.serve("web", 80, "web")
    assert host.fetch("pc", "http://10.30.2.2/") == "web ::ffff:10.30.1.2"
    assert host.fetch("pc", "http://[fd30:2::2]/") == "web fd30:1::2"


def _nat(host: Host) -> None:
    host.serve("web", 80, "web")
    host.serve("internet", 8000, "internet")
    assert host.fetch("web", "http://198.51.100.2:8000/") == "internet ::ffff:198.51.100.1", "masqueraded"
    assert host.fetch("internet", "http://198.51.100.1:8080/") == "web ::ffff:198.51.100.2", "published, source kept"
    assert host.fetch("host", "http://127.0.0.1:8080/").startswith("web")
    assert host.fetch("host", "http://198.51.100.1:8080/").startswith("web")
    assert host.fetch("db", "http://10.40.0.1:8080/").startswith("web"), "from a neighbour"
    assert host.fetch("web", "http://10.40.0.1:8080/").startswith("web"), "from the target itself"
    assert host.ping("web", "198.51.100.2")
    assert host.silent("internet", "10.40.0.2")


def _fdb(host: Host, ns: str, dev: str) -> set[tuple[str, str]]:
    entries = host.snapshot(ns)["fdb"]
    return {(entry["mac"], entry["dst"]) for entry in entries if entry["ifname"] == dev and "dst" in entry}


def _vxlan_flood(host: Host) -> None:
    assert _fdb(host, "host1", "vx42") == {("00:00:00:00:00:00", "192.0.2.2")}
    assert host.link("host1", "vx42")["linkinfo"]["info_data"]["id"] == 42
    assert host.link("host1", "vx42")["mtu"] == 1450
    assert host.ping("c1", "10.50.0.2", "-s", "1400", "-M", "do")
    received = [link["stats64"]["rx"]["packets"] for link in host.ip_json("host2", "-s", "link", "show", "vx42")]
    assert received[0] > 0


def _vxlan_unicast(host: Host) -> None:
    assert _fdb(host, "host1", "vx1") == {("02:60:00:00:00:02", "192.0.2.2")}
    neighbours = [(n["dst"], n["lladdr"]) for n in host.snapshot("host1")["neighbours"] if n["dev"] == "vx1"]
    assert neighbours == [("10.60.2.0", "02:60:00:00:00:02")]
    assert [(r["gateway"], r["flags"]) for r in host.routes("host1", "10.60.2.0/24")] == [("10.60.2.0", ["onlink"])]
    host.serve("c2", 80, "c2")
    assert host.fetch("c1", "http://10.60.2.2/") == "c2 ::ffff:10.60.1.2"
    assert _fdb(host, "host1", "vx1") == {("02:60:00:00:00:02", "192.0.2.2")}, "nothing is learned"


def _three_tier(host: Host) -> None:
    assert len(host.namespaces()) == 17
    hops = host.routes("leaf2", "10.70.0.0/16")[0]["nexthops"]
    assert {(hop["gateway"], hop["dev"]) for hop in hops} == {("10.71.1.2", "spine1"), ("10.71.2.2", "spine2")}
    assert host.addresses("spine2", "leaf3") == {"10.71.2.4/31"}
    assert host.ping("host1-4", "10.70.3.5", "-t", "4")
    host.run("ip link set spine1 down", "leaf1")
    try:
        assert host.ping("host1-1", "10.70.1.1")
    finally:
        host.run("ip link set spine1 up", "leaf1")


def _policy_routing(host: Host) -> None:
    for isp in ("isp1", "isp2"):
        host.serve(isp, 8000, isp)
    assert host.fetch("gold", "http://203.0.113.9:8000/").startswith("isp1 ")
    assert host.fetch("silver", "http://203.0.113.9:8000/").startswith("isp2 ")
    assert host.fails("ping -c1 -W1 10.80.77.1", "gold")
    assert host.routes("router", "table", "100")[0]["gateway"] == "192.0.2.1"


def _ecmp_nexthops(host: Host) -> None:
    assert {route["nhid"] for route in host.routes("router", "proto", "116")} == {1000}
    for side in ("left", "right"):
        host.serve(side, 8000, side)
    answers = {host.fetch("client", "http://203.0.113.9:8000/").split()[0] for _ in range(24)}
    assert answers == {"left", "right"}


def _srv6(host: Host) -> None:
    host.serve("right", 8000, "right")
    assert host.fetch("left", "http://10.86.2.2:8000/") == "right ::ffff:10.86.1.2"
    encaps = {route.get("action") or route.get("mode") for ns in ("edge1", "edge2") for v in ("-4", "-6")
              for route in host.ip_json(ns, v, "route") if "encap" in route}  # fmt: skip
    assert encaps == {"encap", "End.DX4"}
    assert host.ip_json("core", "-4", "route") == [], "the core knows of no IPv4"


def _macvlan(host: Host) -> None:
    for ns in ("a", "b"):
        info = host.link(ns, "eth0")["linkinfo"]
        assert (info["info_kind"], info["info_data"]["mode"]) == ("macvlan", "bridge")
    host.serve("lan", 80, "lan")
    assert host.fetch("a", "http://10.90.0.1/") == "lan ::ffff:10.90.0.11"
    host.ping("lan", "10.90.0.12")
    seen = {n["dst"]: n["lladdr"] for n in host.ip_json("lan", "neigh") if "lladdr" in n}
    assert seen["10.90.0.11"] == host.link("a", "eth0")["address"]
    assert seen["10.90.0.12"] == host.link("b", "eth0")["address"]


def _rate_limit(host: Host) -> None:
    assert [q["kind"] for q in host.snapshot("home")["qdiscs"] if q["dev"] == "eth0"] == ["tbf"]
    assert [q["kind"] for q in host.snapshot("provider")["qdiscs"] if q["dev"] == "eth0"] == ["htb"]
    host.serve("home", 80, "home")
    host.serve("provider", 80, "provider")
    up = host.seconds_to_fetch("provider", "http://10.91.0.2", 250_000)  # 2 Mbit at 2 Mbit/s
    down = host.seconds_to_fetch("home", "http://10.91.0.1", 1_000_000)  # 8 Mbit at 8 Mbit/s
    assert 0.8 < up < 3
    assert 0.8 < down < 3


def _bad_line(host: Host) -> None:
    assert [q["kind"] for ns in ("home", "provider") for q in host.snapshot(ns)["qdiscs"] if q["dev"] == "eth0"] == [
        "netem",
        "netem",
    ]
    assert host.ping("home", "10.97.0.1")
    (time,) = re.findall(r"time=([\d.]+) ms", host.run("ping -c1 10.97.0.1", "home"))
    assert 58 <= float(time) < 120
    host.serve("home", 80, "home")
    assert host.seconds_to_fetch("provider", "http://10.97.0.2", 250_000) > 0.9  # 2 Mbit at 2 Mbit/s


def _attach_pid(host: Host) -> None:
    assert host.addresses("container", "eth0") == {"10.92.0.2/24"}
    host.serve("container", 80, "container")
    assert host.fetch("neighbour", "http://10.92.0.2/") == "container ::ffff:10.92.0.3"


def _shared_namespace(host: Host) -> None:
    assert len({Path(f"/run/netns/{name}").stat().st_ino for name in ("pod", "app", "sidecar")}) == 1
    host.serve("sidecar", 80, "sidecar")
    assert host.fetch("app", "http://127.0.0.1/") == "sidecar ::ffff:127.0.0.1"
    assert host.fetch("client", "http://10.93.0.2/") == "sidecar ::ffff:10.93.0.3"


def _firewall(host: Host) -> None:
    host.serve("web", 80, "web")
    host.serve("web", 2222, "web")
    host.serve("pc", 80, "pc")
    assert host.fetch("pc", "http://10.94.3.2/") == "web ::ffff:10.94.1.2"
    for ns, url in (("pc", "10.94.3.2:2222"), ("visitor", "10.94.3.2"), ("visitor", "10.94.1.2"), ("web", "10.94.1.2")):
        assert host.fetch(ns, f"http://{url}/", seconds=1) == "", f"{ns} -> {url}"
    assert host.ping("visitor", "10.94.2.1")


def _star_1000(host: Host) -> None:
    assert len(host.namespaces()) == 1000
    assert len(host.ip_json("host", "link", "show", "master", "br0")) == 1000
    assert host.addresses("h1000", "eth0") == {"10.100.3.233/16"}
    assert host.ping("h1", "10.100.3.233", within=30), "a thousand hosts say hello to each other first (IPv6's DAD)"


def _vlan_bridge(host: Host) -> None:
    shown = {entry["ifname"]: entry["vlans"] for entry in json.loads(host.run("bridge -j vlan show", "floor2"))}
    assert shown["br0"] == [{"vlan": 99, "flags": ["PVID", "Egress Untagged"]}]
    assert shown["trunk"] == [{"vlan": vid} for vid in (*range(10, 21), 99)]
    host.serve("sales2", 80, "sales2")
    assert host.fetch("sales1", "http://10.98.10.12/") == "sales2 ::ffff:10.98.10.11", "over the trunk"
    assert host.fetch("lab1", "http://10.98.10.12/") == "sales2 ::ffff:10.98.20.11", "by way of the router"
    host.run("ip addr add 10.98.10.77/24 dev eth0", "lab1")
    try:
        assert host.silent("lab1", "10.98.10.12"), "another VLAN is another segment"
    finally:
        host.run("ip addr del 10.98.10.77/24 dev eth0", "lab1")


def _vxlan_vlans(host: Host) -> None:
    tunnels = {
        name: json.loads(host.run("bridge -j vlan tunnelshow", name))[0]["tunnels"] for name in ("host1", "host2")
    }
    assert tunnels["host1"] == [{"vlan": 10, "vlanEnd": 20, "tunid": 1010, "tunidEnd": 1020}]
    assert tunnels["host2"] == [{"vlan": 10, "tunid": 1010}, {"vlan": 30, "tunid": 1020}]
    assert host.ping("sales1", "10.97.0.2")
    assert host.ping("lab1", "10.97.0.12"), "by one VNI, in VLANs of different numbers"
    learned = {entry["mac"]: entry for entry in json.loads(host.run("bridge -j fdb show dev vx0", "host1"))}
    for pc, vni in (("sales2", 1010), ("lab2", 1020)):
        assert learned[host.link(pc, "eth0")["address"]].get("src_vni") == vni
    assert host.silent("sales1", "10.97.0.12"), "another VNI is another segment"


def _vlans(host: Host) -> None:
    assert host.ping("a", "10.95.10.2")
    tags = [host.link("a", name)["linkinfo"]["info_data"] for name in ("s100", "c10")]
    assert [(tag["protocol"], tag["id"]) for tag in tags] == [("802.1ad", 100), ("802.1Q", 10)]
    assert _active(host) == "p0"
    host.run("ip link set p0 down", "b")  # a cable is pulled
    assert until(lambda: _active(host) == "p1")
    assert host.ping("a", "10.95.10.2")
    assert host.ping("a", "fd95:10::2")
    host.run("ip link set p0 up", "b")
    assert until(lambda: _active(host) == "p0"), "the primary is taken again"


def _active(host: Host) -> str:
    return str(host.link("a", "bond0")["linkinfo"]["info_data"]["active_slave"])


def _vrfs(host: Host) -> None:
    for tenant in ("red", "blue"):
        host.serve(f"{tenant}-web", 80, tenant)
    for tenant in ("red", "blue"):
        host.run("ip route replace default via 10.96.2.1", f"{tenant}-web")
        assert host.fetch(f"{tenant}-pc", "http://10.96.2.2/") == f"{tenant} ::ffff:10.96.1.2"
    assert host.fetch("red-pc", "http://[fd96:2::2]/") == "red fd96:1::2"
    (default,) = host.routes("router", "default", "table", "20")
    assert (default["gateway"], default["dev"]) == ("10.96.2.2", "blue2")
    assert host.routes("router", "default", "table", "main") == []
    host.run("ip route del default", "blue-web")


def _tunnels(host: Host) -> None:
    host.serve("b", 80, "b")
    for number in (1, 2, 3, 4, 5, 7, 8):
        assert host.fetch("a", f"http://10.97.{number}.2/") == f"b ::ffff:10.97.{number}.1"
    for number in (6, 7):
        assert host.fetch("a", f"http://[fd97:{number}::2]/") == f"b fd97:{number}::1"


def _ipvlan(host: Host) -> None:
    macs = {host.link(ns, name)["address"] for ns, name in (("a", "eth0"), ("b", "eth0"), ("host", "nic0"))}
    assert len(macs) == 1
    assert host.ping("a", "10.98.0.1")
    assert host.ping("b", "10.98.0.11")


def _wireguard(host: Host) -> None:
    for ns, other in (("left", "right"), ("right", "left")):
        assert host.ping(ns, host.run("ip -br -4 addr show wg0", other).split()[2].partition("/")[0])
    ((key, _, endpoint, allowed, handshake, received, sent, _),) = [
        line.split() for line in host.run("wg show wg0 dump", "right").splitlines()[1:]
    ]
    assert (endpoint, allowed) == ("192.0.2.1:51820", "10.99.0.1/32,fd99::1/128"), "it was heard from"
    assert int(handshake) > 0 < min(int(received), int(sent))
    assert key == host.run("wg show wg0 public-key", "left").strip()
    host.start("ping", "-q", "-c3", "-i0.3", "10.99.0.2", ns="left")
    seen = host.run("tcpdump -nnlc3 -i eth0 host 192.0.2.2", "left")
    assert "ICMP" not in seen
    assert "51820 > 192.0.2.2.51820: UDP" in seen


WITNESSES: dict[str, Callable[[Host], None]] = {
    "attach-pid": _attach_pid,
    "bad-line": _bad_line,
    "dual-stack": _dual_stack,
    "firewall": _firewall,
    "ipvlan": _ipvlan,
    "macvlan": _macvlan,
    "nat": _nat,
    "policy-routing": _policy_routing,
    "ecmp-nexthops": _ecmp_nexthops,
    "srv6": _srv6,
    "rate-limit": _rate_limit,
    "routers": _routers,
    "shared-namespace": _shared_namespace,
    "star-1000": _star_1000,
    "three-tier": _three_tier,
    "tunnels": _tunnels,
    "two-hosts": _two_hosts,
    "vlan-bridge": _vlan_bridge,
    "vlans": _vlans,
    "vrfs": _vrfs,
    "vxlan-flood": _vxlan_flood,
    "vxlan-unicast": _vxlan_unicast,
    "vxlan-vlans": _vxlan_vlans,
    "wireguard": _wireguard,
}


def test_every_sample_has_its_witness() -> None:
    assert {path.stem for path in FILES} == set(WITNESSES)


def _watched(host: Host) -> list[str]:
    names = sorted(host.namespaces())
    return ["host", *(names if len(names) <= MANY else [names[0], names[len(names) // 2], names[-1]])]


def _marks(sample: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.full] * (sample in FULL) + [pytest.mark.crowd] * (sample == "star-1000")


@pytest.mark.parametrize("sample", [pytest.param(p, id=p.stem, marks=_marks(p.stem)) for p in FILES])
def test_sample(host: Host, sample: Path) -> None:
    strangers = {}
    if sample.stem == "attach-pid":
        process = host.unshared()
        strangers = {f"/proc/{process.pid}/ns/net": host.snapshot(f"/proc/{process.pid}/ns/net")}
        sample = host.file(sample.read_text().replace("pid: 1310", f"pid: {process.pid}"), sample.name)
    before = host.settled()

    host.ok("validate", sample)
    assert host.topo("diff", sample).code == 1
    host.ok("apply", sample)
    watched = _watched(host)
    WITNESSES[sample.stem](host)
    host.ok("check", sample)
    host.ok("diff", sample)

    with Quiet(host, watched):
        applied = {ns: host.snapshot(ns) for ns in watched}
        host.ok("apply", sample)
        assert changed(applied, {ns: host.snapshot(ns) for ns in watched}) == []

    host.ok("destroy", sample)
    host.same(before)
    assert {ns: host.snapshot(ns) for ns in strangers} == strangers
    host.ok("destroy", sample)  # what is not there is no error


def test_fresh_machine(host: Host) -> None:
    """Nothing is in /run/netns's place on a machine where ip netns was never used; what topo makes there, ip reads."""
    host.run("umount /run/netns")
    host.run("rmdir /run/netns")
    try:
        host.ok("apply", SAMPLES / "two-hosts.yaml")
        assert host.run("ip netns exec alice cat /sys/class/net/eth0/operstate").strip() == "up"
        assert host.ping("alice", "10.10.0.3")
        host.ok("destroy", "two-hosts")
        assert host.namespaces() == set()
    finally:
        host.fails("umount /run/netns")  # where topo bind-mounted it, as ip does
        Path("/run/netns").mkdir(exist_ok=True)
        host.run("mount -t tmpfs tmpfs /run/netns")
        host.run("mount --make-shared /run/netns")
