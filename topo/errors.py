"""Everything that topo raises, and the diagnostic with which it points at a place in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EXFULL
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from topo.changes import Change, Op
    from topo.facts import Ref

# Exit codes of the command line; `TopoError.exit_code` carries the one that fits.
EXIT_OK = 0
EXIT_DIFFERENCES = 1
EXIT_INPUT = 2
EXIT_UNDONE = 3
EXIT_NOT_UNDONE = 4
EXIT_NOT_PERMITTED = 5


def shown(text: str) -> str:
    """`text` with its control characters escaped, so that no file can write to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Diagnostic(NamedTuple):
    """One thing that is wrong in a file: the place, what was found, what was expected.

    `line` and `column` count from 1; 0 means that the place is not known.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""  # the place inside the document: links[3].ends[0]
    source: str = ""  # the text of that line
    hint: str = ""

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}:{self.column}"
        head = f"{place}: " if place else ""
        head += f"{self.path}: " if self.path else ""
        text = f"{head}{shown(self.message)}"
        if self.hint:
            text += f" ({shown(self.hint)})"
        if self.source:
            text += f"\n  {shown(self.source.expandtabs(1))}\n  {' ' * (self.column - 1)}^"
        return text


class TopoError(Exception):
    """The base of everything that topo raises on purpose."""

    exit_code = EXIT_UNDONE


class InputError(TopoError):
    """The file or the call is wrong; nothing was touched. Carries every diagnostic at once."""

    exit_code = EXIT_INPUT

    def __init__(self, diagnostics: Sequence[Diagnostic] | str) -> None:
        if isinstance(diagnostics, str):
            diagnostics = [Diagnostic(diagnostics)]
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(map(str, self.diagnostics)))


class PlanError(TopoError):
    """The changes cannot be planned; nothing was touched."""

    exit_code = EXIT_INPUT


class CycleError(PlanError):
    """Objects that need each other in a ring; `refs` is the ring."""

    def __init__(self, refs: Sequence[Ref]) -> None:
        self.refs = tuple(refs)
        ring = " -> ".join(f"{r.kind} {r}" for r in (*self.refs, self.refs[0]))
        super().__init__(f"these need each other: {ring}")


class StaleError(PlanError):
    """A saved plan no longer fits the live state."""


class OwnershipError(TopoError):
    """A name is taken by something that this topology does not own; nothing was touched."""

    exit_code = EXIT_INPUT

    def __init__(self, taken: Sequence[tuple[Ref, str]]) -> None:
        self.taken = tuple(taken)
        lines = [f"{ref.kind} {ref} is there already: {what}" for ref, what in self.taken]
        lines.append("nothing was touched; choose other names, remove these, or take them over with --adopt")
        super().__init__("\n".join(lines))


class LockError(TopoError):
    """Another run holds the lock; nothing was touched."""


class UnconfirmedError(PlanError):
    """What is applied is still to be confirmed, or this could not be confirmed: nothing was touched."""


class RevertedError(TopoError):
    """What was to be confirmed has been reverted: it is too late."""


class UnsupportedError(TopoError):
    """The kernel, a library or the user's privileges lack something; nothing was touched."""

    exit_code = EXIT_NOT_PERMITTED


class LackingError(InputError, UnsupportedError):
    """The kernel lacks what places in the file ask for; nothing was touched."""

    exit_code = EXIT_NOT_PERMITTED


_LIMITS: Final = {EXFULL: "a bridge takes 1,023 ports and no more"}  # of which the kernel does not speak in words


class KernelError(TopoError):
    """The kernel refused a request.

    `errno` is the kernel's; `extack` its own words (NLMSGERR_ATTR_MSG), empty where it gave none.
    """

    def __init__(self, errno: int, extack: str = "", ref: Ref | None = None, doing: str = "") -> None:
        self.errno, self.extack, self.ref, self.doing = errno, extack, ref, doing
        what = f"{doing} {ref.kind} {ref}".strip() if ref else doing
        words = ": ".join(filter(None, (os.strerror(errno), extack or _LIMITS.get(errno))))
        super().__init__(f"{what}: {words}" if what else words)
        if errno in (1, 13):  # EPERM, EACCES
            self.exit_code = EXIT_NOT_PERMITTED


class ApplyError(TopoError):
    """A run failed. `undone` tells whether the state before it is back."""

    def __init__(
        self,
        message: str,
        *,
        done: Sequence[Op] = (),
        failed: Sequence[tuple[Op, KernelError]] = (),
        undone: bool = True,
        left: Sequence[Change] = (),
    ) -> None:
        self.done, self.failed, self.undone, self.left = tuple(done), tuple(failed), undone, tuple(left)
        self.exit_code = EXIT_UNDONE if undone else EXIT_NOT_UNDONE
        super().__init__(message)


class VerifyError(ApplyError):
    """After a run the live state still differs; `left` holds the differences."""
