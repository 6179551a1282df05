"""Witnesses that nothing happened: ip, tc and nft monitor in every namespace, and strace on a run of topo.

Each monitor is shown a change before and after (a canary), so that a deaf one is no proof.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from sandbox.host import ROOT, Host, until
from sandbox.snapshot import inside

_CANARIES = {  # monitor -> what it is shown
    "ip monitor all": "ip route {} blackhole 203.0.113.255/32 table 4000",
    "tc monitor": "tc qdisc {} dev lo root handle cafe: pfifo",
    "nft monitor": "nft {} table inet canary",
}
_SEEN = {"ip monitor all": "203.0.113.255", "tc monitor": "dev lo", "nft monitor": "canary"}
_LEARNED = re.compile(r"\[NEIGH\].*\b(REACHABLE|STALE|DELAY|PROBE|FAILED|INCOMPLETE)\b|\[NEIGH\](Deleted )?ff02::")


class _Ear:
    """One monitor in one namespace, writing to a file."""

    def __init__(self, host: Host, ns: str, command: str, path: Path) -> None:
        self.host, self.ns, self.command, self.path = host, ns, command, path
        with path.open("wb") as sink:
            self.process = subprocess.Popen(
                inside(ns, command.split()), stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
            )
        self.start = 0

    def heard(self) -> str:
        return self.path.read_bytes()[self.start :].decode(errors="replace")

    def canary(self) -> None:
        """Make the change and take it back, over and over until the monitor tells of it."""
        sign = _SEEN[self.command]

        def told() -> bool:
            self.host.run(_CANARIES[self.command].format("add"), self.ns)
            self.host.run(_CANARIES[self.command].format("delete"), self.ns)
            return until(lambda: re.search(rf"(?i)delete.*{sign}", self.heard()), 0.2)

        assert until(told, 10), f"{self.command} in {self.ns} is deaf: {self.heard()}"

    def events(self) -> list[str]:
        """What was heard since `begin`, but for the canary and for what the kernel learns by itself."""
        lines = [line for line in self.heard().splitlines() if line.strip() and not _LEARNED.search(line)]
        return [f"{self.ns}: {line}" for line in lines if _SEEN[self.command] not in line and not _generation(line)]


def _generation(line: str) -> bool:
    """nft monitor's line behind each transaction; the transaction's own lines are what counts."""
    return line.startswith("# new generation")


class Quiet:
    """`with Quiet(host, namespaces): ...` fails where anything but learning happened in one of them meanwhile."""

    def __init__(self, host: Host, namespaces: Iterable[str]) -> None:
        self.host, self.namespaces = host, list(namespaces)
        self._ears: list[_Ear] = []

    def __enter__(self) -> Self:
        self.host.settle(*self.namespaces)
        for ns in self.namespaces:
            for command in _CANARIES:
                path = self.host.directory / f"monitor-{len(self._ears)}"
                self._ears.append(_Ear(self.host, ns, command, path))
        for ear in self._ears:
            ear.canary()
        for ear in self._ears:
            ear.start = ear.path.stat().st_size
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None:
                for ear in self._ears:
                    ear.canary()
        finally:
            for ear in self._ears:
                ear.process.kill()
                ear.process.wait()
        if kind is None:
            events = [event for ear in self._ears for event in ear.events()]
            assert not events, "something was changed:\n" + "\n".join(events)


class Call(NamedTuple):
    """One thing that a run asked of the kernel: netlink's protocol and message type, or a call that changes files."""

    what: str
    type: int
    text: str


_GETS = {  # NFT_MSG_GET* of linux/netfilter/nf_tables.h
    1: "table",
    4: "chain",
    7: "rule",
    10: "set",
    13: "setelem",
    16: "gen",
    19: "object",
    23: "flowtable",
}
_NFNL_SUBSYS_NFTABLES = 10
_CHANGES_FILES = re.compile(r"\b(mkdir|mkdirat|unlink|unlinkat|rename|renameat2?|mount|umount2)\(")
_OPENS = re.compile(r'\b(?:open|openat)\((?:[^"]*)"([^"]*)", ([A-Z_|]+)')
_WATCHED = ("/run", "/var/run", "/proc/sys", "/sys")


def traced(host: Host, *arguments: str | Path) -> tuple[int, list[Call], list[Call]]:
    """Run topo under `trace`."""
    return trace(host, sys.executable, "-m", "topo", *map(str, arguments))


