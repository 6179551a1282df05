"""The rules of iptables-legacy of others, read and judged (linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h).

A table is read as it lies in the kernel: entries one behind the other, jumps being offsets. Only a table that is there
already is asked for, because asking makes one, and loads its module.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from topo.errors import KernelError
from topo.kernel.verdicts import (
    ACCEPT,
    CONTINUE,
    DROP,
    FORWARD,
    GOTO,
    IPV4,
    IPV6,
    JUMP,
    MOST,
    NONE,
    POSTROUTING,
    RETURN,
    UNKNOWN,
    Chain,
    Judgement,
    Packet,
    Verdict,
    Walk,
    extension,
    target,
)

_NAMES: Final = {IPV4: "ip_tables_names", IPV6: "ip6_tables_names"}
PROGRAMS: Final = {IPV4: "iptables-legacy", IPV6: "ip6tables-legacy"}
_SOCKETS: Final = {IPV4: (socket.AF_INET, socket.IPPROTO_IP), IPV6: (socket.AF_INET6, socket.IPPROTO_IPV6)}
_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_*, IP6T_SO_*
_ATTEMPTS: Final = 10

_INFO: Final = struct.Struct("@32sI5I5III")  # ipt_getinfo: name, hooks, where each begins and ends, entries, size
_ASK: Final = struct.Struct("@32sI0Q")  # ipt_get_entries without the entries
# ipt_entry, ip6t_entry: addresses and masks, interfaces and masks, protocol, (tos,) flags, inverse; where target and
# next entry begin; counters.
_ENTRIES: Final = {IPV4: struct.Struct("@16s64sH0sBBIHHIQQ"), IPV6: struct.Struct("@64s64sHsBB3xIHHIQQ")}
_EXTENSION: Final = struct.Struct("=H29sB")  # xt_entry_match, xt_entry_target: size, name, revision
_VERDICT: Final = struct.Struct("=i")
_STANDARD, _HEAD = "", "ERROR"  # the target that is a verdict or a jump; the one that a chain of a user begins with
_VERDICTS: Final = {-1: (DROP, ""), -2: (ACCEPT, ""), -5: (RETURN, "")}  # less one, as a jump has an offset from 0
_GOTO: Final = {IPV4: 2, IPV6: 4}  # IPT_F_GOTO, IP6T_F_GOTO
_OTHER: Final = {IPV4: 1, IPV6: 2}  # IPT_F_FRAG, IP6T_F_TOS: flags of matches that are not understood
_INV_IN, _INV_OUT, _INV_TOS, _INV_SOURCE, _INV_DESTINATION, _INV_FRAGMENT, _INV_PROTOCOL = (1 << n for n in range(7))
_PORTS: Final = {"tcp": struct.Struct("=4HBBBB"), "udp": struct.Struct("=4HB")}  # xt_tcp, xt_udp
_ANY: Final = (0, 0xFFFF)


class Rule(NamedTuple):
    """One entry. `matches`: name, revision and data of each extension."""

    addresses: bytes
    interfaces: bytes
    protocol: int
    flags: int
    inverse: int
    matches: Sequence[tuple[str, int, bytes]]
    judgement: Judgement  # its target's


class _Table(NamedTuple):
    data: bytes
    begin: int
    end: int  # where the entry is that has the policy


class LegacyChains:
    """The chains of the namespace that this thread is in. Raises KernelError, OSError."""

    def __init__(self) -> None:
        self._tables: dict[tuple[int, str], _Table] = {}
        self._rules: dict[tuple[int, str, str], list[Rule] | None] = {}
        self.forward: list[Chain] = []
        for family in _NAMES:
            for name in names(family):
                table = _read(family, name, FORWARD)
                if table is not None:
                    self._tables[family, name] = table
                    _, policy = next(_entries(table.data, table.end, family))
                    drops = policy is not None and policy.judgement[1] == _VERDICTS[-1]
                    self.forward.append(Chain(family, name, "FORWARD", drops, PROGRAMS[family]))

    def has(self, family: int, table: str, name: str) -> bool:
        data, wanted = self._tables[family, table].data, name.encode().ljust(32, b"\0")
        at = data.find(wanted)
        while at >= 0 and _name(data, at - _EXTENSION.size) != _HEAD:
            at = data.find(wanted, at + 1)
        return at >= 0

    def rules(self, chain: Chain, name: str) -> list[Rule] | None:
        """`name`: FORWARD, or the offset at which a chain begins."""
        key = (chain.family, chain.table, name)
        if key not in self._rules:
            table = self._tables[chain.family, chain.table]
            begin, end = (table.begin, table.end) if name == chain.name else (int(name), len(table.data))
            found: list[Rule] = []
            for at, rule in _entries(table.data, begin, chain.family):
                if at == end or rule is None or len(found) > MOST:
                    break
                found.append(rule)
            self._rules[key] = found if len(found) <= MOST else None
        return self._rules[key]

    def judge(self, rule: Rule, walk: Walk) -> Judgement:
        sure, verdict = rule.judgement
        for one in _tests(rule, walk.packet):
            if one is False:
                return False, NONE
            sure = sure and one
        return sure, verdict


def names(family: int) -> list[str]:
    """The tables that are there in the namespace of this thread."""
    try:
        return Path(f"/proc/thread-self/net/{_NAMES[family]}").read_text().split()
    except OSError:
        return []  # a kernel without, or a user who may not


# -- reading -------------------------------------------------------------------------------------------------------


@cache
def _getsockopt() -> Any:
    function = ctypes.CDLL(None, use_errno=True).getsockopt
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    return function


def _ask(sock: socket.socket, level: int, option: int, head: bytes, size: int) -> bytes:
    """getsockopt(2) with something to say; Python's own takes nothing. Raises OSError."""
    buffer, length = ctypes.create_string_buffer(head, size), ctypes.c_uint(size)
    if _getsockopt()(sock.fileno(), level, option, buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return buffer.raw


def masquerades(family: int) -> bool:
    """Whether a rule of the table `nat` does, where there is one. Raises KernelError, OSError."""
    table = _read(family, "nat", POSTROUTING) if "nat" in names(family) else None
    return table is not None and b"MASQUERADE\0" in table.data


def _read(family: int, name: str, hook: int) -> _Table | None:
    """A table; None where it is gone, or has no chain at this hook."""
    domain, level = _SOCKETS[family]
    with socket.socket(domain, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        for _ in range(_ATTEMPTS):
            try:
                _, hooks, *places = _INFO.unpack(_ask(sock, level, _GET_INFO, name.encode(), _INFO.size))
                if not hooks & 1 << hook:
                    return None
                size = places[-1]
                data = _ask(sock, level, _GET_ENTRIES, _ASK.pack(name.encode(), size), _ASK.size + size)
                return _Table(data[_ASK.size :], places[hook], places[5 + hook])
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return None
                if error.errno != errno.EAGAIN:  # it is another one by now
                    raise KernelError(
                        error.errno or 0, doing=f"reading the table {name} of {PROGRAMS[family]}"
                    ) from None
    raise KernelError(errno.EAGAIN, doing=f"reading the table {name} of {PROGRAMS[family]}")


def _entries(data: bytes, at: int, family: int) -> Iterator[tuple[int, Rule | None]]:
    """The entries from `at` on, with their offsets; None for the head of a chain."""
    entry = _ENTRIES[family]
    while at < len(data):
        addresses, interfaces, protocol, _, flags, inverse, _, behind, size, *_ = entry.unpack_from(data, at)
        matches, last = [], at + entry.size
        while last < at + behind:
            length, _, revision = _EXTENSION.unpack_from(data, last)
            matches.append((_name(data, last), revision, data[last + _EXTENSION.size : last + length]))
            last += length
        name = _name(data, last)
        if name == _HEAD:
            yield at, None
        else:
            leads = _leads(data, last, at + size, flags & _GOTO[family]) if name == _STANDARD else target(name)
            yield at, Rule(addresses, interfaces, protocol, flags & _OTHER[family], inverse, matches, leads)
        at += size


def _name(data: bytes, at: int) -> str:
    return str(_EXTENSION.unpack_from(data, at)[1].partition(b"\0")[0].decode(errors="replace"))


def _leads(data: bytes, at: int, behind: int, goto: int) -> Judgement:
    """The verdict of a standard target at `at`; `behind`: where the next entry is."""
    (code,) = _VERDICT.unpack_from(data, at + _EXTENSION.size)
    if code < 0:
        return (True, _VERDICTS[code]) if code in _VERDICTS else UNKNOWN
    verdict: Verdict = (CONTINUE, "") if code == behind else (GOTO if goto else JUMP, str(code))
    return True, verdict


# -- judging -------------------------------------------------------------------------------------------------------


def _tests(rule: Rule, packet: Packet) -> Iterator[bool | None]:
    """What each match of the rule says; None where nobody can tell."""
    inverse, width = rule.inverse, len(rule.addresses) // 4
    for n, (own, inverted) in enumerate(((packet.source, _INV_SOURCE), (packet.destination, _INV_DESTINATION))):
        stated, mask = (rule.addresses[i * width : (i + 1) * width] for i in (n, n + 2))
        if any(mask):
            yield None if own is None else (_masked(own, mask) == _masked(stated, mask)) != bool(inverse & inverted)
    for n, (name, inverted) in enumerate(((packet.iif, _INV_IN), (packet.oif, _INV_OUT))):
        stated, mask = (rule.interfaces[i * 16 : (i + 1) * 16] for i in (n, n + 2))
        if any(mask):
            has = _masked(name.encode().ljust(16, b"\0"), mask) == _masked(stated, mask)
            yield has != bool(inverse & inverted)
    if rule.protocol:
        yield (rule.protocol == packet.protocol) != bool(inverse & _INV_PROTOCOL)
    if rule.flags or inverse & (_INV_TOS | _INV_FRAGMENT):
        yield None
    for name, revision, data in rule.matches:
        yield _ports(name, data, packet) if name in _PORTS else extension(name, revision, data, packet)


def _masked(value: bytes, mask: bytes) -> int:
    return int.from_bytes(value, "big") & int.from_bytes(mask, "big")


def _ports(name: str, data: bytes, packet: Packet) -> bool | None:
    """A match of TCP's or UDP's ports."""
    first, last, *found = _PORTS[name].unpack_from(data)
    *more, inverse = found[2:]
    to = (found[0], found[1])
    if to != _ANY:
        if packet.port is None:
            return None
        if (to[0] <= packet.port <= to[1]) == bool(inverse & 2):  # XT_TCP_INV_DSTPT, XT_UDP_INV_DSTPT
            return False
    return True if (first, last) == _ANY and not any(more) else None
