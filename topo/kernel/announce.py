"""Tell the neighbours whose address it is now: gratuitous ARP and unsolicited neighbour advertisements.

Who has just spoken with the former holder of an address sends to its MAC address until the entry is found to be
wrong, which takes IPv4 half a minute and more. An announcement ends that at once: an ARP request for one's own address
(RFC 5227, section 2.3; what the kernel itself sends with arp_notify), and an advertisement to all nodes with the
override flag (RFC 4861, section 7.2.6).

Where a whole segment is made in this run, nobody can know better, and nothing is sent. Failure to announce is no error.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from topo.changes import CREATE, UPDATE, Op
from topo.errors import KernelError
from topo.facts import Fact, Facts, Ref, link
from topo.kernel import rtnl, sysctl
from topo.kernel.spaces import Spaces
from topo.kinds.address import split
from topo.kinds.ifla import IFLA_ADDRESS
from topo.wire import IFINFOMSG, RTM_GETLINK, attributes

_ARPHRD_ETHER: Final = 1  # linux/if_arp.h
_UP, _BROADCAST, _LOOPBACK, _POINTOPOINT, _RUNNING, _NOARP = 0x1, 0x2, 0x8, 0x10, 0x40, 0x80  # IFF_* of linux/if.h
_ABLE: Final = _UP | _BROADCAST
_UNABLE: Final = _LOOPBACK | _POINTOPOINT | _NOARP
_TYPE_AND_FLAGS: Final = struct.Struct("=2xH4xI")  # of ifinfomsg

_ETH_P_ARP: Final = 0x0806
_EVERYONE: Final = b"\xff" * 6
_ARP: Final = struct.Struct("!6s6sHHHBBH6s4s6s4s")  # RFC 826, behind the Ethernet header
_ALL_NODES: Final = "ff02::1"
_NEIGHBOUR_ADVERTISEMENT, _TARGET_LINK_LAYER = 136, 2  # RFC 4861, sections 4.4 and 4.6.1
_ROUTER, _OVERRIDE = 0x80000000, 0x20000000
_HOP_LIMIT: Final = 255  # whoever hears it insists on that

_PATIENCE: Final = 0.1  # seconds in all that may pass until the kernel has carriers up: it does so behind our back
_LONGEST: Final = 0.2  # seconds for all of it: each announcement goes to every port, so many to many take for ever
_NAP: Final = 0.002
_CLOSERS: Final = 64  # threads

_OUTSIDE: Final = frozenset({"vxlan", "tap", "macvtap"})
"""Kinds of links with neighbours behind them of which the file tells nothing."""


class Announcement(NamedTuple):
    """The addresses of a link that came to it, or whose link has another MAC address; `peer` is its veth's other end."""

    link: Ref
    peer: Ref | None
    addresses: tuple[str, ...]


# -- what is worth telling -----------------------------------------------------------------------------------------


def worth_telling(done: Iterable[Op], facts: Facts) -> list[Announcement]:
    """What the ops that were done leave to be announced; `facts` are those that the run led to."""
    ops = [op for op in done if op.new is not None]
    made = {op.ref for op in ops if op.ref.kind == "link" and op.verb == CREATE}
    found = [op.ref for op in ops if op.ref.kind == "address" and op.verb == CREATE]
    moved = {op.ref for op in ops if op.ref.kind == "link" and op.verb == UPDATE and "mac" in op.attrs}
    if moved:
        found += [ref for ref in facts if ref.kind == "address" and link(ref.ns, ref.key[0]) in moved]
    by_link: dict[Ref, dict[str, None]] = {}
    for ref in found:
        ip, _ = split(ref)
        if not ip.startswith("127.") and ip != "::1":
            by_link.setdefault(link(ref.ns, ref.key[0]), {})[ip] = None
    new = [ref for ref in by_link if ref in made]
    alone = set(new) - set(_with_others(new, made, facts)) if new else ()
    return [
        Announcement(ref, _peer(facts.get(ref)), tuple(addresses))
        for ref, addresses in by_link.items()
        if ref not in alone
    ]


def _with_others(links: Iterable[Ref], made: Collection[Ref], facts: Facts) -> list[Ref]:
    """Those of `links`, all of them new, on whose segment something is, or may be, that this run did not make."""
    ends = [fact for fact in facts.values() if fact.ref.kind == "link"]
    pairs = [(fact.ref, other) for fact in ends for other in _next_to(fact)]
    older = {fact.ref for fact in ends if fact.attrs.get("kind") in _OUTSIDE}
    older.update(ref for fact in ends if (ref := fact.ref) not in made)
    older.update(other for _, other in pairs if other not in made)
    if not older:
        return []
    segments = _Segments()
    for one, other in pairs:
        segments.join(one, other)
    roots = {segments.root(ref) for ref in older}
    return [ref for ref in links if segments.root(ref) in roots]


class _Segments:
    """Links that frames pass between, joined pair by pair (a disjoint-set forest)."""

    def __init__(self) -> None:
        self._up: dict[Ref, Ref] = {}

    def root(self, ref: Ref) -> Ref:
        up = self._up
        while (above := up.get(ref, ref)) is not ref:
            up[ref] = up.get(above, above)
            ref = above
        return ref

    def join(self, one: Ref, other: Ref) -> None:
        one, other = self.root(one), self.root(other)
        if one != other:
            self._up[one] = other


