"""A run that fails midway undoes what it did: exit 3, and everything is as before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox.host import ROOT, Host, until
from sandbox.leaks import RECORD

from topo.facts import mark
from topo.kernel import netns

GOOD = """
topology: undo
bridges:
  br0: {subnet: 10.10.0.0/24}
namespaces:
  a: {}
  b: {}
links:
  - [{interface: a:eth0, mac: 02:00:00:00:00:0a}, {bridge: br0, name: a-port, mac: 02:00:00:00:01:0a}]
  - [{interface: b:eth0, mac: 02:00:00:00:00:0b}, {bridge: br0, name: b-port, mac: 02:00:00:00:01:0b}]
nat:
  masquerade: [{from: 10.10.0.0/24, out: "!br0"}]
"""

REFUSED = {  # name -> what is added to the file, what the kernel says, and the words that must be there
    "a-vni-that-is-taken": (
        "vxlans:\n  vx42: {id: 42, local: 10.10.0.1}\n",
        ("vx42",),
    ),
    "a-sysctl-of-no-sense": (
        "sysctls: {net.ipv4.tcp_congestion_control: no-such-algorithm}\n",
        ("tcp_congestion_control",),
    ),
    "a-sysctl-that-is-not-there": ("sysctls: {net.ipv4.no_such_sysctl: 1}\n", ("no_such_sysctl",)),
    "a-macvlan-larger-than-its-parent": (
        "interfaces:\n  mv0: {kind: macvlan, parent: br0, mtu: 9000}\n",
        ("mv0",),
    ),
}


def _foreign_vxlan(host: Host) -> None:
    host.run("ip link add theirs type vxlan id 42 dstport 4789 local 127.0.0.1")


@pytest.mark.parametrize("case", REFUSED)
def test_first_apply_is_undone(host: Host, case: str) -> None:
    added, words = REFUSED[case]
    _foreign_vxlan(host)
    before = host.settled()
    failed = host.topo("apply", host.file(GOOD + added))
    assert failed.code == 3, failed.text
    for word in words:
        assert word in failed.err
    host.same(before)
    assert host.topo("destroy", "undo").code == 0
    host.same(before)
    host.run("ip link del theirs")


@pytest.mark.parametrize("case", REFUSED)
def test_edit_is_undone(host: Host, case: str) -> None:
    """An edit that creates, changes, renames, moves and deletes before it fails."""
    added, words = REFUSED[case]
    _foreign_vxlan(host)
    good = host.file(GOOD, "good.yaml")
    host.ok("apply", good)
    before = host.settled()
    indexes = [host.ifindex("host", "br0"), host.ifindex("a", "eth0")]
    edited = GOOD.replace("  b: {}\n", "  c: {routes: [{to: 10.9.0.0/16, via: 10.10.0.1}]}\n").replace(
        "b:eth0", "c:eth0"
    )
    edited = edited.replace("02:00:00:00:00:0a", "02:00:00:00:00:aa").replace("name: b-port", "name: c-port")
    failed = host.topo("apply", host.file(edited + added))
    assert failed.code == 3, failed.text
    for word in words:
        assert word in failed.err
    host.same(before, but_for_macs=True)
    assert host.link("a", "eth0")["address"] == "02:00:00:00:00:0a"
    assert [host.ifindex("host", "br0"), host.ifindex("a", "eth0")] == indexes
    host.ok("diff", good)
    assert host.ping("b", "10.10.0.2")
    host.ok("destroy", good)
    host.run("ip link del theirs")


def test_adoption_is_undone(host: Host) -> None:
    """What was taken over is its owner's again: its mark, its protocol number, its settings."""
    host.run("ip link add br0 group 5 type bridge")
    host.run("ip link set br0 up mtu 1400")
    host.run("ip route add 10.77.0.0/16 dev br0 proto 42")
    before = host.settled()
    added, _ = REFUSED["a-sysctl-of-no-sense"]
    lab = GOOD.replace("br0: {", "br0: {mtu: 1300, ") + "routes: [{to: 10.77.0.0/16, dev: br0}]\n" + added
    failed = host.topo("apply", "--adopt", host.file(lab))
    assert failed.code == 3, failed.text
    host.same(before)
    assert host.topo("apply", host.file(GOOD)).code == 2, "it is not this topology's"
    host.run("ip link del br0")


def test_parent_that_is_not_there(host: Host) -> None:
    lab = host.file(GOOD + "interfaces:\n  mv0: {kind: macvlan, parent: no-such-nic}\n")
    before = host.settled()
    failed = host.topo("apply", lab)
    assert failed.code in (2, 3), failed.text
    assert "no-such-nic" in failed.err
    host.same(before)


def test_name_taken_meanwhile(host: Host) -> None:
    """Someone takes a name after topo has looked and written its record, and before it gets there."""
    before = host.settled()
    lab = host.file(GOOD)
    slow = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=unshare",
        "-e",
        "inject=unshare:delay_enter=2000000:when=1",
    ]
    process = subprocess.Popen(
        [*slow, sys.executable, "-m", "topo", "apply", str(lab)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert until(lambda: RECORD.is_dir() and any("undo" in path.name for path in RECORD.rglob("*")), 20)
    host.run("ip link add br0 type ifb")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert "br0" in said
    assert host.link("host", "br0")["linkinfo"]["info_kind"] == "ifb", "it is theirs, and stays"
    host.run("ip link del br0")
    host.same(before)


def test_keep_leaves_what_was_done(host: Host) -> None:
    added, _ = REFUSED["a-sysctl-that-is-not-there"]
    failed = host.topo("apply", "--keep", host.file(GOOD + added))
    assert failed.code in (3, 4), failed.text
    assert "a" in host.namespaces()
    host.ok("destroy", "undo")


def test_failed_destroy_by_name_needs_no_file(host: Host) -> None:
    before = host.settled()
    host.ok("apply", host.file(GOOD))
    host.ok("destroy", "undo")
    host.same(before)


def test_a_second_name_leads_to_what_was_made_again(host: Host) -> None:
    """A destroy that is refused when the namespace and its second name are gone."""
    lab = host.file("topology: undo\nnamespaces: {own: {}, other: {from: {share: own}}}\nlinks: [[own:eth0, eth0]]\n")
    host.ok("apply", lab)
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unlink", "-P", "/run/netns/own"]
    command += ["-e", "inject=unlink:error=EACCES:when=1", sys.executable, "-m", "topo", "destroy", "undo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "undone: everything is as it was before" in done.stderr, done.stderr
    assert host.link("own", "eth0") and host.link("other", "eth0") == host.link("own", "eth0")
    host.ok("diff", lab)
    host.ok("destroy", "undo")


def test_names_that_a_killed_run_left_go_though_its_record_is_lost(host: Host) -> None:
    """They bear the sign of their topology, as every name that topo gives does; an empty file of another hand stays."""
    path = host.file("topology: lab\nnamespaces: {a: {}}\n")
    host.ok("apply", path)
    assert netns.signed("a") == mark("lab")
    ours, theirs = Path(netns.path("left")), Path(netns.path("other"))
    for file, sign in ((ours, mark("lab")), (theirs, mark("lub"))):
        file.touch()
        os.utime(file, ns=(sign, sign))
    (RECORD / "lab.json").unlink()
    host.ok("apply", path)
    assert (ours.exists(), theirs.exists()) == (False, True)
    theirs.unlink()
    host.ok("destroy", path)
