"""The kernel: the only layer that talks with it.

A `Kernel` holds the namespaces of one run open: each is entered once, has one socket, and is read and changed
through that. It works in the thread that calls it, and leaves that thread in the namespace where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from topo.changes import Change, Op
from topo.errors import KernelError
from topo.facts import HOST, Desired, Live, mark, parts
from topo.kernel import foreign_drops, netns, still_forwarding
from topo.kernel.outcome import Outcome, Progress
from topo.kernel.reader import Reader
from topo.kernel.spaces import Spaces
from topo.planning.touched import Touched


@contextmanager
def _mapped(doing: str) -> Iterator[None]:
    """What a system call raises, as a KernelError."""
    try:
        yield
    except OSError as error:
        raise KernelError(error.errno or 0, error.filename or "", doing=doing) from None


class Kernel:
    """The running kernel. Close it: what it holds open keeps namespaces alive."""

    def __init__(self) -> None:
        with _mapped("opening sockets"):
            self._spaces = Spaces()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def begin(self, desired: Desired, earlier: Sequence[Desired], recorded: Mapping[str, int]) -> dict[str, str]:
        """Open what others made, for one run: `topo.kernel.attachments`."""
        for name in self._spaces.attachments.at:
            self._spaces.drop(name)
        return self._spaces.attachments.begin(desired, earlier, recorded, self._spaces.home)

    def told(self, desired: Desired) -> Desired:
        """`desired` with what is told of keys in place of where they are to be had. Raises InputError where they are not."""
        return self._spaces.keys.told(desired)

    def read(self, desired: Desired, previous: Desired | None) -> Live:
        """The live state of all that `desired` names, that `previous` named, or that bears the topology's mark.

        Changes nothing. Raises InputError for a namespace to attach that is not there, KernelError.
        """
        with _mapped("reading the live state"):
            return Reader(self._spaces, desired, previous).read()

    def reread(self, known: Live, where: Touched, desired: Desired, previous: Desired | None) -> Live:
        """What is there now. `known`: what was read before of all that `desired` and `previous` name."""
        with _mapped("reading the live state"):
            return Reader(self._spaces, desired, previous, known, where).read()

    def execute(self, stages: Sequence[Sequence[Op]], desired: Desired, progress: Progress | None = None) -> Outcome:
        """Run a plan's stages; stops behind the first batch in which something was refused."""
        from topo.kernel.executor import Executor  # late: most runs find nothing to do

        return Executor(self._spaces, desired, progress).run(stages)

    def require(self, changes: Sequence[Change], desired: Desired) -> None:
        """See that this kernel has what the changes need. Changes nothing. Raises LackingError."""
        from topo.kernel import features  # late, as above

        features.require(self._spaces.get(HOST).sock, changes, desired)

    def warnings(self, desired: Desired, changes: Sequence[Change]) -> list[str]:
        """What will keep `desired` from working though all of it can be made, and what of others no longer works once the
        `changes` are made. Reads, and raises nothing."""
        return [
            *self._spaces.keys.warnings,
            *foreign_drops.warnings(self._spaces, desired),
            *still_forwarding.warnings(self._spaces, changes),
        ]

    def inodes(self, desired: Desired) -> dict[str, int]:
        """The identity of each namespace of the topology that is open, by every name that the file has for it."""
        found = {}
        for ref, fact in parts(desired.facts).few.items():
            if ref.kind == "namespace":
                space = self._spaces.open.get((fact.attrs.get("from") or {}).get("share", ref.ns))
                if space is not None:
                    found[ref.ns] = space.inode
        return found

    def sweep(self, names: Iterable[str], topology: str) -> None:
        """Remove what a killed run of this topology left in /run/netns: where these names were to be, or under others."""
        with _mapped("removing the file of a name that was to be"):
            netns.sweep(names, mark(topology))

    def home(self) -> int:
        """The inode of the namespace that topo runs in."""
        return netns.inode(self._spaces.home)

    def reset(self) -> None:
        """Open everything anew, but for what others made: what an interrupt left in the sockets is gone."""
        self._spaces.close()
        self._spaces = Spaces(self._spaces.attachments, self._spaces.keys)

    def close(self) -> None:
        self._spaces.close()
        self._spaces.attachments.close()
