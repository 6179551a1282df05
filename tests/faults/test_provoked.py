"""What the kernel really refuses: somebody else is at work between topo's steps, or something has run full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sandbox.host import Host

from faults.figures import FIGURES
from faults.killed import EACH, PHASES, Bench
from faults.labs import labs
from faults.running import ok, run
from faults.seams import DO, Fault
from faults.test_privilege import TO_MAP, USER, confined
from faults.test_refused import LESS, after
from faults.world import World

pytestmark = pytest.mark.timeout(7200 if EACH else 600)
EVERY = 1 if EACH else 9 if LESS else 4

DONE_BY_OTHERS = {  # what -> lab, the command of somebody else, and what takes it away again
    "a name is taken": ("star", "ip link add c-port type ifb", "ip link del c-port"),
    "a namespace's name is taken": ("star", "ip netns add c", "ip netns del c"),
    "a bridge is deleted": ("star", "ip link del br0", "true"),
    "a namespace is deleted": ("star", "ip netns del a", "true"),
    "a port is let go": ("star", "ip link set a-port nomaster", "true"),
    "the parent is deleted": ("kinds", "ip link del nic0", ""),
    "the process is gone": ("attached", "kill -9 PID", ""),
}


@pytest.mark.parametrize("what", DONE_BY_OTHERS)
def test_done_by_others(host: Host, what: str) -> None:
    name, command, cure = DONE_BY_OTHERS[what]
    world = World(host, labs()[name])
    if not cure:
        once(world, host, what, command)
        return
    bench = Bench(world)
    for number, phase in enumerate(PHASES):
        steps = bench.steps(phase)
        for at in range(1 + number % EVERY, len(steps) + 1, EVERY):
            where = f"{what}: {phase.name}, at {at} ({steps[at - 1]})"
            bench.to(phase.before)
            bench.at = "?"
            ended = run(*bench.words(phase), fault=Fault(DO, {at}, command=command))
            if ended.code not in (0, 2, 3, 4):
                bench.wrong(f"{where}: exit {ended.code}: {ended.text}")
            if ended.code == 4 and "left: " not in ended.text:
                bench.wrong(f"{where}: {ended.text}")
            subprocess.run(["sh", "-c", cure], capture_output=True, check=False)
            bench.recover("none", f"{where}, exit {ended.code}")
            FIGURES.count("others at work between two steps", what, len(bench.problems))
            assert not bench.problems, "\n".join(bench.problems)
    bench.to("none")
    world.clear()


def once(world: World, host: Host, what: str, command: str) -> None:
    """What cannot be had again: at one step, and then the rest has to go."""
    pid = next((word for word in world.lab.first.replace("}", " ").split() if word.isdigit()), "")
    for at in (14,):
        ended = run("apply", world.first, fault=Fault(DO, {at}, command=command.replace("PID", pid)))
        assert ended.code in (0, 2, 3, 4), ended.text
        gone = run("destroy", world.name)
        assert gone.code == 0, gone.text
        left = [line for line in world.as_before() if line.startswith("+")]
        assert not left, "\n".join(left)
        FIGURES.count("others at work between two steps", what)
    host.close()
    world.clear()


def test_no_more_descriptors(host: Host) -> None:
    """EMFILE, wherever the last one is needed."""
    bench = Bench(World(host, labs()["star"]))
    for phase in PHASES:
        for files in range(9, 44, 1 if EACH else 5 if LESS else 3):
            bench.to(phase.before)
            ended = run(*bench.words(phase), files=files)
            state = after(phase) if ended.code == 0 else phase.before
            if ended.code not in (0, 2, 3, 4, 5) or (ended.code and "Too many open files" not in ended.text):
                bench.wrong(f"{phase.name} with {files} descriptors: exit {ended.code}: {ended.text}")
            bench.at = "?" if ended.code == 4 else state
            if ended.code != 4:
                bench.expect(state, f"{phase.name} with {files} descriptors, exit {ended.code}")
            FIGURES.count("no descriptors left", "star", len(bench.problems))
    bench.recover("none", "the end")
    bench.world.clear()
    assert not bench.problems, "\n".join(bench.problems)


def test_no_room_for_the_record(host: Host) -> None:
    """ENOSPC before the kernel is touched: nothing is."""
    world = World(host, labs()["star"])
    Path("/run/topo").mkdir(mode=0o700)
    host.run("mount -t tmpfs -o size=4k,mode=700 tmpfs /run/topo")
    Path("/run/topo/theirs").write_bytes(bytes(4096))
    ended = run("apply", world.first)
    assert ended.code == 3, ended.text
    assert "No space left on device" in ended.text
    host.run("umount /run/topo")
    Path("/run/topo").rmdir()
    assert world.as_before() == []
    world.clear()
    FIGURES.count("no room for the record", "star")


def test_bridge_is_full(host: Host) -> None:
    """EXFULL: others took its 1,023 ports (BR_MAX_PORTS, net/bridge/br_private.h) since it was looked at."""
    star = labs()["star"]
    more = star.first.replace("  b: {}", "  b: {}\n  c: {}").replace("links:", "links:\n  - [c:eth0, br0]")
    world, both = World(host, star), host.file(more, "both.yaml")
    ok("apply", world.first)
    ports = "".join(f"link add full{n} group 4712 master br0 type ifb\n" for n in range(1021))
    subprocess.run(["ip", "-batch", "-"], input=ports, text=True, check=True)
    full = host.everywhere()
    ended = run("apply", both)
    assert ended.code == 3, ended.text
    assert "Exchange full: a bridge takes 1,023 ports and no more" in ended.text, ended.text
    assert host.everywhere() == full
    host.run("ip link del group 4712")
    ok("apply", both)
    ok("destroy", world.name)
    assert world.as_before() == []
    world.clear()
    FIGURES.count("a table is full", "a bridge's ports")


def test_no_more_namespaces(host: Host) -> None:
    """ENOSPC: a user may have so many and no more (user.max_net_namespaces, namespaces(7)). One is there, two are wanted."""
    before = host.everywhere()
    lab = host.file(labs()["star"].first)
    script = """
    limit=/proc/sys/user/max_net_namespaces; most=$(cat $limit)
    ip -d -j link >/run/before; nft -j list ruleset >>/run/before
    echo 2 >$limit; "$1" -m topo apply "$2"; test $? = 3 || exit 91
    ip -d -j link >/run/after; nft -j list ruleset >>/run/after
    cmp /run/before /run/after || exit 92
    test -z "$(ls /run/netns)" -a ! -e /run/topo || exit 93
    echo $most >$limit; "$1" -m topo apply "$2" && "$1" -m topo diff "$2" || exit 94
    """
    result = confined(TO_MAP, *USER, "sh", "-c", script, "sh", sys.executable, lab)
    assert result.code == 0, result.text
    assert "create namespace b: No space left on device: sysctl user.max_net_namespaces is reached" in result.text, (
        result.text
    )
    assert host.everywhere() == before
    FIGURES.count("a table is full", "namespaces of a user")
