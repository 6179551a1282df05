"""`from:` that leads elsewhere than it did: what topo had in the first namespace goes, what others have there stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sandbox.host import NETNS, ROOT, Host, until
from sandbox.leaks import RECORD
from sandbox.monitor import Quiet
from sandbox.snapshot import changed, shape

LAB = """
topology: re
bridges:
  br0: {subnet: 10.20.0.0/24}
namespaces:
  web:
    from: {pid: PID}
    sysctls: {net.ipv4.ip_forward: 1, net.ipv4.conf.lo.log_martians: 1}
    interfaces: {nic0: {kind: existing, mtu: 1400, addresses: 10.30.0.2/24}}
    routes: [{to: 10.31.0.0/16, via: 10.30.0.1}]
    rules: [{priority: 77, from: 10.30.0.0/16, table: 77}]
    neighbours: [{ip: 10.30.0.9, mac: 02:00:00:00:00:09, dev: nic0}]
    firewall: {input: {rules: [{protocol: tcp, dport: 9, action: drop}]}}
  side: {from: {share: web}}
links:
  - [web:eth0, br0]
"""


class Two:
    """Two processes as containers' first ones are, in namespaces with a NIC, and things of others."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.processes = [host.unshared(), host.unshared()]
        self.pids = [process.pid for process in self.processes]
        self.spaces = [f"/proc/{pid}/ns/net" for pid in self.pids]
        for number, ns in enumerate(self.spaces):
            host.run("ip link add nic0 type veth peer name nic1", ns)
            for ifname in ("lo", "nic0", "nic1"):
                host.run(f"ip link set {ifname} up", ns)
            host.run(f"ip address add 10.99.{number}.1/24 dev nic0", ns)
            host.run(f"ip route add 10.98.{number}.0/24 dev nic0 proto 42", ns)
            host.run("nft add table inet theirs", ns)
        host.settle(*self.spaces)

    def lab(self, which: int, text: str = LAB) -> Path:
        return self.host.file(text.replace("PID", str(self.pids[which])))

    def inode(self, which: int) -> int:
        return Path(self.spaces[which]).stat().st_ino

    def snapshots(self) -> dict[str, dict[str, Any]]:
        return self.host.everywhere() | {ns: self.host.snapshot(ns) for ns in self.spaces}

    def applied(self, which: int, *arguments: str | Path) -> None:
        """The file is what the kernel holds; the names lead to this one; and it works."""
        host = self.host
        arguments = arguments or (self.lab(which),)
        host.ok("apply", *arguments)
        for name in ("web", "side"):
            assert (NETNS / name).stat().st_ino == self.inode(which)
        host.ok("diff", *arguments)
        assert host.addresses("web", "eth0") == {"10.20.0.2/24"}
        assert host.ping("host", "10.20.0.2")


@pytest.fixture
def two(host: Host) -> Two:
    return Two(host)


def test_from_one_living_to_another(host: Host, two: Two) -> None:
    before = two.snapshots()
    two.applied(0)
    planned = host.topo("diff", two.lab(1))
    assert planned.code == 1
    words = " ".join(planned.out.split())
    assert f" -/+ namespace web from pid {two.pids[0]} -> pid {two.pids[1]} " in words, planned.out
    assert words.endswith("- nft web(old):inet topo-re 1 rules")
    two.applied(1)
    assert host.snapshot(two.spaces[0]) == before[two.spaces[0]]
    with Quiet(host, ["host", "web", two.spaces[0]]):
        host.ok("apply", two.lab(1))
    two.applied(0)
    assert host.snapshot(two.spaces[1]) == before[two.spaces[1]]
    host.ok("destroy", "re")
    same(two, before)


def same(two: Two, before: dict[str, dict[str, Any]], *, but_for_macs: bool = False) -> None:
    form = shape if but_for_macs else dict
    until(lambda: form(two.snapshots()) == form(before), 3)
    assert changed(form(before), form(two.snapshots())) == []


