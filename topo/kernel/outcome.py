"""What became of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from topo.changes import Op
from topo.errors import KernelError
from topo.facts import Fact

Progress = Callable[[int, int, str], None]
"""Called with (ops done, ops in all, what is being done) while a run goes on."""


class Outcome(NamedTuple):
    """`done` are the ops that the kernel took; `failed` those it refused, the root cause first. `before`: what was
    there on objects that the run itself made, and was overwritten: sysctls. `excused`: deletions that were refused as
    of something that is not there."""

    done: list[Op]
    failed: list[tuple[Op, KernelError]]
    before: list[Fact]
    excused: Sequence[tuple[Op, KernelError]] = ()
