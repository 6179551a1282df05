"""Network namespaces (ip-netns(8), namespaces(7)). The mark of one that topo made is the group of its `lo`."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import Final

from topo.changes import CREATE, DELETE, OWNER, UPDATE, Change, Env, Netns, Op, Request, Rtnl
from topo.facts import OWN, Fact, Live, Ref, namespace
from topo.kinds.ifla import IFLA_GROUP, body
from topo.kinds.kind import DesiredView, Kind, stated_differences
from topo.wire import RTM_NEWLINK, attr_u32, message

_LOOPBACK: Final = 1  # LOOPBACK_IFINDEX in net/net_namespace.h: the same in every namespace


def encode(op: Op, env: Env) -> Sequence[Request]:
    ns = op.ref.ns
    if op.verb == DELETE:
        attached = op.old is not None and (op.old.origin != OWN or "from" in op.old.attrs)
        return [Netns("detach" if attached else "delete", ns)]
    assert op.new is not None
    source, up = op.new.attrs.get("from"), op.new.attrs.get("up")
    if op.verb == CREATE and source is None:
        lo = body(_LOOPBACK, attr_u32(IFLA_GROUP, env.mark), up=up)
        return [Netns("create", ns, setup=message(RTM_NEWLINK, 0, 1, lo))]
    if op.verb == CREATE:
        made: list[Request] = [Netns("attach", ns, source, inode=op.new.attrs.get("_inode", 0))]
        return made if up is None else [*made, Rtnl(ns, RTM_NEWLINK, 0, body(_LOOPBACK, up=up))]
    parts = [attr_u32(IFLA_GROUP, env.mark)] if OWNER in op.attrs else []
    up = up if "up" in op.attrs else None
    return [Rtnl(ns, RTM_NEWLINK, 0, body(_LOOPBACK, *parts, up=up))] if parts or up is not None else []


def compare(desired: Fact, live: Fact) -> tuple[str, ...]:
    """`from` counts also where it is not stated: topo is to make the namespace itself then."""
    return (
        *stated_differences(desired, live),
        *(["from"] if "from" in live.attrs.keys() - desired.attrs.keys() else []),
    )


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    return frozenset({"from"})


def requires(fact: Fact, _: DesiredView) -> Iterable[Ref]:
    """A second name for a namespace of the file needs that one."""
    source = fact.attrs.get("from") or {}
    if share := source.get("share"):
        yield namespace(share)


def takes(change: Change, live: Live) -> Iterable[Ref]:
    """Beside all that is in it, vxlans elsewhere whose UDP socket it holds."""
    have = change.live
    if change.action in (CREATE, UPDATE) or have is None or have.attrs.get("from"):
        return ()
    return live.above(change.ref)


NAMESPACE = Kind(
    "namespace",
    encode=encode,
    requires=requires,
    compare=compare,
    replace=replace,
    takes=takes,
    absent=frozenset({errno.ENOENT}),
)
