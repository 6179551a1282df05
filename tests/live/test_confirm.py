"""`apply --confirm`: it goes back by itself, whatever becomes of who applied it, unless it is confirmed in time."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sandbox.enter import processes
from sandbox.host import ROOT, Host, until
from sandbox.leaks import RECORD

FIRST = """
topology: lab
bridges:
  br0: {subnet: 10.40.0.0/24}
namespaces:
  a: {}
  b: {}
links:
  - [a:eth0, {bridge: br0, name: a-port}]
  - [b:eth0, {bridge: br0, name: b-port}]
"""

SECOND = FIRST.replace("  b: {}\n", "  c: {}\n").replace("b:eth0", "c:eth0").replace("10.40", "10.41")


def watchdogs() -> list[int]:
    return [pid for pid, words in processes().items() if words.startswith(sys.executable) and "--confirm" in words]


def note(name: str = "lab") -> dict[str, Any]:
    path = RECORD / f".{name}.confirm"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def state(host: Host, name: str = "lab") -> dict[str, Any]:
    """What `topo list` says of it."""
    listed = host.ok("list", "--output", "json").json()["topologies"]
    return next((item for item in listed if item["name"] == name), {})


def reverted(host: Host, name: str = "lab", within: float = 8) -> None:
    """Wait until it went back; the watchdog is gone then, too."""
    assert until(lambda: note(name).get("reverted"), within), note(name)
    assert until(lambda: not watchdogs(), 3), processes()


def test_confirmed_in_time(host: Host) -> None:
    began = time.monotonic()
    said = host.ok("apply", "--confirm", "12s", host.file(FIRST))
    assert "lab: unconfirmed, reverts in 12 s; to keep it: topo confirm lab" in said.out
    assert "unconfirmed, reverts in " in host.ok("list").out
    assert "lab: unconfirmed, reverts in " in host.ok("show", "lab").out
    assert 0 < state(host)["reverts_in"] <= 12
    assert len(watchdogs()) == 1
    assert host.ok("confirm", "lab").out == "lab: confirmed\n"
    assert until(lambda: not watchdogs(), 5), "it is not needed any more"
    assert state(host) | {"applied_at": 0} == {
        "name": "lab", "namespaces": 2, "links": 3, "applied_at": 0, "state": "applied", "reverts_in": None, "word": ""
    }  # fmt: skip
    time.sleep(max(0, began + 14 - time.monotonic()))
    assert host.ping("a", "10.40.0.3")
    assert host.ok("confirm", "lab").out == "lab: nothing to confirm\n"
    host.ok("destroy", "lab")


def test_first_apply_goes_back_to_nothing(host: Host) -> None:
    before = host.settled()
    said = host.ok("apply", "--confirm", "3s", "--output", "json", host.file(FIRST))
    assert said.json()["reverts_in"] == 3
    assert host.namespaces() == {"a", "b"}
    reverted(host)
    host.same(before)
    assert state(host)["state"] == "reverted"
    shown = host.topo("show", "lab")
    assert shown.code == 2
    assert "it was not confirmed within 3 s" in shown.err
    late = host.topo("confirm", "lab", "--output", "json")
    assert (late.code, late.json()["error"]) == (3, "RevertedError")
    host.ok("destroy", "lab")
    assert not RECORD.exists()


def test_edit_goes_back_to_what_was_applied(host: Host) -> None:
    host.ok("apply", host.file(FIRST))
    before = host.settled()
    host.ok("apply", "--confirm", "3s", host.file(SECOND, "second.yaml"))
    assert host.namespaces() == {"a", "c"}
    assert host.addresses("host", "br0") == {"10.41.0.1/24"}
    reverted(host)
    host.same(before, but_for_macs=True)
    host.ok("diff", host.directory / "lab.yaml")
    assert "it was not confirmed within 3 s" in host.ok("show", "lab").out
    assert state(host)["state"] == "applied"
    assert host.topo("confirm", "lab").code == 3
    host.ok("apply", host.directory / "lab.yaml")  # the word of it is heard
    assert host.ok("confirm", "lab").out == "lab: nothing to confirm\n"
    host.ok("destroy", "lab")


def _on_a_terminal(command: str) -> tuple[int, int]:
    """A shell that leads a session with a terminal of its own; its pid, and the terminal's other side."""
    shell, master = pty.fork()
    if not shell:
        os.execvp("sh", ["sh", "-c", f"{command}; sleep 60"])
    return shell, master


