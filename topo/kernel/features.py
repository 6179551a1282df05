"""What the running kernel lacks of that which a plan makes: asked before anything is touched."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from topo.changes import CREATE, REPLACE, Change
from topo.errors import Diagnostic, LackingError
from topo.facts import Desired, Ref
from topo.kernel import rtnl
from topo.kinds import shaping
from topo.kinds.ifla import IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_NUM_TX_QUEUES, body
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.shaping import TCA_OPTIONS
from topo.wire import (
    BE16,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_NEWLINK,
    RTM_NEWQDISC,
    TCMSG,
    attr,
    attr_str,
    attr_u32,
    message,
    nest,
)

_TOO_MANY_QUEUES: Final = 0xFFFF
"""rtnl_create_link takes 4,096 at most, and says EINVAL before it makes anything."""


_IFLA_BR_VLAN_PROTOCOL: Final = 8
_ROUTING: Final = frozenset({"rule", "route"})
_ASKED: Final = frozenset({"dscp", "encap"})
"""Attributes of rules and routes that not every kernel has."""
_LO: Final = 1  # the loopback's ifindex, in every namespace
_NO_OPTIONS: Final = attr(TCA_OPTIONS, attr(1, b"") + attr(2, b""))
"""Of every queueing discipline that topo knows these are too short to be options: EINVAL."""


def require(sock: socket.socket, changes: Collection[Change], desired: Desired) -> None:
    """See that the kernel knows every kind of link and qdisc that is to be made.

    Raises LackingError, with the place of each.
    """
    links: dict[str, list[Ref]] = {}
    qdiscs: dict[str, list[Ref]] = {}
    for change in changes:
        if change.desired is None:
            continue
        kind = change.desired.attrs.get("kind", "")
        if change.ref.kind == "link" and change.action in (CREATE, REPLACE):
            links.setdefault(kind, []).append(change.ref)
        elif change.ref.kind == "shaping":
            qdiscs.setdefault(kind, []).append(change.ref)
    asked = [name for name in links if (kind := LINK_KINDS.get(name)) and kind.option and kind.make is None]
    lacking = [
        *_lacking(_unknown(sock, asked), links, desired, "has no links of kind {}, which {} is", _link_option),
        *_lacking(_unscheduled(sock, qdiscs), qdiscs, desired, "has no {}, which {} asks for", _qdisc_option),
    ]
    aware = [c.ref for c in changes if c.ref.kind == "link" and c.desired and _keeps_apart(c.desired.attrs)]
    if aware and not _knows_vlans(sock):
        lacking += _lacking(["VLAN"], {"VLAN": aware}, desired, "has no {}-aware bridges, which {} is", _vlan_option)
    lacking += _of_routing(sock, changes, desired)
    if lacking:
        raise LackingError(lacking)


def _asks(attrs: Mapping[str, Any]) -> bool:
    return not attrs.keys().isdisjoint(_ASKED) or any(len(hop) > 4 for hop in attrs.get("nexthops") or ())


def _of_routing(sock: socket.socket, changes: Collection[Change], desired: Desired) -> Iterable[Diagnostic]:
    if any(_asks(c.desired.attrs) for c in changes if c.ref.kind in _ROUTING and c.desired):
        from topo.kernel import routing_features  # late: few files need it

        return routing_features.lacking(sock, changes, desired)
    return ()


def _link_option(name: str) -> str:
    return LINK_KINDS[name].option


def _vlan_option(_: str) -> str:
    return "CONFIG_BRIDGE_VLAN_FILTERING"


def _keeps_apart(attrs: Mapping[str, Any]) -> bool:
    """Whether it is a bridge of which more is said of VLANs than that it heeds none."""
    stated = attrs.keys() & {"vlan_protocol", "vlan_default_pvid"} or attrs.get("vlan_filtering")
    return attrs.get("kind") == "bridge" and bool(stated)


def _knows_vlans(sock: socket.socket) -> bool:
    """Whether bridges can keep VLANs apart: a kernel that can heeds their protocol, and refuses one that is none
    (br_validate: EPROTONOSUPPORT); another looks at the number of queues only."""
    info = attr_str(IFLA_INFO_KIND, "bridge") + nest(IFLA_INFO_DATA, attr(_IFLA_BR_VLAN_PROTOCOL, BE16.pack(1)))
    impossible = body(0, attr_u32(IFLA_NUM_TX_QUEUES, _TOO_MANY_QUEUES), nest(IFLA_LINKINFO, info))
    packed = message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, impossible)
    return any(refusal.errno == errno.EPROTONOSUPPORT for refusal in rtnl.send(sock, [packed]))


def _qdisc_option(name: str) -> str:
    return shaping.OPTIONS.get(name, "")


def _lacking(
    names: Iterable[str], refs: Mapping[str, list[Ref]], desired: Desired, words: str, option: Callable[[str], str]
) -> Iterator[Diagnostic]:
    """`words` take the name and what wants it."""
    for name in names:
        for ref in refs[name]:
            yield Diagnostic(
                f"this kernel ({os.uname().release}) {words.format(name, ref)}",
                path=desired.paths.get(ref, ""),
                hint=f"it needs a kernel with {option(name)}",
            )


def _unscheduled(sock: socket.socket, names: Iterable[str]) -> Iterator[str]:
    """Those of the queueing disciplines that the kernel does not know (qdisc_create: ENOENT), nor has a module for.

    Each is asked for at a loopback with options that none takes, and where one is there already it stays (EEXIST).
    """
    known = list(names)
    packed = [message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, seq, _unfit(name)) for seq, name in enumerate(known)]
    for refusal in rtnl.send(sock, packed) if packed else ():
        if refusal.errno == errno.ENOENT:
            yield known[refusal.seq]


def _unfit(name: str) -> bytes:
    return TCMSG.pack(0, _LO, 0, shaping.TC_H_ROOT, 0) + attr_str(shaping.TCA_KIND, name) + _NO_OPTIONS


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
