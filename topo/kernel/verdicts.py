"""What the rules of others would do with a packet, whichever of the kernel's two engines has them.

What is not understood (sets of intervals, most matches of iptables' extensions) may match or not: then the answer is that
nobody can tell.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

FORWARD, POSTROUTING = 2, 4  # NF_INET_* of linux/netfilter.h
INET, IPV4, IPV6 = 1, 2, 10  # NFPROTO_*
FAMILIES: Final = {INET: "inet", IPV4: "ip", IPV6: "ip6"}
ESTABLISHED, NEW = 2, 8  # bits of a connection's state, NF_CT_STATE_BIT of linux/netfilter/nf_conntrack_common.h
DROP, ACCEPT, CONTINUE, JUMP, GOTO, RETURN = 0, 1, -1, -3, -4, -5  # NF_*, NFT_*
MOST: Final = 1000  # rules of a chain that are looked at

_SNAT, _DNAT = 1 << 6, 1 << 7  # XT_CONNTRACK_STATE_* of linux/netfilter/xt_conntrack.h
_CONNTRACK_STATE, _CONNTRACK_INFO = 1, struct.Struct("=146xHHH")  # xt_conntrack_mtinfo2 and 3: flags, inverse, states

Verdict = tuple[int, str]
"""A verdict, and the chain that it leads to."""
NONE: Final[Verdict] = (CONTINUE, "")

Judgement = tuple[bool | None, Verdict]
"""Whether a rule matches (None: perhaps), and its verdict."""
UNKNOWN: Final[Judgement] = (None, (ACCEPT, ""))

_SILENT: Final = frozenset(
    {"CLASSIFY", "CONNMARK", "CT", "DSCP", "LOG", "MARK", "NFLOG", "SET", "TCPMSS", "TEE", "TRACE"}
)


class Packet(NamedTuple):
    """A packet that is forwarded. An address or port that may be any is None."""

    family: int  # IPV4 | IPV6
    iif: str
    oif: str
    source: bytes | None
    destination: bytes | None
    state: int  # ESTABLISHED | NEW
    protocol: int = 6
    port: int | None = None  # of the destination
    published: bool = False  # its destination was translated


class Chain(NamedTuple):
    """A base chain of hook forward. `program`: the command that has it, where nft has not."""

    family: int
    table: str
    name: str
    drops: bool  # its policy
    program: str = ""

    def place(self) -> str:
        """Its family, table and name, as nft's commands take them; table and name for others."""
        words = (self.table, self.name) if self.program else (FAMILIES[self.family], self.table, self.name)
        return " ".join(words)


class Tables(Protocol):
    """The rules that one engine has in one namespace."""

    forward: list[Chain]

    def has(self, family: int, table: str, name: str) -> bool:
        """Whether there is such a chain."""
        ...

    def rules(self, chain: Chain, name: str) -> Sequence[Any] | None:
        """The rules of a chain in the table of another; None where they are too many to look at."""
        ...

    def judge(self, rule: Any, walk: Walk) -> Judgement: ...


class Walk:
    """One packet's way. `perhaps`: it may have been accepted on it."""

    def __init__(self, tables: Tables, base: Chain, packet: Packet) -> None:
        self.tables, self.base, self.packet = tables, base, packet
        self.perhaps = False

    def through(self, name: str) -> int | None:
        """The verdict of a chain that is certain; None where it comes out at the end, or nobody can tell."""
        rules = self.tables.rules(self.base, name)
        if rules is None:
            self.perhaps = True
            return None
        unsure = False
        for rule in rules:
            matched, (verdict, target) = self.tables.judge(rule, self)
            if matched is False:
                continue
            if verdict in (JUMP, GOTO):
                inner = self.through(target)
                verdict = inner if inner is not None else RETURN if verdict == GOTO else CONTINUE
            sure = matched is True and not unsure
            if verdict == CONTINUE:
                continue
            if sure:
                return None if verdict == RETURN else verdict
            if verdict == ACCEPT:
                self.perhaps = True
            elif verdict == RETURN:
                unsure = True
        return None


def swallows(tables: Tables, chain: Chain, packet: Packet) -> bool:
    """Whether the packet ends in this chain for certain."""
    if chain.family not in (INET, packet.family):
        return False
    walk = Walk(tables, chain, packet)
    verdict = walk.through(chain.name)
    return not walk.perhaps and (verdict == DROP or (verdict is None and chain.drops))


def extension(name: str, revision: int, info: bytes, packet: Packet) -> bool | None:
    """A match of iptables', which both engines have: comments and states are understood."""
    if name == "comment":
        return True
    if name == "state" and len(info) >= 4:
        return bool(packet.state & int.from_bytes(info[:4], sys.byteorder))
    if name == "conntrack" and revision >= 2 and len(info) >= _CONNTRACK_INFO.size:
        flags, inverse, states = _CONNTRACK_INFO.unpack_from(info)
        if flags & _CONNTRACK_STATE:
            has = packet.state | (_DNAT if packet.published else 0)
            if states & _SNAT and not has & states:
                return None  # what was forwarded before may have another source since
            same = bool(has & states) != bool(inverse & _CONNTRACK_STATE)
            return same if not same or flags == _CONNTRACK_STATE else None
    return None


def target(name: str) -> Judgement:
    """What an extension of iptables' does that is a rule's target (iptables-extensions(8)): one that is not known may
    let the packet pass, as NFQUEUE does if its program wants it."""
    if name == "REJECT":
        return True, (DROP, "")
    return (True, NONE) if name in _SILENT else UNKNOWN
