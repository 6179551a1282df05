"""Encapsulations of routes (RTA_ENCAP, linux/lwtunnel.h), as facts in the words of ip-route(8): `mpls 100/200`,
`ip id 7 dst 10.0.0.2`, `seg6 mode encap segs fd00::1,fd00::2`, `seg6local action End.DX4 nh4 10.0.0.2`.

What topo has no words for is `raw`, its type and its bytes, so that such a route can be told and put back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

from topo.wire import BE64, IP, U8, U32, Format, attr, attributes, pack_ip, unpack_ip

RTA_ENCAP_TYPE, RTA_ENCAP = 21, 22
TYPES: Final = {"mpls": 1, "ip": 2, "ip6": 4, "seg6": 5, "seg6local": 7}  # LWTUNNEL_ENCAP_*
OPTIONS: Final = {
    "mpls": "CONFIG_MPLS_IPTUNNEL",
    "ip": "CONFIG_LWTUNNEL",
    "ip6": "CONFIG_LWTUNNEL",
    "seg6": "CONFIG_IPV6_SEG6_LWTUNNEL",
    "seg6local": "CONFIG_IPV6_SEG6_LWTUNNEL",
}
MODULES: Final = {"mpls": ("rtnl-lwt-MPLS",), "seg6": ("rtnl-lwt-SEG6",), "seg6local": ("rtnl-lwt-SEG6LOCAL",)}
"""What the kernel asks modprobe(8) for (lwtunnel_valid_encap_type); the others are built in."""
MODES: Final = ("inline", "encap", "l2encap", "encap.red", "l2encap.red")  # SEG6_IPTUN_MODE_*
ACTIONS: Final = {  # SEG6_LOCAL_ACTION_*
    "End": 1, "End.X": 2, "End.T": 3, "End.DX6": 5, "End.DX4": 6, "End.DT6": 7, "End.DT4": 8, "End.DT46": 16,
}  # fmt: skip
NEEDS: Final = {
    "End.X": ("nh6",), "End.T": ("table",), "End.DX6": ("nh6",), "End.DX4": ("nh4",),
    "End.DT6": ("table", "vrftable"), "End.DT4": ("vrftable",), "End.DT46": ("vrftable",),
}  # fmt: skip
"""What an action has to have: one of these."""
_ACTION_NAMES: Final = {number: name for name, number in ACTIONS.items()}
_TYPE_NAMES: Final = {number: name for name, number in TYPES.items()}
_NUMBERED: Final = {  # name -> its number, its format: of ip and ip6, and of seg6local
    "ip": {"id": (1, BE64), "dst": (2, IP), "src": (3, IP), "ttl": (4, U8), "tos": (5, U8)},
    "ip6": {"id": (1, BE64), "dst": (2, IP), "src": (3, IP), "hoplimit": (4, U8), "tc": (5, U8)},
    "seg6local": {"table": (3, U32), "vrftable": (9, U32), "nh4": (4, IP), "nh6": (5, IP)},
}
_SEG6_LOCAL_ACTION, _SEG6_IPTUNNEL_SRH = 1, 1
_MPLS_DST, _MPLS_TTL = 1, 2
_SRH: Final = struct.Struct("=BBBBBBH")  # nexthdr, hdrlen in 8 bytes, type, segments left, first, flags, tag
_MODE: Final = struct.Struct("=i")
_BOTTOM: Final = 0x100


def labels(text: str) -> bytes:
    """A stack of labels as in packets, the last one with the bottom's bit (RFC 3032)."""
    numbers = [int(label) << 12 for label in text.split("/")]
    numbers[-1] |= _BOTTOM
    return struct.pack(f">{len(numbers)}I", *numbers)


def unpack_labels(data: bytes) -> str:
    return "/".join(str(number >> 12) for (number,) in struct.iter_unpack(">I", data[: len(data) & ~3]))


def encode(text: str, type_: int = RTA_ENCAP_TYPE, data: int = RTA_ENCAP) -> bytes:
    """The two attributes, numbered `type_` and `data`, of a route, next hop or nexthop. An IP that is not of its kind has
    been refused before."""
    kind, *words = text.split()
    if kind == "raw":
        number, *rest = words
        return attr(type_, struct.pack("=H", int(number))) + attr(data, bytes.fromhex("".join(rest)))
    if kind == "mpls":
        inside = attr(_MPLS_DST, labels(words[0])) + (attr(_MPLS_TTL, U8.pack(int(words[2]))) if words[1:] else b"")
    else:
        stated = dict(zip(words[::2], words[1::2], strict=True))
        inside = _srh(**stated) if kind == "seg6" else b"".join(_numbered(kind, stated))
    return attr(type_, struct.pack("=H", TYPES[kind])) + attr(data | 0x8000, inside)


