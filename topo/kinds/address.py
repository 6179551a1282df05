"""Addresses of interfaces (ip-address(8), linux/if_addr.h).

An address is its key; what else is said of it the kernel changes in place, or topo replaces it. Of its order in a plan:

- The kernel makes an IPv4 address *secondary* where its link has another one in the same subnet, and deleting
  that one, the primary, deletes its secondaries (unless `promote_secondaries` is set). So in one subnet the old
  address is deleted before the new one is made: `deleted_first`.
- Deleting the last IPv4 address of a link flushes every IPv4 route on it, and every IPv4 neighbour, permanent ones
  as well. So in all other cases the new address is made before the old one is deleted.
- Deleting an address drops the IPv4 routes that have it as their source, and clears it in the IPv6 ones.
- An IPv6 address that gets another prefix length is deleted before it is made again: `claims`.

`takes` looks at one change; `flushed` at all that a plan does to addresses.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from topo.changes import AGAIN, DELETE, REPLACE, UPDATE, Change, Env, Op, Rtnl
from topo.facts import FOREIGN, PROTOCOL, STATIC, TAGGED, Fact, Live, Ref, link
from topo.kinds.kind import DesiredView, Kind, View
from topo.wire import (
    AF_INET,
    AF_INET6,
    IFADDRMSG,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_DELADDR,
    RTM_NEWADDR,
    U32,
    attr,
    attr_str,
    attr_u8,
    attr_u32,
    attributes,
    pack_ip,
    unpack_ip,
)

IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST = 1, 2, 3, 4
IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO = 6, 8, 9, 11
_SECONDARY, _NODAD, _DEPRECATED, _PERMANENT, _STABLE_PRIVACY = 0x01, 0x02, 0x20, 0x80, 0x800  # IFA_F_*
_KEPT: Final = 0x712  # the flags that a user can set: NODAD HOMEADDRESS MANAGETEMPADDR NOPREFIXROUTE MCAUTOJOIN
_KERNEL_PROTOCOLS: Final = frozenset({1, 2, 3})  # IFAPROT_KERNEL_LO, _RA, _LL (since Linux 5.18)
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_SCOPES: Final = {"global": 0, "site": 200, "link": _SCOPE_LINK, "host": _SCOPE_HOST}
_FLAGS: Final = {"nodad": _NODAD, "home": 0x10, "mngtmpaddr": 0x100, "noprefixroute": 0x200}
_IN_PLACE: Final = frozenset({"metric", "valid_lft", "preferred_lft"})
_IN_PLACE6: Final = _IN_PLACE | {"home", "mngtmpaddr", "noprefixroute"}
FOREVER: Final = 0xFFFFFFFF
_METRIC6: Final = 256  # IP6_RT_PRIO_ADDRCONF: what an IPv6 address has where nothing is stated
_CACHEINFO: Final = struct.Struct("=IIII")  # preferred, valid, created, updated


_LOOPBACK: Final = pack_ip("127.0.0.1")
_LO: Final = b"".join(
    (
        IFADDRMSG.pack(AF_INET, 8, _PERMANENT, _SCOPE_HOST, 1),
        attr(IFA_ADDRESS, _LOOPBACK),
        attr(IFA_LOCAL, _LOOPBACK),
        attr_str(IFA_LABEL, "lo"),
        attr_u32(IFA_FLAGS, _PERMANENT),
    )
)
_BY_KERNEL: Final = (attr_u8(IFA_PROTO, 1), attr_u8(IFA_PROTO, 3))  # IFAPROT_KERNEL_LO, IFAPROT_KERNEL_LL


def of_kernel(data: bytes, at: int, end: int) -> bool:
    """Whether a message is clearly of an address that the kernel made by itself, on lo or link-local; no kernel says so
    of 127.0.0.1, and of the others only those do that know IFA_PROTO, the last attribute (inet6_fill_ifaddr)."""
    return data[end - 8 : end] in _BY_KERNEL or data.startswith(_LO, at)


def split(ref: Ref) -> tuple[str, int]:
    """The address and the prefix length in an address's key."""
    ip, _, length = ref.key[1].partition("/")
    return ip, int(length)


def _identity(ref: Ref, attrs: dict[str, Any], index: int, flags: int, scope: int) -> bytes:
    """What names an address to the kernel, and its header."""
    ip, length = split(ref)
    local = pack_ip(ip)
    far = pack_ip(attrs["_peer"]) if "_peer" in attrs else local
    family = AF_INET if len(local) == 4 else AF_INET6
    body = IFADDRMSG.pack(family, length, flags & 0xFF, scope, index)
    if family == AF_INET or far != local:
        body += attr(IFA_LOCAL, local)
    return body + attr(IFA_ADDRESS, far)


