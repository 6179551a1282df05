"""What comes in by an interface, led to an ifb, whose own qdisc shapes it: tc-mirred(8), linux/pkt_cls.h, linux/tc_act/tc_mirred.h.

An ingress qdisc with one filter in it: u32 with a key that fits every packet, and mirred, which takes the packet away. Whatever
else is at the ingress of an interface (clsact, more filters, other actions) is somebody else's, and read as such.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from topo.changes import DELETE, UPDATE, Env, Op, Rtnl
from topo.facts import FOREIGN, STATIC, Fact, Ref, link
from topo.kinds.kind import DesiredView, Kind, View
from topo.wire import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELQDISC,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
    STR,
    TCMSG,
    attr,
    attr_str,
    attributes,
    nest,
)

HANDLE: Final = 0xFFFF0000  # ffff:, which an ingress qdisc has always
TC_H_INGRESS: Final = 0xFFFFFFF1  # of clsact as well
OPTION: Final = "CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED"
MIRRED: Final = "mirred"
TCA_ACT_TAB: Final = 1
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_ACT_KIND, TCA_ACT_OPTIONS = 1, 2
_TCA_U32_SEL, _TCA_U32_ACT = 5, 7
_TCA_MIRRED_PARMS: Final = 2
_SEL: Final = struct.Struct("=BBBxHHhhI" + "IIii")  # struct tc_u32_sel and one struct tc_u32_key
_TERMINAL: Final = 1  # TC_U32_TERMINAL
_MIRRED: Final = struct.Struct("=IIiiiiI")  # struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex
_STOLEN, _REDIRECT = 4, 1  # TC_ACT_STOLEN, TCA_EGRESS_REDIR
_FIRST_OF_ALL: Final = 1 << 16 | 0x0300  # priority 1, ETH_P_ALL in network order
_ANY: Final = _SEL.pack(_TERMINAL, 0, 1, 0, 0, 0, 0, 0, *(0, 0, 0, 0))


def encode(op: Op, env: Env) -> Sequence[Rtnl]:
    ns, ifname = op.ref.ns, op.ref.key[0]
    index = env.index(ns, ifname)
    qdisc = TCMSG.pack(0, index, HANDLE, TC_H_INGRESS, 0)
    gone = [Rtnl(ns, RTM_DELQDISC, 0, qdisc)] if op.verb in (DELETE, UPDATE) else []
    to = op.new.attrs["to"] if op.new is not None else None
    if op.verb == DELETE or to is None:  # what is beyond topo's words cannot be made again
        return gone
    action = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _REDIRECT, env.index(ns, to))
    mirred = attr_str(TCA_ACT_KIND, MIRRED) + nest(TCA_ACT_OPTIONS, attr(_TCA_MIRRED_PARMS, action))
    options = nest(TCA_OPTIONS, attr(_TCA_U32_SEL, _ANY), nest(_TCA_U32_ACT, nest(1, mirred)))
    filter_ = TCMSG.pack(0, index, 0, HANDLE, _FIRST_OF_ALL) + attr_str(TCA_KIND, "u32") + options
    return [
        *gone,
        Rtnl(ns, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, qdisc + attr_str(TCA_KIND, "ingress")),
        Rtnl(ns, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, filter_),
    ]


def found(ref: Ref, qdisc: bytes, filters: Iterable[bytes], view: View) -> Fact:
    """The fact of an interface that has something at its ingress: the attributes of the qdisc, and those of each filter."""
    ways = [_way(attributes(data), view) for data in filters if not _is_table(attributes(data))]
    if STR.unpack(attributes(qdisc).get(TCA_KIND, b"")) == "ingress" and len(ways) < 2 and all(ways):
        return Fact(ref, {"to": ways[0] if ways else None}, STATIC)  # an empty one may be a killed run's
    return Fact(ref, {"to": None}, FOREIGN)


def _is_table(filter_: Mapping[int, bytes]) -> bool:
    """Whether it is what u32 tells beside its filters: a table of them, or the classifier as such."""
    options = attributes(filter_.get(TCA_OPTIONS, b""))
    return STR.unpack(filter_.get(TCA_KIND, b"")) == "u32" and _TCA_U32_SEL not in options


def _way(filter_: Mapping[int, bytes], view: View) -> str:
    """Where a filter leads everything; empty where it does anything else."""
    options = attributes(filter_.get(TCA_OPTIONS, b""))
    actions = attributes(options.get(_TCA_U32_ACT, b""))
    if not options.get(_TCA_U32_SEL, b"").startswith(_ANY) or len(actions) != 1:
        return ""
    action = attributes(next(iter(actions.values())))
    data = attributes(action.get(TCA_ACT_OPTIONS, b"")).get(_TCA_MIRRED_PARMS, b"")
    if STR.unpack(action.get(TCA_ACT_KIND, b"")) != MIRRED or len(data) < _MIRRED.size:
        return ""
    _, _, then, _, _, way, index = _MIRRED.unpack_from(data)
    return view.ifname(index) or "" if (then, way) == (_STOLEN, _REDIRECT) else ""


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    ns, to = fact.ref.ns, fact.attrs.get("to")
    return (link(ns, fact.ref.key[0]), *((link(ns, to),) if to else ()))


def claims(fact: Fact) -> Iterable[tuple[Any, ...]]:
    """An interface has one ingress."""
    return (("ingress", fact.ref.ns, fact.ref.key[0]),)


def describe(fact: Fact) -> str:
    return f"to {fact.attrs['to']}" if fact.attrs.get("to") else "by other filters"


INGRESS: Final = Kind(
    "ingress",
    encode,
    requires=requires,
    claims=claims,
    describe=describe,
    absent=frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL}),  # EINVAL where nothing is there (tc_get_qdisc)
)
