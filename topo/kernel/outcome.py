"""What became of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from topo.changes import Op
from topo.errors import KernelError
from topo.facts import Fact

Progress = Callable[[int, int, str], None]
"""Called with (ops done, ops in all, what is being done) while a run goes on."""


HINT: Final = "hint"
"""The verb of an op of the executor's own, which may be refused."""


class Outcome(NamedTuple):
    """`done` are the ops that the kernel took; `failed` those it refused, the root cause first. `before`: what was
    there on objects that the run itself made, and was overwritten: sysctls. `excused`: deletions that were refused as
    of something that is not there, and what may be refused."""

    done: list[Op]
    failed: list[tuple[Op, KernelError]]
    before: list[Fact]
    excused: Sequence[tuple[Op, KernelError]] = ()
