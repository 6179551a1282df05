"""What the running kernel lacks for rules and routes. Nothing that is asked here can be made, or is there."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, Final

from topo.facts import PROTOCOL
from topo.kernel import rtnl
from topo.kernel.feature import Feature
from topo.kinds import encap
from topo.kinds.route import RTA_DST, RTA_OIF
from topo.kinds.rule import FRA_DSCP, FRA_FLOWLABEL, FRA_PRIORITY, FRA_SPORT_MASK
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
    attr_u32,
    message,
)

_OF_REALMS: Final = "/proc/self/net/rt_acct"
"""What only a kernel with realms has there (ip_rt_do_proc_init in net/ipv4/route.c): another takes them without a word."""
_NO_TABLE: Final = 250
_NO_PRIORITY: Final = 0xFFFFFFF0


ROUTING: Final = "routing"


def _rules(name: str, since: str) -> Feature:
    return Feature(
        ROUTING, f"rules by {name}", "CONFIG_IP_MULTIPLE_TABLES", f"has no rules by {name}, which {{}} is ({since})"
    )


_DSCP: Final = _rules("DSCP", "Linux 6.12 has them; `tos` does for older ones")
_MASKS: Final = _rules("some bits of a port or DSCP", "Linux 6.15 has them")
_REALMS: Final = Feature(ROUTING, "realms", "CONFIG_IP_ROUTE_CLASSID", "has no realms, which {} asks for")
_RECENT: Final[Mapping[str, tuple[Feature, int]]] = {
    "dscp": (_DSCP, FRA_DSCP),
    "flowlabel": (_rules("flow label", "Linux 6.14 has them"), FRA_FLOWLABEL),
    **{f"{name}_mask": (_MASKS, FRA_SPORT_MASK) for name in ("sport", "dport", "dscp")},
}
"""What a rule may match by -> the feature, and an attribute of those that came with it."""


def features() -> list[Feature]:
    """All that rules and routes may need."""
    return [*dict.fromkeys(feature for feature, _ in _RECENT.values()), _REALMS, *map(_encap, encap.TYPES)]


@cache
def _encap(kind: str) -> Feature:
    words = f"has no encap {kind}, which {{}} asks for"
    return Feature(ROUTING, f"encap {kind}", encap.OPTIONS[kind], words, encap.MODULES.get(kind, ()))


def wanted(attrs: Mapping[str, Any]) -> Iterator[Feature]:
    """What a rule or a route with these attributes needs."""
    yield from dict.fromkeys(_RECENT[name][0] for name in attrs if name in _RECENT)
    if attrs.get("realms"):
        yield _REALMS
    wrapped = [attrs["encap"]] if attrs.get("encap") else []
    wrapped += [one for hop in attrs.get("nexthops") or () for one in hop[4:] if one]
    for kind in dict.fromkeys(words.partition(" ")[0] for words in wrapped):
        if kind in encap.TYPES:
            yield _encap(kind)


def unknown(sock: socket.socket, names: Collection[str]) -> Iterator[str]:
    """The names of those features that the kernel has not, nor a module for, which asking loads."""
    for feature, nla in dict.fromkeys(_RECENT.values()):
        if feature.name in names and not _knows(sock, nla):
            yield feature.name
    if _REALMS.name in names and not os.path.exists(_OF_REALMS):
        yield _REALMS.name
    kinds = [kind for kind in encap.TYPES if _encap(kind).name in names]
    yield from (_encap(kind).name for kind in _unwrapped(sock, kinds))


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


def _knows(sock: socket.socket, nla: int) -> bool:
    """Whether that attribute is too short (ERANGE) when it is empty; a kernel that does not know it finds no such rule
    (ENOENT)."""
    header = FIBRULEHDR.pack(AF_INET, 0, 0, 0, 0, 0, 0)
    body = header + attr_u32(FRA_PRIORITY, _NO_PRIORITY) + attr(nla, b"")
    return any(refusal.errno != errno.ENOENT for refusal in rtnl.send(sock, [message(RTM_DELRULE, 0, 0, body)]))