def _heard(master: int, words: str, within: float = 10) -> bool:
    """Whether the terminal shows these words in time."""
    os.set_blocking(master, False)
    text = bytearray()

    def more() -> bool:
        with suppress(BlockingIOError):
            text.extend(os.read(master, 4096))
        return words.encode() in text

    return until(more, within)


def test_terminal_is_killed(host: Host) -> None:
    before = host.settled()
    lab = host.file(FIRST)
    shell, master = _on_a_terminal(f"cd {ROOT} && {sys.executable} -m topo apply --confirm 2s {lab}")
    assert _heard(master, "unconfirmed, reverts in 2 s")
    assert until(lambda: len(watchdogs()) == 1), "the apply itself is over"
    (watchdog,) = watchdogs()
    assert os.getsid(watchdog) not in (shell, os.getsid(0)), "a session of its own"
    files = Path(f"/proc/{watchdog}/fd")  # the socket to who started it until that one's end is noticed
    assert until(lambda: {os.readlink(fd) for fd in files.iterdir()} == {os.devnull}, 1), [*files.iterdir()]
    os.kill(shell, signal.SIGKILL)
    os.close(master)
    os.waitpid(shell, 0)
    os.kill(watchdog, signal.SIGHUP)
    time.sleep(0.2)
    assert watchdogs() == [watchdog]
    assert host.namespaces() == {"a", "b"}
    reverted(host)
    host.same(before)
    host.ok("destroy", "lab")


def test_terminal_is_told(host: Host) -> None:
    lab = host.file(FIRST)
    shell, master = _on_a_terminal(f"cd {ROOT} && {sys.executable} -m topo apply --confirm 1s {lab}")
    assert _heard(master, "topo: lab: not confirmed within 1 s: reverted")
    os.kill(shell, signal.SIGKILL)
    os.waitpid(shell, 0)
    os.close(master)
    host.ok("destroy", "lab")


def test_nobody_waits_for_the_watchdog(host: Host) -> None:
    """It holds neither the output of who started it nor a lock."""
    started = time.monotonic()
    host.ok("apply", "--confirm", "60s", host.file(FIRST))
    host.ok("confirm", "lab")
    assert time.monotonic() - started < 30
    host.ok("destroy", "lab")


@pytest.mark.parametrize("applied", [False, True], ids=["first", "edit"])
def test_apply_is_killed_midway(host: Host, applied: bool) -> None:
    if applied:
        host.ok("apply", host.file(FIRST))
    before = host.settled()
    text = SECOND.replace("  c: {}\n", '  c: {}\n  "h[1-400]": {}\n').replace("10.41.0.0/24", "10.41.0.0/16")
    many = host.file(text + '  - ["h[1-400]:eth0", br0]\n', "many.yaml")
    began = time.monotonic()
    state(host)
    enough = max(5, 25 * round(time.monotonic() - began, 1))  # seconds, for this machine
    process = subprocess.Popen(
        [sys.executable, "-m", "topo", "apply", "--confirm", f"{enough:g}s", str(many)], cwd=ROOT
    )
    assert until(lambda: len(host.namespaces()) > 20, 20 + enough)
    process.kill()
    process.wait()
    assert len(watchdogs()) == 1
    found = state(host)
    assert found["state"] == "interrupted"
    assert found["reverts_in"] > 0
    assert 20 < len(host.namespaces()) < 400
    refused = host.topo("confirm", "lab")
    assert refused.code == 2, "half of it cannot stay"
    assert "killed midway" in refused.err
    reverted(host, within=20 + 2 * enough)
    host.same(before, but_for_macs=True)
    host.ok("destroy", "lab")


