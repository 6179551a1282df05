"""Lowering of nexthop objects and groups."""

from __future__ import annotations

from typing import Any

from topo.facts import Fact, Ref
from topo.file import model
from topo.file.model.values import seconds
from topo.file.scope import Loc, Scope, Space, path
from topo.file.ways import Way
from topo.kinds.nexthop import written

_TIMERS = ("idle_timer", "unbalanced_timer")


def lower_nexthops(scope: Scope, space: Space) -> None:
    for index, entry in enumerate(space.section.nexthops):
        at = (*space.loc, "nexthops", index)
        attrs = _group(scope, space, entry, at) if entry.group else _single(scope, space, entry, at)
        ref = Ref("nexthop", space.name, (entry.id,))
        if entry.encap:
            attrs["encap"] = entry.encap.words()
            scope.paths[ref] = path((*at, "encap"))
            if entry.encap.seg6local and attrs["family"] == 4:
                scope.problems.add(
                    (*at, "encap"), "seg6local is for IPv6 routes", "state `family: inet6`, or `via` of IPv6"
                )
        scope.add(Fact(ref, attrs), at, f"nexthop {entry.id}")


def _single(scope: Scope, space: Space, entry: model.NexthopObject, at: Loc) -> dict[str, Any]:
    dev = entry.dev
    if not entry.blackhole:
        dev = Way(scope, space, at).device(entry.via, dev, entry.onlink, at)
        if dev is None and entry.dev is None:
            scope.problems.add((*at, "via"), "the kernel does not look for the interface of a nexthop", "state `dev`")
    six = ":" in (entry.via or "") or entry.family == "inet6"
    return {
        "family": 6 if six else 4, "gateway": entry.via, "dev": dev, "onlink": entry.onlink,
        "blackhole": bool(entry.blackhole), "group": None, "type": None,
    }  # fmt: skip


def _group(scope: Scope, space: Space, entry: model.NexthopObject, at: Loc) -> dict[str, Any]:
    stated = {other.id: other for other in space.section.nexthops}
    for index, member in enumerate(entry.group or ()):
        found, where = stated.get(member.id), (*at, "group", index)
        if found is None and space.made:
            scope.problems.add(where, f"namespace {space.name!r} has no nexthop {member.id}")
        elif found and found.group:
            scope.problems.add(where, f"nexthop {member.id} is a group, and none is within another")
        elif found and found.blackhole and len(entry.group or ()) > 1:
            scope.problems.add(where, f"nexthop {member.id} is a blackhole, which is in a group alone or not at all")
    timers = {name: round(seconds(value) * 100) for name in _TIMERS if (value := getattr(entry, name)) is not None}
    return {
        "family": None, "gateway": None, "dev": None, "onlink": False, "blackhole": False,
        "group": written((member.id, member.weight) for member in entry.group or ()),
        "type": entry.type or "mpath", **({"buckets": entry.buckets} if entry.buckets else {}), **timers,
    }  # fmt: skip
