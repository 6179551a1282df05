"""Classes below topo's htb, and the u32 filters that choose among them (tc-htb(8), tc-u32(8), linux/pkt_sched.h, linux/pkt_cls.h).

A class shares what its root, class 1:1, has; its key is (ifname, minor). A filter has (ifname, pref), and says what it matches in
words: `all`, or the family and what has to be so, `ip dst 10.0.0.0/8 proto 6 dport 80`. Ports are looked for behind an IPv4
header without options, and an IPv6 header without extensions, as tc-u32(8) does. Filters of anybody else's making, which have
other keys, actions or a table of their own, match None.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from topo.changes import DELETE, UPDATE, Env, Op, Rtnl
from topo.facts import STATIC, Fact, Ref, link
from topo.kinds import shaping
from topo.kinds.kind import DesiredView, Kind, View
from topo.kinds.shaping import HANDLE, ROOT_CLASS, TCA_KIND, TCA_OPTIONS
from topo.wire import (
    BE16,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELTCLASS,
    RTM_DELTFILTER,
    RTM_NEWTCLASS,
    RTM_NEWTFILTER,
    STR,
    TCMSG,
    U16,
    attr,
    attr_str,
    attr_u32,
    attributes,
    nest,
    pack_ip,
    unpack_ip,
)

_TCA_U32_CLASSID, _TCA_U32_SEL = 1, 5
_PLAIN: Final = frozenset({_TCA_U32_CLASSID, _TCA_U32_SEL, 2, 9, 11, 12})  # and TCA_U32_HASH, _PCNT, _FLAGS, _PAD
_SEL: Final = struct.Struct("=BBBxHHhhI")  # struct tc_u32_sel
_KEY: Final = struct.Struct("=4s4sii")  # struct tc_u32_key: mask and value in network order, offset and its mask
_TERMINAL: Final = 1  # TC_U32_TERMINAL
_PROTOCOLS: Final = {"all": 0x0003, "ip": 0x0800, "ip6": 0x86DD}  # ETH_P_*
_WORDS: Final = ("src", "dst", "dscp", "proto", "sport", "dport")
_NUMBERS: Final = {  # of a family: word -> offset, mask, how far its number is shifted
    "ip": {
        "dscp": (0, 0x00FC0000, 18),
        "proto": (8, 0x00FF0000, 16),
        "sport": (20, 0xFFFF0000, 16),
        "dport": (20, 0xFFFF, 0),
    },
    "ip6": {
        "dscp": (0, 0x0FC00000, 22),
        "proto": (4, 0xFF00, 8),
        "sport": (40, 0xFFFF0000, 16),
        "dport": (40, 0xFFFF, 0),
    },
}
_ADDRESSES: Final = {"ip": {"src": 12, "dst": 16}, "ip6": {"src": 8, "dst": 24}}  # where the word is in the header


# Classes


def encode_class(op: Op, env: Env) -> list[Rtnl]:
    ns, (ifname, minor) = op.ref.ns, op.ref.key
    head = TCMSG.pack(0, env.index(ns, ifname), HANDLE | minor, ROOT_CLASS, 0)
    if op.verb == DELETE:
        return [Rtnl(ns, RTM_DELTCLASS, 0, head)]
    assert op.new is not None
    return [
        Rtnl(ns, RTM_NEWTCLASS, NLM_F_CREATE, head + attr_str(TCA_KIND, "htb") + shaping.class_options(op.new.attrs))
    ]


def decode_class(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    """The fact of an RTM_NEWTCLASS below topo's root class."""
    if kind != RTM_NEWTCLASS or end - offset < TCMSG.size:
        return ()
    _, index, handle, _, _ = TCMSG.unpack_from(data, offset)
    ifname, found = view.ifname(index), attributes(data, offset + TCMSG.size, end)
    if ifname is None or handle & ~0xFFFF != HANDLE or handle == ROOT_CLASS or found.get(TCA_KIND) != b"htb\0":
        return ()
    attrs = shaping.read_class(attributes(found.get(TCA_OPTIONS, b"")))
    return (Fact(Ref("shaping_class", view.ns, (ifname, handle & 0xFFFF)), attrs, STATIC),) if attrs else ()


