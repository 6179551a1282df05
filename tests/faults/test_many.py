"""Many at once: runs that meet each other, and others who change the same kernel meanwhile."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sandbox.host import Host
from sandbox.leaks import RECORD

from faults.figures import FIGURES
from faults.killed import MORE, SEED, Bench
from faults.labs import Lab, labs
from faults.running import Ended, begin, ok, run
from faults.test_refused import LESS
from faults.world import World

ROUNDS = 60 if MORE else 4 if LESS else 12
pytestmark = pytest.mark.timeout(1800 if MORE else 300)

SHARING = """
topology: NAME
bridges:
  shared0: {external: true}
namespaces:
  NAME: {}
links:
  - [{interface: NAME:eth0, addresses: 10.66.0.NUMBER/24}, {bridge: shared0, name: NAME-port}]
sysctls: {net.ipv4.ip_forward: 1}
"""

IP_COMMANDS = """
while :; do
  ip link add noise0 type veth peer name noise1
  ip addr add 10.250.0.1/24 dev noise0; ip link set noise0 up; ip link set noise1 up
  ip route add 10.251.0.0/16 dev noise0; ip rule add pref 650 lookup 88
  ip rule del pref 650; ip link del noise0
  ip netns add noise; ip -n noise link set lo up; ip netns del noise
  nft 'add table inet noise; delete table inet noise'
done
"""

FLAPPING = """
while :; do ip netns add flap; sleep 0.0$((RANDOM % 9)); ip netns del flap; sleep 0.0$((RANDOM % 5)); done
"""

ATTACHED = """
topology: flapping
bridges:
  br0: {subnet: 10.93.0.0/24}
namespaces:
  inside: {from: {name: flap}}
  mine: {}
links:
  - [inside:eth7, br0]
  - [mine:eth0, br0]
