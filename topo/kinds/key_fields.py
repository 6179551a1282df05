"""What a user writes where a kind needs a key: a file or a command that gives it, never the key itself."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from topo.kinds.secret import Source


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("an absolute path is expected, as the key is read again whenever the topology is looked at")
    return path


def _words(words: list[str]) -> list[str]:
    if any("\0" in word for word in words) or not words[0]:
        raise ValueError("a program and its arguments are expected")
    return words


KeyFile = Annotated[str, AfterValidator(_absolute)]
KeyCommand = Annotated[list[str], Field(min_length=1), AfterValidator(_words)]


def source(entry: Any, name: str) -> Source | None:
    """The source that `NAME_file` or `NAME_command` of an entry of the file states."""
    file, command = getattr(entry, f"{name}_file"), getattr(entry, f"{name}_command")
    if file is not None and command is not None:
        raise ValueError(f"`{name}_file` and `{name}_command` are both stated: one of them is expected")
    if file is not None:
        return Source("file", file)
    return Source("command", tuple(command)) if command is not None else None
