"""Pools of addresses for `subnet`: what the file states by hand is never given out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from topo.file import addressing
from topo.file.model import Section, Topology
from topo.file.scope import Loc, Scope

Stated = dict[int, list[tuple[int, str]]]


def stated(topology: Topology) -> Stated:
    """Every address and gateway that the file states, by width in bits, as sorted numbers with their text."""
    found: Stated = {32: [], 128: []}
    for text in _texts(topology):
        number, bits = addressing.parse_address(text.partition("/")[0])
        found[bits].append((number, text))
    for numbers in found.values():
        numbers.sort()
    return found


def _texts(topology: Topology) -> Iterator[str]:
    for section in (topology, *topology.namespaces.values()):
        yield from _of_section(section)
    for link in topology.links:
        for end in link.ends:
            if not isinstance(end, str):
                yield from _of(end.addresses, end.gateway)


def _of_section(section: Section) -> Iterator[str]:
    if section.model_fields_set.isdisjoint(("bridges", "vxlans", "interfaces")):
        return
    for entries in (section.bridges, section.vxlans, section.interfaces):
        for entry in entries.values():
            yield from _of(entry.addresses, entry.gateway)


def _of(addresses: list[str] | None, gateway: list[str] | bool | None) -> Iterable[str]:
    return (*(addresses or ()), *(gateway if isinstance(gateway, list) else ()))


def make_pool(scope: Scope, prefix: str, loc: Loc) -> addressing.Pool | None:
    """A pool of `prefix` with everything stated reserved; None (and an error) where there can be none."""
    try:
        pool = addressing.Pool(prefix)
        number, length, bits = addressing.parse_prefix(prefix)
    except ValueError as error:
        scope.problems.add(loc, str(error))
        return None
    numbers = scope.stated[bits]
    end = number + (1 << (bits - length))
    for index in range(bisect_left(numbers, (number, "")), len(numbers)):
        if numbers[index][0] >= end:
            break
        pool.reserve(numbers[index][1])
    return pool
