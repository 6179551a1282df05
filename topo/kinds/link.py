"""Links: network interfaces of every kind (rtnetlink(7), ip-link(8), net/core/rtnetlink.c).

What this file knows is common to all kinds; what is one kind's own stands in its LinkKind.

Making one is one RTM_NEWLINK that carries everything: the ifindex, which topo chooses, so that later messages need
no look-up; the namespaces as descriptors; the link group, which marks whose it is; the master and the flag UP. The
kernel ignores an alias in that message, and for a pair takes master and UP of the main end only.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from topo.changes import CREATE, DELETE, OWNER, Env, Op, Request, Rtnl
from topo.errors import KernelError
from topo.facts import HOST, OWN, Fact, Ref, link, namespace
from topo.kinds.ifla import (
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINK,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_NET_NS_FD,
    IFLA_TXQLEN,
    ONE_QUEUE,
    body,
)
from topo.kinds.inet6 import before_up
from topo.kinds.kind import DesiredView, Kind, LinkKind, Pair, Ports
from topo.kinds.link_decode import decode
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.link_losses import takes
from topo.kinds.veth import leads
from topo.wire import IFINFOMSG, MAC, NLM_F_CREATE, NLM_F_EXCL, RTM_DELLINK, RTM_NEWLINK, attr, attr_str, attr_u32, nest

__all__ = ["LINK", "leads"]

Requests = Sequence[Request | Callable[[], Request]]

_AT_ONCE = ("mac", "mtu", "txqueuelen")  # of both ends of a veth pair, in the message that makes it


def encode(op: Op, env: Env) -> Requests:
    """The requests that make, change or delete a link. Raises KernelError where a link it names is missing."""
    if op.verb == DELETE:
        return [Rtnl(op.ref.ns, RTM_DELLINK, 0, body(env.index(op.ref.ns, op.ref.key[0])))]
    assert op.new is not None
    if op.verb != CREATE:
        return _update(op.new, op.old, op.attrs, env)
    kind = LINK_KINDS.get(op.new.attrs.get("kind", ""))
    if kind is None:
        no = errno.EOPNOTSUPP if "kind" in op.new.attrs else errno.ENODEV
        raise KernelError(no, f"topo cannot make a {op.new.attrs.get('kind', 'device')}", op.ref, "create link")
    if kind.make:
        return _create_aside(kind.make(op.new), op.new, env)
    if kind.pair:
        return _create_pair(kind, kind.pair, op.new, env)
    return _create(kind, op.new, env)


# Making


def _create(kind: LinkKind, fact: Fact, env: Env) -> Requests:
    ns, ifname = fact.ref.ns, fact.ref.key[0]
    home, attrs, parts = kind.home(fact), fact.attrs, []
    if kind.below == "parent":
        parts.append(attr_u32(IFLA_LINK, env.index(*attrs["parent"])))
    data = b"".join(_data(kind, _told(kind, attrs) if kind.bare or kind.whole else attrs, env))
    info = attr_str(IFLA_INFO_KIND, kind.name) + (nest(IFLA_INFO_DATA, data) if data else b"")
    main = _first(kind, fact, env, home) + _master(fact, env) + b"".join(parts) + nest(IFLA_LINKINFO, info)
    index = env.assign(ns, ifname)
    made = Rtnl(home, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body(index, main, up=_at_once(fact, env)))
    return [made, *_afterwards(kind, fact, index, env)]


def _create_pair(kind: LinkKind, pair: Pair, fact: Fact, env: Env) -> Requests:
    """The leading end makes the pair. For the other end, what the kernel does not take in that message is left."""
    ns, ifname = fact.ref.ns, fact.ref.key[0]
    other = link(*fact.attrs["peer"])
    peer = env.desired(other)
    if not leads(fact, peer):
        index, up = env.index(ns, ifname), _at_once(fact, env)
        parts = _master(fact, env) + _alias(fact)
        first = [Rtnl(ns, RTM_NEWLINK, 0, body(index, parts, up=up))] if parts or up else []
        return [*first, *_addressed(fact, env), *_enslaved(fact, env)]
    home = kind.home(fact)
    index, other_index = env.assign(ns, ifname), env.assign(other.ns, other.key[0])
    end = body(other_index, _first(kind, peer or Fact(other, {}), env, home))
    info = attr_str(IFLA_INFO_KIND, kind.name)
    info += nest(IFLA_INFO_DATA, attr(pair.peer, end), *_data(kind, fact.attrs, env))
    main = _first(kind, fact, env, home) + _master(fact, env) + nest(IFLA_LINKINFO, info)
    made = Rtnl(home, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body(index, main, up=_at_once(fact, env)))
    return [made, *_afterwards(kind, fact, index, env)]


def _create_aside(make: Request, fact: Fact, env: Env) -> Requests:
    """What rtnetlink cannot make is made another way; then rtnetlink sets the rest, once it has an ifindex."""

    def rest() -> Request:
        index = env.index(fact.ref.ns, fact.ref.key[0])
        parts = [*_settings(fact.attrs, _AT_ONCE), _mark(fact, env), _alias(fact), _master(fact, env)]
        return Rtnl(fact.ref.ns, RTM_NEWLINK, 0, body(index, *parts, up=_at_once(fact, env)))

    return [make, rest, *_addressed(fact, env), *_enslaved(fact, env)]


def _first(kind: LinkKind, fact: Fact, env: Env, home: str) -> bytes:
    """What one end of a new link brings along: its name, its own settings, its mark and its namespace."""
    attrs = kind.at_first(fact.attrs)
    parts = [attr_str(IFLA_IFNAME, fact.ref.key[0]), *_settings(attrs, _AT_ONCE), _mark(fact, env)]
    if kind.one_queue:
        parts.append(ONE_QUEUE)
    if home != fact.ref.ns:
        parts.append(attr_u32(IFLA_NET_NS_FD, env.netns(fact.ref.ns)))
    return b"".join(parts)


def _afterwards(kind: LinkKind, fact: Fact, index: int, env: Env) -> Iterator[Request | Callable[[], Request]]:
    """What the kernel does not take in the message that makes a link."""
    parts = _alias(fact)
    if kind.mtu_again and "mtu" in fact.attrs:
        parts = attr_u32(IFLA_MTU, fact.attrs["mtu"]) + parts
    if parts:
        yield Rtnl(fact.ref.ns, RTM_NEWLINK, 0, body(index, parts))
    yield from _addressed(fact, env)
    yield from _enslaved(fact, env)


def _at_once(fact: Fact, env: Env) -> bool | None:
    """The flag UP in the message that makes a link; not where its master takes only what is down, or where it is to make
    its IPv6 addresses in another way."""
    ports = _ports(fact)
    return None if (ports and ports.down) or _inet6(fact, env) else fact.attrs.get("up") or None


def _inet6(fact: Fact, env: Env) -> bytes:
    return before_up(env.desired(Ref("inet6", *fact.ref[1:])))


def _addressed(fact: Fact, env: Env) -> Iterator[Callable[[], Request]]:
    """How it makes its IPv6 addresses, and then UP: the kernel heeds the flag first in one message (do_setlink)."""
    spec, ports, (ns, key) = _inet6(fact, env), _ports(fact), fact.ref[1:]
    if spec:
        yield lambda: Rtnl(ns, RTM_NEWLINK, 0, body(env.index(ns, key[0]), spec))
        if fact.attrs.get("up") and not (ports and ports.down):
            yield lambda: Rtnl(ns, RTM_NEWLINK, 0, body(env.index(ns, key[0]), up=True))


def _enslaved(fact: Fact, env: Env) -> Iterator[Callable[[], Request]]:
    """What can be said only once a link is the port of its master."""
    ports, (ns, key) = _ports(fact), fact.ref[1:]
    if ports is None:
        return
    if ports.down and (up := fact.attrs.get("up")) is not None:
        yield lambda: Rtnl(ns, RTM_NEWLINK, 0, body(env.index(ns, key[0]), up=up))
    master = env.desired(link(ns, fact.attrs["master"]))
    if ports.told and master and master.attrs.get(ports.told) == (ns, key[0]):
        told, name = master, ports.told
        yield lambda: Rtnl(ns, RTM_NEWLINK, 0, body(env.index(ns, told.ref.key[0]), _info(told, (name,), env)))


def _ports(fact: Fact | None) -> Ports | None:
    """What the kind of its master asks of it; None where it has none, or a bridge."""
    kind = LINK_KINDS.get(fact.attrs.get("_port_of", "")) if fact and fact.attrs.get("master") else None
    return kind.ports if kind else None


# Changing


def _update(new: Fact, old: Fact | None, names: Collection[str], env: Env) -> Requests:
    ns, ifname = new.ref.ns, new.ref.key[0]
    was = old.ref.key[0] if old else ifname
    index = env.index(ns, was)
    parts = list(_settings(new.attrs, names))
    if OWNER in names:
        parts.append(_mark(new, env))
    if was != ifname:
        parts.append(attr_str(IFLA_IFNAME, ifname))
        env.rename(ns, was, ifname)
    if "alias" in names:
        parts.append(attr_str(IFLA_IFALIAS, new.attrs["alias"] or ""))
    if "master" in names:
        parts.append(_master(new, env) or attr_u32(IFLA_MASTER, 0))
    if (info := _info(new, names, env, old)) and "mtu" not in names and _whole(new):
        parts += _settings(new.attrs, ("mtu",))  # which the driver else works out anew
    parts.append(info)
    up = bool(new.attrs["up"]) if "up" in names else None
    kind = LINK_KINDS.get(old.attrs.get("kind", "")) if old and "mtu" in names else None
    mtu: int | None = kind.at_first(new.attrs)["mtu"] if kind else None
    first = [Rtnl(ns, RTM_NEWLINK, 0, body(index, spec))] if up and (spec := _inet6(new, env)) else []
    if mtu is not None and mtu != new.attrs["mtu"]:
        first.append(Rtnl(ns, RTM_NEWLINK, 0, body(index, attr_u32(IFLA_MTU, mtu))))
    if "master" in names:
        return [*first, *_moved(new, old, Rtnl(ns, RTM_NEWLINK, 0, body(index, *parts, up=up)), up, env)]
    return [*first, Rtnl(ns, RTM_NEWLINK, 0, body(index, *parts, up=up))] if up is not None or any(parts) else []


def _moved(
    new: Fact, old: Fact | None, change: Rtnl, up: bool | None, env: Env
) -> Iterator[Request | Callable[[], Request]]:
    """A change of master; where one of the two wants its ports down, apart from the flag UP."""
    coming, leaving = _ports(new), _ports(old)
    was = bool(old and old.attrs.get("up"))
    if not (coming and coming.down) and not (leaving and leaving.down):
        yield change
    else:
        index = IFINFOMSG.unpack_from(change.body)[2]
        if was and coming and coming.down:
            yield change._replace(body=body(index, up=False))
        yield change._replace(body=body(index, change.body[IFINFOMSG.size :]))
        if not (coming and coming.down):
            yield change._replace(body=body(index, up=was if up is None else up))
    yield from _enslaved(new._replace(attrs={"up": was, **new.attrs}), env)


def _whole(fact: Fact) -> bool:
    """Whether an update of its own attributes carries all of them."""
    kind = LINK_KINDS.get(fact.attrs.get("kind", ""))
    return kind is not None and kind.whole


def _info(fact: Fact, names: Collection[str], env: Env, old: Fact | None = None) -> bytes:
    """IFLA_LINKINFO with what differs of the kind's own attributes; a kind's fixed ones are refused even if equal.

    Where the driver resets what it is not told, all that is stated goes along, and what the `old` one has beside.
    """
    kind = LINK_KINDS.get(fact.attrs.get("kind", ""))
    if kind is None:
        return b""
    changed = {name: fact.attrs[name] for name in names if name in fact.attrs}
    whole = kind.whole and not changed.keys().isdisjoint(kind.own)
    if whole:
        stay = {name: value for name, value in changed.items() if name in kind.stays}
        changed = {**_told(kind, {**(old.attrs if old else {}), **fact.attrs}), **stay}
    data = b"".join(_data(kind, changed, env))
    if not data and not whole:
        return b""
    return nest(IFLA_LINKINFO, attr_str(IFLA_INFO_KIND, kind.name), nest(IFLA_INFO_DATA, data))


# Parts of messages


def _data(kind: LinkKind, attrs: Mapping[str, Any], env: Env) -> Iterator[bytes]:
    """IFLA_INFO_DATA of those of the kind's attributes that are in `attrs`."""
    for name, nla, form, _ in kind.data:
        if (value := attrs.get(name)) is not None:
            yield attr(nla, form.pack(value))
    if kind.extra:
        yield kind.extra(attrs, env)