def _details(attrs: dict[str, Any], flags: int) -> Iterator[bytes]:
    """What is stated beside, or what a live address has, so that one of another's making comes back as it was."""
    if broadcast := attrs.get("broadcast") or attrs.get("_broadcast"):
        yield attr(IFA_BROADCAST, pack_ip(broadcast))
    if label := attrs.get("label") or attrs.get("_label"):
        yield attr_str(IFA_LABEL, label)
    if "valid_lft" in attrs:
        yield attr(IFA_CACHEINFO, _CACHEINFO.pack(attrs["preferred_lft"], attrs["valid_lft"], 0, 0))
    elif "_lifetime" in attrs:
        yield attr(IFA_CACHEINFO, _CACHEINFO.pack(*attrs["_lifetime"], 0, 0))
    if flags > 0xFF:
        yield attr_u32(IFA_FLAGS, flags)
    if (metric := attrs.get("metric", attrs.get("_priority"))) is not None:
        yield attr_u32(IFA_RT_PRIORITY, metric)


def _flags(attrs: Mapping[str, Any], six: bool) -> int:
    """The flags that are stated, or that a live address has."""
    if "_flags" in attrs:
        return int(attrs["_flags"])
    return sum(bit for name, bit in _FLAGS.items() if attrs.get(name) and (six or name != "nodad"))


def encode(op: Op, env: Env) -> list[Rtnl]:
    ref = op.ref
    index = env.index(ref.ns, ref.key[0])
    if op.verb == DELETE:
        assert op.old is not None
        return [Rtnl(ref.ns, RTM_DELADDR, 0, _identity(ref, op.old.attrs, index, 0, 0))]
    assert op.new is not None
    attrs = op.new.attrs
    ip, _ = split(ref)
    flags = _flags(attrs, ":" in ip)
    scope = attrs.get("_scope", _SCOPES[attrs.get("scope") or _usual_scope(ip)])
    if op.verb == UPDATE and ":" in ip:  # 0 would be no word about it (inet6_addr_modify)
        attrs = {**attrs, "metric": _told("metric", op.new)}
    body = _identity(ref, attrs, index, flags, scope) + b"".join(_details(attrs, flags))
    if protocol := attrs.get("_protocol", PROTOCOL):
        body += attr_u8(IFA_PROTO, protocol)
    again = op.verb == UPDATE or AGAIN in op.attrs
    return [Rtnl(ref.ns, RTM_NEWADDR, NLM_F_CREATE | (NLM_F_REPLACE if again else NLM_F_EXCL), body)]


def _usual_scope(ip: str) -> str:
    """As `ip address add` chooses."""
    return "host" if ip.startswith("127.") else "global"


def _of_tunnel(ip: str) -> bool:
    """Whether it is one that a tunnel has from its IPv4 address: ::192.0.2.1 or fe80::192.0.2.1 (add_v4_addrs in
    net/ipv6/addrconf.c, with no protocol to tell). Small numbers, such as fe80::1, are of someone's choosing."""
    data = pack_ip(ip)
    return len(data) == 16 and data[:2] in (b"\0\0", b"\xfe\x80") and data[2:12] == bytes(10) and data[12] != 0


def _origin(ip: str, flags: int, protocol: int, ifname: str) -> str:
    if protocol == PROTOCOL:
        return TAGGED
    if not flags & _PERMANENT or protocol in _KERNEL_PROTOCOLS:
        return FOREIGN
    if ifname == "lo" and (ip.startswith("127.") or ip == "::1"):
        return FOREIGN
    if _of_tunnel(ip):
        return FOREIGN
    # Before Linux 5.18 nothing but its form tells that the kernel made a link-local address.
    if ip.startswith("fe80:") and (flags & _STABLE_PRIVACY or pack_ip(ip)[11:13] == b"\xff\xfe"):
        return FOREIGN
    return STATIC


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    if end - offset < IFADDRMSG.size:
        return ()
    family, length, low_flags, scope, index = IFADDRMSG.unpack_from(data, offset)
    found = attributes(data, offset + IFADDRMSG.size, end)
    address = found.get(IFA_ADDRESS)
    local = found.get(IFA_LOCAL, address)
    ifname = view.ifname(index)
    if local is None or ifname is None or len(local) != (4 if family == AF_INET else 16):
        return ()
    flags = U32.unpack(found[IFA_FLAGS]) if len(found.get(IFA_FLAGS, b"")) == 4 else low_flags
    protocol = found[IFA_PROTO][0] if found.get(IFA_PROTO) else 0
    ip = unpack_ip(local)
    attrs: dict[str, Any] = {"_flags": flags & _KEPT, "_protocol": protocol, "_scope": scope}
    key: tuple[str, ...] = (ifname, f"{ip}/{length}")
    if address is not None and address != local and len(address) == len(local):
        attrs["_peer"] = unpack_ip(address)
        key += (f"peer {attrs['_peer']}",)
    attrs.update(_live_details(found, family, flags, ifname))
    return (Fact(Ref("address", view.ns, key), attrs, _origin(ip, flags, protocol, ifname)),)


