"""The kernel refuses one request, each in turn: the run is undone and says what failed; several: it says what is left."""

from __future__ import annotations

import errno
import os

import pytest
from sandbox.host import Host

from faults.figures import FIGURES
from faults.killed import EACH, MORE, PHASES, Bench, Phase
from faults.labs import labs
from faults.running import Ended, run
from faults.seams import ERRORS, REFUSE, STALE, WORDS, Fault
from faults.world import World

LESS = bool(os.environ.get("TOPO_FAULTS_LESS"))
EVERY = 1 if EACH else 9 if LESS else 5
ALL = {"star", "kinds", "attached", "underlay"}
"""Labs in which also questions are refused, and everything from a step on."""

FILES = {"open", "unlink", "rename", "mkdir", "rmdir", "fsync", "utime", "link"}
FILE_ERRORS = (errno.EACCES, errno.ENOSPC, errno.EIO, errno.EROFS)

pytestmark = pytest.mark.timeout(7200 if EACH else 900)


class Refusals:
    """Runs of one lab in which something is refused."""

    def __init__(self, host: Host, name: str) -> None:
        self.name, self.bench = name, Bench(World(host, labs()[name]))

    def run(self, phase: Phase, fault: Fault) -> Ended:
        self.bench.to(phase.before)
        return run(*self.bench.words(phase), fault=fault)

    def steps(self, phase: Phase, reads: bool) -> list[str]:
        ended = self.run(phase, Fault(reads=reads))
        self.bench.at = after(phase)
        assert ended.code == 0, ended.text
        return ended.steps

    def wrong(self, what: str, ended: Ended, why: str) -> None:
        self.bench.wrong(f"{what}: {why}: exit {ended.code}\n    {ended.text}")

    def once(self, phase: Phase, at: int, number: int, step: str, reads: bool) -> None:
        """One refusal: done all the same, or undone and said."""
        what = f"{self.name}: {phase.name}, {errno.errorcode[number]} at {at} ({step})"
        try:
            ended = self.run(phase, Fault(REFUSE, {at}, number, reads=reads))
        except AssertionError as error:
            self.bench.wrong(f"{what}: {error}")
            self.bench.force()
            return
        if ended.code == 0:
            self.bench.at = after(phase)
            self.bench.expect(self.bench.at, f"{what}, exit 0")
            return
        if ended.code not in (3, 5):
            self.wrong(what, ended, "one refusal is undone")
            self.bench.force()
            return
        words = os.strerror(number), WORDS[:-1].decode()
        if not any(word in ended.text for word in words):
            self.wrong(what, ended, "the kernel's words are missing")
        if "tell netlink 0" in step and not all(word in ended.text for word in (*words, "undone: everything is as")):
            self.wrong(what, ended, "what failed, and what became of it, is missing")
        self.bench.expect(phase.before, f"{what}, undone")

    def from_then_on(self, phase: Phase, at: int, number: int, step: str) -> None:
        """Everything is refused from there on: what is left is said, and can be removed when the kernel is well again."""
        what = f"{self.name}: {phase.name}, {errno.errorcode[number]} from {at} on ({step})"
        try:
            ended = self.run(phase, Fault(REFUSE, {at}, number, on=True))
        except AssertionError as error:
            self.bench.wrong(f"{what}: {error}")
            self.bench.force()
            return
        if ended.code == 0:  # but for the files of locks
            self.bench.at = "?"
        elif ended.code == 4:
            if "left: " not in ended.text:
                self.wrong(what, ended, "what is left is missing")
            self.bench.at = "?"
        elif ended.code in (3, 5):  # the files of locks and records cannot be removed either
            self.bench.expect(phase.before, f"{what}, exit {ended.code}", but_for="files records: /run/topo/")
            self.bench.at = "?"
        else:
            self.wrong(what, ended, "exit code")
        self.bench.recover("none", what)

    def end(self) -> None:
        self.bench.recover("none", f"{self.name}: the end")
        self.bench.world.host.close()
        self.bench.world.clear()
        assert not self.bench.problems, "\n".join(self.bench.problems)


def error_for(step: str, index: int) -> int:
    """What the kernel may say to such a step."""
    fitting = FILE_ERRORS if step.split()[0] in FILES and "/proc/sys" not in step else ERRORS
    return fitting[index % len(fitting)]


def after(phase: Phase) -> str:
    return {"apply": "first", "edit": "second", "destroy": "none"}[phase.name]


@pytest.mark.parametrize("name", labs())
def test_one_request_is_refused(host: Host, name: str) -> None:
    lab = Refusals(host, name)
    for number, phase in enumerate(PHASES):
        steps = lab.steps(phase, reads=False)
        for at in range(1 + number % EVERY, len(steps) + 1, EVERY):
            for index in range(len(ERRORS)) if MORE else (at // EVERY + number,):
                lab.once(phase, at, error_for(steps[at - 1], index), steps[at - 1], reads=False)
                FIGURES.count("a request refused", name, len(lab.bench.problems))
    lab.end()


@pytest.mark.parametrize("name", sorted(ALL))
def test_one_question_is_refused(host: Host, name: str) -> None:
    lab = Refusals(host, name)
    errors = (errno.ENOBUFS, errno.ENOMEM, errno.EPERM)
    for number, phase in enumerate(PHASES):
        steps = lab.steps(phase, reads=True)
        asked = [at for at, step in enumerate(steps, 1) if step.startswith("ask")]
        for index, at in enumerate(asked[number % EVERY :: EVERY]):
            lab.once(phase, at, errors[index % len(errors)], steps[at - 1], reads=True)
            FIGURES.count("a question refused", name, len(lab.bench.problems))
    lab.end()


@pytest.mark.parametrize("name", sorted(ALL))
def test_everything_is_refused_from_then_on(host: Host, name: str) -> None:
    lab = Refusals(host, name)
    for number, phase in enumerate(PHASES):
        steps = lab.steps(phase, reads=False)
        for at in range(1 + number % EVERY, len(steps) + 1, EVERY):
            lab.from_then_on(phase, at, error_for(steps[at - 1], at // EVERY + number), steps[at - 1])
            FIGURES.count("all refused from a request on", name, len(lab.bench.problems))
    lab.end()


def test_a_table_changes_while_it_is_read(host: Host) -> None:
    """NLM_F_DUMP_INTR once at each dump: it is read again. For ever: nothing is touched."""
    lab = Refusals(host, "star")
    for phase in PHASES:
        steps = lab.steps(phase, reads=True)
        asked = [at for at, step in enumerate(steps, 1) if step.startswith("ask netlink 0")][::3]
        ended = lab.run(phase, Fault(STALE, set(asked), reads=True))
        assert ended.code == 0, ended.text
        assert len(ended.steps) > len(steps)
        lab.bench.at = after(phase)
        lab.bench.expect(after(phase), f"{phase.name}, with dumps to be repeated")
        ended = lab.run(phase, Fault(STALE, {1}, on=True, reads=True))
        assert ended.code == 3, ended.text
        assert "Interrupted system call: it kept changing while it was read" in ended.text
        lab.bench.expect(phase.before, f"{phase.name}, with dumps that never end")
        FIGURES.count("a dump interrupted", "star", len(lab.bench.problems), len(asked) + 1)
    lab.end()
