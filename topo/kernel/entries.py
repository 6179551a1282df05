"""The facts of a table: by columns where its messages are alike, else one by one."""

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from topo.facts import Fact, Facts, Ref
from topo.kernel import rtnl
from topo.kinds.alike import Expected
from topo.kinds.kind import View
from topo.kinds.registry import KINDS
from topo.kinds.route import OF_KERNEL

_PROTOCOL_AT: Final = 5  # in rtmsg
_MANY: Final = 64  # facts that are worth being expected
_AT_ONCE: Final = 256  # facts that a processor's cache holds while they are walked over again and again


class Table(NamedTuple):
    """What was read of a table: the facts that were not expected, and, of those that were, which are not there as they
    are thought to be. All others are."""

    facts: Facts
    missing: Sequence[Fact]


def read(
    sock: socket.socket,
    view: View,
    kind: str,
    request: int,
    bodies: Collection[bytes],
    thought: Sequence[Fact] = (),
) -> Table:
    """All of a table; every body asks for another part of it. `thought`: facts that it is thought to have."""
    table: Facts = {}
    expected = Expected()
    if len(thought) >= _MANY:
        for start in range(0, len(thought), _AT_ONCE):
            KINDS[kind].expect(thought[start : start + _AT_ONCE], expected)
    if _by_columns(sock, view, kind, request, bodies, table, expected):
        if len(expected.taken) == len(thought):
            return Table(table, ())
        there = set(map(id, expected.taken))
        return Table(table, [fact for fact in thought if id(fact) not in there])
    table.clear()
    for body in bodies:
        keep(kind, rtnl.dump(sock, request, body), view, table)
    return Table(table, thought)


def _by_columns(
    sock: socket.socket,
    view: View,
    kind: str,
    request: int,
    bodies: Collection[bytes],
    table: Facts,
    expected: Expected,
) -> bool:
    """The quick way; False where keys do not tell all facts apart: then their order counts."""
    number, decode, alike = 0, KINDS[kind].decode, KINDS[kind].decode_alike
    for body in bodies:
        found, whole = rtnl.dump_blocks(sock, request, body)
        if kind == "route":  # most of them are the kernel's own, one for each address and more
            found = [m for m in found if m[1][m[2] + _PROTOCOL_AT] not in OF_KERNEL]
        found, some = rtnl.gathered(found)
        for block in whole + some:
            facts = alike(block, view, expected) if alike else None
            if facts is None:
                found += rtnl.messages(block)
            else:
                number += len(facts)
                table.update((fact[0], fact) for fact in facts)
        facts = [fact for of, data, at, end in found for fact in decode(of, data, at, end, view)]
        number += len(facts)
        table.update((fact[0], fact) for fact in facts)
    return len(table) == number and (not table or table.keys().isdisjoint([fact[0] for fact in expected.taken]))


def keep(kind: str, found: rtnl.Messages, view: View, kept: Facts) -> None:
    """Add the facts of these messages."""
    decode = KINDS[kind].decode
    for number, data, at, end in found:
        for fact in decode(number, data, at, end, view):
            if kept.setdefault(fact.ref, fact) is not fact:  # no key tells them apart: this is one too many
                ref = _numbered(fact.ref, kept)
                kept[ref] = fact._replace(ref=ref)


def _numbered(ref: Ref, taken: Facts) -> Ref:
    number = 2
    while (other := ref._replace(key=(*ref.key, f"#{number}"))) in taken:
        number += 1
    return other
