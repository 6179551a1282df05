"""The netlink wire format: pure functions between Python values and bytes (netlink(7), rtnetlink(7)).

No socket is opened here. The numbers and layouts are those of pyroute2's message classes, which
the property tests use as the oracle.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, NamedTuple

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_DUMP_INTR, NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x10, 0x100, 0x200
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWMDB, RTM_DELMDB, RTM_GETMDB = 84, 85, 86
RTM_NEWVLAN, RTM_DELVLAN, RTM_GETVLAN = 112, 113, 114
RTM_NEWTUNNEL, RTM_DELTUNNEL, RTM_GETTUNNEL = 120, 121, 122
RTM_NEWTCLASS, RTM_DELTCLASS, RTM_GETTCLASS = 40, 41, 42
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER, RTM_NEWACTION = 44, 45, 46, 48

AF_INET: Final = 2
AF_INET6: Final = 10
AF_BRIDGE: Final = 7

NLMSGHDR: Final = struct.Struct("=IHHII")
NLATTR: Final = struct.Struct("=HH")
IFINFOMSG: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDRMSG: Final = struct.Struct("=BBBBI")  # family, prefixlen, flags, scope, index
RTMSG: Final = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
NDMSG: Final = struct.Struct("=BxxxiHBB")  # family, ifindex, state, flags, type
FIBRULEHDR: Final = struct.Struct("=BBBBBxxBI")  # family, dst_len, src_len, tos, table, action, flags
TCMSG: Final = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
NHMSG: Final = struct.Struct("=BBBxI")  # family, scope, protocol, flags
RTNEXTHOP: Final = struct.Struct("=HBBi")  # len, flags, hops, ifindex

HEADER_SIZE: Final = 16
_PAD = (b"", b"\0\0\0", b"\0\0", b"\0")
_NESTED = 0x8000


class Format(NamedTuple):
    """How one attribute's value is written and read."""

    pack: Callable[[Any], bytes]
    unpack: Callable[[bytes], Any]


def _integer(code: str) -> Format:
    packer = struct.Struct(code)
    return Format(packer.pack, lambda data: packer.unpack_from(data)[0])


def pack_ip(text: str) -> bytes:
    """Four or sixteen bytes of an address in text form."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def unpack_ip(data: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


def pack_ips(texts: Sequence[str]) -> list[bytes]:
    """As `pack_ip` of each: of thousands that are all IPv4 in half the time."""
    try:
        return list(map(socket.inet_pton, repeat(socket.AF_INET), texts))
    except OSError:
        return list(map(pack_ip, texts))


def pack_macs(texts: Sequence[str]) -> list[bytes]:
    """Six bytes for each MAC address in text form."""
    data = bytes.fromhex("".join(texts).replace(":", ""))
    return [data[at : at + 6] for at in range(0, len(data), 6)]


def unpack_ips(values: Sequence[bytes]) -> list[str]:
    """As `unpack_ip` of each; all of one length."""
    family = socket.AF_INET if len(values[0]) == 4 else socket.AF_INET6
    return list(map(socket.inet_ntop, repeat(family), values))


U8 = _integer("=B")
U16 = _integer("=H")
U32 = _integer("=I")
S32 = _integer("=i")
U64 = _integer("=Q")
BE16 = _integer(">H")
BE32 = _integer(">I")
BE64 = _integer(">Q")
BOOL = Format(lambda value: b"\1" if value else b"\0", lambda data: data[0] != 0)
IP = Format(pack_ip, unpack_ip)
MAC = Format(lambda text: bytes.fromhex(text.replace(":", "")), lambda data: data.hex(":"))
STR = Format(lambda text: text.encode() + b"\0", lambda data: data.rstrip(b"\0").decode(errors="replace"))


def named(form: Format, names: Mapping[str, int]) -> Format:
    """Numbers that go by names; one that has none is read as its digits."""
    words = {number: name for name, number in names.items()}

    def unpack(data: bytes) -> str:
        number: int = form.unpack(data)
        return words.get(number, str(number))

    return Format(lambda name: form.pack(names[name]), unpack)


def in_order(*names: str) -> dict[str, int]:
    """Names that stand for 0, 1, 2 ..."""
    return {name: number for number, name in enumerate(names)}


class Attr(NamedTuple):
    """One attribute of a kind: its name (iproute2's), its number and its format.

    `default` is the value that the kernel takes when nothing is stated; None where it has none.
    """

    name: str
    nla: int
    format: Format
    default: Any = None


def attr(nla: int, data: bytes) -> bytes:
    size = len(data)
    return NLATTR.pack(size + 4, nla) + data + _PAD[size & 3]


def nest(nla: int, *parts: bytes) -> bytes:
    return attr(nla | _NESTED, b"".join(parts))


def attr_u8(nla: int, value: int) -> bytes:
    return struct.pack("=HHB3x", 5, nla, value)


def attr_u32(nla: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, nla, value)


def attr_str(nla: int, text: str) -> bytes:
    return attr(nla, text.encode() + b"\0")


def attributes(data: bytes, offset: int = 0, end: int | None = None) -> dict[int, bytes]:
    """The attributes in `data[offset:end]` by number, flags stripped; the last of equal ones wins.

    A truncated or malformed tail ends the walk: what the kernel sends is well formed, and what
    a fuzzer sends must not raise.
    """
    end = len(data) if end is None else end
    found: dict[int, bytes] = {}
    unpack = NLATTR.unpack_from
    while offset + 4 <= end:
        size, nla = unpack(data, offset)
        if size < 4 or offset + size > end:
            break
        found[nla & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def attribute_list(data: bytes, offset: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """As `attributes`, in order and with repetitions."""
    end = len(data) if end is None else end
    while offset + 4 <= end:
        size, nla = NLATTR.unpack_from(data, offset)
        if size < 4 or offset + size > end:
            return
        yield nla & 0x3FFF, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def message(kind: int, flags: int, seq: int, body: bytes) -> bytes:
    """A whole message; NLM_F_REQUEST is added."""
    return NLMSGHDR.pack(HEADER_SIZE + len(body), kind, flags | NLM_F_REQUEST, seq, 0) + body
