"""Hostile files: what nobody would write on purpose, and what somebody would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sandbox.host import ROOT, SAMPLES, Host
from sandbox.leaks import RECORD

from faults.figures import FIGURES
from faults.killed import MORE
from topo import api
from topo.facts import Desired
from topo.file import loading
from topo.kernel import Kernel, rtnl
from topo.wire import IFADDRMSG, IFINFOMSG, NDMSG, RTMSG

SECONDS = int(os.environ.get("TOPO_FUZZ_SECONDS", "900" if MORE else "15"))
MEMORY, EACH = 2048, 10  # MB in all; seconds that one input may take
INPUTS = sorted(ROOT.glob("tests/cases/*/*/topology.yaml")) + sorted(SAMPLES.rglob("*.yaml"))

# -- fuzzing ---------------------------------------------------------------------------------------------------------


def _files() -> Iterator[bytes]:
    yield from (path.read_bytes() for path in INPUTS)


def _documents() -> Iterator[bytes]:
    for path in sorted(SAMPLES.glob("*.yaml")):
        yield json.dumps(loading.loads_document(path.read_text(), str(path))).encode()


def _messages() -> Iterator[bytes]:
    """What the kernel of this sandbox says, each behind a byte that stands for its type."""
    sock = rtnl.open_socket()
    bodies = {
        18: IFINFOMSG.pack(0, 0, 0, 0, 0),
        22: IFADDRMSG.pack(0, 0, 0, 0, 0),
        26: RTMSG.pack(*[0] * 9),
        30: NDMSG.pack(*[0] * 5),
    }
    for kind, body in bodies.items():
        for answer, data, at, end in rtnl.dump(sock, kind, body):
            yield bytes([answer - 16]) + data[at:end]
    sock.close()


def _records() -> Iterator[bytes]:
    document = json.loads(next(_documents()))
    record = {
        "format": 1, "topology": "lab", "boot": "boot", "home": 1, "time": 1.5, "applied": document, "pending": None,
        "destroying": False, "namespaces": {"web": 4026531840},
        "restore": [{"ref": ["link", "host", ["eth0"]], "attrs": {"mtu": 1500}, "origin": "foreign"}],
    }  # fmt: skip
    yield json.dumps(record).encode()
    yield json.dumps(record | {"pending": document, "destroying": True}).encode()
    note = {
        "format": 1,
        "boot": "boot",
        "topology": "lab",
        "before": document,
        "seconds": 3,
        "deadline": 9,
        "watchdog": [1, 2],
        "reverted": 0,
        "problem": "",
    }
    yield json.dumps(note).encode()


def _plans() -> Iterator[bytes]:
    with Kernel() as kernel:
        assert kernel.read(Desired("nothing", {}), None) is not None
    for path in ("vxlan-unicast.yaml", "nat.yaml"):
        from topo.cli.machine import Json

        yield Json.text(Json.plan_document(api.plan(api.load(SAMPLES / path)))).encode()


TARGETS: dict[str, Callable[[], Iterator[bytes]]] = {
    "loader": _files, "models": _documents, "codec": _messages, "records": _records, "plans": _plans,
}  # fmt: skip


@pytest.mark.timeout(SECONDS * 4 + 300)
@pytest.mark.parametrize("target", TARGETS)
def test_fuzzed(host: Host, tmp_path: Path, target: str) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(TARGETS[target]()):
        (corpus / f"{number}").write_bytes(seed)
    command = [
        sys.executable, str(ROOT / "tests/faults/fuzz.py"), target, str(corpus), f"-max_total_time={SECONDS}",
        f"-timeout={EACH}", f"-rss_limit_mb={MEMORY}", "-max_len=65536", "-print_final_stats=1", "-seed=5",
        f"-artifact_prefix={tmp_path}/",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=tmp_path, check=False)
    for directory in Path("/dev/shm").glob("topo-fuzz-*"):
        subprocess.run(["rm", "-r", str(directory)], check=True)
    found = [
        path.read_bytes()[:2000]
        for path in tmp_path.iterdir()
        if path.name.startswith(("crash", "timeout", "oom", "leak"))
    ]
    assert done.returncode == 0 and not found, f"{done.stderr[-3000:]}\n{found}"
    units = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert units and int(units[1]) > 100, done.stderr[-2000:]
    FIGURES.count("fuzzed", target, number=int(units[1]))


# -- what is deep, large or strange ----------------------------------------------------------------------------------

DEEP: dict[str, Callable[[int], str]] = {
    "flow sequences": lambda n: "topology: x\nsections: " + "[" * n + "]" * n,
    "flow mappings": lambda n: "topology: x\nsections: " + "{a: " * n + "}" * n,
    "block mappings": lambda n: "topology: x\n" + "".join(" " * i + "a:\n" for i in range(min(n, 3000))),
    "an anchor for each alias": lambda n: "topology: x\na: &a0 [x]\n" + "".join(f"b{i}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(n // 100)),
    "a long key": lambda n: "topology: x\n" + "k" * n * 10 + ": 1",
    "a long number": lambda n: "topology: x\nbridges: {br0: {mtu: " + "9" * n + "}}",
    "a long float": lambda n: "topology: x\nbridges: {br0: {mtu: " + "1." + "9" * n + "e" + "9" * 30 + "}}",
    "nested ranges": lambda n: "topology: x\nnamespaces: {'" + "a[1-9]" * (n // 100) + "': {}}",
    "many ranges": lambda n: "topology: x\nnamespaces: {'a[1-65535]b[1-65535]': {}}",
    "merge keys": lambda n: "topology: x\na: &a {b: 1}\n" + "".join(f"c{i}: {{<<: *a}}\n" for i in range(n // 10)),
    "a plan that is deep": lambda n: '{"kind": "plan", "format": 1, "changes": ' + "[" * n + "]" * n + "}",
    "a document that is deep JSON": lambda n: '{"topology": "x", "a": ' + "[" * n + "]" * n + "}",
}  # fmt: skip


@pytest.mark.parametrize("what", DEEP)
def test_deep_or_large(host: Host, what: str) -> None:
    """Refused with a word, in less than 10 s and 512 MB, by every command that reads a file."""
    for size, commands in ((1000, ("validate",)), (20_000, ("validate", "apply"))):
        path = host.file(DEEP[what](size))
        for command in commands:
            limited = ["prlimit", "--as=1073741824", sys.executable, "-m", "topo", command, str(path)]
            done = subprocess.run(limited, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
            assert done.returncode == 2, f"{command}: exit {done.returncode}: {done.stderr[-2000:]}"
            assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr[-2000:]
            FIGURES.count("deep or large files", what)


NAMES = (
    "\x1b]0;title\x07",
    "a\nb",
    "a\rb",
    "\u202e",
    "../../etc",
    "a/b",
    "..",
    ".",
    "",
    "a" * 300,
    "$(id)",
    "`id`",
    "'; id #",
    '"',
    "a\0b",
    "%n",
    "-h",
    "--",
    "\ud800",
)


@pytest.mark.parametrize("where", ["namespaces", "bridges", "topology"])
def test_names(host: Host, where: str) -> None:
    """Control characters are shown escaped, and no name leads anywhere."""
    before = host.everywhere()
    for name in NAMES:
        document: dict[str, object] = {"topology": "x", where: name if where == "topology" else {name: {}}}
        path = host.file(json.dumps(document))
        result = host.topo("apply", path)
        if where == "bridges" and result.code == 0:  # the kernel takes nearly any name, and so does topo
            assert name in {link["ifname"] for link in host.ip_json("host", "link")}
            host.ok("destroy", "x")
        else:
            assert result.code == 2, (name, result.text)
        assert all(c.isprintable() or c == "\n" for c in result.text), (name, result.text)
        FIGURES.count("hostile names", where)
        if where == "topology":
            for command in ("destroy", "show", "confirm"):
                if "\0" not in name and name.isprintable() and not name.startswith("-"):
                    result = host.topo(command, name)
                    assert result.code == 2, (command, name, result.text)
    assert host.everywhere() == before


INJECTED = '"; flush ruleset; table ip x { chain y { type filter hook input priority 0; } } #'


def test_text_in_nftables(host: Host) -> None:
    """Text of the user's gets there as data, or not at all."""
    lab = {
        "topology": "quoted", "bridges": {"br0": {"subnet": "10.9.0.0/24"}},
        "firewall": {"input": {"rules": [{"protocol": "tcp", "dport": 1, "action": "drop", "log": INJECTED[:100], "comment": INJECTED[:100]}]}},
    }  # fmt: skip
    result = host.topo("apply", host.file(json.dumps(lab)))
    tables = [entry["table"]["name"] for entry in host.nft_json() if "table" in entry]
    if result.code == 0:
        assert tables == ["topo-quoted"]
        host.ok("destroy", "quoted")
    else:
        assert result.code == 2 and tables == [], result.text


