"""Lowering of a VXLAN's peers, and of routes via one gateway."""

from __future__ import annotations

from typing import Any, Final

from topo.facts import OWN, Fact
from topo.file import model
from topo.file.scope import Loc, Scope
from topo.kinds.alike import new_fact, new_ref

ZEROS: Final = "00:00:00:00:00:00"


def lower(scope: Scope, ns: str, name: str, entry: model.Vxlan, loc: Loc) -> None:
    """FDB entries, neighbours and onlink routes towards the peers."""
    scope.count(len(entry.peers), "peers", loc)
    for index, peer in enumerate(entry.peers):
        at = (*loc, "peers", index)
        if isinstance(peer, str):
            address, mac, attrs = peer, None, {"dst": peer}
        else:
            address, mac, attrs = peer.address, peer.mac, _peer_attributes(peer, entry)
        if entry.local == address:
            continue  # one list of peers serves every host: its own entry is for the others
        ref = new_ref(("fdb", ns, (name, ZEROS, address) if mac is None else (name, mac, "")))
        if ref in scope.facts:
            scope.problems.add(at, f"peer {mac or address} is stated twice")
        scope.facts[ref] = new_fact((ref, attrs, OWN))
        if mac is not None and not isinstance(peer, str) and (ip := peer.ip) is not None:
            ref = new_ref(("neighbour", ns, (name, ip)))
            scope.add(new_fact((ref, {"lladdr": mac}, OWN)), (*at, "ip"), ("neighbour {}", ip))
            for subnet in peer.subnets or ():
                scope.add(route_via(ns, subnet, ip, name, True), (*at, "subnets"), ("the route to {}", subnet))


def _peer_attributes(peer: model.Peer, entry: model.Vxlan) -> dict[str, Any]:
    attrs: dict[str, Any] = {"dst": peer.address}
    if peer.vni is not None and peer.vni != entry.id:
        attrs["vni"] = peer.vni
    if peer.port is not None and peer.port != entry.port:
        attrs["port"] = peer.port
    return attrs


def default_route(ns: str, gateway: str, dev: str) -> Fact:
    return route_via(ns, "::/0" if ":" in gateway else "0.0.0.0/0", gateway, dev)


def route_via(ns: str, dst: str, gateway: str, dev: str, onlink: bool = False) -> Fact:
    key = (6, 254, dst, 1024) if ":" in dst else (4, 254, dst, 0)
    attrs = {
        "type": "unicast", "gateway": gateway, "nexthops": None, "onlink": onlink, "src": None, "mtu": None, "dev": dev,
    }  # fmt: skip
    return new_fact((new_ref(("route", ns, key)), attrs, OWN))
