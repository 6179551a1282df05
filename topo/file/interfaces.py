"""Lowering of the entries of `interfaces`: whatever has no section of its own."""

from __future__ import annotations

from typing import Any

from topo.facts import Fact, Ref
from topo.file.devices import Common, claim
from topo.file.scope import Loc, Master, Scope, Space, path
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.secret import Source


def lower_interface(scope: Scope, space: Space, name: str, entry: Any, loc: Loc) -> None:
    ref = Ref("link", space.name, (name,))
    made = entry.kind != "existing"
    common = Common(scope, entry, loc, made=made, mtu="mtu" not in entry.cannot)
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
    for name_ in LINK_KINDS[entry.kind].over:
        scope.named.append((space, attrs[name_][1], (*loc, name_)))
    master = Master(name, space, loc, entry.kind)
    for index, port in enumerate(getattr(entry, "ports", ())):
        claim(scope, Ref("link", space.name, (port,)), master, (*loc, "ports", index))
    scope.facts[ref] = Fact(ref, attrs)
    for fact, place in entry.beside(space.name, name):
        scope.facts[fact.ref] = fact
        scope.paths[fact.ref] = path((*loc, *place))
        if any(isinstance(value, Source) for value in fact.attrs.values()):
            scope.secret.add(fact.ref)
    addresses = list(entry.addresses or ())
    space.own += [(name, text) for text in addresses]
    common.settle(scope, space, name, addresses, None)