# -- links where topo writes -----------------------------------------------------------------------------------------

LAB = "topology: lab\nnamespaces: {web: {}}\n"


@pytest.mark.parametrize("name", ["lab.json", ".lab.json.new", ".topology-lab.lock", ".lab.confirm"])
def test_symlink_in_the_directory_of_records(host: Host, tmp_path: Path, name: str) -> None:
    """It is not followed: what it leads to stays as it is."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    RECORD.mkdir(mode=0o700)
    (RECORD / name).symlink_to(victim)
    result = host.topo("apply", host.file(LAB))
    assert victim.read_text() == "precious"
    assert "Traceback" not in result.text
    (RECORD / name).unlink(missing_ok=True)
    host.ok("destroy", host.file(LAB))
    for path in RECORD.iterdir() if RECORD.exists() else ():
        path.unlink()
    if RECORD.exists():
        RECORD.rmdir()
    assert victim.read_text() == "precious"
    FIGURES.count("symbolic links where topo writes", name)


def test_symlink_instead_of_the_directory(host: Host, tmp_path: Path) -> None:
    RECORD.symlink_to(tmp_path)
    result = host.topo("apply", host.file(LAB))
    assert result.code == 5, result.text
    assert "/run/topo" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["lab.yaml"]
    RECORD.unlink()
    FIGURES.count("symbolic links where topo writes", "/run/topo")


def test_directory_of_someone_else(host: Host) -> None:
    RECORD.mkdir(mode=0o777)
    RECORD.chmod(0o777)
    assert host.topo("apply", host.file(LAB)).code == 5
    RECORD.chmod(0o700)
    os.chown(RECORD, 1234, 1234)
    assert host.topo("apply", host.file(LAB)).code == 5
    RECORD.rmdir()
    FIGURES.count("symbolic links where topo writes", "a directory of someone else", number=2)


def test_symlink_instead_of_a_namespace(host: Host, tmp_path: Path) -> None:
    """A name in /run/netns that is a link: neither entered, nor written through, nor removed."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = Path("/run/netns/web")
    for target in (victim, Path("/proc/1/ns/net"), Path("/nowhere")):
        link.symlink_to(target)
        result = host.topo("apply", host.file(LAB))
        assert result.code in (2, 3), result.text
        assert link.is_symlink() and victim.read_text() == "precious"
        host.ok("destroy", host.file(LAB))
        assert link.is_symlink()
        link.unlink()
        FIGURES.count("symbolic links where topo writes", "/run/netns/NAME")
