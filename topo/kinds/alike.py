"""Many messages that are written alike, read by columns: one unpacking for all of them, not one walk for each.

The entries of a long table (neighbours, an FDB, routes) have the same attributes at the same places and differ in the
values alone. What is not so is None here, and for whoever asks to decode one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from topo.facts import Fact, Ref
from topo.wire import HEADER_SIZE, NLATTR

LEAST: Final = 16  # messages that are worth it
_TYPE_MASK: Final = 0x3FFF

new_ref: Final = partial(tuple.__new__, Ref)
"""Ref(*fields), half as dear."""

new_fact: Final = partial(tuple.__new__, Fact)


class Block(NamedTuple):
    """Whole netlink messages, one behind the other, all of one size, type and flags."""

    data: bytes
    size: int


class Columns(NamedTuple):
    """The fixed header that all of the messages share; by number the values of each attribute that is wanted."""

    header: tuple[Any, ...]
    values: dict[int, Sequence[bytes]]
    number: int


def columns(block: Block, header: struct.Struct, wanted: Collection[int], only: Collection[int]) -> Columns | None:
    """The block by columns; None where its messages differ in more than values, or have other attributes than `only`."""
    found = _attributes(block, header.size)
    if found is None or not {nla & _TYPE_MASK for _, nla, _ in found} <= set(only):
        return None
    form, expected, places, at = [f"={HEADER_SIZE}x{header.size}s"], {}, {}, 1
    for size, nla, gap in found:
        kept = nla & _TYPE_MASK in wanted
        form.append(f"4s{size - 4}{'s' if kept else 'x'}{gap}x")
        expected[at] = NLATTR.pack(size, nla)
        if kept:
            places[nla & _TYPE_MASK] = at + 1
        at += 1 + kept
    read = list(zip(*struct.iter_unpack("".join(form), block.data), strict=True))
    count = len(block.data) // block.size
    first = read[0][0]
    if read[0].count(first) != count or any(read[at].count(value) != count for at, value in expected.items()):
        return None
    return Columns(header.unpack(first), {nla: read[at] for nla, at in places.items()}, count)


def _attributes(block: Block, header: int) -> list[tuple[int, int, int]] | None:
    """Size, number with flags, and padding of each attribute of the first message; None where one is there twice."""
    found: list[tuple[int, int, int]] = []
    at = HEADER_SIZE + header
    while at + 4 <= block.size:
        size, nla = NLATTR.unpack_from(block.data, at)
        if size < 4 or at + size > block.size or any(nla == other for _, other, _ in found):
            return None
        end = min((at + size + 3) & ~3, block.size)
        found.append((size, nla, end - at - size))
        at = end
    return found if at == block.size else None
