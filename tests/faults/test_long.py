"""Long and large: drift and apply in a loop, thousands of namespaces, a host full of others' links and routes."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import pytest
from live.test_drift import DRIFTS, LAB
from sandbox.host import Host
from sandbox.leaks import RECORD, _mounts

from faults.figures import FIGURES
from faults.killed import MORE, SEED
from faults.running import ok, run
from faults.test_refused import LESS
from topo import api

SECONDS: Final = float(os.environ.get("TOPO_FAULTS_DRIFT", "3600" if MORE else "10" if LESS else "60"))
NAMESPACES: Final = 5000 if MORE else 200 if LESS else 1000
LINKS, ROUTES = (10_000, 100_000) if MORE else (200, 5000) if LESS else (1000, 20_000)
WARM: Final = 100  # rounds until caches are full
GROWS: Final = 6144  # kB that a process may grow by afterwards: what its allocator keeps for the next peak
BLOCKS, HEAP = 2000, 64  # more of Python's blocks, and kB of malloc's, that are in use afterwards, however long it was

pytestmark = pytest.mark.timeout(7200 if MORE else 600)


def _holds() -> tuple[int, int]:
    """Descriptors and mounts of this process; sockets that announced addresses are closed by a thread (topo.kernel.announce)."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    return len(os.listdir("/proc/self/fd")), len(_mounts())


def _resident() -> int:
    """kB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2`, mallinfo(3)."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


def _in_use() -> tuple[int, int]:
    """Blocks of Python's own allocator, and kB of malloc's heap."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo
    gc.collect()
    return sys.getallocatedblocks(), libc.mallinfo2().uordblks // 1024


def test_drift_for_long(host: Host) -> None:
    """One process that applies again and again, as a program with the Python API does."""
    before = host.settled()
    path = host.file(LAB)
    topology = api.load(path)
    api.apply(topology)
    wanted = host.settled()
    source = random.Random(SEED)
    held, size, used, rounds, deadline = _holds(), 0, (0, 0), 0, time.monotonic() + SECONDS
    while time.monotonic() < deadline or rounds <= WARM:
        names = source.sample(sorted(DRIFTS), source.choice((1, 1, 2, 3)))
        for name in names:
            for command in DRIFTS[name].commands:
                host.fails(command, DRIFTS[name].ns)  # the second of two may have nothing left to do
        api.apply(topology)
        assert not api.plan(topology).changes, names
        rounds += 1
        if rounds % 10 == 0:
            host.same(wanted, but_for_macs=True)
        assert _holds() == held, f"round {rounds}, {names}: (descriptors, mounts) were {held} and are {_holds()}"
        if rounds == WARM:
            used, size = _in_use(), _resident()
    blocks, heap = (now - was for now, was in zip(_in_use(), used, strict=True))
    grown = _resident() - size
    said = f"{blocks} blocks, {heap} kB of heap, {grown} kB of {size} kB more in {rounds - WARM} rounds"
    assert blocks < BLOCKS and heap < HEAP and grown < GROWS, said
    api.destroy(topology)
    host.same(before)
    assert not RECORD.exists()
    FIGURES.count("random drift, repaired", "one process", number=rounds)


LARGE = """
topology: large
bridges:
  "br[1-5]": {}
namespaces:
""" + "".join(f'  "n{n}x[1-{NAMESPACES // 5}]": {{}}\n' for n in range(1, 6)) + "links:\n" + "".join(
    f'  - ["n{n}x[1-{NAMESPACES // 5}]:eth0", br{n}]\n' for n in range(1, 6)
)  # fmt: skip


def test_many_namespaces(host: Host) -> None:
    """Up to the 1,023 ports that a bridge can have."""
    before = host.settled()
    path = host.file(LARGE)
    started = time.monotonic()
    _alone("apply", path)
    assert len(host.namespaces()) == NAMESPACES
    assert len(host.ip_json("host", "link", "show", "master", "br5")) == NAMESPACES // 5
    _alone("diff", path)
    _alone("destroy", "large")
    host.same(before)
    assert time.monotonic() - started < NAMESPACES / 5
    FIGURES.count("many namespaces on several bridges", f"{NAMESPACES:,} namespaces")


def _alone(*words: str | Path) -> None:
    """`running.run` has a bound that is for small ones."""
    Host(Path("/")).ok(*words, timeout=1200)


SMALL = """
topology: small
bridges:
  br0: {subnet: 10.10.0.0/24}
namespaces:
  a: {}
  b: {}
links:
  - [a:eth0, br0]
  - [b:eth0, br0]
"""


def test_among_many_of_others(host: Host) -> None:
    """What others have costs the reading of it once each time: no more than a dump, which `ip` needs too."""
    before = host.settled()
    path = host.file(SMALL)
    ok("apply", path)
    alone = _cost(path)
    _foreign(LINKS, ROUTES)
    dump = min(_seconds("ip", "-d", "link", "show"), _seconds("ip", "-d", "link", "show"))
    dump += min(_seconds("ip", "route", "show", "table", "all"), _seconds("ip", "route", "show", "table", "all"))
    crowded = _cost(path)
    assert crowded - alone < 2 * dump + 0.2, f"diff takes {alone:.3f} s alone, {crowded:.3f} s then; ip {dump:.3f} s"
    started = time.monotonic()
    ok("destroy", "small")
    ok("apply", path)
    changes = time.monotonic() - started
    assert changes < 20 * (dump + 0.5), f"destroy and apply: {changes:.1f} s"
    ok("destroy", "small")
    subprocess.run(["ip", "link", "del", "group", "4711"], check=True)
    host.same(before)
    FIGURES.count("among many links and routes of others", f"{LINKS:,} links and {ROUTES:,} routes")


def _cost(path: Path) -> float:
    """The least CPU time of several diffs, in seconds."""
    found = []
    for _ in range(3):
        was = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("diff", path).code == 0
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(now.ru_utime + now.ru_stime - was.ru_utime - was.ru_stime)
    return min(found)


def _seconds(*command: str) -> float:
    """The CPU time of a command."""
    was = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - was.ru_utime - was.ru_stime


def _foreign(links: int, routes: int) -> None:
    """Pairs of veth in a group of their own, and routes over the first of them."""
    lines = [
        f"link add f{n} numtxqueues 1 numrxqueues 1 group 4711 type veth peer name g{n} numtxqueues 1 numrxqueues 1"
        for n in range(links // 2)
    ]
    lines += ["link set f0 up", "link set g0 up", "addr add 10.250.0.1/16 dev f0"]
    lines += [f"route add {11 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.0/24 via 10.250.0.2 dev f0" for n in range(routes)]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
