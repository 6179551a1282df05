"""The kernel: the only layer that talks with it.

A `Kernel` holds the namespaces of one run open: each is entered once, has one socket, and is read and changed
through that. It works in the thread that calls it, and leaves that thread in the namespace where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

from topo.changes import Change, Op
from topo.facts import Desired, Live, namespace
from topo.kernel import foreign_drops, netns, still_forwarding
from topo.kernel.executor import Executor
from topo.kernel.outcome import Outcome, Progress
from topo.kernel.reader import Reader
from topo.kernel.spaces import Spaces


class Kernel:
    """The running kernel. Close it: what it holds open keeps namespaces alive."""

    def __init__(self) -> None:
        self._spaces = Spaces()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def read(self, desired: Desired, previous: Desired | None) -> Live:
        """The live state of all that `desired` names, that `previous` named, or that bears the topology's mark.

        Changes nothing. Raises InputError for a namespace to attach that is not there, KernelError.
        """
        return Reader(self._spaces, desired, previous).read()

    def reread(self, known: Live, spaces: Collection[str], desired: Desired, previous: Desired | None) -> Live:
        """What is in `spaces` now. `known`: what was read before of all that `desired` and `previous` name."""
        return Reader(self._spaces, desired, previous, known, spaces).read()

    def execute(self, stages: Sequence[Sequence[Op]], desired: Desired, progress: Progress | None = None) -> Outcome:
        """Run a plan's stages; stops behind the first batch in which something was refused."""
        return Executor(self._spaces, desired, progress).run(stages)

    def warnings(self, desired: Desired, changes: Sequence[Change]) -> list[str]:
        """What will keep `desired` from working though all of it can be made, and what of others no longer works once the
        `changes` are made. Reads, and raises nothing."""
        return [*foreign_drops.warnings(self._spaces, desired), *still_forwarding.warnings(self._spaces, changes)]

    def inodes(self, desired: Desired) -> dict[str, int]:
        """The identity of each namespace of the topology that is open."""
        held = self._spaces.open
        return {ref.ns: held[ref.ns].inode for ref in desired.facts if ref == namespace(ref.ns) and ref.ns in held}

    def home(self) -> int:
        """The inode of the namespace that topo runs in."""
        return netns.inode(self._spaces.home)

    def reset(self) -> None:
        """Open everything anew: what an interrupt left in the sockets is gone."""
        self._spaces.close()
        self._spaces = Spaces()

    def close(self) -> None:
        self._spaces.close()
