"""Shaping: the root qdisc of a link: tbf, htb with one class (tc-tbf(8), tc-htb(8), linux/pkt_sched.h), or one with a
module of its own: netem, fq_codel, cake.

The kernel keeps a burst as the time that it takes at the rate, in ticks, and a latency as the bytes that fit into
it. `canonical` rounds what a user asks for to what is read back; both sides go through the same four functions.

A root qdisc takes the place of whatever other kind is there, and changes one of its own kind. An htb that is not topo's (another
handle, another default class) has a key of its own, (ifname, "htb"), as its classes are told apart from topo's only so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from topo.changes import DELETE, REPLACE, UPDATE, Change, Env, Op, Rtnl
from topo.facts import STATIC, Fact, Live, Ref, link
from topo.kinds.kind import DesiredView, Kind, View
from topo.wire import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_DELQDISC,
    RTM_NEWQDISC,
    RTM_NEWTCLASS,
    STR,
    TCMSG,
    U64,
    attr,
    attr_str,
)
from topo.wire import attributes as nested

_SECOND: Final = 1_000_000_000
_TICK: Final = 64  # nanoseconds (PSCHED_SHIFT in net/pkt_sched.h)
_U32: Final = 0xFFFFFFFF

TCA_KIND, TCA_OPTIONS = 1, 2
TCA_TBF_PARMS, TCA_TBF_RATE64 = 1, 4
TCA_HTB_PARMS, TCA_HTB_INIT, TCA_HTB_RATE64, TCA_HTB_CEIL64 = 1, 2, 6, 7
TC_H_ROOT: Final = 0xFFFFFFFF
HANDLE, ROOT_CLASS, _DEFAULT, _OTHER_HANDLE = 0x10000, 0x10001, 1, 0x7FFE0000  # 1:, 1:1, and one that no one uses
_ETHERNET = 1  # TC_LINKLAYER_ETHERNET: the kernel computes and needs no table of rates
_RATESPEC: Final = "BBHhHI"  # cell_log, linklayer, overhead, cell_align, mpu, rate
_TBF: Final = struct.Struct("=" + 2 * _RATESPEC + "III")  # rate, peakrate; limit, buffer, mtu
_HTB: Final = struct.Struct("=" + 2 * _RATESPEC + "IIIII")  # rate, ceil; buffer, cbuffer, quantum, level, prio
_HTB_INIT: Final = struct.Struct("=IIIII")  # version, rate2quantum, defcls, debug, direct_pkts

_HANDLES: Final = {"normal": 0x7FF10000, "pareto": 0x7FF20000, "paretonormal": 0x7FF30000}
"""What a qdisc has been given and does not tell -> the handle that topo gives it, so that it is seen again."""
_GIVEN: Final = {handle: name for name, handle in _HANDLES.items()}
_KEPT: Final = {"flows": None, "distribution": "uniform"}
"""Attributes that a qdisc keeps from when it was made -> what they are where nothing is said."""

OPTIONS: Final = {kind: f"CONFIG_NET_SCH_{kind.upper()}" for kind in ("tbf", "htb", "netem", "fq_codel", "cake")}
"""The kernel option that brings a queueing discipline."""

INSIDE: Final = ("shaping_class", "shaping_filter")
"""The kinds of what is in topo's htb, and goes with it."""

CLASSFUL: Final = frozenset({"htb", "hfsc", "prio", "drr", "qfq", "ets", "cbq", "multiq"})
"""What has classes, and filters to them, which go when another takes its place."""


def kept_latency(rate: int, burst: int, limit: int) -> int:
    """Microseconds that a packet waits at most where `limit` bytes may, with a burst as the kernel keeps it."""
    return _latency(rate, _bytes(_ticks(burst, rate), rate), limit)


