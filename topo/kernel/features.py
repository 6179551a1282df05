"""What the running kernel lacks of that which a plan makes: asked before anything is touched."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Final

from topo.changes import CREATE, REPLACE, Change
from topo.errors import Diagnostic, LackingError
from topo.facts import Desired, Ref
from topo.kernel import rtnl
from topo.kinds.ifla import IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_NUM_TX_QUEUES, body
from topo.kinds.link_kinds import LINK_KINDS
from topo.wire import NLM_F_CREATE, NLM_F_EXCL, RTM_NEWLINK, attr_str, attr_u32, message, nest

_TOO_MANY_QUEUES: Final = 0xFFFF
"""rtnl_create_link takes 4,096 at most, and says EINVAL before it makes anything."""


def require(sock: socket.socket, changes: Iterable[Change], desired: Desired) -> None:
    """See that the kernel knows every kind of link that is to be made. Raises LackingError, with the place of each."""
    wanted: dict[str, list[Ref]] = {}
    for change in changes:
        if change.ref.kind == "link" and change.action in (CREATE, REPLACE) and change.desired is not None:
            wanted.setdefault(change.desired.attrs.get("kind", ""), []).append(change.ref)
    asked = [name for name in wanted if (kind := LINK_KINDS.get(name)) and kind.option and kind.make is None]
    if lacking := list(_unknown(sock, asked)):
        release = os.uname().release
        raise LackingError(
            [
                Diagnostic(
                    f"this kernel ({release}) has no links of kind {name}, which {ref} is",
                    path=desired.paths.get(ref, ""),
                    hint=f"it needs a kernel with {LINK_KINDS[name].option}",
                )
                for name in lacking
                for ref in wanted[name]
            ]
        )


def _unknown(sock: socket.socket, names: list[str]) -> Iterator[str]:
    """Those of the kinds of link that the kernel does not know, nor has a module for.

    Each is asked for with more queues than any link can have: a kind that is known is refused for that (EINVAL).
    """
    packed = [message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, seq, _impossible(name)) for seq, name in enumerate(names)]
    for refusal in rtnl.send(sock, packed) if packed else ():
        if refusal.errno == errno.EOPNOTSUPP:
            yield names[refusal.seq]


def _impossible(name: str) -> bytes:
    return body(0, attr_u32(IFLA_NUM_TX_QUEUES, _TOO_MANY_QUEUES), nest(IFLA_LINKINFO, attr_str(IFLA_INFO_KIND, name)))
