"""Permanent neighbour entries (ip-neighbour(8), linux/neighbour.h)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import add
from typing import Final

from topo.changes import DELETE, Env, Op, Rtnl
from topo.facts import FOREIGN, PROTOCOL, STATIC, TAGGED, Fact, Ref, link
from topo.kinds.alike import Block, Expected, columns, new_fact, new_ref, sorted_by
from topo.kinds.kind import DesiredView, Kind, View
from topo.wire import (
    AF_INET,
    AF_INET6,
    MAC,
    NDMSG,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_DELNEIGH,
    RTM_NEWNEIGH,
    attr,
    attr_u8,
    attributes,
    pack_ip,
    pack_ips,
    pack_macs,
    unpack_ip,
    unpack_ips,
)

NDA_DST, NDA_LLADDR, NDA_PROTOCOL = 1, 2, 12
NUD_PERMANENT = 0x80
NTF_ROUTER, NTF_PROXY, NTF_EXT_LEARNED = 0x80, 0x08, 0x10
_KEPT = NTF_ROUTER | NTF_EXT_LEARNED  # what a user can set
_RTPROT_STATIC = 4
_ATTRIBUTES: Final = frozenset({NDA_DST, NDA_LLADDR, 3, 4, NDA_PROTOCOL, 15})  # and NDA_CACHEINFO, _PROBES, _FLAGS_EXT


def encode(op: Op, env: Env) -> list[Rtnl]:
    ns, (ifname, ip, *_) = op.ref.ns, op.ref.key
    index, address = env.index(ns, ifname), pack_ip(ip)
    family = AF_INET if len(address) == 4 else AF_INET6
    if op.verb == DELETE:
        return [Rtnl(ns, RTM_DELNEIGH, 0, NDMSG.pack(family, index, 0, 0, 0) + attr(NDA_DST, address))]
    assert op.new is not None
    attrs = op.new.attrs
    body = NDMSG.pack(family, index, NUD_PERMANENT, attrs.get("_flags", 0), 0)
    body += attr(NDA_DST, address) + attr(NDA_LLADDR, MAC.pack(attrs["lladdr"]))
    if protocol := attrs.get("_protocol", PROTOCOL):
        body += attr_u8(NDA_PROTOCOL, protocol)
    # Never exclusive: the address may have been resolved already, and a learned entry is no one's.
    return [Rtnl(ns, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body)]


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    if end - offset < NDMSG.size:
        return ()
    family, index, state, flags, _ = NDMSG.unpack_from(data, offset)
    if not state & NUD_PERMANENT or flags & NTF_PROXY or family not in (AF_INET, AF_INET6):
        return ()
    found = attributes(data, offset + NDMSG.size, end)
    ifname = view.ifname(index)
    address = found.get(NDA_DST, b"")
    if ifname is None or NDA_LLADDR not in found or len(address) != (4 if family == AF_INET else 16):
        return ()
    protocol = found[NDA_PROTOCOL][0] if found.get(NDA_PROTOCOL) else 0
    attrs = {"lladdr": MAC.unpack(found[NDA_LLADDR]), "_protocol": protocol, "_flags": flags & _KEPT}
    return (Fact(Ref("neighbour", view.ns, (ifname, unpack_ip(address))), attrs, _origin(flags, protocol)),)


def _origin(flags: int, protocol: int) -> str:
    by_daemon = flags & NTF_EXT_LEARNED or protocol > _RTPROT_STATIC
    return TAGGED if protocol == PROTOCOL else FOREIGN if by_daemon else STATIC


def decode_alike(block: Block, view: View, expected: Expected) -> list[Fact] | None:
    """As `decode`, of permanent entries of one device and one maker, which differ in the addresses alone."""
    found = columns(block, NDMSG, (NDA_DST, NDA_LLADDR, NDA_PROTOCOL), _ATTRIBUTES)
    if found is None or not {NDA_DST, NDA_LLADDR} <= found.values.keys():
        return None
    family, index, state, flags, _ = found.header
    ifname = view.ifname(index)
    protocols = set(found.values.get(NDA_PROTOCOL, (b"\0",)))
    size = {AF_INET: 4, AF_INET6: 16}.get(family)
    usual = state & NUD_PERMANENT and not flags & NTF_PROXY and len(protocols) == 1
    protocol = protocols.pop()[0]
    if not usual or ifname is None or len(found.values[NDA_DST][0]) != size:
        return None
    origin = _origin(flags, protocol)
    ns, kept = view.ns, flags & _KEPT
    ips, macs = found.values[NDA_DST], found.values[NDA_LLADDR]
    if protocol == PROTOCOL and not kept and len(macs[0]) == 6:
        more = expected.take(("neighbour", ns, ifname), ips, macs)
        if not more:
            return []
        ips, macs = ([values[i] for i in more] for values in (ips, macs))
    return [
        new_fact((
            new_ref(("neighbour", ns, (ifname, ip))),
            {"lladdr": mac.hex(":"), "_protocol": protocol, "_flags": kept},
            origin,
        ))
        for ip, mac in zip(unpack_ips(ips), macs, strict=True)
    ]  # fmt: skip


def expect(facts: Sequence[Fact], expected: Expected) -> None:
    """Note those of which nothing is stated but the address."""
    names, stated = [fact[0][2][0] for fact in facts], [len(fact[1]) for fact in facts]
    for (name, number), plain in sorted_by(facts, names, stated):
        if number == 1:
            ips, macs = pack_ips([fact[0][2][1] for fact in plain]), pack_macs([fact[1]["lladdr"] for fact in plain])
            expected.add(("neighbour", plain[0][0][1], name), map(add, ips, macs), plain)


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    return (link(fact.ref.ns, fact.ref.key[0]),)


def describe(fact: Fact) -> str:
    return f"lladdr {fact.attrs['lladdr']}" if "lladdr" in fact.attrs else ""


NEIGHBOUR: Final = Kind(
    "neighbour", encode, decode, requires, describe=describe, decode_alike=decode_alike, expect=expect
)
