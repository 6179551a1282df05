"""What the kernel says was changed: each notice is one link, address, route, neighbour, FDB or nftables entry.

So one can count what a change of one entry really touches.
"""

from __future__ import annotations

import os
import socket
from types import TracebackType
from typing import Final, Self

from . import netlink as nl
from .lab import Lab

# RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE; NFNLGRP_NFTABLES
_GROUPS: Final = {nl.ROUTE: (1, 3, 5, 7), nl.NETFILTER: (7,)}
_NEWGEN: Final = 10 << 8 | 15  # NFT_MSG_NEWGEN: the end of each transaction


class Announced:
    """Listens in the namespaces of a lab of many entries; does nothing for other labs."""

    def __init__(self, lab: Lab) -> None:
        self._names = lab.namespaces() if lab.unit != "namespaces" else []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        home = nl.here()
        for name in self._names:
            fd = os.open(nl.DIRECTORY + name, os.O_RDONLY | os.O_CLOEXEC)
            nl.setns(fd)
            os.close(fd)
            self._sockets += [_listening(family) for family in _GROUPS]
        nl.setns(home)
        os.close(home)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for sock in self._sockets:
            sock.close()

    def count(self) -> int:
        return sum(kind != _NEWGEN for sock in self._sockets for kind, _ in nl.events(sock))


def _listening(family: int) -> socket.socket:
    sock = nl.opened(family, large=True)
    sock.bind((0, 0))
    for group in _GROUPS[family]:
        sock.setsockopt(nl.SOL_NETLINK, nl.MEMBERSHIP, group)
    return sock