def test_started_again_while_the_old_one_lives(host: Host, two: Two) -> None:
    """As `from: {docker: web}` does it: the file stays as it is, and leads elsewhere."""
    where = host.directory / "web"
    where.symlink_to(two.spaces[0])
    lab = host.file(LAB.replace("pid: PID", f"path: {where}"))
    before = two.snapshots()
    two.applied(0, lab)
    number = two.inode(0)
    where.unlink()
    where.symlink_to(two.spaces[1])
    planned = host.topo("diff", lab)
    assert planned.code == 1
    assert f"from net:[{number}] -> path {where}" in planned.out
    two.applied(1, lab)
    assert host.snapshot(two.spaces[0]) == before[two.spaces[0]]
    where.unlink()
    where.symlink_to(two.spaces[0])
    host.ok("destroy", "re")
    same(two, before)


def test_left_behind_by_its_source(host: Host, two: Two) -> None:
    """What leaves the file, and the topology's end, clear the namespace that was attached: not what `from` leads to now."""
    where = host.directory / "web"
    before = two.snapshots()
    for text in ("topology: re\nbridges:\n  br0: {subnet: 10.20.0.0/24}\n", None):
        where.unlink(missing_ok=True)
        where.symlink_to(two.spaces[0])
        two.applied(0, host.file(LAB.replace("pid: PID", f"path: {where}")))
        where.unlink()
        where.symlink_to(two.spaces[1])
        if text is not None:
            host.ok("apply", host.file(text))
            host.ok("diff", host.file(text))
            assert host.namespaces() == set()
        host.ok("destroy", "re")
        same(two, before)


