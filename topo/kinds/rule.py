"""Policy routing rules (ip-rule(8), linux/fib_rules.h).

Everything about a rule is its key, so it is never changed in place. The kernel takes what a deletion does not
state for a wildcard: of two rules of one priority, the deletion of the more general one can hit the other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from topo.changes import DELETE, Env, Op, Rtnl
from topo.facts import FOREIGN, PROTOCOL, STATIC, TAGGED, Fact, Ref
from topo.kinds.kind import Kind, View, nothing
from topo.wire import (
    AF_INET,
    AF_INET6,
    BE32,
    BE64,
    FIBRULEHDR,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELRULE,
    RTM_NEWRULE,
    STR,
    U8,
    U16,
    U32,
    Format,
    attr,
    attr_u8,
    attr_u32,
    attributes,
    pack_ip,
    unpack_ip,
)

FRA_DST, FRA_SRC, FRA_PRIORITY, FRA_PAD = 1, 2, 6, 18
FRA_FWMARK, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN = 10, 13, 14
FRA_TABLE, FRA_FWMASK, FRA_L3MDEV, FRA_PROTOCOL = 15, 16, 19, 21
FRA_DSCP, FRA_FLOWLABEL, FRA_SPORT_MASK = 25, 26, 28
FIB_RULE_PERMANENT, FIB_RULE_INVERT = 1, 2
ACTIONS: Final = {"to_table": 1, "goto": 2, "nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}
_WHOLE_MARK = 0xFFFFFFFF
_RTPROT_KERNEL, _RTPROT_STATIC = 2, 4


def _range(code: str) -> Format:
    packer = struct.Struct(code)
    return Format(lambda pair: packer.pack(*pair), lambda data: packer.unpack_from(data))


def realms_text(value: int) -> str:
    """As ip-rule(8) and ip-route(8) write them: from/to, or to alone."""
    return f"{value >> 16}/{value & 0xFFFF}" if value >> 16 else str(value)


_PORTS, _UIDS = _range("=HH"), _range("=II")

# What travels as one attribute: name -> its number, its format, its length (0: any), and how ip-rule(8) writes it.
_PLAIN: Final[Mapping[str, tuple[int, Format, int, Callable[[Any], str]]]] = {
    "iif": (3, STR, 0, str),
    "oif": (17, STR, 0, str),
    "uidrange": (20, _UIDS, 8, lambda pair: "{}-{}".format(*pair)),
    "ipproto": (22, U8, 1, str),
    "sport": (23, _PORTS, 4, lambda pair: "{}-{}".format(*pair) if pair[0] != pair[1] else str(pair[0])),
    "dport": (24, _PORTS, 4, lambda pair: "{}-{}".format(*pair) if pair[0] != pair[1] else str(pair[0])),
    "dscp": (FRA_DSCP, U8, 1, str),
    "flowlabel": (FRA_FLOWLABEL, BE32, 4, "{:#x}".format),
    "tun_id": (12, BE64, 8, str),
    "suppress_prefixlength": (FRA_SUPPRESS_PREFIXLEN, U32, 4, str),
    "suppress_ifgroup": (FRA_SUPPRESS_IFGROUP, U32, 4, str),
    "goto": (4, U32, 4, str),
    "realms": (11, U32, 4, realms_text),
}
# The masks of some of these: name -> number, format, what it is where none was stated, and whether the kernel wants that too.
MASKS: Final[Mapping[str, tuple[int, Format, int, bool]]] = {
    "sport": (FRA_SPORT_MASK, U16, 0xFFFF, False),
    "dport": (29, U16, 0xFFFF, False),
    "dscp": (30, U8, 0x3F, False),
    "flowlabel": (27, BE32, 0xFFFFF, True),
}
RECENT: Final = frozenset({"dscp", "flowlabel"} | {f"{name}_mask" for name in MASKS})
"""What came to the kernel by and by (Linux 6.12 to 6.15)."""
_SUPPRESSORS: Final = frozenset({FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN})  # -1 where there is none
_NOT_RAW: Final = frozenset(
    {FRA_DST, FRA_SRC, FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK, FRA_PAD, FRA_L3MDEV, FRA_PROTOCOL}
    | {nla for table in (_PLAIN, MASKS) for nla, *_ in table.values()}
)
_ACTION_NAMES: Final = {number: name for name, number in ACTIONS.items()}
_MAIN = 254


def selector(attrs: Mapping[str, Any]) -> str:
    """Everything about a rule but its priority, in the words of ip-rule(8); equal for equal rules."""
    words = ["not"] if attrs.get("invert") else []
    words += ["from", _prefix(attrs.get("from")) or "all"]
    if to := _prefix(attrs.get("to")):
        words += ["to", to]
    if attrs.get("tos"):
        words += ["tos", f"{attrs['tos']:#x}"]
    if attrs.get("fwmark") is not None:
        mask = attrs.get("fwmask")
        words += ["fwmark", f"{attrs['fwmark']:#x}" + (f"/{mask:#x}" if mask not in (None, _WHOLE_MARK) else "")]
    for name, (_, _, _, write) in _PLAIN.items():
        if attrs.get(name) is not None:
            mask = attrs.get(f"{name}_mask")
            words += [name, write(attrs[name]) + (f"/{mask:#x}" if mask is not None else "")]
    words += [f"{nla}:{data.hex()}" for nla, data in attrs.get("_raw", ())]
    action = attrs["action"]
    if action == "to_table":
        words += ["lookup", "[l3mdev-table]" if attrs.get("l3mdev") else str(_table(attrs))]
    elif action != "goto":
        words.append(str(action))
    return " ".join(words)


def key(family: int, priority: int, attrs: Mapping[str, Any]) -> tuple[int, int, str]:
    """The key of a rule's ref."""
    return family, priority, selector(attrs)


