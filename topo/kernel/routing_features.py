"""What the running kernel lacks for rules and routes. Nothing that is asked here can be made, or is there."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterator
from typing import Final

from topo.changes import DELETE, Change
from topo.errors import Diagnostic
from topo.facts import Desired, Ref
from topo.kernel import rtnl
from topo.kinds.rule import FRA_DSCP, FRA_PRIORITY
from topo.wire import AF_INET, FIBRULEHDR, RTM_DELRULE, attr_u8, attr_u32, message

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


def _lacks(words: str, hint: str, ref: Ref, desired: Desired) -> Diagnostic:
    return Diagnostic(f"this kernel ({os.uname().release}) {words}", path=desired.paths.get(ref, ""), hint=hint)


def _knows_dscp(sock: socket.socket) -> bool:
    """Whether a DSCP that is none is out of range (ERANGE); a kernel that knows of none finds no such rule (ENOENT)."""
    header = FIBRULEHDR.pack(AF_INET, 0, 0, 0, 0, 0, 0)
    body = header + attr_u32(FRA_PRIORITY, _NO_PRIORITY) + attr_u8(FRA_DSCP, 0xFF)
    return any(refusal.errno != errno.ENOENT for refusal in rtnl.send(sock, [message(RTM_DELRULE, 0, 0, body)]))