"""


@contextmanager
def noise(script: str) -> Iterator[None]:
    """Somebody else, at work for as long as this lasts; what that leaves is taken away."""
    process = subprocess.Popen(["bash", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        time.sleep(0.2)  # for the command that it was at
        for command in (
            "ip link del noise0", "ip rule del pref 650", "ip netns del noise", "ip netns del flap",
            "nft delete table inet noise", "rm -f /run/netns/noise /run/netns/flap",
        ):  # fmt: skip
            subprocess.run(command.split(), capture_output=True, check=False)


def together(bench: Bench, *runs: tuple[str, str | Path]) -> list[Ended]:
    """Begin these at random moments next to each other, and wait for them."""
    source = random.Random(f"{SEED} {runs} {bench.problems}")
    started = []
    for words in runs:
        started.append(begin(*words))
        time.sleep(source.uniform(0, 0.1))
    return [running.end() for running in started]


def finish(bench: Bench) -> None:
    bench.recover("first", "at the end, applied")
    bench.recover("none", "at the end, destroyed")
    bench.world.clear()
    assert not bench.problems, "\n".join(bench.problems)


def test_two_applies_of_one_topology(host: Host) -> None:
    bench = Bench(World(host, labs()["star"]))
    for number in range(ROUNDS):
        both = together(
            bench, ("apply", bench.world.first), ("apply", bench.world.first), ("apply", bench.world.second)
        )
        assert [ended.code for ended in both] == [0, 0, 0], both
        bench.at = "first" if run("diff", bench.world.first).code == 0 else "second"
        bench.expect(bench.at, f"round {number}")
        bench.recover("none", f"round {number}")
        FIGURES.count("applies of one topology at once", "star", len(bench.problems))
    finish(bench)


def test_apply_against_destroy(host: Host) -> None:
    bench = Bench(World(host, labs()["star"]))
    for number in range(ROUNDS):
        runs = [("apply", bench.world.first), ("destroy", bench.world.name)]
        both = together(bench, *(runs if number % 2 else reversed(runs)))
        assert [ended.code for ended in both] == [0, 0], both
        bench.at = "first" if "star" in ok("list").text else "none"
        bench.expect(bench.at, f"round {number}")
        FIGURES.count("apply against destroy", "star", len(bench.problems))
    finish(bench)


def test_two_topologies_on_one_bridge(host: Host) -> None:
    """Both plug into it, both turn forwarding on; the last one that goes turns it off."""
    given = "ip link add shared0 address 02:00:00:00:dd:01 type bridge\nip link set shared0 up"
    texts = [SHARING.replace("NAME", name).replace("NUMBER", str(n)) for n, name in enumerate(("one", "two"), 1)]
    world = World(host, Lab("shared", texts[0], texts[1], given))
    bench = Bench(world, states=())
    for number in range(ROUNDS):
        both = together(bench, ("apply", world.first), ("apply", world.second))
        assert [ended.code for ended in both] == [0, 0], both
        assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
        assert host.ping("one", "10.66.0.2")
        mixed = together(bench, ("destroy", "one"), ("apply", world.second))
        assert [ended.code for ended in mixed] == [0, 0], mixed
        ok("diff", world.second)
        assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
        gone = together(bench, ("destroy", "one"), ("destroy", "two"))
        assert [ended.code for ended in gone] == [0, 0], gone
        bench.expect("none", f"round {number}")
        FIGURES.count("two topologies on one bridge at once", "shared", len(bench.problems))
    world.clear()
    assert not bench.problems, "\n".join(bench.problems)


@pytest.mark.parametrize("name", ["star", "kinds", "underlay"])
def test_while_others_change_the_kernel(host: Host, name: str) -> None:
    """`ip` and `nft` in a loop: each run is done, or undone because a table kept changing."""
    bench = Bench(World(host, labs()[name]))
    done = 0
    for number in range(ROUNDS):
        with noise(IP_COMMANDS):
            ended = run("apply", bench.world.first if number % 2 else bench.world.second)
            assert ended.code in (0, 3), ended.text
            done += ended.code == 0
            gone = run("destroy", bench.world.name)
            assert gone.code in (0, 3), gone.text
        bench.at = "?"
        bench.recover("none", f"round {number}: {ended.text} {gone.text}")
        FIGURES.count("while ip and nft change the kernel", name, len(bench.problems))
    assert done >= ROUNDS / 2
    finish(bench)


def test_namespace_that_flaps(host: Host) -> None:
    """Attached to a namespace that comes and goes all the time."""
    world = World(host, Lab("flapping", ATTACHED, ATTACHED))
    bench = Bench(world, states=())
    with noise(FLAPPING):
        for _ in range(ROUNDS * 2):
            ended = run("apply", world.first)
            assert ended.code in (0, 2, 3, 4), ended.text
            assert ended.code != 4 or "left: " in ended.text, ended.text
            gone = run("destroy", world.name)
            assert gone.code in (0, 3, 4), gone.text
            FIGURES.count("attached to a namespace that comes and goes", "flapping")
    ok("destroy", world.name)
    bench.expect("none", f"{ended.text} {gone.text}")
    world.clear()
    assert not bench.problems, "\n".join(bench.problems)


def test_lock_held_for_long(host: Host) -> None:
    """Who has it is said, and nothing is touched; when the holder dies, the lock is free."""
    world = World(host, labs()["star"])
    RECORD.mkdir(mode=0o700)
    lock = RECORD / ".topology-star.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"pid {os.getpid()}, somebody with \x1b[31mcolours")
        file.flush()
        ended = run("apply", world.first)
        assert ended.code == 3
        assert (
            f"held by pid {os.getpid()}, somebody with \\x1b[31mcolours; waited 30 s, nothing was touched" in ended.text
        )
        assert world.whole()["host"] == world.before["host"]
    ok("apply", world.first)
    ok("destroy", world.first)
    assert world.as_before() == []
    world.clear()
    FIGURES.count("a lock that is held", "star")
