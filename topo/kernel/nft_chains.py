"""nftables' chains of others, read and judged (linux/netfilter/nf_tables.h).

The kernel is asked for chains, and for the rules of those chains only that the packet comes through. iptables' rules are
among them where iptables is the one that works on nftables.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from typing import Final

from topo.errors import KernelError
from topo.kernel.conntrack import IPS_DST_NAT
from topo.kernel.netfilter import Entry, dump
from topo.kernel.verdicts import (
    DROP,
    FAMILIES,
    FORWARD,
    INET,
    IPV4,
    IPV6,
    MOST,
    NONE,
    UNKNOWN,
    Chain,
    Packet,
    Verdict,
    Walk,
    extension,
    target,
)
from topo.wire import BE16, STR, attr_str, attribute_list, attributes

_NFTABLES: Final = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GETCHAIN, _GETRULE, _GETSETELEM = 4, 7, 13
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_USE = 1, 3, 4, 5, 6
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _ELEMENT_FLAGS = 1, 2, 3, 3

_META_PROTOCOL, _META_IIFNAME, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 1, 6, 7, 15, 16
_NETWORK, _TRANSPORT = 1, 2  # NFT_PAYLOAD_*_HEADER
_CT_STATE, _CT_STATUS = 0, 2
_ETHERTYPES: Final = {IPV4: 0x0800, IPV6: 0x86DD}
_MASQUERADES: Final = (attr_str(1, "masq"), attr_str(1, "MASQUERADE"))  # NFTA_EXPR_NAME, NFTA_TARGET_NAME
_SILENT: Final = frozenset({"counter", "log", "notrack", "last", "quota"})


class NftChains:
    """The chains of one namespace; `sock` is a NETLINK_NETFILTER socket in it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sizes: dict[tuple[int, str, str], int] = {}
        self._rules: dict[tuple[int, str, str], list[_Rule]] = {}
        self._elements: dict[tuple[int, str, str], dict[bytes, Verdict] | None] = {}
        self.forward: list[Chain] = [chain for _, chain in sorted(self._chains())]

    def _chains(self) -> Iterator[tuple[int, Chain]]:
        """The base chains of hook forward by priority; what all are called and how many rules they have is remembered."""
        for family, body in _all(self._sock, _GETCHAIN):
            if family not in FAMILIES:
                continue
            found = attributes(body)
            table, name = STR.unpack(found[_CHAIN_TABLE]), STR.unpack(found[_CHAIN_NAME])
            self._sizes[family, table, name] = _number(found, _CHAIN_USE)
            hook = attributes(found.get(_CHAIN_HOOK, b""))
            if hook and _number(hook, _HOOK_NUMBER) == FORWARD:
                drops = _signed(found.get(_CHAIN_POLICY, b"\1")) == DROP
                yield _signed(hook[_HOOK_PRIORITY]), Chain(family, table, name, drops)

    def has(self, family: int, table: str, name: str) -> bool:
        return (family, table, name) in self._sizes

    def rules(self, chain: Chain, name: str) -> list[_Rule] | None:
        """The rules of a chain in the table of another; None where they are too many to look at."""
        key = (chain.family, chain.table, name)
        if self._sizes.get(key, 0) > MOST:
            return None
        if key not in self._rules:
            only = attr_str(_RULE_TABLE, chain.table) + attr_str(_RULE_CHAIN, name)
            entries = dump(self._sock, _NFTABLES | _GETRULE, chain.family, only)
            self._rules[key] = [_rule(entry.body) for entry in entries]
        return self._rules[key]

    def elements(self, chain: Chain, name: str) -> dict[bytes, Verdict] | None:
        """The keys of a set, or of a map with the verdicts that they lead to; None where it holds intervals."""
        key = (chain.family, chain.table, name)
        if key not in self._elements:
            only = attr_str(_LIST_TABLE, chain.table) + attr_str(_LIST_SET, name)
            entries = dump(self._sock, _NFTABLES | _GETSETELEM, chain.family, only)
            lists = (attributes(entry.body).get(_LIST_ELEMENTS, b"") for entry in entries)
            found = [attributes(element) for held in lists for _, element in attribute_list(held)]
            exact = not any(_number(e, _ELEMENT_FLAGS) for e in found)
            self._elements[key] = {_value(e.get(1, b"")): _verdict(e.get(2, b"")) for e in found} if exact else None
        return self._elements[key]

    def judge(self, rule: _Rule, walk: Walk) -> tuple[bool | None, Verdict]:
        """Whether a rule matches (None: perhaps), and its verdict."""
        registers: _Registers = {}
        matched: bool | None = True
        one: bool | None
        for name, found in rule:
            one, verdict = True, NONE
            if name == "immediate":
                verdict = _verdict(found.get(2, b""))
            elif name in ("reject", "target"):
                one, verdict = target(STR.unpack(found.get(1, b"")) if name == "target" else "REJECT")
            elif name == "queue":
                one, verdict = UNKNOWN
            elif name == "lookup":
                one, verdict = self._look_up(found, registers, walk)
            elif name in _LOADS:
                registers[_register(found, 2 if name == "bitwise" else 1)] = _LOADS[name](found, walk.packet, registers)
                continue
            elif name in _SILENT:
                continue
            else:
                one = _TESTS[name](found, walk.packet, registers) if name in _TESTS else None
            if verdict != NONE:
                return matched and one, verdict
            if one is False:
                return False, NONE
            matched = matched if one else None
        return matched, NONE

    def _look_up(self, found: dict[int, bytes], registers: _Registers, walk: Walk) -> tuple[bool | None, Verdict]:
        """Whether what the registers hold is in a set, and the verdict that a map has for it."""
        elements = self.elements(walk.base, STR.unpack(found.get(1, b"")))
        value = _joined(registers, _register(found, 2), len(next(iter(elements)))) if elements else b""
        if elements is None or value is None:
            walk.perhaps = walk.perhaps or 3 in found  # a map that leads nobody knows where
            return None, NONE
        inverse = bool(_number(found, 5) & 1)
        return (value in elements) != inverse, elements.get(value, NONE)


