"""Every kind that topo knows. A new one is its file and its line here."""

from __future__ import annotations

from typing import Final

from topo.kinds.address import ADDRESS
from topo.kinds.bridge_vlan import BRIDGE_VLAN
from topo.kinds.fdb import FDB
from topo.kinds.inet6 import INET6
from topo.kinds.ingress import INGRESS
from topo.kinds.kind import Kind
from topo.kinds.link import LINK
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.mdb import MDB
from topo.kinds.namespace import NAMESPACE
from topo.kinds.neighbour import NEIGHBOUR
from topo.kinds.nexthop import NEXTHOP
from topo.kinds.nft import NFT
from topo.kinds.port import PORT
from topo.kinds.route import ROUTE
from topo.kinds.rule import RULE
from topo.kinds.shaping import SHAPING
from topo.kinds.shaping_class import SHAPING_CLASS, SHAPING_FILTER
from topo.kinds.sysctl import SYSCTL
from topo.kinds.vlan_state import VLAN_STATE
from topo.kinds.vni import VNI
from topo.kinds.wg import WIREGUARD_DEVICE, WIREGUARD_PEER

KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        *(NAMESPACE, LINK, PORT, BRIDGE_VLAN, ADDRESS, SYSCTL, NEXTHOP, ROUTE, RULE, NEIGHBOUR, FDB, SHAPING, NFT),
        *(SHAPING_CLASS, SHAPING_FILTER, INGRESS, VLAN_STATE, MDB, VNI, INET6, WIREGUARD_DEVICE, WIREGUARD_PEER),
    )
}

__all__ = ["KINDS", "LINK_KINDS"]