def default_burst(rate: int) -> int:
    """Bytes of burst where the user states none: 10 ms, and enough for a jumbo frame at any rate."""
    return max(rate // 100, 16_384)


def keeps(size: int, rate: int) -> bool:
    """Whether the kernel can keep a burst of `size` bytes at `rate` bytes/s: not more than 274 seconds of it."""
    return size * _SECOND <= _U32 * _TICK * rate


def _ticks(size: int, rate: int) -> int:
    return min(-(-size * _SECOND // (rate * _TICK)), _U32)


def _bytes(ticks: int, rate: int) -> int:
    return ticks * _TICK * rate // _SECOND


def _limit(rate: int, burst: int, latency: int) -> int:
    return min(burst - (-rate * latency // 1_000_000), _U32)


def _latency(rate: int, burst: int, limit: int) -> int:
    return max(limit - burst, 0) * 1_000_000 // rate


class _Own(Protocol):
    """What the module of a queueing discipline has; `options` is told whether it changes one of its kind."""

    def canonical(self, attrs: Mapping[str, Any], /) -> dict[str, Any]: ...

    def options(self, attrs: Mapping[str, Any], changed: bool, /) -> bytes: ...

    def decode(self, data: bytes, /) -> dict[str, Any] | None: ...

    def describe(self, attrs: Mapping[str, Any], /) -> str: ...


def _own(kind: str) -> _Own | None:
    """The module of a kind that has one, imported where a file, or the kernel, has such a qdisc."""
    if kind == "netem":
        from topo.kinds import netem

        return netem
    if kind == "fq_codel":
        from topo.kinds import fq_codel

        return fq_codel
    if kind == "cake":
        from topo.kinds import cake

        return cake
    return None


def canonical(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """`attrs` as they are read back: bursts in whole ticks, a latency in whole bytes. Rounding twice changes nothing."""
    if own := _own(attrs["kind"]):
        return own.canonical(attrs)
    found = dict(attrs)
    rate = found["rate"]
    found["burst"] = _bytes(_ticks(found["burst"], rate), rate)
    if found["kind"] == "htb":
        found["cburst"] = _bytes(_ticks(found["cburst"], found["ceil"]), found["ceil"])
    else:
        found["latency"] = _latency(rate, found["burst"], _limit(rate, found["burst"], found["latency"]))
    return found


def _ratespec(rate: int) -> tuple[int, int, int, int, int, int]:
    return 0, _ETHERNET if rate else 0, 0, 0, 0, min(rate, _U32)


def _rate64(nla: int, rate: int) -> bytes:
    return attr(nla, U64.pack(rate)) if rate > _U32 else b""


def _tbf_options(attrs: Mapping[str, Any]) -> bytes:
    rate, burst = attrs["rate"], attrs["burst"]
    limit = _limit(rate, burst, attrs["latency"])
    parms = _TBF.pack(*_ratespec(rate), *_ratespec(0), limit, _ticks(burst, rate), 0)
    return _rate64(TCA_TBF_RATE64, rate) + attr(TCA_TBF_PARMS, parms)


def class_options(attrs: Mapping[str, Any]) -> bytes:
    rate, ceil = attrs["rate"], attrs["ceil"]
    quantum = min(max(rate // 10, 1000), 200_000)  # without a word of the kernel in its log
    ticks = _ticks(attrs["burst"], rate), _ticks(attrs["cburst"], ceil)
    parms = _HTB.pack(*_ratespec(rate), *_ratespec(ceil), *ticks, quantum, 0, attrs.get("prio", 0))
    wide = _rate64(TCA_HTB_RATE64, rate) + _rate64(TCA_HTB_CEIL64, ceil)
    return attr(TCA_OPTIONS, wide + attr(TCA_HTB_PARMS, parms))


def encode(op: Op, env: Env) -> list[Rtnl]:
    ns = op.ref.ns
    index = env.index(ns, op.ref.key[0])
    if op.verb == DELETE:
        return [Rtnl(ns, RTM_DELQDISC, 0, TCMSG.pack(0, index, 0, TC_H_ROOT, 0))]
    assert op.new is not None
    attrs = op.new.attrs
    kind = attrs["kind"]
    if kind == "htb" and "rate" in attrs:
        same = op.verb == UPDATE and op.old is not None and op.old.attrs.get("kind") == kind
        class_ = TCMSG.pack(0, index, ROOT_CLASS, TC_H_ROOT, 0) + attr_str(TCA_KIND, kind) + class_options(attrs)
        change = Rtnl(ns, RTM_NEWTCLASS, NLM_F_CREATE, class_)
        return [change] if same else [*_htb_root(ns, index), change]
    old = op.old.attrs if op.old is not None and op.old.attrs.get("kind") == kind else {}
    anew = _own(kind) is not None and (
        "_options" in old or any(old.get(n, v) != attrs.get(n, v) for n, v in _KEPT.items())
    )
    handle = attrs.get("_handle") or _HANDLES.get(attrs.get("distribution", ""), 0)
    body = TCMSG.pack(0, index, handle, TC_H_ROOT, 0) + attr_str(TCA_KIND, kind)
    if options := _options(attrs, bool(old) and not anew):
        body += attr(TCA_OPTIONS, options)
    change = Rtnl(ns, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)
    return [_pfifo(ns, index), change] if old and anew else [change]


def _options(attrs: Mapping[str, Any], changed: bool) -> bytes:
    if "_options" in attrs:
        return bytes(attrs["_options"])
    own = _own(attrs["kind"])
    return own.options(attrs, changed) if own else _tbf_options(attrs)


def _pfifo(ns: str, index: int) -> Rtnl:
    """What takes the place of a qdisc that would keep, when changed, what the change leaves out."""
    pfifo = TCMSG.pack(0, index, _OTHER_HANDLE, TC_H_ROOT, 0) + attr_str(TCA_KIND, "pfifo")
    return Rtnl(ns, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, pfifo)


def _htb_init(quantum: int, default: int) -> bytes:
    return attr(TCA_HTB_INIT, _HTB_INIT.pack(3, quantum, default, 0, 0))


def _htb_root(ns: str, index: int) -> Iterable[Rtnl]:
    """An htb with handle 1:. What may be there under that handle gives way to a pfifo first: an htb cannot be changed."""
    yield _pfifo(ns, index)
    options = attr(TCA_OPTIONS, _htb_init(10, _DEFAULT))
    body = TCMSG.pack(0, index, HANDLE, TC_H_ROOT, 0) + attr_str(TCA_KIND, "htb") + options
    yield Rtnl(ns, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)


def htb_device(data: bytes, offset: int, end: int) -> int:
    """The ifindex of the device whose root this RTM_NEWQDISC shows to be an htb, otherwise 0.

    The kernel dumps classes (RTM_GETTCLASS) of one device at a time: these are the ones to ask for.
    """
    if end - offset < TCMSG.size:
        return 0
    _, index, _, parent, _ = TCMSG.unpack_from(data, offset)
    found = nested(data, offset + TCMSG.size, end) if parent == TC_H_ROOT else {}
    return int(index) if found.get(TCA_KIND) == b"htb\0" else 0


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    if end - offset < TCMSG.size:
        return ()
    _, index, handle, parent, _ = TCMSG.unpack_from(data, offset)
    ifname = view.ifname(index)
    if parent != TC_H_ROOT or not handle or ifname is None:  # the kernel's default qdisc has no handle
        return ()
    found = nested(data, offset + TCMSG.size, end)
    name = STR.unpack(found.get(TCA_KIND, b""))
    options = found.get(TCA_OPTIONS, b"")
    ref = Ref("shaping", view.ns, (ifname,))
    if kind == RTM_NEWTCLASS:
        attrs = _root_class(nested(options)) if name == "htb" and handle == ROOT_CLASS else None
    elif name == "htb":
        init = nested(options).get(TCA_HTB_INIT, b"").ljust(_HTB_INIT.size, b"\0")
        _, quantum, default, *_ = _HTB_INIT.unpack_from(init)
        if (handle, default) == (HANDLE, _DEFAULT):
            return ()  # topo's: its class says everything
        options = _htb_init(quantum, default)
        ref, attrs = ref._replace(key=(ifname, "htb")), {"kind": name, "_handle": handle, "_options": options}
    else:
        attrs = _words(name, options) or {"kind": name, "_options": options}
        if "distribution" in attrs:
            attrs["distribution"] = _GIVEN.get(handle, attrs["distribution"])
    return () if attrs is None else (Fact(ref, attrs, STATIC),)


def _rate(found: Mapping[int, bytes], nla: int, low: int) -> int:
    wide = found.get(nla, b"")
    return int(U64.unpack(wide)) if len(wide) == 8 else low


def _words(kind: str, options: bytes) -> dict[str, Any] | None:
    """The attributes of a qdisc without classes; None where it is beyond topo's words."""
    if own := _own(kind):
        return own.decode(options)
    return _decode_tbf(nested(options)) if kind == "tbf" else None


def _decode_tbf(found: Mapping[int, bytes]) -> dict[str, Any] | None:
    if len(found.get(TCA_TBF_PARMS, b"")) < _TBF.size:
        return None
    parms = _TBF.unpack_from(found[TCA_TBF_PARMS])
    rate = _rate(found, TCA_TBF_RATE64, parms[5])
    if not rate or parms[11]:  # a peak rate is beyond topo's words
        return None
    burst = _bytes(parms[13], rate)
    return {"kind": "tbf", "rate": rate, "burst": burst, "latency": _latency(rate, burst, parms[12])}


def read_class(found: Mapping[int, bytes]) -> dict[str, Any] | None:
    """Of a class of an htb what can be stated of it."""
    if len(found.get(TCA_HTB_PARMS, b"")) < _HTB.size:
        return None
    parms = _HTB.unpack_from(found[TCA_HTB_PARMS])
    rate, ceil = _rate(found, TCA_HTB_RATE64, parms[5]), _rate(found, TCA_HTB_CEIL64, parms[11])
    bursts = {"burst": _bytes(parms[12], rate), "cburst": _bytes(parms[13], ceil)}
    return {"rate": rate, "ceil": ceil, **bursts, "prio": parms[16]}


def _root_class(found: Mapping[int, bytes]) -> dict[str, Any] | None:
    if attrs := read_class(found):
        del attrs["prio"]  # of an only child it says nothing
        return {"kind": "htb", **attrs}
    return None


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    return (link(fact.ref.ns, fact.ref.key[0]),)


def takes(change: Change, live: Live) -> Iterable[Ref]:
    """With an htb go its classes and filters; with someone's, the class that topo knows as its own in it."""
    ref, have = change.ref._replace(key=change.ref.key[:1]), change.live
    gone = change.action in (DELETE, REPLACE) or "kind" in change.attrs
    if have is None or not gone or have.attrs.get("kind") != "htb":
        return
    if ref != change.ref and ref in live:
        yield ref
    yield from (fact.ref for fact in live.on(link(ref.ns, ref.key[0])) if fact.ref.kind in INSIDE)


def claims(fact: Fact) -> Iterable[tuple[Any, ...]]:
    """A link has one root qdisc."""
    return (("root qdisc", fact.ref.ns, fact.ref.key[0]),)


def describe(fact: Fact) -> str:
    attrs = fact.attrs
    own = _own(attrs["kind"]) if "_options" not in attrs else None
    if own and len(attrs) > 1:
        return own.describe(attrs)
    return f"{attrs['kind']} rate {attrs['rate'] * 8}bit" if "rate" in attrs else str(attrs["kind"])


SHAPING: Final = Kind(
    "shaping",
    encode,
    decode,
    requires,
    takes=takes,
    claims=claims,
    describe=describe,
    units={
        **dict.fromkeys(("rate", "ceil"), "bytes/s"),
        **dict.fromkeys(("burst", "cburst", "quantum", "memory_limit", "overhead", "mpu"), "bytes"),
        **dict.fromkeys(("latency", "delay", "jitter", "target", "interval", "rtt"), "us"),
        **dict.fromkeys(("loss", "duplicate", "reorder", "corrupt"), "%"),
    },
)
