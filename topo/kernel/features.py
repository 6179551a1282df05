"""What the running kernel lacks of that which a plan makes: asked before anything is touched."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from topo.changes import CREATE, REPLACE, Change
from topo.errors import Diagnostic, LackingError
from topo.facts import Desired, Ref
from topo.kernel import routing_features, rtnl
from topo.kernel.feature import Feature
from topo.kernel.routing_features import ROUTING
from topo.kinds import ingress, shaping
from topo.kinds.ifla import IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_NUM_TX_QUEUES, body
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.rule import RECENT
from topo.kinds.shaping import TCA_OPTIONS
from topo.wire import (
    BE16,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_NEWACTION,
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
_NOT_EVERYWHERE: Final = RECENT | {"encap", "realms"}  # of rules, routes and nexthops
_LO: Final = 1  # the loopback's ifindex, in every namespace
_NO_OPTIONS: Final = attr(TCA_OPTIONS, attr(1, b"") + attr(2, b""))
"""Of every queueing discipline that topo knows these are too short to be options: EINVAL."""


LINK, QDISC, BRIDGE = "link", "qdisc", "bridge"


def links() -> list[Feature]:
    """Every kind of link that the kernel is asked for by rtnetlink."""
    return [feature for name in LINK_KINDS if (feature := _link(name))]


@cache
def _link(name: str) -> Feature | None:
    kind = LINK_KINDS.get(name)
    if kind is None or not kind.option or kind.make:
        return None
    return Feature(LINK, name, kind.option, f"has no links of kind {name}, which {{}} is", (f"rtnl-link-{name}",))


def qdiscs() -> list[Feature]:
    """Every queueing discipline that topo knows."""
    return [feature for name in (*shaping.OPTIONS, ingress.INGRESS.name) if (feature := _qdisc(name))]


@cache
def _qdisc(name: str) -> Feature | None:
    option = ingress.OPTION if name == ingress.INGRESS.name else shaping.OPTIONS.get(name)
    if option is None:
        return None
    return Feature(QDISC, name, option, f"has no {name}, which {{}} asks for", (f"net-sch-{name}", f"sch_{name}"))


VLANS: Final = Feature(
    BRIDGE,
    "VLAN-aware",
    "CONFIG_BRIDGE_VLAN_FILTERING",
    "has no VLAN-aware bridges, which {} is",
    ("rtnl-link-bridge",),
)


def wanted(changes: Iterable[Change]) -> dict[Feature, list[Ref]]:
    """What the kernel must have for these changes, each with the objects that want it."""
    found: dict[Feature, list[Ref]] = {}
    for change in changes:
        if change.desired is None:
            continue
        attrs, ref = change.desired.attrs, change.ref
        if ref.kind == "shaping":
            feature = _qdisc(attrs.get("kind", ""))
        elif ref.kind == ingress.INGRESS.name:
            feature = _qdisc(ref.kind)
        elif ref.kind == "link":
            feature = _link(attrs.get("kind", "")) if change.action in (CREATE, REPLACE) else None
            if _keeps_apart(attrs):
                found.setdefault(VLANS, []).append(ref)
        elif ref.kind in ("rule", "route", "nexthop"):
            if not attrs.keys().isdisjoint(_NOT_EVERYWHERE) or attrs.get("nexthops"):
                for feature in routing_features.wanted(attrs):
                    found.setdefault(feature, []).append(ref)
            continue
        else:
            continue
        if feature:
            found.setdefault(feature, []).append(ref)
    return found


def lacking(sock: socket.socket, features: Iterable[Feature]) -> list[Feature]:
    """Those kinds of link, qdiscs, encapsulations and the like that the kernel has not, nor a module for, which asking loads."""
    asked = list(features)
    lacks = {
        LINK: set(_unknown(sock, [feature.name for feature in asked if feature.group == LINK])),
        QDISC: set(_unscheduled(sock, [feature.name for feature in asked if feature.group == QDISC])),
        BRIDGE: {VLANS.name} if VLANS in asked and not _knows_vlans(sock) else set(),
        ROUTING: set(routing_features.unknown(sock, [feature.name for feature in asked if feature.group == ROUTING])),
    }
    return [feature for feature in asked if feature.name in lacks.get(feature.group, ())]


def require(sock: socket.socket, changes: Collection[Change], desired: Desired) -> None:
    """See that the kernel knows every kind of link and qdisc that is to be made.

    Raises LackingError, with the place of each.
    """
    asked = wanted(changes)
    lacks = [*lacking(sock, asked), *_filters(changes, asked)]
    found = [line for feature in lacks for line in diagnostics(feature, asked[feature], desired)]
    if found:
        raise LackingError(found)


def _filters(changes: Iterable[Change], asked: dict[Feature, list[Ref]]) -> Collection[Feature]:
    """What of nftables the kernel lacks, of that which these tables have and those that are there have not; noted in `asked`."""
    new: list[Feature] = []
    for change in changes:
        if change.ref.kind != "nft" or change.desired is None:
            continue
        from topo.kernel import nft_features  # late, as few files have NAT or a firewall

        there = nft_features.wanted(change.live.attrs) if change.live else ()
        for feature in nft_features.wanted(change.desired.attrs):
            if feature not in there:
                asked.setdefault(feature, []).append(change.ref)
                new.append(feature)
    return nft_features.lacking(new) if new else ()


def diagnostics(feature: Feature, refs: Iterable[Ref], desired: Desired) -> Iterator[Diagnostic]:
    """What is said of a kernel without `feature`, once for each that wants it."""
    for ref in refs:
        yield Diagnostic(
            f"this kernel ({os.uname().release}) {feature.words.format(_named(ref))}",
            path=desired.paths.get(ref, ""),
            hint=f"it needs a kernel with {feature.option}",
        )


def _named(ref: Ref) -> str:
    """An object in words: a reference to a rule or a route is none."""
    if ref.kind == "route":
        return f"the route to {ref.key[2]} in {ref.ns}"
    return f"the rule {ref.key[1]} in {ref.ns}" if ref.kind == "rule" else str(ref)


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


def _unscheduled(sock: socket.socket, names: Iterable[str]) -> Iterator[str]:
    """Those of the queueing disciplines that the kernel does not know (qdisc_create: ENOENT), nor has a module for.

    Each is asked for at a loopback with options that none takes, and where one is there already it stays (EEXIST).
    """
    known = list(names)
    packed = [message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, seq, _unfit(name)) for seq, name in enumerate(known)]
    for refusal in rtnl.send(sock, packed) if packed else ():
        if refusal.errno == errno.ENOENT:
            yield known[refusal.seq]
    if ingress.INGRESS.name in known and not _redirects(sock):
        yield ingress.INGRESS.name


def _redirects(sock: socket.socket) -> bool:
    """Whether the kernel knows the action mirred: one that is unknown is ENOENT (tc_action_load_ops), this one wants options."""
    action = nest(1, attr_str(ingress.TCA_ACT_KIND, ingress.MIRRED))
    packed = message(RTM_NEWACTION, NLM_F_CREATE | NLM_F_EXCL, 0, bytes(4) + nest(ingress.TCA_ACT_TAB, action))
    return all(refusal.errno != errno.ENOENT for refusal in rtnl.send(sock, [packed]))


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
