"""What others made stays as it is; a name that others have is refused, and nothing is touched."""

from __future__ import annotations

import pytest
from sandbox.host import Host
from sandbox.monitor import unchanged

LAB = """
topology: ours
bridges:
  br0: {subnet: 10.10.0.0/24}
namespaces:
  web: {}
  db: {}
links:
  - [web:eth0, {bridge: br0, name: ours-web}]
  - [db:eth0, {bridge: br0, name: ours-db}]
nat:
  masquerade: [{from: 10.10.0.0/24, out: "!br0"}]
"""

OTHER = """
topology: theirs
bridges:
  br7: {subnet: 10.17.0.0/24}
namespaces:
  mail: {}
links:
  - [mail:eth0, br7]
nat:
  publish: [{port: 2525, to: mail:25}]
"""

STRANGERS = (
    "ip netns add stranger",
    "ip link add web-eth0 type veth peer name s1-eth1",  # mininet's way of naming them
    "ip link set web-eth0 up",
    "ip link set s1-eth1 up",
    "ip link add s1 up type bridge",
    "ip link set s1-eth1 master s1",
    "ip addr add 10.77.0.1/24 dev s1",
    "ip route add 10.78.0.0/16 via 10.77.0.2",
    "ip rule add pref 77 from 10.77.0.0/16 lookup 77",
    "ip neigh add 10.77.0.9 lladdr 02:00:00:00:00:77 dev s1 nud permanent",
    "nft add table inet filter",
    "nft add chain inet filter input { type filter hook input priority 0 ; policy accept ; }",
    "nft add rule inet filter input tcp dport 7777 drop",
    "nft add table ip nat",
)


def _strangers(host: Host) -> None:
    for command in STRANGERS:
        host.run(command)


def _gone(host: Host) -> None:
    for command in (
        "ip netns del stranger",
        "ip link del web-eth0",
        "ip link del s1",
        "ip rule del pref 77",
        "nft delete table inet filter",
        "nft delete table ip nat",
    ):
        host.run(command)


def test_strangers_stay(host: Host) -> None:
    _strangers(host)
    before = host.settled()
    host.ok("apply", host.file(LAB))
    assert host.ping("web", "10.10.0.1")
    host.ok(
        "apply", host.file(LAB.replace("  db: {}\n", "").replace("  - [db:eth0, {bridge: br0, name: ours-db}]\n", ""))
    )
    with_ours = host.everywhere()
    assert with_ours["stranger"] == before["stranger"]
    for section, found in before["host"].items():
        assert all(item in with_ours["host"][section] for item in found), section
    host.ok("destroy", "ours")
    host.same(before)
    _gone(host)


def test_routes_of_a_daemon_stay_on_our_interfaces(host: Host) -> None:
    host.ok("apply", host.file(LAB))
    host.run("ip route add 10.55.0.0/16 via 10.10.0.1 proto bgp", "web")
    host.run("ip route add 10.56.0.0/16 via 10.10.0.1 proto zebra metric 20", "web")
    with unchanged(host, but_for_locks=True):
        host.ok("diff", host.directory / "lab.yaml")
        host.ok("apply", host.directory / "lab.yaml")
    routes = {route["dst"]: route["protocol"] for route in host.routes("web")}
    assert routes["10.55.0.0/16"] == "bgp"
    assert routes["10.56.0.0/16"] == "zebra"
    host.run("ip route add 10.57.0.0/16 via 10.10.0.1 proto static", "web")
    assert host.topo("diff", host.directory / "lab.yaml").code == 1, "a static one is drift"
    host.ok("destroy", "ours")


def test_two_topologies_do_not_meet(host: Host) -> None:
    before = host.settled()
    ours, theirs = host.file(LAB, "ours.yaml"), host.file(OTHER, "theirs.yaml")
    host.ok("apply", theirs)
    alone = host.settled()
    host.ok("apply", ours)
    assert {item["name"] for item in _listed(host)} == {"ours", "theirs"}
    host.ok("diff", theirs)
    host.ok("diff", ours)
    assert host.ping("mail", "10.17.0.1")
    assert host.ping("web", "10.10.0.1")
    host.ok("destroy", ours)
    host.same(alone, but_for_macs=True)
    host.ok("diff", theirs)
    host.ok("destroy", theirs)
    host.same(before)