def _told(kind: LinkKind, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """`attrs` without what the driver does by default: some refuse to be told even that."""
    return {name: value for name, value in attrs.items() if name not in kind.own or value != kind.default(name)}


def _settings(attrs: Mapping[str, Any], names: Collection[str]) -> Iterator[bytes]:
    if "mac" in names and attrs.get("mac"):
        yield attr(IFLA_ADDRESS, MAC.pack(attrs["mac"]))
    if "mtu" in names and attrs.get("mtu"):
        yield attr_u32(IFLA_MTU, attrs["mtu"])
    if "txqueuelen" in names and attrs.get("txqueuelen") is not None:
        yield attr_u32(IFLA_TXQLEN, attrs["txqueuelen"])


def _mark(fact: Fact, env: Env) -> bytes:
    """Whose it is; a foreign one that is put back gets the group that it had."""
    return attr_u32(IFLA_GROUP, env.mark if fact.origin == OWN else fact.attrs.get("_group", 0))


def _alias(fact: Fact) -> bytes:
    alias = fact.attrs.get("alias")
    return attr_str(IFLA_IFALIAS, alias) if alias else b""


def _master(fact: Fact, env: Env) -> bytes:
    master = fact.attrs.get("master")
    return attr_u32(IFLA_MASTER, env.index(fact.ref.ns, master)) if master else b""


# What planning asks


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    """Its namespaces, its master, the device below, and for the end of a pair that does not lead, the other."""
    ref, attrs = fact.ref, fact.attrs
    if ref.ns != HOST:
        yield namespace(ref.ns)
    if master := attrs.get("master"):
        yield link(ref.ns, master)
    kind = LINK_KINDS.get(attrs.get("kind", ""))
    if kind is None:
        return
    if kind.below and (below := attrs.get(kind.below)):
        if below[0] not in (HOST, ref.ns):
            yield namespace(below[0])
        if not kind.pair or not leads(fact, desired.get(link(*below))):
            yield link(*below)
    if (made := attrs.get("created_in")) and made != HOST:
        yield namespace(made)
    yield from kind.requires(fact, desired)


def replace(desired: Fact, live: Fact) -> frozenset[str]:
    """A kind is for life; the rest is for the kind to say."""
    kind = LINK_KINDS.get(live.attrs.get("kind", ""))
    return _KIND | kind.replace(desired, live) if kind else _KIND


_KIND = frozenset({"kind"})


def claims(fact: Fact) -> Iterable[tuple[object, ...]]:
    kind = LINK_KINDS.get(fact.attrs.get("kind", ""))
    return kind.claims(fact) if kind else ()


def describe(fact: Fact) -> str:
    """What a plan says of a link beside its name: `veth to web:eth0`, `vxlan 42`, `macvlan on eth0`."""
    attrs = fact.attrs
    words = str(attrs.get("kind") or "")
    if "id" in attrs:
        words += f" {attrs['id']}"
    for name, join in (("peer", "to"), ("parent", "on"), ("dev", "on"), ("link", "on")):
        if attrs.get(name):
            words += f" {join} {link(*attrs[name])}"
    return f"{words}, port of {attrs['master']}" if attrs.get("master") else words


LINK = Kind(
    "link",
    encode=encode,
    decode=decode,
    requires=requires,
    replace=replace,
    takes=takes,
    claims=claims,
    describe=describe,
)
