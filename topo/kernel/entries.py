"""The facts of a table: by columns where its messages are alike, else one by one."""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Final

from topo.facts import Facts, Ref
from topo.kernel import rtnl
from topo.kinds.kind import View
from topo.kinds.registry import KINDS
from topo.kinds.route import OF_KERNEL

_PROTOCOL_AT: Final = 5  # in rtmsg


def read(sock: socket.socket, view: View, kind: str, request: int, bodies: Collection[bytes]) -> Facts:
    """All of a table; every body asks for another part of it."""
    table: Facts = {}
    if not _by_columns(sock, view, kind, request, bodies, table):
        table.clear()
        for body in bodies:
            keep(kind, rtnl.dump(sock, request, body), view, table)
    return table


def _by_columns(
    sock: socket.socket, view: View, kind: str, request: int, bodies: Collection[bytes], table: Facts
) -> bool:  # fmt: skip
    """The quick way; False where keys do not tell all facts apart: then their order counts."""
    number, decode, alike = 0, KINDS[kind].decode, KINDS[kind].decode_alike
    for body in bodies:
        found, whole = rtnl.dump_blocks(sock, request, body)
        if kind == "route":  # most of them are the kernel's own, one for each address and more
            found = [m for m in found if m[1][m[2] + _PROTOCOL_AT] not in OF_KERNEL]
        found, some = rtnl.gathered(found)
        for block in whole + some:
            if alike and (facts := alike(block, view)):
                number += len(facts)
                table.update((fact[0], fact) for fact in facts)
            else:
                found += rtnl.messages(block)
        facts = [fact for of, data, at, end in found for fact in decode(of, data, at, end, view)]
        number += len(facts)
        table.update((fact[0], fact) for fact in facts)
    return len(table) == number


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