def _listed(host: Host) -> list[dict[str, object]]:
    answer = host.topo("list", "--output", "json").json()
    assert answer["format"] == 1
    lists = [value for value in answer.values() if isinstance(value, list)]
    assert len(lists) == 1
    found: list[dict[str, object]] = lists[0]
    return found


def test_shared_forwarding_stays_until_the_last_one_goes(host: Host) -> None:
    """Both topologies need forwarding; it goes back to what it was when neither is there."""
    ours, theirs = host.file(LAB, "ours.yaml"), host.file(OTHER, "theirs.yaml")
    host.ok("apply", ours)
    host.ok("apply", theirs)
    assert host.run("sysctl -n net.ipv4.ip_forward").strip() == "1"
    host.ok("destroy", ours)
    assert host.run("sysctl -n net.ipv4.ip_forward").strip() == "1"
    host.ok("destroy", theirs)
    assert host.run("sysctl -n net.ipv4.ip_forward").strip() == "0"


@pytest.mark.parametrize(
    ("taken", "gone", "name"),
    [
        ("ip link add br0 type bridge", "ip link del br0", "br0"),
        ("ip link add br0 type ifb", "ip link del br0", "br0"),
        ("ip link add ours-web type veth peer name else0", "ip link del ours-web", "ours-web"),
        ("ip netns add web", "ip netns del web", "web"),
    ],
)
def test_name_taken(host: Host, taken: str, gone: str, name: str) -> None:
    host.run(taken)
    lab = host.file(LAB)
    with unchanged(host, but_for_locks=True):
        refused = host.topo("apply", lab)
    assert refused.code == 2, refused.text
    assert name in refused.err
    assert "--adopt" in refused.err
    assert not [path for path in _records() if "ours" in path]
    host.run(gone)
    host.ok("apply", lab)
    host.ok("destroy", lab)


def _records() -> list[str]:
    from sandbox.leaks import RECORD

    return [path.name for path in RECORD.rglob("*")] if RECORD.is_dir() else []


def test_name_taken_by_another_topology(host: Host) -> None:
    host.ok("apply", host.file(OTHER, "theirs.yaml"))
    lab = host.file(LAB.replace("br0", "br7"))
    with unchanged(host, but_for_locks=True):
        refused = host.topo("apply", lab)
    assert refused.code == 2, refused.text
    assert "br7" in refused.err
    assert "another topology, theirs" in refused.err, "it says what has it"
    host.ok("destroy", "theirs")


def test_adopt(host: Host) -> None:
    host.run("ip link add br0 type bridge")
    host.run("ip netns add web")
    index = host.ifindex("host", "br0")
    lab = host.file(LAB)
    assert host.topo("apply", lab).code == 2
    host.ok("apply", "--adopt", lab)
    assert host.ifindex("host", "br0") == index
    assert host.ping("web", "10.10.0.1")
    host.ok("diff", lab)
    host.ok("apply", lab)
    host.ok("destroy", lab)
    assert not host.link("host", "br0")
    if "web" in host.namespaces():  # whoever made it, it is empty again
        assert [link["ifname"] for link in host.ip_json("web", "link")] == ["lo"]
        host.run("ip netns del web")


def test_existing_interface_is_given_back(host: Host) -> None:
    host.run("ip link add nic0 type veth peer name far0")
    host.run("ip link set nic0 up mtu 1400")
    host.run("ip addr add 10.88.0.1/24 dev nic0")
    before = host.settled()
    lab = host.file(
        "topology: ours\n"
        "interfaces:\n"
        "  nic0: {kind: existing, mtu: 1300, addresses: 10.89.0.1/24, sysctls: {rp_filter: 2}}\n"
        "bridges:\n"
        "  br0: {ports: [far0]}\n"
    )
    host.ok("apply", lab)
    assert host.link("host", "nic0")["mtu"] == 1300
    assert "10.89.0.1/24" in host.addresses("host", "nic0")
    assert "10.88.0.1/24" in host.addresses("host", "nic0"), "what topo did not make stays"
    assert host.link("host", "far0")["master"] == "br0"
    host.ok("diff", lab)
    host.ok("destroy", lab)
    host.same(before)
    host.run("ip link del nic0")