def _all(sock: socket.socket, kind: int) -> list[Entry]:
    """Every object of a kind; none where the kernel has no nftables."""
    try:
        return dump(sock, _NFTABLES | kind)
    except KernelError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return []
        raise


def masquerading(sock: socket.socket, family: int) -> list[str]:
    """The tables (`ip nat`) that have a rule which masquerades, nft's own or iptables'. Those of inet count as IPv4's: most
    are. Raises KernelError."""
    found: dict[str, None] = {}
    families = (IPV4, INET) if family == IPV4 else (family,)
    for entry in _all(sock, _GETRULE):
        if entry.family in families and any(sign in entry.body for sign in _MASQUERADES):
            name = STR.unpack(attributes(entry.body)[_RULE_TABLE])
            found[f"{FAMILIES[entry.family]} {name}"] = None
    return list(found)


_Rule = list[tuple[str, dict[int, bytes]]]
"""The expressions of a rule: their names and attributes."""

_Registers = dict[int, bytes | None]
"""What was loaded, by the slot where it begins; None for what is not known."""


def _rule(body: bytes) -> _Rule:
    found = []
    for _, element in attribute_list(attributes(body).get(_RULE_EXPRESSIONS, b"")):
        parts = attributes(element)
        found.append((STR.unpack(parts[1]), attributes(parts.get(2, b""))))
    return found


def _joined(registers: _Registers, slot: int, size: int) -> bytes | None:
    """What a set is asked for: one value, or several behind one another, each in whole registers."""
    key = b""
    while len(key) < size:
        value = registers.get(slot)
        if not value:
            return None
        value += bytes(-len(value) % 4)
        key, slot = key + value, slot + len(value) // 4
    return key[:size]