def _next_to(fact: Fact) -> Iterator[Ref]:
    """The links that frames pass to from this one, as far as its own fact says."""
    attrs = fact.attrs
    if attrs.get("master"):
        yield link(fact.ref.ns, attrs["master"])
    for name in ("peer", "parent"):
        if attrs.get(name):
            yield link(*attrs[name])


def _peer(fact: Fact | None) -> Ref | None:
    peer = fact.attrs.get("peer") if fact else None
    return link(*peer) if peer else None


# -- telling it ----------------------------------------------------------------------------------------------------


def tell(spaces: Spaces, announcements: Sequence[Announcement]) -> None:
    """Send them, each from its own namespace. Raises nothing: an address works without, only not at once for all."""
    started = time.monotonic()
    packets: dict[str, socket.socket] = {}
    advertisers: dict[str, socket.socket] = {}
    try:
        for announcement in announcements:
            if time.monotonic() > started + _LONGEST:
                break
            with suppress(OSError, KernelError):
                mac = _ready(spaces, announcement, started + _PATIENCE)
                if mac:
                    _announce(spaces, announcement, mac, packets, advertisers)
    finally:
        for sock in advertisers.values():
            sock.close()
        _close(list(packets.values()))


def _ready(spaces: Spaces, announcement: Announcement, deadline: float) -> bytes:
    """The MAC address of the link once frames can leave by it; empty where that is not to be."""
    while True:
        able, mac = _link(spaces, announcement.link)
        if not able or len(mac) != 6:
            return b""
        peer = announcement.peer
        there = peer is None or peer.ns not in spaces.open or _running(spaces, peer)
        if there and _running(spaces, announcement.link):
            return mac
        if time.monotonic() > deadline:
            return b""
        time.sleep(_NAP)


def _ask(spaces: Spaces, ref: Ref) -> tuple[int, int, dict[int, bytes]]:
    """Type, flags and attributes of a link. Raises KernelError."""
    space = spaces.get(ref.ns)
    index = space.indexes.get(ref.key[0], 0)
    data, at, end = rtnl.ask(space.sock, RTM_GETLINK, IFINFOMSG.pack(0, 0, index, 0, 0))
    kind, flags = _TYPE_AND_FLAGS.unpack_from(data, at)
    return kind, flags, attributes(data, at + IFINFOMSG.size, end)


def _link(spaces: Spaces, ref: Ref) -> tuple[bool, bytes]:
    """Whether it is a link that announces anything, and its MAC address."""
    kind, flags, found = _ask(spaces, ref)
    able = kind == _ARPHRD_ETHER and flags & _ABLE == _ABLE and not flags & _UNABLE
    return able, found.get(IFLA_ADDRESS, b"")


def _running(spaces: Spaces, ref: Ref) -> bool:
    """IFF_RUNNING follows the operational state (RFC 2863), which is up once the queue and the bridge port are."""
    return bool(_ask(spaces, ref)[1] & _RUNNING)


def _announce(
    spaces: Spaces,
    announcement: Announcement,
    mac: bytes,
    packets: dict[str, socket.socket],
    advertisers: dict[str, socket.socket],
) -> None:
    """`packets`, `advertisers`: the sockets of each namespace, opened as they are needed. Raises OSError."""
    ns, (ifname,) = announcement.link.ns, announcement.link.key
    space = spaces.enter(ns)
    for ip in announcement.addresses:
        with suppress(OSError):  # a tentative IPv6 address is nobody's yet
            if ":" in ip:
                if ns not in advertisers:
                    advertisers[ns] = _open_advertiser()
                router = sysctl.read(f"net/ipv6/conf/{ifname}/forwarding") == "1"
                _advertise(advertisers[ns], ip, mac, space.indexes[ifname], router)
            else:
                if ns not in packets:
                    packets[ns] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                packets[ns].sendto(gratuitous_arp(ip, mac), (ifname, _ETH_P_ARP))


def gratuitous_arp(ip: str, mac: bytes) -> bytes:
    """The frame of an ARP announcement: a request from `ip` for `ip`, to everyone."""
    own = socket.inet_aton(ip)
    return _ARP.pack(_EVERYONE, mac, _ETH_P_ARP, 1, 0x0800, 6, 4, 1, mac, own, bytes(6), own)


def _open_advertiser() -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    return sock


def _advertise(sock: socket.socket, ip: str, mac: bytes, index: int, router: bool) -> None:
    """An unsolicited advertisement from `ip`; the kernel fills in the checksum (RFC 3542, section 3.1).

    `router`: what forwards says so each time, or hosts take it from their list of default routers. Raises OSError,
    also where the address is tentative.
    """
    own = socket.inet_pton(socket.AF_INET6, ip)
    packet = struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE | (_ROUTER if router else 0)) + own
    packet += struct.pack("!BB6s", _TARGET_LINK_LAYER, 1, mac)
    source = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, own + struct.pack("=i", index))
    sock.sendmsg([packet], [source], 0, (_ALL_NODES, 0, 0, index))


def _close(socks: Sequence[socket.socket]) -> None:
    """Close packet sockets behind our back: each waits for RCU, some 10 ms, and many wait together."""

    def work(part: Iterable[socket.socket]) -> None:
        for sock in part:
            sock.close()

    for part in _parts(socks, _CLOSERS):
        threading.Thread(target=work, args=(part,), name="topo-close").start()


def _parts(socks: Sequence[socket.socket], most: int) -> Iterator[Sequence[socket.socket]]:
    return (socks[start::most] for start in range(min(most, len(socks))))
