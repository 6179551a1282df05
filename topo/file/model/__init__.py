"""The grammar of a topology file as pydantic models; `Topology` is the whole of it.

A model is imported when it is first asked for: a file uses few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    # an attribute once `rules` is imported: where there are routes or rules
    from topo.file.model import policy as policy
    from topo.file.model.bridges import Bridge, Port
    from topo.file.model.checks import Check
    from topo.file.model.ends import BridgeEnd, InterfaceEnd
    from topo.file.model.firewall import Chain, FirewallRule
    from topo.file.model.interfaces import Interface
    from topo.file.model.links import Link
    from topo.file.model.nat import Dnat, Masquerade, Match, Publish, Snat
    from topo.file.model.nexthops import NexthopObject
    from topo.file.model.rules import Neighbour, NextHop, Route, Rule
    from topo.file.model.sections import Defaults, Firewall, Namespace, Nat, Section
    from topo.file.model.settings import PortSettings, PortVlans, Settings
    from topo.file.model.source import Source
    from topo.file.model.topology import Topology
    from topo.file.model.values import Entry
    from topo.file.model.vxlans import Peer, Vxlan

_MODULES: Final = {
    "bridges": ("Bridge", "Port"),
    "checks": ("Check",),
    "ends": ("BridgeEnd", "InterfaceEnd"),
    "firewall": ("Chain", "FirewallRule"),
    "interfaces": ("Interface",),
    "links": ("Link",),
    "nat": ("Dnat", "Masquerade", "Match", "Publish", "Snat"),
    "nexthops": ("NexthopObject",),
    "rules": ("Neighbour", "NextHop", "Route", "Rule"),
    "sections": ("Defaults", "Firewall", "Namespace", "Nat", "Section"),
    "settings": ("PortSettings", "PortVlans", "Settings"),
    "source": ("Source",),
    "topology": ("Topology",),
    "values": ("Entry",),
    "vxlans": ("Peer", "Vxlan"),
}
_HOMES: Final = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Bridge", "BridgeEnd", "Chain", "Check", "Defaults", "Dnat", "Entry", "Firewall", "FirewallRule", "Interface",
    "InterfaceEnd", "Link", "Masquerade", "Match", "Namespace", "Nat", "Neighbour", "NextHop",
    "NexthopObject", "Peer", "Port",
    "PortSettings", "PortVlans", "Publish", "Route", "Rule", "Section", "Settings", "Snat", "Source", "Topology", "Vxlan",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
