"""The grammar of a topology file as pydantic models; `Topology` is the whole of it."""

from topo.file.model.interfaces import (
    Bridge,
    BridgeEnd,
    Interface,
    InterfaceEnd,
    Link,
    Peer,
    Port,
    Vxlan,
)
from topo.file.model.rules import (
    Chain,
    Check,
    Dnat,
    Firewall,
    FirewallRule,
    Masquerade,
    Match,
    Nat,
    Neighbour,
    NextHop,
    Publish,
    Route,
    Rule,
    Snat,
)
from topo.file.model.settings import Defaults, PortSettings, Settings
from topo.file.model.topology import Namespace, Section, Source, Topology
from topo.file.model.values import Entry

__all__ = [
    "Bridge",
    "BridgeEnd",
    "Chain",
    "Check",
    "Defaults",
    "Dnat",
    "Entry",
    "Firewall",
    "FirewallRule",
    "Interface",
    "InterfaceEnd",
    "Link",
    "Masquerade",
    "Match",
    "Namespace",
    "Nat",
    "Neighbour",
    "NextHop",
    "Peer",
    "Port",
    "PortSettings",
    "Publish",
    "Route",
    "Rule",
    "Section",
    "Settings",
    "Snat",
    "Source",
    "Topology",
    "Vxlan",
]
