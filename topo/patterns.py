"""Regular expressions that are compiled when they are first used: compiling one takes longer than importing a module."""

from __future__ import annotations

import re
from typing import Any, cast


class _Late:
    """A pattern's attributes, each kept as it is first asked for."""

    def __init__(self, pattern: str, flags: int) -> None:
        self._pattern, self._flags = pattern, flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(self._pattern, self._flags), name)
        setattr(self, name, found)
        return found


def late(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """As `re.compile`, of which nothing happens before `fullmatch`, `search` or the like is looked up."""
    return cast("re.Pattern[str]", _Late(pattern, flags))