def _srh(mode: str, segs: str) -> bytes:
    """struct seg6_iptunnel_encap: segments stand in it from the last to the first; inline leaves room for the target."""
    segments = [pack_ip(segment) for segment in segs.split(",")]
    if mode == "inline":
        segments.append(bytes(16))
    last = len(segments) - 1
    header = _SRH.pack(0, len(segments) * 2, 4, last, last, 0, 0)
    return attr(_SEG6_IPTUNNEL_SRH, _MODE.pack(MODES.index(mode)) + header + b"".join(reversed(segments)))


def _numbered(kind: str, stated: dict[str, str]) -> Iterator[bytes]:
    if kind == "seg6local":
        yield attr(_SEG6_LOCAL_ACTION, U32.pack(ACTIONS[stated["action"]]))
    for name, (nla, form) in _NUMBERED[kind].items():
        if name in stated:
            yield attr(nla, form.pack(stated[name] if form is IP else int(stated[name])))


def decode(type_: bytes, data: bytes) -> str:
    """What `encode` makes bytes of, canonical: what is zero is left out, as it is when nothing is stated."""
    (number,) = struct.unpack("=H", type_) if len(type_) == 2 else (0,)
    kind, found = _TYPE_NAMES.get(number, ""), attributes(data)
    text = ""
    if kind == "mpls" and len(found.get(_MPLS_DST, b"")) >= 4:
        ttl = found.get(_MPLS_TTL, b"\0")[:1]
        text = f"mpls {unpack_labels(found[_MPLS_DST])}" + (f" ttl {ttl[0]}" if ttl not in (b"", b"\0") else "")
    elif kind == "seg6":
        text = _read_srh(found.get(_SEG6_IPTUNNEL_SRH, b""))
    elif kind in _NUMBERED:
        words = list(_read_numbered(kind, found))
        text = " ".join([kind, *words]) if words else ""
    return text or f"raw {number} {data.hex()}"


def _read_srh(data: bytes) -> str:
    at = _MODE.size + _SRH.size
    if len(data) < at + 16:
        return ""
    mode, (_, length, _, left, first, flags, tag) = _MODE.unpack_from(data)[0], _SRH.unpack_from(data, _MODE.size)
    whole = len(data) == at + 16 * (first + 1) and length == 2 * (first + 1) and left == first
    if not whole or flags or tag or not 0 <= mode < len(MODES):  # an HMAC, say
        return ""
    segments = [unpack_ip(data[start : start + 16]) for start in range(at, len(data), 16)][::-1]
    if MODES[mode] == "inline":
        segments.pop()
    return f"seg6 mode {MODES[mode]} segs {','.join(segments)}" if segments else ""


def _read_numbered(kind: str, found: dict[int, bytes]) -> Iterator[str]:
    known = _NUMBERED[kind]
    if kind == "seg6local":
        action = _ACTION_NAMES.get(_number(found.get(_SEG6_LOCAL_ACTION, b""), U32))
        if action is None or not found.keys() <= {_SEG6_LOCAL_ACTION, *(nla for nla, _ in known.values())}:
            return
        yield f"action {action}"
    for name, (nla, form) in known.items():
        data = found.get(nla, b"")
        if form is IP:
            if any(data) and len(data) in (4, 16):
                yield f"{name} {unpack_ip(data)}"
        elif number := _number(data, form):
            yield f"{name} {number}"


def _number(data: bytes, form: Format) -> int:
    size = {id(U8): 1, id(U32): 4, id(BE64): 8}[id(form)]
    return int(form.unpack(data)) if len(data) == size else 0


def text(kind: str, pairs: Iterable[tuple[str, Any]]) -> str:
    """The words of an encapsulation, in the order in which they are read back."""
    stated = {name: value for name, value in pairs if value}
    order = ["action", "mode", "segs", *_NUMBERED.get(kind, ())]
    return " ".join([kind, *(f"{name} {stated[name]}" for name in order if name in stated)])
