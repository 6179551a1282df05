"""Lowering of the entries of `interfaces`: whatever has no section of its own."""

from __future__ import annotations

from typing import Any

from topo.facts import Fact, Ref
from topo.file.devices import Common, claim
from topo.file.scope import Loc, Master, Scope, Space, path
from topo.kinds.link_kinds import LINK_KINDS


def lower_interface(scope: Scope, space: Space, name: str, entry: Any, loc: Loc) -> None:
    ref = Ref("link", space.name, (name,))
    made = entry.kind != "existing"
    common = Common(scope, entry, loc, made=made)
    scope.paths[ref] = path(loc)
    if made:
        attrs = {"kind": entry.kind, "master": None, **common.attrs, **entry.attributes(space.name)}
    else:
        attrs = common.attrs
        scope.external.add(ref)
        if space.made and name != "lo":
            scope.problems.add(loc, f"namespace {space.name!r} is new: there is no {name!r} in it yet, only lo")
    below = LINK_KINDS[entry.kind].below
    if below in attrs:
        parent_ns, parent = attrs[below]
        above = scope.space(parent_ns, (*loc, "parent"))
        if above is None:
            return
        attrs[below] = (above.name, parent)
        scope.below[ref] = (Ref("link", above.name, (parent,)), (*loc, "parent"))
    master = Master(name, space, loc, entry.kind)
    for index, port in enumerate(getattr(entry, "ports", ())):
        claim(scope, Ref("link", space.name, (port,)), master, (*loc, "ports", index))
    scope.facts[ref] = Fact(ref, attrs)
    addresses = list(entry.addresses or ())
    space.own += [(name, text) for text in addresses]
    common.settle(scope, space, name, addresses, None)
