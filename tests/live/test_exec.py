"""Running something inside a namespace: `ip netns exec` is the witness of what that means."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox.host import ROOT, Host, Result

LAB = """\
topology: lab
namespaces:
  web: {}
links:
  - [{interface: web:eth0, addresses: [10.0.0.1/24]}, {interface: v0, addresses: [10.0.0.2/24]}]
"""


@pytest.fixture(autouse=True)
def lab(host: Host) -> Iterator[None]:
    host.ok("apply", host.file(LAB))
    yield
    host.ok("destroy", "lab")


def witness(command: str) -> str:
    """What a shell prints in the namespace when iproute2 starts it there."""
    done = subprocess.run(
        ["ip", "netns", "exec", "web", "sh", "-c", command], capture_output=True, text=True, check=True
    )
    return done.stdout


def inside(host: Host, command: str) -> Result:
    return host.topo("exec", "lab:web", "--", "sh", "-c", command)


WHAT = """\
ip -o -4 addr
ls /sys/class/net
readlink /proc/self/ns/net
stat -f -c %T /sys
ls /proc/self/fd | wc -l
grep -E 'SigIgn|SigBlk' /proc/self/status
grep -c shared: /proc/self/mountinfo
grep -c master: /proc/self/mountinfo
true
"""


def test_it_is_there_as_ip_netns_exec_would_be(host: Host) -> None:
    result = inside(host, WHAT)
    assert (result.code, result.out, result.err) == (0, witness(WHAT), "")
    assert "10.0.0.1/24" in result.out


def test_what_is_mounted_inside_is_not_seen_outside(host: Host) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert inside(host, "mount -t tmpfs none /mnt && ls /mnt").code == 0
    assert Path("/proc/self/mountinfo").read_text() == before
    assert Path("/sys/class/net/v0").exists()


def test_files_of_etc_netns_lie_over_those_of_etc(host: Host) -> None:
    directory = Path("/etc/netns/web")
    had = Path("/etc/netns").exists()
    directory.mkdir(parents=True)
    try:
        (directory / "hosts").write_text("10.0.0.2 here\n")
        (directory / "not-in-etc").write_text("")
        result = inside(host, "cat /etc/hosts")
        assert (result.out, result.err) == ("10.0.0.2 here\n", "")
        assert Path("/etc/hosts").read_text() != "10.0.0.2 here\n"
    finally:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
        if not had:
            directory.parent.rmdir()


def test_the_exit_code_is_the_commands_own(host: Host) -> None:
    assert inside(host, "exit 7").code == 7
    assert inside(host, "kill -TERM $$").code == -signal.SIGTERM


def test_a_command_that_cannot_be_started(host: Host, tmp_path: Path) -> None:
    missing = host.topo("exec", "lab:web", "no-such-command")
    assert (missing.code, missing.err) == (127, "topo: no-such-command: No such file or directory\n")
    plain = tmp_path / "plain"
    plain.write_text("")
    assert host.topo("exec", "lab:web", str(plain)).code == 126


def test_options_of_the_command_are_the_commands(host: Host) -> None:
    assert host.topo("exec", "lab:web", "echo", "--help", "-n", "--output", "json").out == "--help -n --output json\n"


def test_the_host_is_a_namespace_too(host: Host) -> None:
    result = host.topo("exec", "lab:host", "readlink", "/proc/self/ns/net")
    assert result.out.strip() == os.readlink("/proc/self/ns/net")


def test_a_place_that_is_not_there(host: Host) -> None:
    for target in ("lab", "lab:nowhere", "nothing:web"):
        result = host.topo("exec", target, "true")
        assert (result.code, result.out, result.err[:6]) == (2, "", "topo: ")


def test_a_shell_on_a_terminal(host: Host) -> None:
    """The shell reads from a terminal, knows where it is, and ends with its own exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(
            sys.executable, [sys.executable, "-m", "topo", "shell", "lab:web"], {**os.environ, "SHELL": "/bin/sh"}
        )
    os.write(terminal, b"echo in=$TOPO_NAMESPACE; ip -o link show eth0; exit 5\n")
    said = b""
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # EIO: the other side has closed
            break
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 5
    assert b"in=lab:web" in said
    assert b"eth0@" in said