def requires_class(fact: Fact, _: DesiredView) -> Iterable[Ref]:
    ns, ifname = fact.ref.ns, fact.ref.key[0]
    return link(ns, ifname), Ref("shaping", ns, (ifname,))


def describe_class(fact: Fact) -> str:
    attrs = fact.attrs
    return f"rate {attrs['rate'] * 8}bit ceil {attrs['ceil'] * 8}bit prio {attrs['prio']}"


# Filters


def encode_filter(op: Op, env: Env) -> Sequence[Rtnl]:
    ns, (ifname, pref) = op.ref.ns, op.ref.key
    index = env.index(ns, ifname)
    gone = (
        [Rtnl(ns, RTM_DELTFILTER, 0, TCMSG.pack(0, index, 0, HANDLE, pref << 16))]
        if op.verb in (DELETE, UPDATE)
        else []
    )
    if op.verb == DELETE:
        return gone
    assert op.new is not None
    attrs = op.new.attrs
    family, *words = attrs["match"].split()
    keys = list(_keys(family, dict(zip(words[::2], words[1::2], strict=True))))
    selector = _SEL.pack(_TERMINAL, 0, len(keys), 0, 0, 0, 0, 0) + b"".join(keys)
    options = nest(TCA_OPTIONS, attr_u32(_TCA_U32_CLASSID, HANDLE | attrs["class"]), attr(_TCA_U32_SEL, selector))
    head = TCMSG.pack(0, index, 0, HANDLE, pref << 16 | _swapped(_PROTOCOLS[family]))
    return [*gone, Rtnl(ns, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, head + attr_str(TCA_KIND, "u32") + options)]


def _key(mask: int, value: int, at: int) -> bytes:
    return _KEY.pack(mask.to_bytes(4, "big"), value.to_bytes(4, "big"), at, 0)


def _swapped(protocol: int) -> int:
    """A protocol number as tcm_info has it, or back: in network order."""
    return int(U16.unpack(BE16.pack(protocol)))


def _keys(family: str, stated: Mapping[str, str]) -> Iterator[bytes]:
    if not stated:
        yield _key(0, 0, 0)
    for word in _WORDS:
        if word not in stated:
            continue
        if word in _NUMBERS[family]:
            at, mask, shift = _NUMBERS[family][word]
            yield _key(mask, int(stated[word]) << shift, at)
        else:
            ip, _, length = stated[word].partition("/")
            yield from _prefix_keys(pack_ip(ip), int(length), _ADDRESSES[family][word])


def _prefix_keys(ip: bytes, length: int, at: int) -> Iterator[bytes]:
    """A key for each 32 bits that the prefix reaches into."""
    for start in range(0, len(ip), 4):
        bits = min(max(length - start * 8, 0), 32)
        if bits:
            mask = 0xFFFFFFFF << (32 - bits) & 0xFFFFFFFF
            yield _key(mask, int.from_bytes(ip[start : start + 4], "big") & mask, at + start)


