"""Lowering of the VLANs of bridges: of every port of a bridge that keeps them apart, and of that bridge itself."""

from __future__ import annotations

from typing import Any

from topo.facts import Fact, Ref
from topo.file import model
from topo.file.model.settings import tunnel_numbers, vlan_numbers, vlan_states
from topo.file.scope import Scope
from topo.kinds.bridge_vlan import UNSTATED, ranges, tunnels
from topo.kinds.vlan_state import USUAL


def lower_vlans(scope: Scope) -> None:
    """Add the facts, and an error for each VLAN on what does not heed any."""
    masters = {(ref.ns, *ref.key): fact for ref, fact in scope.facts.items() if ref.kind == "link"}
    for ref, (stated, loc) in scope.vlans.items():
        fact = masters.get((ref.ns, ref.key[0]))
        name = ref.key[0] if len(ref.key) > 1 else fact.attrs.get("master") if fact else None
        bridge = scope.spaces[ref.ns].bridges.get(name or "")
        if bridge is not None and bridge.vlans is False:
            message = f"bridge {bridge.name} does not heed VLANs"
            scope.problems.add((*loc, "vlan"), message, "state `vlan_filtering: true` there")
        scope.facts[ref] = Fact(ref, _attributes(stated))
        states = vlan_states(stated.states or {})
        if states and name and (above := scope.facts.get(Ref("link", ref.ns, (name,)))) and above.attrs.get("stp"):
            message = f"bridge {name} has a spanning tree (`stp`), which decides itself"
            scope.problems.add((*loc, "vlan", "states"), message)
        for vid, state in states.items():
            if state != USUAL:
                one = Ref("vlan_state", ref.ns, (ref.key[0], vid))
                scope.facts[one] = Fact(one, {"state": state})
    for (ns, ifname), link in masters.items():
        bridges = scope.spaces[ns].bridges if ns in scope.spaces else {}
        master = bridges.get(link.attrs.get("master") or "")
        if master is not None and master.vlans:
            _default(scope, Ref("bridge_vlan", ns, (ifname,)), master.name)
        if ifname in bridges and bridges[ifname].vlans:
            _default(scope, Ref("bridge_vlan", ns, (ifname, "self")), ifname)
    for ref in [ref for ref, fact in scope.facts.items() if ref.kind == "bridge_vlan" and fact.attrs == UNSTATED]:
        del scope.facts[ref]


def _attributes(stated: model.PortVlans) -> dict[str, Any]:
    pvid = stated.pvid or 0
    tagged = vlan_numbers(stated.tagged)
    untagged = vlan_numbers(stated.untagged) | ({pvid} - {0} - tagged)
    attrs = {"pvid": pvid, "untagged": ranges(untagged), "tagged": ranges(tagged)}
    return {**attrs, "tunnels": tunnels(tunnel_numbers(stated.tunnels))} if stated.tunnels else attrs


def _default(scope: Scope, ref: Ref, bridge: str) -> None:
    """What the kernel gives one of which nothing is said."""
    if ref not in scope.facts:
        above = scope.facts[Ref("link", ref.ns, (bridge,))].attrs
        pvid = above.get("vlan_default_pvid", 1)
        scope.facts[ref] = Fact(ref, {"pvid": pvid, "untagged": str(pvid or ""), "tagged": ""})