def _table(attrs: Mapping[str, Any]) -> int:
    table: int | None = attrs.get("table")
    of_its_own = attrs["action"] == "to_table" and not attrs.get("l3mdev")
    return (_MAIN if of_its_own else 0) if table is None else table


def _prefix(text: str | None) -> str:
    """`text`, empty where it stands for every address."""
    return "" if text is None or text.endswith("/0") else text


def encode(op: Op, env: Env) -> list[Rtnl]:
    fact = op.old if op.verb == DELETE else op.new
    assert fact is not None
    family, priority, _ = op.ref.key[:3]
    attrs = fact.attrs
    body = attr_u32(FRA_PRIORITY, priority) + b"".join(_matches(attrs))
    if protocol := attrs.get("_protocol", PROTOCOL):
        body += attr_u8(FRA_PROTOCOL, protocol)
    table = _table(attrs)
    if table > 255:
        body += attr_u32(FRA_TABLE, table)
    header = FIBRULEHDR.pack(
        AF_INET if family == 4 else AF_INET6,
        *(int(prefix.partition("/")[2]) if (prefix := _prefix(attrs.get(side))) else 0 for side in ("to", "from")),
        attrs.get("tos", 0),
        table if table < 256 else 0,
        ACTIONS[attrs["action"]],
        FIB_RULE_INVERT if attrs.get("invert") else 0,
    )
    if op.verb == DELETE:
        return [Rtnl(op.ref.ns, RTM_DELRULE, 0, header + body)]
    return [Rtnl(op.ref.ns, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, header + body)]


