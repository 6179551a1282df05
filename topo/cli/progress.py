"""A progress bar on stderr, for runs that take longer than a moment."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Final, Self, TextIO

from topo.errors import shown

_MOMENT: Final = 0.5  # seconds of silence
_EVERY: Final = 0.1  # seconds between two drawings
_WIDTH: Final = 24


class Progress:
    """Called with (done, total, what). Draws only on a terminal, and wipes its line when it is closed."""

    def __init__(self, stream: TextIO | None = None, *, delay: float = _MOMENT) -> None:
        self._stream = stream or sys.stderr
        self._draws = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._next = time.monotonic() + delay
        self._drawn = False

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if not self._draws or now < self._next:
            return
        self._next = now + _EVERY
        self._drawn = True
        filled = min(_WIDTH, _WIDTH * done // max(total, 1))
        text = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {done:,}/{total:,} {shown(what)}"
        from shutil import get_terminal_size  # late: it brings the modules of archives with it

        self._stream.write("\r\033[K" + text[: get_terminal_size().columns - 1])
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._stream.write("\r\033[K")
            self._stream.flush()
