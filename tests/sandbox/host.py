"""The host that live tests work on: commands, witnesses, traffic, and the real command line of topo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

from sandbox.forked import Forked
from sandbox.snapshot import changed, inside, output, read_json, ruleset, shape, snapshot

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
NETNS = Path("/run/netns")


class Result(NamedTuple):
    """How a run of topo ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def json(self) -> Any:
        return json.loads(self.out)


_PATIENCE = 5 if "User Mode Linux" in Path("/proc/cpuinfo").read_text() else 1
"""A process takes several times as long to start under a kernel that is a process itself (tests/kernels)."""


def until(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    """Whether `condition` comes true in time; it is asked at once, and then every 20 ms."""
    deadline = time.monotonic() + seconds * _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def has_realms() -> bool:
    """Whether the kernel has CONFIG_IP_ROUTE_CLASSID."""
    return Path("/proc/net/rt_acct").exists()


class Host:
    """This sandbox's outermost namespace and those in /run/netns. `ns` is `host`, or a name in /run/netns."""

    forked: ClassVar[Forked | None] = None  # what `topo` asks for its processes

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: list[subprocess.Popen[str]] = []

    def close(self) -> None:
        """End every process that was started here."""
        for process in self._started:
            process.kill()
            process.communicate()
        self._started.clear()

    # topo itself

    def topo(self, *arguments: str | Path, stdin: str | None = None, timeout: float = 120) -> Result:
        """Run the command line in a process of its own."""
        words, environment = list(map(str, arguments)), os.environ | {"TOPO_DEBUG": "1"}
        if self.forked and "--confirm" not in words:  # whose watchdog the tests find by its command line
            done = self.forked.run(words, environment, stdin, timeout)
        else:
            done = subprocess.run(
                [sys.executable, "-m", "topo", *words],
                input=stdin,
                capture_output=True,
                text=True,
                cwd=ROOT,
                timeout=timeout,
                check=False,
                env=environment,
            )
        assert "internal error" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str | Path, timeout: float = 120) -> Result:
        """Run the command line, which must exit 0."""
        result = self.topo(*arguments, timeout=timeout)
        if result.code:
            pytest.fail(f"topo {' '.join(map(str, arguments))}: exit {result.code}\n{result.text}", pytrace=False)
        return result

    def file(self, text: str, name: str = "lab.yaml") -> Path:
        """A topology file with this text."""
        path = self.directory / name
        path.write_text(text)
        return path

    # commands and processes

    def run(self, command: str, ns: str = "host") -> str:
        """Run a command, which must succeed, without a shell; its output."""
        return output(ns, *command.split())

    def fails(self, command: str, ns: str = "host") -> bool:
        """Whether a command fails."""
        return subprocess.run(inside(ns, command.split()), capture_output=True, check=False).returncode != 0

    def refusal(self, command: str, ns: str = "host") -> str:
        """What a command says on stderr when it fails; empty where it succeeds."""
        done = subprocess.run(inside(ns, command.split()), capture_output=True, text=True, check=False)
        return done.stderr if done.returncode else ""

    def start(self, *command: str, ns: str = "host") -> subprocess.Popen[str]:
        """Start a process in the namespace, which ends with the test."""
        process = subprocess.Popen(
            inside(ns, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )
        self._started.append(process)
        return process

    def unshared(self) -> subprocess.Popen[str]:
        """A process in a network namespace of its own that bears no name, as a container's first process is."""
        process = self.start("unshare", "--net", "sleep", "infinity")
        home = Path("/proc/self/ns/net").stat().st_ino
        assert until(lambda: Path(f"/proc/{process.pid}/ns/net").stat().st_ino != home)
        return process

    # traffic

    def serve(self, ns: str, port: int, word: str) -> None:
        """An HTTP server in the namespace, on every address of both families.

        It answers `word` and the client's address, or as many bytes as the path says: /1000.
        """
        code = (
            "import http.server as h, socket, sys\n"
            "class A(h.BaseHTTPRequestHandler):\n"
            "    def do_GET(self):\n"
            "        self.send_response(200); self.end_headers()\n"
            "        size = self.path[1:]\n"
            "        self.wfile.write(bytes(int(size)) if size else f'{sys.argv[2]} {self.client_address[0]}'.encode())\n"
            "    def log_message(self, *_): pass\n"
            "class S(h.ThreadingHTTPServer):\n"
            "    address_family = socket.AF_INET6\n"
            "S(('::', int(sys.argv[1])), A).serve_forever()\n"
        )
        self.start(sys.executable, "-c", code, str(port), word, ns=ns)
        assert until(lambda: f":{port} " in output(ns, "ss", "-Htln")), f"no server on port {port} in {ns}"

    def fetch(self, ns: str, url: str, seconds: int = 3) -> str:
        """What `serve` answers by way of curl: its word and the address that it was asked from; "" for no answer."""
        command = ["curl", "-gs", "--noproxy", "*", "--max-time", str(seconds), url]
        return subprocess.run(inside(ns, command), capture_output=True, text=True, check=False).stdout

    def seconds_to_fetch(self, ns: str, url: str, size: int) -> float:
        """How long curl takes to read `size` bytes from `serve`."""
        found = output(ns, "curl", "-gsf", "--noproxy", "*", "-o", "/dev/null", "-w", "%{time_total}", f"{url}/{size}")
        return float(found)

    def ping(self, ns: str, address: str, *options: str, within: float = 3) -> bool:
        """Whether `address` answers ping from the namespace within so many seconds."""
        once = ["ping", "-c1", "-W1", *options, address]
        return until(lambda: subprocess.run(inside(ns, once), capture_output=True, check=False).returncode == 0, within)

    def silent(self, ns: str, address: str) -> bool:
        """Whether `address` does not answer ping from the namespace within a second."""
        return self.fails(f"ping -c2 -i0.3 -W1 {address}", ns)

    # witnesses

    def snapshot(self, ns: str = "host") -> dict[str, Any]:
        return snapshot(ns)

    def nft_json(self, ns: str = "host") -> list[dict[str, Any]]:
        return ruleset(ns)

    def ip_json(self, ns: str, *arguments: str) -> list[dict[str, Any]]:
        """`ip -d -j ARGUMENTS` in the namespace."""
        return read_json(ns, "ip", "-d", "-j", *arguments)

    def link(self, ns: str, ifname: str) -> dict[str, Any]:
        """`ip -d -j addr show dev IFNAME`; empty where there is none."""
        found = [link for link in self.ip_json(ns, "addr") if link["ifname"] == ifname]
        return found[0] if found else {}

    def ifindex(self, ns: str, ifname: str) -> int:
        """The ifindex of a link that must be there."""
        link = self.link(ns, ifname)
        assert link, f"no link {ifname} in {ns}"
        index: int = link["ifindex"]
        return index

    def addresses(self, ns: str, ifname: str) -> set[str]:
        """The addresses of a link, but for IPv6's own link-local ones."""
        entries = self.link(ns, ifname).get("addr_info", [])
        return {f"{a['local']}/{a['prefixlen']}" for a in entries if not a["local"].startswith("fe80:")}

    def routes(self, ns: str, *selector: str) -> list[dict[str, Any]]:
        """`ip -d -j route show SELECTOR`."""
        return self.ip_json(ns, "route", "show", *selector)

    def namespaces(self) -> set[str]:
        """The names in /run/netns."""
        return {entry.name for entry in NETNS.iterdir()} if NETNS.is_dir() else set()

    def everywhere(self) -> dict[str, dict[str, Any]]:
        """A snapshot of the host and of every namespace in /run/netns, but for one that goes meanwhile."""
        names = ("host", *sorted(self.namespaces()))
        return {ns: seen for ns in names if (seen := self._unless_it_goes(ns)) is not None}

    def _unless_it_goes(self, ns: str) -> dict[str, Any] | None:
        try:
            return snapshot(ns)
        except AssertionError:
            if ns == "host" or not until(lambda: ns not in self.namespaces(), 1):
                raise
        return None

    def settled(self) -> dict[str, dict[str, Any]]:
        """As `everywhere`, once two in a row agree: the kernel is done with what it does by itself."""
        now = self.everywhere()
        for _ in range(20):
            time.sleep(0.05)
            before, now = now, self.everywhere()
            if before == now:
                return now
        pytest.fail(f"this changes by itself: {changed(before, now)}", pytrace=False)

    def same(self, before: dict[str, dict[str, Any]], *, but_for_macs: bool = False) -> None:
        """Fail unless everything is, or within 3 seconds comes to be, as it was `before`.

        `but_for_macs` is for links that were made anew, and have other random MAC addresses.
        """
        form = shape if but_for_macs else dict
        until(lambda: form(self.everywhere()) == form(before), 3)
        differences = changed(form(before), form(self.everywhere()))
        if differences:
            pytest.fail("not as before:\n" + "\n".join(differences), pytrace=False)

    def settle(self, *namespaces: str) -> None:
        """Wait until no duplicate address detection, spanning tree or change of carrier is under way, there or everywhere.

        The kernel's work queues serve all namespaces of the machine: where thousands of links go elsewhere, this takes long.
        """
        for ns in namespaces or ("host", *sorted(self.namespaces())):
            assert until(lambda ns=ns: not _moving(ns), 60), f"{ns} does not settle"  # type: ignore[misc]


def _moving(ns: str) -> bool:
    """Whether duplicate address detection, a spanning tree or a change of carrier is still under way."""
    addresses = output(ns, "ip", "-6", "-o", "addr", "show", "tentative")
    ports = output(ns, "bridge", "link")
    links = output(ns, "ip", "-o", "link").splitlines()
    if any("LOWER_UP" in link and (" state DOWN " in link or " state LOWERLAYERDOWN " in link) for link in links):
        return True  # linkwatch of the kernel tells at most once a second
    return bool(addresses.strip()) or " state listening" in ports or " state learning" in ports