def _matches(attrs: Mapping[str, Any]) -> Iterator[bytes]:
    for nla, side in ((FRA_SRC, "from"), (FRA_DST, "to")):
        if prefix := _prefix(attrs.get(side)):
            yield attr(nla, pack_ip(prefix.partition("/")[0]))
    if attrs.get("fwmark") is not None:
        yield attr_u32(FRA_FWMARK, attrs["fwmark"])
        mask = attrs.get("fwmask")
        yield attr_u32(FRA_FWMASK, _WHOLE_MARK if mask is None else mask)
    for name, (nla, form, _, _) in _PLAIN.items():
        if attrs.get(name) is not None:
            yield attr(nla, form.pack(attrs[name]))
    for name, (nla, form, whole, always) in MASKS.items():
        mask = attrs.get(f"{name}_mask")
        if mask is not None or (always and attrs.get(name) is not None):
            yield attr(nla, form.pack(whole if mask is None else mask))
    if attrs.get("l3mdev"):
        yield attr_u8(FRA_L3MDEV, 1)
    for nla, data in attrs.get("_raw", ()):
        yield attr(nla, data)


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    if end - offset < FIBRULEHDR.size:
        return ()
    family, dst_len, src_len, tos, low_table, action, flags = FIBRULEHDR.unpack_from(data, offset)
    if family not in (AF_INET, AF_INET6) or action not in _ACTION_NAMES:
        return ()
    found = attributes(data, offset + FIBRULEHDR.size, end)
    attrs: dict[str, Any] = {"action": _ACTION_NAMES[action]}
    for nla, side, length in ((FRA_SRC, "from", src_len), (FRA_DST, "to", dst_len)):
        if length and len(found.get(nla, b"")) == (4 if family == AF_INET else 16):
            attrs[side] = f"{unpack_ip(found[nla])}/{length}"
    if tos:
        attrs["tos"] = tos
    if flags & FIB_RULE_INVERT:
        attrs["invert"] = True
    attrs.update(_decode_matches(found))
    if attrs["action"] == "to_table" and "l3mdev" not in attrs:
        attrs["table"] = _u32(found, FRA_TABLE, low_table)
    protocol = found[FRA_PROTOCOL][0] if found.get(FRA_PROTOCOL) else 0
    attrs["_protocol"] = protocol
    by_hand = protocol <= _RTPROT_STATIC and protocol != _RTPROT_KERNEL and not flags & FIB_RULE_PERMANENT
    origin = TAGGED if protocol == PROTOCOL else STATIC if by_hand else FOREIGN
    ref = Ref("rule", view.ns, key(4 if family == AF_INET else 6, _u32(found, FRA_PRIORITY, 0), attrs))
    return (Fact(ref, attrs, origin),)


def _u32(found: Mapping[int, bytes], nla: int, default: int) -> int:
    data = found.get(nla, b"")
    return int(U32.unpack(data)) if len(data) == 4 else default


def _decode_matches(found: Mapping[int, bytes]) -> Iterator[tuple[str, Any]]:
    mask = _u32(found, FRA_FWMASK, 0)
    if mask:
        yield "fwmark", _u32(found, FRA_FWMARK, 0)
        if mask != _WHOLE_MARK:
            yield "fwmask", mask
    for name, (nla, form, length, _) in _PLAIN.items():
        data = found.get(nla)
        if data and (not length or len(data) == length) and (nla not in _SUPPRESSORS or data != b"\xff" * 4):
            yield name, form.unpack(data)
    for name, (nla, form, whole, _) in MASKS.items():
        data, usual = found.get(nla, b""), form.pack(whole)
        if len(data) == len(usual) and data != usual:
            yield f"{name}_mask", form.unpack(data)
    if found.get(FRA_L3MDEV, b"\0") != b"\0":
        yield "l3mdev", True
    # What topo has no word for is kept as it is, so that the rule can be told and deleted.
    raw = tuple((n, data) for n, data in sorted(found.items()) if n not in _NOT_RAW)
    if raw:
        yield "_raw", raw


def claims(fact: Fact) -> Iterable[tuple[Any, ...]]:
    """A rule and its inversion are one to NLM_F_EXCL, wherever they go to (rule_exists in net/core/fib_rules.c): EEXIST.
    So is one without realms to one with them (fib4_rule_compare in net/ipv4/fib_rules.c)."""
    like = {**fact.attrs, "invert": False, "goto": None, "realms": None}
    yield "rule", fact.ref.ns, *fact.ref.key[:2], selector(like)


RULE: Final = Kind("rule", encode, decode, compare=nothing, claims=claims)
