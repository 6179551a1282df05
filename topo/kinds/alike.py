"""Many messages that are written alike, read by columns: one unpacking for all of them, not one walk for each.

The entries of a long table (neighbours, an FDB, routes) have the same attributes at the same places and differ in the
values alone. What is not so is None here, and for whoever asks to decode one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from operator import add
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


class Expected:
    """Facts that are thought to be there, by the bytes of their values, and apart by what a whole block has in common.

    What is found in a block is taken out, so that what is there twice is found once. A fact that is found stands for
    itself: so only those are in here of which the kernel says nothing but what the fact states, or what `encode` takes
    where the fact is silent.
    """

    __slots__ = ("groups", "taken")

    def __init__(self) -> None:
        self.groups: dict[tuple[Any, ...], dict[bytes, Fact]] = {}
        self.taken: list[Fact] = []

    def add(self, group: tuple[Any, ...], values: Iterable[bytes], facts: Sequence[Fact]) -> None:
        self.groups.setdefault(group, {}).update(zip(values, facts, strict=True))

    def take(self, group: tuple[Any, ...], values: Sequence[bytes], more: Sequence[bytes] | None = None) -> list[int]:
        """The places of those that are not among what is expected. `more`: what is behind each of the values."""
        there = self.groups.get(group)
        if not there:
            return list(range(len(values)))
        found = list(map(there.pop, map(add, values, more) if more else values, repeat(None)))
        self.taken += filter(None, found)
        return [place for place, fact in enumerate(found) if fact is None] if None in found else []


def sorted_by(facts: Sequence[Fact], *columns: Sequence[Hashable]) -> Iterator[tuple[tuple[Any, ...], Sequence[Fact]]]:
    """The facts, apart by what the columns say of each. Of thousands in one place mostly all are alike."""
    if all(column.count(column[0]) == len(column) for column in columns):
        yield tuple(column[0] for column in columns), facts
        return
    found: dict[tuple[Hashable, ...], list[Fact]] = {}
    for fact, *sign in zip(facts, *columns, strict=True):
        found.setdefault(tuple(sign), []).append(fact)
    yield from found.items()


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
    at = HEADER_SIZE + header.size
    form, places, same = [f"={at}x"], [], [(HEADER_SIZE, header.size)]
    for size, nla, gap in found:
        kept = nla & _TYPE_MASK in wanted
        form.append(f"4x{size - 4}{'s' if kept else 'x'}{gap}x")
        places += [nla & _TYPE_MASK] * kept
        same.append((at, NLATTR.size))
        at += size + gap
    if not all(uniform(block, *part) for part in same):
        return None
    read = zip(*struct.iter_unpack("".join(form), block.data), strict=True)
    first = header.unpack_from(block.data, HEADER_SIZE)
    return Columns(first, dict(zip(places, read, strict=True)), len(block.data) // block.size)


def uniform(block: Block, start: int, length: int) -> bool:
    """Whether all messages have the same here: each byte of all of them is one slice."""
    data, size = block
    number = len(data) // size
    return all(data[at::size] == data[at : at + 1] * number for at in range(start, start + length))


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
