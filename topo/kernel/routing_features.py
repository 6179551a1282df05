"""What the running kernel lacks for rules and routes. Nothing that is asked here can be made, or is there."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterator
from typing import Final

from topo.changes import DELETE, Change
from topo.errors import Diagnostic
from topo.facts import PROTOCOL, Desired, Fact, Ref
from topo.kernel import rtnl
from topo.kinds import encap
from topo.kinds.route import RTA_DST, RTA_OIF
from topo.kinds.rule import FRA_DSCP, FRA_PRIORITY
from topo.wire import (
    AF_INET,
    FIBRULEHDR,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELRULE,
    RTM_NEWROUTE,
    RTMSG,
    U16,
    attr,
    attr_u8,
    attr_u32,
    message,
)

_NO_TABLE: Final = 250
_NO_PRIORITY: Final = 0xFFFFFFF0


def lacking(sock: socket.socket, changes: Collection[Change], desired: Desired) -> Iterator[Diagnostic]:
    """One for each rule or route that the kernel cannot have."""
    wanted = [c.desired for c in changes if c.action != DELETE and c.desired is not None]
    rules = [fact.ref for fact in wanted if fact.ref.kind == "rule" and "dscp" in fact.attrs]
    if rules and not _knows_dscp(sock):
        for ref in rules:
            yield _lacks(
                f"has no rules by DSCP, which {ref} is", "it needs Linux 6.13; `tos` does for older ones", ref, desired
            )

    wraps: dict[str, list[Ref]] = {}
    for fact in wanted if any(fact.ref.kind == "route" for fact in wanted) else ():
        for words in _encapsulations(fact):
            wraps.setdefault(words.partition(" ")[0], []).append(fact.ref)
    for kind in _unwrapped(sock, [kind for kind in wraps if kind in encap.TYPES]):
        for ref in wraps[kind]:
            yield _lacks(
                f"has no encap {kind}, which {ref} asks for",
                f"it needs a kernel with {encap.OPTIONS[kind]}",
                ref,
                desired,
            )


def _encapsulations(fact: Fact) -> Iterator[str]:
    if fact.ref.kind == "route":
        if words := fact.attrs.get("encap"):
            yield words
        yield from (one for hop in fact.attrs.get("nexthops") or () for one in hop[4:])


def _unwrapped(sock: socket.socket, kinds: list[str]) -> Iterator[str]:
    """Those that the kernel does not know, nor has a module for (lwtunnel_valid_encap_type: EOPNOTSUPP, before it looks
    for the interface, of which there is none with that number: ENODEV)."""
    header = RTMSG.pack(AF_INET, 32, 0, 0, _NO_TABLE, PROTOCOL, 0, 1, 0)
    rest = attr(RTA_DST, bytes((192, 0, 2, 1))) + attr_u32(RTA_OIF, 0x7FFFFFFF)
    types = (attr(encap.RTA_ENCAP_TYPE, U16.pack(encap.TYPES[kind])) for kind in kinds)
    asked = [
        message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, seq, header + rest + one) for seq, one in enumerate(types)
    ]
    for refusal in rtnl.send(sock, asked) if asked else ():
        if refusal.errno == errno.EOPNOTSUPP:
            yield kinds[refusal.seq]


def _lacks(words: str, hint: str, ref: Ref, desired: Desired) -> Diagnostic:
    return Diagnostic(f"this kernel ({os.uname().release}) {words}", path=desired.paths.get(ref, ""), hint=hint)


def _knows_dscp(sock: socket.socket) -> bool:
    """Whether a DSCP that is none is out of range (ERANGE); a kernel that knows of none finds no such rule (ENOENT)."""
    header = FIBRULEHDR.pack(AF_INET, 0, 0, 0, 0, 0, 0)
    body = header + attr_u32(FRA_PRIORITY, _NO_PRIORITY) + attr_u8(FRA_DSCP, 0xFF)
    return any(refusal.errno != errno.ENOENT for refusal in rtnl.send(sock, [message(RTM_DELRULE, 0, 0, body)]))
