"""What a spanning tree would say of a port's VLANs, by packets, under a kernel that keeps VLANs apart (nox -s kernels)."""

from __future__ import annotations

import json

import pytest
from sandbox.host import Host

pytestmark = pytest.mark.full

LAB = """
topology: lab
namespaces: {{a: {{}}, b: {{}}}}
bridges: {{br0: {{vlan_filtering: true, vlan_default_pvid: 0}}}}
links:
  - [{{interface: "a:eth0", addresses: 10.1.0.1/24}}, {{bridge: br0, name: pa, vlan: {{pvid: 10, tagged: 20-30{states}}}}}]
  - [{{interface: "b:eth0", addresses: 10.1.0.2/24}}, {{bridge: br0, name: pb, vlan: {{pvid: 10}}}}]
"""
BLOCKED = ", states: {10: blocking, 20-22: learning, 23: forwarding}"


def states(host: Host) -> dict[int, str]:
    """Those of port pa, as bridge(8) tells them."""
    (port,) = json.loads(host.run("bridge -d -j vlan show dev pa"))
    return {
        vid: vlan["state"]
        for vlan in port["vlans"]
        for vid in range(vlan["vlan"], vlan.get("vlanEnd", vlan["vlan"]) + 1)
    }


def test_a_port_that_blocks_a_vlan(host: Host) -> None:
    lab, before = host.file(LAB.format(states=BLOCKED)), host.settled()
    host.ok("apply", lab)
    assert host.silent("a", "10.1.0.2")
    blocked = {10: "blocking", **dict.fromkeys((20, 21, 22), "learning"), **dict.fromkeys(range(23, 31), "forwarding")}
    assert states(host) == blocked
    assert "nothing to do" in host.ok("apply", lab).text
    host.run("bridge vlan set dev pa vid 10 state forwarding")
    assert host.ping("a", "10.1.0.2")
    drift = host.topo("diff", lab)
    assert drift.code == 1 and "10" in drift.out
    host.ok("apply", lab)
    assert states(host) == blocked
    host.ok("apply", host.file(LAB.format(states="")))
    assert host.ping("a", "10.1.0.2") and set(states(host).values()) == {"forwarding"}
    host.ok("destroy", lab)
    host.same(before)


def test_a_vlan_that_goes_with_its_state(host: Host) -> None:
    """And a failed run gives both back."""
    lab = host.file(LAB.format(states=BLOCKED))
    host.ok("apply", lab)
    fewer = LAB.format(states=", states: {10: learning}").replace("20-30", "25")
    assert host.topo("apply", host.file(fewer + "sysctls: {net.ipv4.no_such_sysctl: 1}\n", "bad.yaml")).code == 3
    assert "nothing to do" in host.ok("apply", lab).text
    assert states(host)[10] == "blocking" and states(host)[21] == "learning"
    host.ok("apply", host.file(fewer))
    assert states(host) == {10: "learning", 25: "forwarding"}
    host.ok("destroy", lab)


def test_a_spanning_tree_decides_itself(host: Host) -> None:
    text = LAB.format(states=BLOCKED)
    refused = host.topo("apply", host.file(text.replace("default_pvid: 0", "default_pvid: 0, stp: true")))
    assert refused.code == 2
    assert "links[0]" in refused.err and "stp" in refused.err
    lab = host.file(text)
    host.ok("apply", lab)
    host.ok(
        "apply",
        host.file(LAB.format(states="").replace("default_pvid: 0", "default_pvid: 0, stp: true, forward_delay: 2")),
    )
    host.ok("apply", host.file(text))
    assert states(host)[10] == "blocking"
    host.ok("destroy", lab)
