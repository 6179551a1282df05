"""What comes in is shaped by an ifb; what others have at an interface's ingress is theirs."""

from __future__ import annotations

from sandbox.host import Host
from sandbox.leaks import RECORD

LAB = """
topology: lab
namespaces:
  a: {}
  b: {interfaces: {ifb0: {kind: ifb, shaping: {rate: 2mbit, burst: 16kb}}}}
links:
  - - {interface: a:eth0, addresses: [10.1.0.1/24, "fd00:1::1/64"]}
    - {interface: b:eth0, addresses: [10.1.0.2/24, "fd00:1::2/64"], ingress: ifb0}
"""
NIC = "topology: lab\ninterfaces: {ifb0: {kind: ifb}, nic0: {kind: existing, ingress: ifb0}}\n"


def test_only_what_comes_in_is_slow(host: Host) -> None:
    """2 Mbit at 2 Mbit/s take a second; the other way they take none. Both families, as every protocol passes the ifb."""
    path = host.file(LAB)
    host.ok("apply", path)
    host.ok("diff", path)
    assert host.ping("b", "10.1.0.1") and host.ping("b", "fd00:1::1")
    host.serve("a", 80, "a")
    host.serve("b", 80, "b")
    into, out = (
        host.seconds_to_fetch(ns, url, 250_000) for ns, url in (("b", "http://10.1.0.1"), ("a", "http://10.1.0.2"))
    )
    assert 0.8 < into < 5 and out < into / 2, (into, out)
    host.close()
    assert "lab: nothing to do" in host.ok("apply", path).out
    host.ok("apply", host.file(LAB.replace(", ingress: ifb0", "")))
    assert "ingress" not in host.run("tc qdisc show dev eth0", "b")
    host.ok("destroy", path)


def test_an_ifb_that_went_comes_again_and_what_was_led_to_it(host: Host) -> None:
    path = host.file(LAB)
    host.ok("apply", path)
    host.run("ip link del ifb0", "b")
    assert "ingress" in host.topo("diff", path).text
    host.ok("apply", path)
    assert "Egress Redirect to device ifb0" in host.run("tc filter show dev eth0 ingress", "b")
    host.ok("destroy", path)


def test_filters_of_others_on_a_nic_are_left_alone(host: Host) -> None:
    """Nobody could put them back: refused before anything is touched. What topo made there goes with the topology."""
    host.run("ip link add nic0 type veth peer name nic1")
    before = host.run("tc qdisc show dev nic0")
    host.run("tc qdisc add dev nic0 clsact")
    path = host.file(NIC)
    result = host.topo("apply", path)
    assert result.code != 0 and "set by another program" in result.text, result.text
    assert "clsact" in host.run("tc qdisc show dev nic0") and host.fails("ip link show ifb0")
    host.run("tc qdisc del dev nic0 clsact")
    host.ok("apply", path)
    host.ok("destroy", path)
    assert host.run("tc qdisc show dev nic0") == before
    host.run("ip link del nic0")


def test_an_empty_one_of_a_killed_run_goes_though_the_record_is_lost(host: Host) -> None:
    """On topo's own link; on a NIC of others an empty one is theirs, as it could not be put back."""
    path = host.file(LAB.replace(", ingress: ifb0", ""))
    host.ok("apply", path)
    host.run("tc qdisc add dev eth0 ingress", "b")
    (RECORD / "lab.json").unlink()
    host.ok("apply", path)
    assert "ingress" not in host.run("tc qdisc show dev eth0", "b")
    host.ok("destroy", path)
    host.run("ip link add nic0 type veth peer name nic1")
    host.run("tc qdisc add dev nic0 ingress")
    result = host.topo("apply", host.file(NIC))
    assert result.code == 2 and "set by hand" in result.text, result.text
    host.run("ip link del nic0")


def test_it_leads_to_an_ifb_beside_it(host: Host) -> None:
    for name, message in (("ifb1", "b has no interface ifb1"), ("eth0", "eth0 is no ifb")):
        result = host.topo("validate", host.file(LAB.replace("ingress: ifb0", f"ingress: {name}")))
        assert result.code == 2 and message in result.text and "lab.yaml:8:" in result.text, result.text
