"""How a link makes its own IPv6 addresses (ip-link(8) `addrgenmode`, ip-token(8), inet6_set_link_af in net/ipv6/addrconf.c).

The mode counts for addresses that are made from then on: one that the link has stays. A token needs router advertisements to
be heard (`accept_ra`), else EINVAL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from topo.changes import DELETE, Env, Op, Rtnl
from topo.facts import FOREIGN, STATIC, Fact, Ref, link
from topo.kinds.ifla import body
from topo.kinds.kind import DesiredView, Kind, View
from topo.wire import AF_INET6, IFINFOMSG, IP, RTM_NEWLINK, U8, attr, attributes, in_order, named, nest

_IFLA_PROTINFO, _IFLA_AF_SPEC = 12, 26
_TOKEN, _MODE = 7, 8  # IFLA_INET6_TOKEN, IFLA_INET6_ADDR_GEN_MODE
MODES: Final = ("eui64", "none", "stable_secret", "random")  # IN6_ADDR_GEN_MODE_*
_BY_NAME: Final = named(U8, in_order(*MODES))
_UNSTATED: Final[Mapping[str, Any]] = {"addrgenmode": "eui64", "token": None}


def _spec(attrs: Mapping[str, Any], names: Iterable[str]) -> bytes:
    parts = b""
    if "addrgenmode" in names:
        parts += attr(_MODE, _BY_NAME.pack(attrs["addrgenmode"]))
    if "token" in names:
        parts += attr(_TOKEN, IP.pack(attrs["token"] or "::"))
    return nest(_IFLA_AF_SPEC, nest(AF_INET6, parts))


def before_up(fact: Fact | None) -> bytes:
    """What a link that has this fact is told before it comes up, since it makes its first address then."""
    mode = fact.attrs.get("addrgenmode", "eui64") if fact else "eui64"
    return _spec({"addrgenmode": mode}, ("addrgenmode",)) if mode != "eui64" else b""


def encode(op: Op, env: Env) -> list[Rtnl]:
    ns, ifname = op.ref.ns, op.ref.key[0]
    old = op.old.attrs if op.old else {}
    if op.verb == DELETE:
        want: Mapping[str, Any] = _UNSTATED
        names = [name for name in want if old.get(name, want[name]) != want[name]]
    else:
        assert op.new is not None
        want = op.new.attrs
        names = [name for name in want if name in _UNSTATED and old.get(name) != want[name]]
    return [Rtnl(ns, RTM_NEWLINK, 0, body(env.index(ns, ifname), _spec(want, names)))] if names else []


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    """The fact of an RTM_NEWLINK of AF_INET6."""
    if kind != RTM_NEWLINK or end - offset < IFINFOMSG.size:
        return ()
    family, _, index, _, _ = IFINFOMSG.unpack_from(data, offset)
    ifname = view.ifname(index)
    if family != AF_INET6 or ifname is None:
        return ()
    found = attributes(attributes(data, offset + IFINFOMSG.size, end).get(_IFLA_PROTINFO, b""))
    mode, token = found.get(_MODE, b""), found.get(_TOKEN, b"")
    if len(mode) != 1 or len(token) != 16:
        return ()
    attrs = {"addrgenmode": _BY_NAME.unpack(mode), "token": IP.unpack(token) if any(token) else None}
    return (Fact(Ref("inet6", view.ns, (ifname,)), attrs, FOREIGN if unset(attrs) else STATIC),)


def unset(attrs: Mapping[str, Any]) -> bool:
    """Whether it is as the kernel makes it: some kinds of link (tun, wireguard) have random addresses."""
    return attrs["addrgenmode"] in ("eui64", "random") and attrs["token"] is None


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    home = link(fact.ref.ns, fact.ref.key[0])
    yield home
    yield from (other.ref for other in desired.on(home, "sysctl"))  # accept_ra, stable_secret


def describe(fact: Fact) -> str:
    return " ".join(
        f"{name} {fact.attrs[name]}" for name, usual in _UNSTATED.items() if fact.attrs.get(name) not in (None, usual)
    )


INET6: Final = Kind("inet6", encode, decode, requires, describe=describe, unset=unset)