def decode_filter(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    """The fact of an RTM_NEWTFILTER at topo's htb; none of what u32 tells beside its filters, its tables."""
    if kind != RTM_NEWTFILTER or end - offset < TCMSG.size:
        return ()
    _, index, _, parent, info = TCMSG.unpack_from(data, offset)
    ifname, found = view.ifname(index), attributes(data, offset + TCMSG.size, end)
    options = attributes(found.get(TCA_OPTIONS, b""))
    name = STR.unpack(found.get(TCA_KIND, b""))
    if ifname is None or parent != HANDLE or (name == "u32" and _TCA_U32_SEL not in options):
        return ()
    words = {number: word for word, number in _PROTOCOLS.items()}
    family = words.get(_swapped(info & 0xFFFF), "")
    match, class_ = None, options.get(_TCA_U32_CLASSID, b"")
    if name == "u32" and family and options.keys() <= _PLAIN and len(class_) == 4:
        match = _read(family, options[_TCA_U32_SEL])
    number = int.from_bytes(class_, "little") & 0xFFFF
    return (Fact(Ref("shaping_filter", view.ns, (ifname, info >> 16)), {"match": match, "class": number}, STATIC),)


def each_once(facts: Iterable[Fact]) -> dict[Ref, Fact]:
    """By preference; where one has several filters, which topo never makes, they match None."""
    found: dict[Ref, Fact] = {}
    for fact in facts:
        found[fact.ref] = fact._replace(attrs={"match": None, "class": 0}) if fact.ref in found else fact
    return found


def _read(family: str, selector: bytes) -> str | None:
    """What a selector matches, in words; None for any that `encode_filter` does not make."""
    if len(selector) < _SEL.size:
        return None
    flags, shift, count, *rest = _SEL.unpack_from(selector)
    if flags != _TERMINAL or shift or any(rest) or len(selector) < _SEL.size + count * _KEY.size:
        return None
    keys = list(_unpacked(selector[_SEL.size : _SEL.size + count * _KEY.size]))
    if family == "all" or keys == [(0, 0, 0, 0)]:
        return family if keys == [(0, 0, 0, 0)] else None
    found: dict[str, str] = {}
    addresses: dict[str, list[tuple[int, int, int]]] = {}
    for mask, value, at, behind in keys:
        word = _word(family, mask, at)
        if word is None or behind:
            return None
        if word in _NUMBERS[family]:
            found[word] = str(value >> _NUMBERS[family][word][2])
        else:
            addresses.setdefault(word, []).append((at - _ADDRESSES[family][word], mask, value))
    for word, parts in addresses.items():
        found[word] = _prefix(family, parts)
    text = words(family, found)
    return text if b"".join(_keys(family, found)) == selector[_SEL.size : _SEL.size + count * _KEY.size] else None


def _unpacked(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    for mask, value, at, behind in _KEY.iter_unpack(data):
        yield int.from_bytes(mask, "big"), int.from_bytes(value, "big"), at, behind


def _word(family: str, mask: int, at: int) -> str | None:
    for word, (place, known, _) in _NUMBERS[family].items():
        if (place, known) == (at, mask):
            return word
    size = 4 if family == "ip" else 16
    return next((word for word, place in _ADDRESSES[family].items() if place <= at < place + size), None)


def _prefix(family: str, parts: list[tuple[int, int, int]]) -> str:
    ip, length = bytearray(4 if family == "ip" else 16), 0
    for at, mask, value in parts:
        ip[at : at + 4] = value.to_bytes(4, "big")
        length += mask.bit_count()
    return f"{unpack_ip(bytes(ip))}/{length}"


def words(family: str, stated: Mapping[str, Any]) -> str:
    """What a filter matches, canonical: `ip dscp 46`."""
    return " ".join([family, *(f"{word} {stated[word]}" for word in _WORDS if stated.get(word) is not None)])


def requires_filter(fact: Fact, _: DesiredView) -> Iterable[Ref]:
    ns, ifname = fact.ref.ns, fact.ref.key[0]
    return link(ns, ifname), Ref("shaping", ns, (ifname,)), Ref("shaping_class", ns, (ifname, fact.attrs["class"]))


def describe_filter(fact: Fact) -> str:
    return f"{fact.attrs['match'] or 'something else'} to class {fact.attrs['class']}"


_ABSENT: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL})  # EINVAL: its qdisc is gone

SHAPING_CLASS: Final = Kind(
    "shaping_class", encode_class, decode_class, requires_class, describe=describe_class, absent=_ABSENT,
    units={**dict.fromkeys(("rate", "ceil"), "bytes/s"), **dict.fromkeys(("burst", "cburst"), "bytes")},
)  # fmt: skip
SHAPING_FILTER: Final = Kind(
    "shaping_filter", encode_filter, decode_filter, requires_filter, describe=describe_filter, absent=_ABSENT
)
