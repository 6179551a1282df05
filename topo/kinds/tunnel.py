"""What the IP tunnels have in common (ip-tunnel(8), linux/if_tunnel.h, net/ipv4/ip_tunnel.c, net/ipv6/ip6_tunnel.c).

Their drivers take an attribute that an update leaves out for its default, and look up a tunnel by its two ends, its
keys and its device, so that two of a kind with the same ones cannot be in one namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

from pydantic import AfterValidator, Field, StrictBool, StrictInt

from topo.changes import Env
from topo.facts import Fact
from topo.kinds.kind import LinkKind, View
from topo.kinds.spec import InterfaceName, InterfaceSpec
from topo.kinds.words import canonical_ip
from topo.wire import BE16, BE32, BOOL, IP, U8, U32, Attr, attr, attr_u32

ANY4, ANY6 = "0.0.0.0", "::"
_INHERIT: Final = 1  # of a TOS: that of the inner packet
_MULTICAST4: Final = range(224, 240)

Byte = Annotated[StrictInt, Field(ge=0, le=255)]
Key = Annotated[StrictInt, Field(ge=0, le=0xFFFFFFFF)]


def of_family(six: bool) -> AfterValidator:
    def check(text: str) -> str:
        ip = canonical_ip(text)
        if (":" in ip) != six:
            raise ValueError(f"{text} is no {'IPv6' if six else 'IPv4'} address")
        return ip

    return AfterValidator(check)


Ip4 = Annotated[str, of_family(False)]
Ip6 = Annotated[str, of_family(True)]


# Attributes


class Numbers(NamedTuple):
    """What is in IFLA_INFO_DATA of two families of tunnels, by its numbers there."""

    link: int
    local: int
    remote: int
    ttl: int
    tos: int
    pmtudisc: int
    encaplimit: int
    flowinfo: int
    flags: int


IFLA_GRE: Final = Numbers(1, 6, 7, 8, 9, 10, 11, 12, 13)
IFLA_IPTUN: Final = Numbers(1, 2, 3, 4, 5, 10, 6, 7, 8)

Extra = Callable[[Mapping[str, Any], Env], bytes]
Read = Callable[[dict[int, bytes], dict[str, Any], View], None]


def ends(local: int, remote: int, six: bool = False) -> tuple[Attr, Attr]:
    unset = ANY6 if six else ANY4
    return Attr("local", local, IP, unset), Attr("remote", remote, IP, unset)


def device(nla: int) -> Extra:
    """`link`: the device that it sends by, which travels as an index."""

    def extra(attrs: Mapping[str, Any], env: Env) -> bytes:
        return attr_u32(nla, env.index(*attrs["link"])) if attrs.get("link") else b""

    return extra


IFLA_GRE_IFLAGS, IFLA_GRE_OFLAGS, IFLA_GRE_IKEY, IFLA_GRE_OKEY = 2, 3, 4, 5
_CSUM, _KEY, _SEQ = 0x8000, 0x2000, 0x1000  # GRE_* in linux/if_tunnel.h, in network order
_SIDES: Final = (("i", IFLA_GRE_IFLAGS, IFLA_GRE_IKEY), ("o", IFLA_GRE_OFLAGS, IFLA_GRE_OKEY))
KEYS: Final = frozenset(f"{side}{name}" for side in "io" for name in ("key", "seq", "csum"))
UNKEYED: Final = {name: None if name.endswith("key") else False for name in sorted(KEYS)}


def _gre_flags(attrs: Mapping[str, Any], env: Env) -> bytes:
    """Of each direction its flags, and its key, of which a flag says whether there is one."""
    parts = []
    for side, flags_nla, key_nla in _SIDES:
        key = attrs.get(f"{side}key")
        flags = (_CSUM if attrs.get(f"{side}csum") else 0) | (_SEQ if attrs.get(f"{side}seq") else 0)
        flags |= 0 if key is None else _KEY
        if flags or KEYS & attrs.keys():
            parts.append(attr(flags_nla, BE16.pack(flags)))
        if key is not None:
            parts.append(attr(key_nla, BE32.pack(key)))
    return b"".join(parts)


def _gre_unflag(data: dict[int, bytes], attrs: dict[str, Any], _: View) -> None:
    for side, flags_nla, key_nla in _SIDES:
        flags = BE16.unpack(data[flags_nla])
        attrs[f"{side}key"] = BE32.unpack(data[key_nla]) if flags & _KEY else None
        attrs[f"{side}csum"], attrs[f"{side}seq"] = bool(flags & _CSUM), bool(flags & _SEQ)


# Of IPv6 ones

_IGN_ENCAP_LIMIT, _USE_ORIG_TCLASS, _USE_ORIG_FLOWLABEL = 1, 2, 4  # IP6_TNL_F_* in linux/ip6_tunnel.h
_FLOWLABEL: Final = 0xFFFFF
OUTER6: Final = frozenset({"encaplimit", "tclass", "flowlabel"})
UNSTATED6: Final = {"encaplimit": 0, "tclass": 0, "flowlabel": 0}


def _outer6(numbers: Numbers) -> Extra:
    """The limit of encapsulation (RFC 2473), the traffic class and the flow label: numbers, or flags that say otherwise."""

    def extra(attrs: Mapping[str, Any], _: Env) -> bytes:
        if not OUTER6 & attrs.keys():
            return b""
        encaplimit, tclass, label = (attrs.get(name) or 0 for name in ("encaplimit", "tclass", "flowlabel"))
        bits = (_IGN_ENCAP_LIMIT if encaplimit == "none" else 0) | (_USE_ORIG_TCLASS if tclass == "inherit" else 0)
        bits |= _USE_ORIG_FLOWLABEL if label == "inherit" else 0
        info = (0 if tclass == "inherit" else tclass) << 20 | (0 if label == "inherit" else label)
        limited = b"" if encaplimit == "none" else attr(numbers.encaplimit, U8.pack(encaplimit))
        return limited + attr(numbers.flowinfo, BE32.pack(info)) + attr(numbers.flags, U32.pack(bits))

    return extra


def _decode_outer6(numbers: Numbers) -> Read:
    def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], _: View) -> None:
        bits, info = U32.unpack(data[numbers.flags]), BE32.unpack(data[numbers.flowinfo])
        attrs["encaplimit"] = "none" if bits & _IGN_ENCAP_LIMIT else U8.unpack(data[numbers.encaplimit])
        attrs["tclass"] = "inherit" if bits & _USE_ORIG_TCLASS else info >> 20 & 0xFF
        attrs["flowlabel"] = "inherit" if bits & _USE_ORIG_FLOWLABEL else info & _FLOWLABEL

    return decode_extra


# What planning asks


def claims(fact: Fact) -> Iterator[tuple[Any, ...]]:
    """One tunnel of a kind for its ends, its incoming key and its device (EEXIST)."""
    attrs = fact.attrs
    unset = ANY6 if ":" in f"{attrs.get('local')}{attrs.get('remote')}" else ANY4
    names = (attrs.get("local", unset), attrs.get("remote", unset), attrs.get("ikey"), attrs.get("link"))
    yield attrs["kind"], fact.ref.ns, *names


def form(desired: Fact, live: Fact) -> frozenset[str]:
    """A tunnel without Ethernet stays what it is: point to point, of a multicast group, or of any (EINVAL)."""
    now, then = (_far(fact.attrs.get("remote")) for fact in (live, desired))
    return frozenset() if now == then else frozenset({"remote"})


def _far(remote: str | None) -> str:
    if remote in (None, ANY4, ANY6):
        return "any"
    return "group" if IP.pack(remote)[0] in (*_MULTICAST4, 255) and ":" not in str(remote) else "point"


TUNNEL: Final = LinkKind(
    "",
    replace=form,
    below="link",
    one_queue=True,
    whole=True,
    mtu=None,
    more=frozenset({"link"}),
    claims=claims,
)
"""What the kinds have in common."""


def over4(numbers: Numbers, keyed: bool = False) -> LinkKind:
    """A tunnel over IPv4; `keyed`: with the flags and keys of GRE."""
    outer = Attr("ttl", numbers.ttl, U8, 0), Attr("tos", numbers.tos, U8, 0)
    data = (*ends(numbers.local, numbers.remote), *outer, Attr("pmtudisc", numbers.pmtudisc, BOOL, True))
    return _with(TUNNEL._replace(data=data), [device(numbers.link)], [], keyed)


def over6(numbers: Numbers, keyed: bool = False) -> LinkKind:
    """A tunnel over IPv6; `keyed`: with the flags and keys of GRE."""
    data = (*ends(numbers.local, numbers.remote, six=True), Attr("ttl", numbers.ttl, U8, 0))
    six = TUNNEL._replace(data=data, more=TUNNEL.more | OUTER6, unstated=UNSTATED6)
    return _with(six, [device(numbers.link), _outer6(numbers)], [_decode_outer6(numbers)], keyed)


def _with(kind: LinkKind, extras: list[Extra], reads: list[Read], keyed: bool) -> LinkKind:
    if keyed:
        extras, reads = [*extras, _gre_flags], [_gre_unflag, *reads]
        kind = kind._replace(more=kind.more | KEYS, unstated={**kind.unstated, **UNKEYED})

    def extra(attrs: Mapping[str, Any], env: Env) -> bytes:
        return b"".join(one(attrs, env) for one in extras)

    def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], view: View) -> None:
        for one in reads:
            one(data, attrs, view)

    return kind._replace(extra=extra, decode_extra=decode_extra)


# What a user writes


class TunnelSpec(InterfaceSpec):
    """What all tunnels have in common."""

    flat: ClassVar[Mapping[str, str]] = {"mac": "it carries IP packets without Ethernet"}

    parent: InterfaceName | None = Field(None, description="the device of this namespace that it sends by")

    def attributes(self, ns: str) -> dict[str, Any]:
        """`parent` is `link` in the fact: the tunnel stays when that device goes."""
        stated = super().attributes(ns)
        if "parent" in stated:
            stated["link"] = stated.pop("parent")
        return stated


class Tunnel4(TunnelSpec):
    """What those over IPv4 have in common."""

    local: Ip4 | None = Field(None, description="its own IPv4 address; unset, any")
    remote: Ip4 | None = Field(None, description="the other end's IPv4 address; unset, any")


class Outer4(Tunnel4):
    """And of the outer header."""

    ttl: Byte | None = Field(None, description="TTL of the outer packet; 0 is that of the inner one")
    tos: Byte | Literal["inherit"] | None = Field(None, description="TOS of the outer packet; or inherit")
    pmtudisc: StrictBool | None = Field(None, description="whether it heeds the path MTU; unset, true")

    def attributes(self, ns: str) -> dict[str, Any]:
        stated = super().attributes(ns)
        if stated.get("tos") == "inherit":
            stated["tos"] = _INHERIT
        return stated


class Tunnel6(TunnelSpec):
    """What those over IPv6 have in common."""

    local: Ip6 | None = Field(None, description="its own IPv6 address; unset, any")
    remote: Ip6 | None = Field(None, description="the other end's IPv6 address; unset, any")
    ttl: Byte | None = Field(None, description="hop limit of the outer packet; 0 is the kernel's choice")
    encaplimit: Byte | Literal["none"] = Field(
        4, description="in how many more tunnels it may be put (RFC 2473); or none"
    )
    tclass: Byte | Literal["inherit"] | None = Field(None, description="traffic class of the outer packet; or inherit")
    flowlabel: Annotated[StrictInt, Field(ge=0, le=_FLOWLABEL)] | Literal["inherit"] | None = Field(
        None, description="flow label of the outer packet; or inherit"
    )


class Keyed(TunnelSpec):
    """Keys, sequence numbers and checksums of GRE, for both directions or for one."""

    key: Key | None = Field(None, description="key of both directions")
    ikey: Key | None = Field(None, description="key of what comes in")
    okey: Key | None = Field(None, description="key of what goes out")
    seq: StrictBool | None = Field(None, description="sequence numbers in both directions")
    csum: StrictBool | None = Field(None, description="checksums in both directions")

    def attributes(self, ns: str) -> dict[str, Any]:
        return both_directions(super().attributes(ns), "key", "seq", "csum")


def both_directions(stated: dict[str, Any], *names: str) -> dict[str, Any]:
    """`key` is short for `ikey` and `okey`, and so on."""
    for name in names:
        if (value := stated.pop(name, None)) is not None:
            stated = {f"i{name}": value, f"o{name}": value, **stated}
    return stated
