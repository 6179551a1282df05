"""Runs the console blocks of a page and compares what comes with what the page says.

In a block marked `console`, a line that begins with `# ` is a command (a trailing backslash continues it), and what
follows is its output, standard error included. The commands of a page run in one shell, as root, in a directory that
holds `samples` and the page's own files: every block marked `yaml` that begins with a line such as `# lab.yaml`.

`python tests/tour.py PAGE...` writes real output into the pages; it runs in the sandbox of the live tests.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

ROOT: Final = Path(__file__).resolve().parents[1]
PROMPT: Final = "# "
_FENCE: Final = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE: Final = re.compile(r"# ([\w.-]+\.yaml)\n")
_END: Final = "end of output"
_LOOSE: Final = (  # what differs from run to run
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "WHEN"),
    (re.compile(r"^rtt .*$", re.MULTILINE), "RTT"),
    (re.compile(r"\b\d+(\.\d+)? ?m?s\b"), "TIME"),
    (re.compile(r"'inode': \d+"), "INODE"),
    (re.compile(r"\bnet:\[\d+\]"), "NAMESPACE"),
    (re.compile(r"@(if\d+|\w+)(?=[: ])"), ""),
    (re.compile(r"\bfe80::[0-9a-f:]+"), "LINKLOCAL"),
    (re.compile(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "MAC"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" +$", re.MULTILINE), ""),
)


class Step(NamedTuple):
    """A command, the output that the page shows, and where that stands in the page's text."""

    command: str
    output: str
    start: int
    end: int


def blocks(text: str, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language: offset and content."""
    return [(match.start(2), match[2]) for match in _FENCE.finditer(text) if match[1] == language]


def files(text: str) -> dict[str, str]:
    """The files that a page shows."""
    found = {}
    for _, content in blocks(text, "yaml"):
        if match := _FILE.match(content):
            found[match[1]] = content
    return found


def steps(text: str) -> list[Step]:
    """Every command of a page, in order."""
    found: list[Step] = []
    for offset, content in blocks(text, "console"):
        more = False
        for line in content.splitlines(keepends=True):
            offset += len(line)
            if more or line.startswith(PROMPT):
                before = found.pop().command + "\n" if more else ""
                command = before + (line if more else line.removeprefix(PROMPT)).rstrip("\n")
                found.append(Step(command, "", offset, offset))
                more = command.endswith("\\")
            else:
                found[-1] = found[-1]._replace(output=found[-1].output + line, end=offset)
    return found


def loose(text: str) -> str:
    """`text` without what differs from run to run: times, ifindexes, random MAC addresses."""
    for pattern, word in _LOOSE:
        text = pattern.sub(word, text)
    return text.strip()


class Shell:
    """One bash for all the commands of a page."""

    def __init__(self, directory: Path, page: str) -> None:
        tools = directory / "bin"
        tools.mkdir()
        topo = tools / "topo"
        topo.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m topo "$@"\n')
        topo.chmod(0o755)
        (directory / "samples").symlink_to(ROOT / "samples")
        for name, text in files(page).items():
            (directory / name).write_text(text)
        proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
        env = {name: value for name, value in os.environ.items() if name not in proxies}
        env |= {"PATH": f"{tools}:{env['PATH']}:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=directory,
            env=env,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()

    def run(self, command: str) -> str:
        """What the command prints."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s\\n' {shlex.quote(_END)}\n")
        self._bash.stdin.flush()
        found: list[str] = []
        for line in self._bash.stdout:
            if line == _END + "\n":
                return "".join(found)[:-1]
            found.append(line)
        raise AssertionError(f"the shell ended in: {command}\n{''.join(found)}")


def rewritten(text: str, outputs: list[str]) -> str:
    """The page with these outputs in place of its own."""
    for step, output in reversed(list(zip(steps(text), outputs, strict=True))):
        text = text[: step.start] + output + text[step.end :]
    return text


def main(pages: list[str]) -> None:
    from sandbox.enter import enter

    enter()
    for page in map(Path, pages):
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as directory, Shell(Path(directory), text) as shell:
            outputs = [shell.run(step.command) for step in steps(text)]
        page.write_text(rewritten(text, outputs), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