def trace(host: Host, *words: str) -> tuple[int, list[Call], list[Call]]:
    """Run a command under strace: its exit code, what it read over netlink, every request or call that changes things."""
    log = host.directory / "strace"
    calls = (
        "socket,sendto,sendmsg,sendmmsg,write,writev,?open,openat,mount,umount2,unshare,?mkdir,mkdirat,?unlink,unlinkat"
    )
    command = ["strace", "-f", "-y", "-s", "256", "-e", f"trace={calls},?rename,renameat,renameat2", "-e", "write=all"]
    command += ["-e", "signal=none", "-o", str(log), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    reads: list[Call] = []
    changes: list[Call] = []
    for call in _calls(log.read_text(errors="replace").splitlines()):
        (changes if _changes(call) else reads).append(call)
    return done.returncode, reads, changes


def _changes(call: Call) -> bool:
    if call.what == "NETLINK_ROUTE":
        return call.type >= 16 and call.type & 3 != 2  # RTM_GET* are the third of each four (linux/rtnetlink.h)
    if call.what == "NETLINK_NETFILTER":
        return call.type >> 8 != _NFNL_SUBSYS_NFTABLES or call.type & 0xFF not in _GETS
    return call.what != "scratch"


def _calls(lines: Sequence[str]) -> Iterator[Call]:
    """The netlink messages of a log of strace's, and the calls that change files which the kernel or others read.

    A thread may make itself a namespace to try things in. That is no change, as long as nothing mounts it: the
    sockets that it opens there are of protocol `scratch`.
    """
    protocols: dict[str, str] = {}  # socket inode -> netlink protocol
    scratch: set[str] = set()  # threads that are in such a namespace
    pending: dict[str, str] = {}  # pid -> the first half of an unfinished call
    text, data = "", b""
    for line in [*lines, "0 end"]:
        dump = re.match(r" \| [0-9a-f]+ ((?: ?[0-9a-f]{2} ?){1,16})", line[: 6 + 2 + 50 + 8])
        if dump:
            data += bytes.fromhex(line[10:59])
            continue
        if line.startswith(" "):
            continue
        yield from _messages(protocols, text, data)
        pid, _, text = line.partition(" ")
        text, data = text.strip(), b""
        if text.endswith("<unfinished ...>"):
            pending[pid] = text
            text = ""
        elif text.startswith("<..."):
            text = pending.pop(pid, "") + text
        if re.match(r"(setns|unshare)\(.*= 0$", text):
            (scratch.add if text.startswith("unshare") and "NEWNET" in text else scratch.discard)(pid)
        made = re.search(r"socket\(AF_NETLINK, [^,]*, (\w+).*= \d+<socket:\[(\d+)\]>", text)
        if made:
            protocols[made[2]] = "scratch" if pid in scratch else made[1]
        if _CHANGES_FILES.search(text) or _opens_for_writing(text):
            yield Call("call", 0, text)


def _opens_for_writing(text: str) -> bool:
    opened = _OPENS.search(text)
    return bool(opened and re.search("O_WRONLY|O_RDWR|O_CREAT", opened[2]) and opened[1].startswith(_WATCHED))


def _messages(protocols: dict[str, str], text: str, data: bytes) -> Iterator[Call]:
    socket = re.match(r"(?:sendto|sendmsg|sendmmsg|write|writev)\(\d+<socket:\[(\d+)\]>", text)
    if not socket or socket[1] not in protocols:
        return
    assert data, f"strace shows no bytes of: {text}"
    while len(data) >= 16:
        size = int.from_bytes(data[:4], "little")
        if size < 16:
            return  # netlink_rcv_skb stops here too; iproute2 sends some requests with zeros behind them
        yield Call(protocols[socket[1]], int.from_bytes(data[4:6], "little"), text[:200])
        data = data[(size + 3) & ~3 :]


@contextmanager
def unchanged(host: Host, *, but_for_locks: bool = False) -> Iterator[None]:
    """Fails where anything lasting on the host or in a namespace, or any file in /run, is another afterwards.

    `but_for_locks`: a lock may have been taken and given back, which changes times.
    """
    before, files = host.settled(), _files()
    yield
    now = _files()
    if but_for_locks:
        files, now = (
            {path: about[2:] for path, about in found.items() if path != "/run/topo"} for found in (files, now)
        )
    differences = [path for path in sorted({*files, *now}) if files.get(path) != now.get(path)]
    assert not differences, [(path, files.get(path), now.get(path)) for path in differences]
    host.same(before)


def _files() -> dict[str, tuple[object, ...]]:
    """Inode, time of change and content of every file in /run/topo, and of every name in /run/netns."""
    found: dict[str, tuple[object, ...]] = {}
    for top in (Path("/run"), Path("/run/netns"), Path("/run/topo")):
        for path in [top, *top.rglob("*")] if top.exists() else []:
            about = path.stat()
            content = path.read_bytes() if path.is_file() and top.name == "topo" else b""
            found[str(path)] = (about.st_ino, about.st_mtime_ns, content)
    return found