def _register(found: dict[int, bytes], attribute: int) -> int:
    """The slot of 32 bits in which a register begins: NFT_REG_1 to 4 are four of them each."""
    number = _number(found, attribute)
    return 8 + 4 * (number - 1) if 1 <= number <= 4 else number


def _number(found: dict[int, bytes], attribute: int) -> int:
    return int.from_bytes(found.get(attribute, b""), "big")


def _value(data: bytes) -> bytes:
    """NFTA_DATA_VALUE."""
    return attributes(data).get(1, b"")


def _verdict(data: bytes) -> Verdict:
    """NFTA_DATA_VERDICT: code and chain."""
    found = attributes(attributes(data).get(2, b""))
    return (_signed(found[1]), STR.unpack(found.get(2, b""))) if 1 in found else NONE


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


# -- what a packet is asked ----------------------------------------------------------------------------------------


def _meta(found: dict[int, bytes], packet: Packet, _: _Registers) -> bytes | None:
    return {
        _META_PROTOCOL: BE16.pack(_ETHERTYPES[packet.family]),
        _META_IIFNAME: packet.iif.encode().ljust(16, b"\0"),
        _META_OIFNAME: packet.oif.encode().ljust(16, b"\0"),
        _META_NFPROTO: bytes([packet.family]),
        _META_L4PROTO: bytes([packet.protocol]),
    }.get(_number(found, 2))


def _payload(found: dict[int, bytes], packet: Packet, _: _Registers) -> bytes | None:
    base, at, size = (_number(found, n) for n in (2, 3, 4))
    if base == _TRANSPORT:
        return BE16.pack(packet.port) if (at, size) == (2, 2) and packet.port is not None else None
    if base != _NETWORK:
        return None
    first, length, protocol_at = (12, 4, 9) if packet.family == IPV4 else (8, 16, 6)
    for start, address in ((first, packet.source), (first + length, packet.destination)):
        if address is not None and start <= at and at + size <= start + length:
            return address[at - start : at - start + size]
    return bytes([packet.protocol]) if (at, size) == (protocol_at, 1) else None


def _ct(found: dict[int, bytes], packet: Packet, _: _Registers) -> bytes | None:
    bits = {_CT_STATE: packet.state, _CT_STATUS: IPS_DST_NAT if packet.published else 0}.get(_number(found, 2))
    return None if bits is None else bits.to_bytes(4, sys.byteorder)


def _bitwise(found: dict[int, bytes], _: Packet, registers: _Registers) -> bytes | None:
    value, mask, xor = registers.get(_register(found, 1)), _value(found.get(4, b"")), _value(found.get(5, b""))
    if value is None or len(mask) != len(value) or len(xor) != len(value):
        return None
    return bytes(v & m ^ x for v, m, x in zip(value, mask, xor, strict=True))


def _cmp(found: dict[int, bytes], _: Packet, registers: _Registers) -> bool | None:
    value, data = registers.get(_register(found, 1)), _value(found.get(3, b""))
    if value is None or len(value) < len(data):
        return None
    value = value[: len(data)]  # an interface's name may be the beginning of one
    operators = (value == data, value != data, value < data, value <= data, value > data, value >= data)
    return operators[_number(found, 2)]


def _range(found: dict[int, bytes], _: Packet, registers: _Registers) -> bool | None:
    value, first, last = registers.get(_register(found, 1)), _value(found.get(3, b"")), _value(found.get(4, b""))
    if value is None or len(value) != len(first):
        return None
    return (first <= value <= last) == (_number(found, 2) == 0)


def _match(found: dict[int, bytes], packet: Packet, _: _Registers) -> bool | None:
    """A match of iptables'."""
    return extension(STR.unpack(found.get(1, b"")), _number(found, 2), found.get(3, b""), packet)


_LOADS: Final = {"meta": _meta, "payload": _payload, "ct": _ct, "bitwise": _bitwise}
_TESTS: Final = {"cmp": _cmp, "range": _range, "match": _match}
