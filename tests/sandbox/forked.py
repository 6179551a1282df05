"""`topo` in a process that is forked from one which has it loaded: starting Python takes longer than most runs of it.

The same function is called that the installed command calls, with arguments, environment, directory and files of its own.
Tests of the process itself (its terminal, its signals, its system calls, what it imports) start one in full.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox import enter
from topo.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


class Forked:
    """The process that forks, begun at once, and how it is asked."""

    def __init__(self) -> None:
        self._asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "sandbox.forked", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=ROOT / "tests"
            )
        assert self._asked.recv(1) == b"1", "it is ready"
        enter.OURS.add(self._process.pid)

    def close(self) -> None:
        """End it."""
        self._asked.close()
        self._process.wait()

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdin: str | None, seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """As subprocess.run with its output captured, in ROOT."""
        wish = {"arguments": arguments, "environment": dict(environment)}
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            files[0].write(stdin or "")
            files[0].seek(0)
            ours, theirs = map(stack.enter_context, socket.socketpair())
            fds = [*(file.fileno() for file in files), theirs.fileno()]
            socket.send_fds(self._asked, [json.dumps(wish).encode()], fds)
            theirs.close()
            pid = int(ours.recv(32))
            ours.settimeout(seconds)
            try:
                code = int(ours.recv(32))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(["topo", *arguments], seconds) from None
            for file in files:
                file.seek(0)
            return subprocess.CompletedProcess(["topo", *arguments], code, files[1].read(), files[2].read())


def _serve(asked: socket.socket) -> None:
    """Fork for each that asks, until nobody is left who could."""
    import topo
    from topo.cli.main import run

    os.chdir(ROOT)
    for module in pkgutil.walk_packages(topo.__path__, "topo."):
        importlib.import_module(module.name)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for sample in ROOT.glob("samples/[!s]*.yaml"):  # what is built at first use is there before the first fork
            run(["validate", str(sample)])
    asked.send(b"1")
    events = selectors.DefaultSelector()
    events.register(asked, selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.fileobj is not asked:
                pid, answer = key.data
                events.unregister(key.fileobj)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with answer, contextlib.suppress(BrokenPipeError):
                    answer.send(str(code).encode())
                continue
            words, fds, _, _ = socket.recv_fds(asked, 1 << 20, 4)
            if not words:
                return
            pid = _fork(json.loads(words), fds)
            answer = socket.socket(fileno=fds[3])
            answer.send(str(pid).encode())
            events.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answer))


def _fork(wish: dict[str, Any], fds: list[int]) -> int:
    pid = os.fork()
    if pid:
        for fd in fds[:3]:
            os.close(fd)
        return pid
    code = 70
    try:
        os.environ.clear()
        os.environ.update(wish["environment"])
        for fd, which in zip(fds[:3], (0, 1, 2), strict=True):
            os.dup2(fd, which)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.argv = ["topo", *wish["arguments"]]
        main()  # ends the process, but where a command cannot be started in its place
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - the child ends here, whatever it is
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