CUTS = {
    "by-a-firewall": "firewall: {input: {policy: drop}}\n",
    "by-taking-the-link-down": "interfaces: {eth0: {kind: existing, up: false}}\n",
    "by-another-address": "interfaces: {eth0: {kind: existing}}\nroutes: [{to: 192.0.2.254/32, type: blackhole}]\n",
}


@pytest.mark.parametrize("case", CUTS)
def test_change_that_cuts_the_way_in(host: Host, case: str) -> None:
    """Who sits elsewhere in the network gets back in, and the session goes on."""
    host.run("ip netns add net")
    host.run("ip link add eth0 up type veth peer name eth0 netns net")
    host.run("ip addr add 192.0.2.10/24 dev eth0")
    host.run("ip -n net link set eth0 up")
    host.run("ip -n net addr add 192.0.2.254/24 dev eth0")
    host.serve("host", 8000, "in")
    assert host.fetch("net", "http://192.0.2.10:8000/")
    before = host.settled()
    host.ok("apply", "--confirm", "4s", host.file(f"topology: lab\n{CUTS[case]}"))
    assert host.fetch("net", "http://192.0.2.10:8000/", 1) == ""
    reverted(host)
    host.same(before)
    assert host.fetch("net", "http://192.0.2.10:8000/").startswith("in ")
    host.ok("destroy", "lab")
    host.close()
    host.run("ip netns del net")
    host.fails("ip link del eth0")


def test_two_topologies_at_once(host: Host) -> None:
    other = FIRST.replace("topology: lab", "topology: other").replace("br0", "br1").replace("10.40", "10.50")
    other = other.replace("a:", "x:").replace("b:", "y:").replace("a-port", "x-port").replace("b-port", "y-port")
    host.ok("apply", "--confirm", "4s", host.file(FIRST))
    host.ok("apply", "--confirm", "4s", host.file(other, "other.yaml"))
    assert len(watchdogs()) == 2
    host.ok("confirm", "other")
    reverted(host)
    assert host.namespaces() == {"x", "y"}
    assert host.ping("x", "10.50.0.3")
    assert note("other") == {}
    host.ok("destroy", "other")
    host.ok("destroy", "lab")


def test_both_go_back_at_once(host: Host) -> None:
    """Their runs take turns."""
    before = host.settled()
    host.ok("apply", "--confirm", "2s", host.file(FIRST))
    host.ok("apply", "--confirm", "1s", host.file(FIRST.replace("lab", "two").replace("br0", "br1")
            .replace("10.40", "10.50").replace("a:", "x:").replace("b:", "y:")
            .replace("a-port", "x-port").replace("b-port", "y-port"), "two.yaml"))  # fmt: skip
    reverted(host, "two")
    reverted(host)
    host.same(before)
    host.ok("destroy", "lab")
    host.ok("destroy", "two")


def test_until_it_is_confirmed(host: Host) -> None:
    """A plain apply is refused; one with --confirm changes it, and still goes back to what was confirmed last."""
    first, second = host.file(FIRST), host.file(SECOND, "second.yaml")
    host.ok("apply", first)
    before = host.settled()
    host.ok("apply", "--confirm", "30s", second)
    refused = host.topo("apply", second, "--output", "json")
    assert (refused.code, refused.json()["error"]) == (2, "UnconfirmedError")
    assert "topo confirm lab" in refused.json()["message"]
    third = host.file(SECOND.replace("10.41", "10.42"), "third.yaml")
    host.ok("apply", "--confirm", "8s", third)
    ends = time.monotonic() + 8
    assert until(lambda: len(watchdogs()) == 1, 1), "the first one is dismissed"
    assert host.addresses("host", "br0") == {"10.42.0.1/24"}
    time.sleep(3)
    assert host.ok("apply", "--confirm", "8s", third).out.startswith("lab: nothing to do"), "which begins the time anew"
    time.sleep(max(0, ends + 0.5 - time.monotonic()))
    assert host.addresses("host", "br0") == {"10.42.0.1/24"}
    reverted(host, within=16)
    host.same(before, but_for_macs=True)
    host.ok("destroy", "lab")


