"""What a kernel may lack, in words."""

from __future__ import annotations

from typing import NamedTuple


class Feature(NamedTuple):
    """Something that a kernel may lack."""

    group: str
    name: str
    option: str
    """Of the kernel's configuration."""
    words: str
    """What is said of a kernel without it; `{}` is what wants it."""
    modules: tuple[str, ...] = ()
    """What the kernel asks modprobe(8) for, where it has it as a module: names or aliases."""