def _live_details(found: dict[int, bytes], family: int, flags: int, ifname: str) -> Iterator[tuple[str, Any]]:
    if family == AF_INET:
        if flags & _SECONDARY:
            yield "_secondary", True
        if len(found.get(IFA_BROADCAST, b"")) == 4:
            yield "_broadcast", unpack_ip(found[IFA_BROADCAST])
        label = found.get(IFA_LABEL, b"").rstrip(b"\0").decode(errors="replace")
        if label and label != ifname:
            yield "_label", label
    if len(found.get(IFA_CACHEINFO, b"")) >= 16:
        preferred, valid, _, _ = _CACHEINFO.unpack_from(found[IFA_CACHEINFO])
        preferred = 0 if flags & _DEPRECATED else preferred  # of a permanent IPv4 one the flag alone tells it
        if not flags & _PERMANENT or preferred != FOREVER:
            yield "_lifetime", (preferred, valid)
    if len(found.get(IFA_RT_PRIORITY, b"")) == 4:
        yield "_priority", U32.unpack(found[IFA_RT_PRIORITY])


def subnet(fact: Fact) -> tuple[int, bytes] | None:
    """The prefix length and the network by which the kernel tells secondaries; None for IPv6, which has none."""
    ip, length = split(fact.ref)
    address = pack_ip(fact.attrs.get("_peer", ip))
    if len(address) != 4:
        return None
    mask = 0xFFFFFFFF << (32 - length) & 0xFFFFFFFF
    return length, (int.from_bytes(address, "big") & mask).to_bytes(4, "big")


def deleted_first(deleted: Fact, created: Fact) -> bool:
    """Whether `deleted` has to go before `created` is made: IPv4 addresses in one subnet of one link."""
    here, there = subnet(deleted), subnet(created)
    one_link = deleted.ref.ns == created.ref.ns and deleted.ref.key[0] == created.ref.key[0]
    return one_link and here is not None and here == there


def flushed(deleted: Collection[Fact], created: Collection[Fact], live: Live) -> Iterator[Ref]:
    """Live facts that go down with these deletions, where `created` are made in the order that `deleted_first` says.

    Routes whose source goes, or one of whose next hops dies, are among them: they are to be made again.
    """
    gone = {fact.ref: fact for fact in deleted}
    early = {
        link(fact.ref.ns, fact.ref.key[0])
        for fact in created
        if ":" not in fact.ref.key[1] and not any(deleted_first(old, fact) for old in deleted)
    }
    for home in dict.fromkeys(link(ref.ns, ref.key[0]) for ref in tuple(gone)):
        addresses = [fact for fact in live.on(home) if _is_ipv4(fact)]
        leaving = [fact for fact in addresses if fact.ref in gone]
        secondaries = [f for f in addresses if f.ref not in gone and _secondary_of(f, leaving)]
        gone.update((fact.ref, fact) for fact in secondaries)
        yield from (fact.ref for fact in secondaries)
        if leaving and home not in early and all(fact.ref in gone for fact in addresses):
            yield from (fact.ref for fact in live.on(home) if _needs_ipv4(fact))
    sources = {(ref.ns, split(ref)[0]) for ref in gone}
    if sources:
        near = (fact for ns in dict.fromkeys(ns for ns, _ in sources) for fact in live.within(ns))
        yield from (f.ref for f in near if f.ref.kind == "route" and (f.ref.ns, f.attrs.get("src")) in sources)


def takes(change: Change, live: Live) -> Iterable[Ref]:
    if change.action not in (DELETE, REPLACE) or change.live is None:
        return ()
    return tuple(dict.fromkeys(flushed([change.live], [], live)))


def _needs_ipv4(fact: Fact) -> bool:
    """Whether fib_disable_ip (net/ipv4/fib_frontend.c) takes it from its link: routes, but by nexthops, and neighbours."""
    kind, key = fact.ref.kind, fact.ref.key
    return (kind == "route" and key[0] == 4 and not fact.attrs.get("nhid")) or (
        kind == "neighbour" and ":" not in key[1]
    )