def test_destroy_ends_it(host: Host) -> None:
    before = host.settled()
    host.ok("apply", host.file(FIRST))
    host.ok("apply", "--confirm", "3s", host.file(SECOND, "second.yaml"))
    host.ok("destroy", "lab")
    assert until(lambda: not watchdogs(), 1)
    time.sleep(3.2)
    host.same(before)
    assert not RECORD.exists()


def test_go_back_now(host: Host) -> None:
    host.ok("apply", host.file(FIRST))
    before = host.settled()
    host.ok("apply", "--confirm", "60s", host.file(SECOND, "second.yaml"))
    said = host.ok("confirm", "--revert", "lab", "--output", "json").json()
    assert (said["kind"], said["result"], said["changed"]) == ("result", "reverted", True)
    host.same(before, but_for_macs=True)
    assert until(lambda: not watchdogs(), 1), "it is not needed"
    assert host.topo("confirm", "--revert", "lab").code == 2
    host.ok("destroy", "lab")


def test_watchdog_is_killed(host: Host) -> None:
    """Nobody goes back by himself then; every command says so, and both ways are open."""
    first = host.file(FIRST)
    for keep in (True, False):
        host.ok("apply", "--confirm", "3s", first)
        os.kill(watchdogs()[0], signal.SIGKILL)
        assert until(lambda: not watchdogs())
        time.sleep(3)
        assert "its watchdog is gone" in host.ok("list").out
        assert state(host)["reverts_in"] < 0
        assert "its watchdog is gone" in host.ok("show", "lab").out
        refused = host.topo("apply", first)
        assert refused.code == 2
        assert "its watchdog is gone" in refused.err
        if keep:
            host.ok("confirm", "lab")
            assert state(host)["state"] == "applied"
            host.ok("destroy", "lab")
        else:
            host.ok("confirm", "--revert", "lab")
            assert host.namespaces() == set()
    host.ok("destroy", "lab")


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _changed(**changed: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changed))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut short": _cut,
    "empty": lambda path: path.write_bytes(b""),
    "of another version": _changed(format=7),
    "of another boot": _changed(boot="00000000-0000-0000-0000-000000000000"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_note(host: Host, what: str) -> None:
    """The watchdog knows what it says, and goes back; who confirms is heard."""
    host.ok("apply", host.file(FIRST))
    before = host.settled()
    host.ok("apply", "--confirm", "6s", host.file(SECOND, "second.yaml"))
    DAMAGE[what](RECORD / ".lab.confirm")
    assert until(lambda: not watchdogs(), 30), processes()
    reverted(host)
    host.same(before, but_for_macs=True)
    host.ok("diff", host.directory / "lab.yaml")
    host.ok("apply", "--confirm", "60s", host.directory / "second.yaml")
    DAMAGE[what](RECORD / ".lab.confirm")
    assert host.ok("confirm", "lab").out == "lab: confirmed\n"
    assert until(lambda: not watchdogs(), 20), "it is not needed any more"
    assert host.namespaces() == {"a", "c"} and note() == {}
    host.ok("destroy", "lab")


def test_failure_is_undone_and_nothing_waits(host: Host) -> None:
    bad = host.file(FIRST + "sysctls: {net.ipv4.no_such_sysctl: 1}\n", "bad.yaml")
    before = host.settled()
    assert host.topo("apply", "--confirm", "60s", bad).code == 3
    host.same(before)
    assert until(lambda: not watchdogs(), 1)
    assert until(lambda: not list(RECORD.glob("*")), 1)


def test_failure_leaves_the_one_before_unconfirmed(host: Host) -> None:
    bad = host.file(FIRST + "sysctls: {net.ipv4.no_such_sysctl: 1}\n", "bad.yaml")
    before = host.settled()
    host.ok("apply", "--confirm", "3s", host.file(FIRST))
    (watchdog,) = watchdogs()
    assert host.topo("apply", "--confirm", "60s", bad).code == 3
    assert until(lambda: watchdogs() == [watchdog], 1)
    assert host.namespaces() == {"a", "b"}
    reverted(host)
    host.same(before)
    host.ok("destroy", "lab")


def test_nothing_to_do_needs_no_confirmation(host: Host) -> None:
    lab = host.file(FIRST)
    host.ok("apply", lab)
    assert host.ok("apply", "--confirm", "60s", lab, "--output", "json").json()["reverts_in"] is None
    assert (watchdogs(), note()) == ([], {})
    host.ok("destroy", "lab")


def test_what_could_not_go_back_is_refused(host: Host) -> None:
    lab = host.file(FIRST)
    host.run("ip link add br0 type bridge")
    before = host.settled()
    refused = host.topo("apply", "--adopt", "--confirm", "60s", lab)
    assert (refused.code, "adopted" in refused.err) == (2, True), refused.err
    host.same(before)
    host.run("ip link del br0")
    host.ok("apply", lab)
    (RECORD / "lab.json").unlink()
    refused = host.topo("apply", "--confirm", "60s", host.file(SECOND, "second.yaml"))
    assert (refused.code, "record is lost" in refused.err) == (2, True), refused.err
    host.ok("diff", lab)
    assert (watchdogs(), note()) == ([], {})
    host.ok("destroy", lab)


def test_saved_plan(host: Host) -> None:
    plan = host.directory / "plan.json"
    before = host.settled()
    host.ok("plan", host.file(FIRST), "-o", plan)
    host.ok("apply", "--confirm", "1s", plan)
    reverted(host)
    host.same(before)
    host.ok("destroy", "lab")


def test_notes_are_for_roots_eyes(host: Host) -> None:
    host.ok("apply", "--confirm", "60s", host.file(FIRST))
    path = Path(RECORD / ".lab.confirm")
    assert (path.stat().st_mode & 0o777, RECORD.stat().st_mode & 0o777) == (0o600, 0o700)
    host.ok("confirm", "lab")
    host.ok("destroy", "lab")


def test_cut_off_and_killed_at_the_terminal(host: Host) -> None:
    """The worst night: the way in is cut, the terminal goes, and all that is left is what is on disk and the watchdog."""
    host.run("ip netns add net")
    host.run("ip link add eth0 up type veth peer name eth0 netns net")
    host.run("ip addr add 192.0.2.10/24 dev eth0")
    host.run("ip -n net link set eth0 up")
    host.run("ip -n net addr add 192.0.2.254/24 dev eth0")
    host.ok("apply", host.file("topology: lab\ninterfaces: {eth0: {kind: existing, mtu: 1400}}\n"))
    before = host.settled()
    cut = host.file("topology: lab\ninterfaces: {eth0: {kind: existing, mtu: 1300, up: false}}\n", "cut.yaml")
    shell, master = _on_a_terminal(f"cd {ROOT} && {sys.executable} -m topo apply --confirm 3s {cut}")
    assert _heard(master, "unconfirmed, reverts in 3 s")
    os.kill(shell, signal.SIGKILL)
    os.close(master)
    os.waitpid(shell, 0)
    assert host.silent("net", "192.0.2.10")
    assert json.loads((RECORD / "lab.json").read_text())["applied"]["interfaces"]["eth0"]["mtu"] == 1300
    assert note()["before"]["interfaces"]["eth0"]["mtu"] == 1400, "another run of the tool knows the way back"
    reverted(host)
    host.same(before)
    assert host.ping("net", "192.0.2.10")
    host.ok("destroy", "lab")
    host.run("ip netns del net")
    host.fails("ip link del eth0")