REFUSED = {
    "a-sysctl-of-the-new-one": ("sysctls: {", "sysctls: {net.ipv4.no_such_sysctl: 1, "),
    "a-sysctl-of-the-hosts": (
        "namespaces:",
        "sysctls: {net.ipv4.tcp_congestion_control: no-such-algorithm}\nnamespaces:",
    ),
    "a-link-in-the-new-one": ("{nic0: {", "{mv0: {kind: macvlan, parent: eth0, mtu: 9000}, nic0: {"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_failure_midway_goes_back_whole(host: Host, two: Two, case: str) -> None:
    two.applied(0)
    before = two.snapshots()
    edited = LAB.replace(*REFUSED[case])
    failed = host.topo("apply", two.lab(1, edited))
    assert failed.code == 3, failed.text
    same(two, before, but_for_macs=True)
    assert all((NETNS / name).stat().st_ino == two.inode(0) for name in ("web", "side"))
    host.ok("diff", two.lab(0))
    assert host.ping("host", "10.20.0.2")
    host.ok("destroy", "re")


@pytest.mark.parametrize("case", REFUSED)
def test_failure_gives_a_name_back_that_alone_held_its_namespace(host: Host, two: Two, case: str) -> None:
    """The container is gone, and with its name in /run/netns its namespace would be."""
    two.applied(0)
    number = two.inode(0)
    two.processes[0].kill()
    two.processes[0].wait()
    two.spaces[0] = str(NETNS / "web")
    before = two.snapshots()
    edited = LAB.replace(*REFUSED[case])
    failed = host.topo("apply", two.lab(1, edited))
    assert failed.code == 3, failed.text
    same(two, before, but_for_macs=True)
    assert all((NETNS / name).stat().st_ino == number for name in ("web", "side"))
    assert host.ping("host", "10.20.0.2")
    host.ok("apply", two.lab(1))
    host.ok("destroy", "re")


def test_failed_end_gives_the_name_back(host: Host, two: Two) -> None:
    """The namespace leaves the file, and then something else is refused."""
    two.applied(0)
    number = two.inode(0)
    two.processes[0].kill()
    two.processes[0].wait()
    two.spaces[0] = str(NETNS / "web")
    before = two.snapshots()
    text = "topology: re\nbridges:\n  br0: {subnet: 10.20.0.0/24}\nsysctls: {net.ipv4.no_such_sysctl: 1}\n"
    failed = host.topo("apply", host.file(text))
    assert failed.code == 3, failed.text
    same(two, before, but_for_macs=True)
    assert (NETNS / "web").stat().st_ino == number
    host.ok("destroy", "re")


FORWARDING = "/proc/sys/net/ipv4/ip_forward"
KILLED = [
    (f"openat -P {FORWARDING} when=1", "back"),  # once in each; netlink tells its value
    (f"openat -P {FORWARDING} when=1", "destroy"),
    (f"openat -P {FORWARDING} when=2", "back"),
    (f"openat -P {FORWARDING} when=2", "destroy"),
    ("umount2 when=1", "back"),
    ("umount2 when=1", "destroy"),
    (f"unlink -P {NETNS / 'web'} when=1", "forward"),
    ("mount when=2", "back"),
    ("mount when=2", "destroy"),
    ("mount when=3", "forward"),
]


@pytest.mark.parametrize(("at", "then"), KILLED)
def test_killed_midway(host: Host, two: Two, at: str, then: str) -> None:
    """The next apply, of either file, finishes it; the next destroy clears both."""
    before = two.snapshots()
    two.applied(0)
    call, *where, when = at.split()
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", *where]
    command += ["-e", f"inject={call}:signal=KILL:{when}", sys.executable, "-m", "topo", "apply", str(two.lab(1))]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode
    assert "interrupted" in host.ok("list").out
    if then != "destroy":
        which = ["back", "forward"].index(then)
        two.applied(which)
        assert host.snapshot(two.spaces[1 - which]) == before[two.spaces[1 - which]]
    host.ok("destroy", "re")
    same(two, before)


def test_two_change_places(host: Host, two: Two) -> None:
    text = """
topology: re
namespaces:
  a: {from: {pid: PID}, sysctls: {net.ipv4.ip_forward: 1}}
  b: {from: {pid: DIP}, interfaces: {nic0: {kind: existing, addresses: 10.30.0.2/24}}}
links:
  - [{interface: a:eth0, addresses: 10.1.0.1/24}, {interface: b:eth0, addresses: 10.1.0.2/24}]
"""
    one = host.file(text.replace("PID", str(two.pids[0])).replace("DIP", str(two.pids[1])), "one.yaml")
    other = host.file(text.replace("PID", str(two.pids[1])).replace("DIP", str(two.pids[0])), "other.yaml")
    before = two.snapshots()
    host.ok("apply", one)
    host.ok("apply", other)
    host.ok("diff", other)
    assert host.ping("a", "10.1.0.2")
    assert [(NETNS / name).stat().st_ino for name in ("b", "a")] == [two.inode(0), two.inode(1)]
    assert host.addresses(two.spaces[1], "nic0") == {"10.99.1.1/24"}
    assert host.addresses(two.spaces[0], "nic0") == {"10.99.0.1/24", "10.30.0.2/24"}
    host.ok("destroy", "re")
    same(two, before)


PLAIN = LAB.replace("    from: {pid: PID}\n", "").replace("nic0: {kind: existing,", "nic0: {kind: ifb,")


def test_between_attached_and_made(host: Host, two: Two) -> None:
    """A namespace that topo makes in the place of one that it was attached to, and the other way round."""
    before = two.snapshots()
    plain = host.file(PLAIN, "plain.yaml")
    two.applied(0)
    host.ok("apply", plain)
    host.ok("diff", plain)
    assert host.ping("host", "10.20.0.2")
    assert (NETNS / "web").stat().st_ino not in (two.inode(0), two.inode(1))
    assert host.snapshot(two.spaces[0]) == before[two.spaces[0]]
    two.applied(1)
    host.ok("destroy", "re")
    same(two, before)


def test_between_attached_and_made_fails(host: Host, two: Two) -> None:
    two.applied(0)
    before = two.snapshots()
    failed = host.topo("apply", host.file(PLAIN.replace("sysctls: {", "sysctls: {net.ipv4.no_such_sysctl: 1, ")))
    assert failed.code == 3, failed.text
    same(two, before, but_for_macs=True)
    assert (NETNS / "web").stat().st_ino == two.inode(0)
    host.ok("apply", host.file(PLAIN))
    before = host.everywhere()
    number = (NETNS / "web").stat().st_ino
    failed = host.topo("apply", two.lab(1, LAB.replace("sysctls: {", "sysctls: {net.ipv4.no_such_sysctl: 1, ")))
    assert failed.code == 3, failed.text
    host.same(before, but_for_macs=True)
    assert (NETNS / "web").stat().st_ino == number
    host.ok("destroy", "re")


def test_a_name_that_someone_led_elsewhere_is_theirs(host: Host, two: Two) -> None:
    two.applied(0)
    host.run("ip netns del web")
    host.run("ip netns add web")
    number = (NETNS / "web").stat().st_ino
    for which in (0, 1):
        refused = host.topo("apply", two.lab(which))
        assert refused.code == 2, refused.text
        assert "web" in refused.err
        assert "a network namespace that this topology did not make" in refused.err
    host.ok("destroy", "re")
    assert (NETNS / "web").stat().st_ino == number
    host.run("ip netns del web")


def test_its_own_name_is_not_topos_to_lead_elsewhere(host: Host, two: Two) -> None:
    host.run(f"ip netns attach web {two.pids[0]}")
    before = two.snapshots()
    two.applied(0, two.lab(0, LAB.replace("pid: PID", "name: web")))
    refused = host.topo("apply", two.lab(1))
    assert refused.code == 2, refused.text
    assert "a network namespace that this topology did not make" in refused.err
    host.ok("destroy", "re")
    same(two, before)
    host.run("ip netns del web")


def test_name_taken_meanwhile(host: Host, two: Two) -> None:
    """Between taking the name away and giving it, someone else takes it: it stays theirs, and that is said."""
    two.applied(0)
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unlink", "-P", str(NETNS / "web")]
    command += ["-e", "inject=unlink:delay_exit=3000000:when=1", sys.executable, "-m", "topo", "apply", str(two.lab(1))]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert until(lambda: not (NETNS / "web").exists(), 20)
    host.run("ip netns add web")
    number = (NETNS / "web").stat().st_ino
    _, said = process.communicate(timeout=60)
    assert process.returncode == 4, said
    assert "web" in said
    assert (NETNS / "web").stat().st_ino == number
    assert host.addresses(two.spaces[0], "eth0") == {"10.20.0.2/24"}, "all but the name is as it was"
    assert host.ping("host", "10.20.0.2")
    host.run("ip netns del web")
    two.applied(1)
    host.ok("destroy", "re")


BARE = "topology: re\nnamespaces:\n  web: {from: {pid: PID}}\n  side: {from: {share: web}}\n"


def test_lost_record(host: Host, two: Two) -> None:
    """The marks are left, and the names bear a sign: what bears them goes, and the names lead where they are to."""
    two.applied(0)
    (RECORD / "re.json").unlink()
    two.applied(1)
    assert host.link(two.spaces[0], "eth0") == {}
    (RECORD / "re.json").unlink()
    host.ok("destroy", two.lab(1))
    assert host.link(two.spaces[1], "eth0") == {} and host.namespaces() == set()


def test_lost_record_of_names_alone(host: Host, two: Two) -> None:
    """As after a run that was killed before it made a link; where somebody gave the same name, it is theirs."""
    host.ok("apply", two.lab(0, BARE))
    (RECORD / "re.json").unlink()
    other = host.topo("apply", two.lab(0, BARE.replace("topology: re", "topology: other")))
    assert other.code == 2 and "a network namespace that this topology did not make" in other.err
    two.applied(0)
    host.ok("destroy", "re")
    assert host.namespaces() == set()
    host.run(f"ip netns attach web {two.pids[0]}")
    refused = host.topo("apply", two.lab(0))
    assert refused.code == 2 and "a network namespace that this topology did not make" in refused.err
    host.run("ip netns del web")