def _is_ipv4(fact: Fact) -> bool:
    return fact.ref.kind == "address" and ":" not in fact.ref.key[1]


def _secondary_of(fact: Fact, primaries: Iterable[Fact]) -> bool:
    return bool(fact.attrs.get("_secondary")) and any(
        subnet(fact) == subnet(p) for p in primaries if _is_ipv4(p) and not p.attrs.get("_secondary")
    )


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    """Its link; and the sysctls that let the link have IPv6."""
    ns, (ifname, ip, *_) = fact.ref.ns, fact.ref.key
    home = (link(ns, ifname),)
    if ":" not in ip:
        return home
    paths = (Ref("sysctl", ns, (f"net/ipv6/conf/{name}/disable_ipv6",)) for name in ("all", "default", ifname))
    return (*home, *(path for path in paths if desired.get(path)))


def claims(fact: Fact) -> Iterable[tuple[Any, ...]]:
    """A link has an IPv6 address once, whatever its prefix length (ipv6_add_addr: EEXIST)."""
    ip, _ = split(fact.ref)
    if ":" in ip:
        yield "address", fact.ref.ns, fact.ref.key[0], ip


_COMPARED: Final = (
    *("label", "scope", "broadcast", "metric", "valid_lft", "preferred_lft"),
    *("noprefixroute", "home", "mngtmpaddr"),
)


def compare(desired: Fact, live: Fact) -> tuple[str, ...]:
    """What is stated; of an address of topo's own also what no longer is, and of one that is put back all that it had.
    `nodad` is for making it only, and seconds run: a lifetime is as stated where no more than that is left.
    """
    want, names = desired.attrs, desired.attrs.keys() & _COMPARED
    whole = "_flags" in want
    if not names and not whole and not _special(live):
        return ()
    if whole or (live.origin == TAGGED and not _moved(want)):
        return tuple(name for name in _COMPARED if _differs(name, desired, live))
    return tuple(name for name in _COMPARED if name in names and _differs(name, desired, live))


def _special(live: Fact) -> bool:
    """Whether a live address has anything that is not said of most."""
    have = live.attrs
    if have.get("_flags", 0) & ~_NODAD or "_lifetime" in have or "_label" in have or have.get("_priority"):
        return True
    return have.get("_scope") in (200, _SCOPE_LINK) and ":" not in live.ref.key[1]


def _moved(want: Mapping[str, Any]) -> bool:
    """Whether it comes from another device with what it had there."""
    return not want.keys().isdisjoint(("_scope", "_broadcast", "_priority"))


def _differs(name: str, desired: Fact, live: Fact) -> bool:
    want, have = _told(name, desired), _told(name, live)
    if name.endswith("_lft") and FOREVER not in (want, have):
        return bool(have > want or (have == 0) != (want == 0))
    return bool(want != have)


def _told(name: str, fact: Fact) -> Any:
    """What an attribute is, by a desired fact or a live one; what the kernel gives where nothing is stated."""
    attrs, (ifname, text, *_) = fact.attrs, fact.ref.key
    six = ":" in text
    if name in _FLAGS:
        return bool(attrs.get(name) or attrs.get("_flags", 0) & _FLAGS[name])
    if name.endswith("_lft"):
        preferred, valid = attrs.get("_lifetime", (FOREVER, FOREVER))
        return attrs.get(name, valid if name == "valid_lft" else preferred)
    if name == "metric":
        return attrs.get(name) or attrs.get("_priority") or (_METRIC6 if six else 0)
    if six:
        return None
    if name == "label":
        return attrs.get(name, attrs.get("_label", ifname))
    if name == "scope":
        return _SCOPES[attrs[name]] if name in attrs else attrs.get("_scope", _SCOPES[_usual_scope(text)])
    return attrs.get(name, attrs.get("_broadcast"))


def replace(desired: Fact, _: Fact) -> frozenset[str]:
    """Of an IPv4 address the kernel changes the metric and the lifetimes alone (inet_rtm_newaddr)."""
    return frozenset(_COMPARED) - (_IN_PLACE6 if ":" in desired.ref.key[1] else _IN_PLACE)


def describe(fact: Fact) -> str:
    words = [str(fact.ref.key[2])] if len(fact.ref.key) > 2 else []
    words += [name for name in ("noprefixroute", "home", "mngtmpaddr") if fact.attrs.get(name)]
    return " ".join([*words, *(f"{name} {fact.attrs[name]}" for name in ("label", "scope") if name in fact.attrs)])


ADDRESS: Final = Kind("address", encode, decode, requires, compare, replace, takes, claims, describe=describe)
