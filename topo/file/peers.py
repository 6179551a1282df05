"""Lowering of a VXLAN's peers, and of routes via one gateway."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from topo.facts import OWN, Fact, Ref
from topo.file import model
from topo.file.scope import Loc, Scope
from topo.kinds.alike import new_fact, new_ref
from topo.kinds.fdb import in_vni

ZEROS: Final = "00:00:00:00:00:00"


def lower(scope: Scope, ns: str, name: str, entry: model.Vxlan, loc: Loc) -> None:
    """FDB entries, neighbours and onlink routes towards the peers."""
    scope.count(len(entry.peers), "peers", loc)
    scope.listed.append(partial(_places, ns, name, entry, loc))
    facts, put = scope.facts, scope.facts.setdefault
    for index, peer in enumerate(entry.peers):
        if isinstance(peer, str):
            address, mac, attrs = peer, None, {"dst": peer}
        else:
            address, mac, attrs = peer.address, peer.mac, _peer_attributes(peer, entry)
        if entry.local == address:
            continue  # one list of peers serves every host: its own entry is for the others
        key: tuple[str, ...] = (name, ZEROS, address) if mac is None else (name, mac, "")
        if entry.vnis is not None and not isinstance(peer, str):
            key += (in_vni(peer.vni),)
        ref = new_ref(("fdb", ns, key))
        fact = new_fact((ref, attrs, OWN))
        if put(ref, fact) is not fact:
            scope.problems.add((*loc, "peers", index), f"peer {mac or address} is stated twice")
            facts[ref] = fact
        if mac is not None and not isinstance(peer, str) and (ip := peer.ip) is not None:
            ref = new_ref(("neighbour", ns, (name, ip)))
            fact = new_fact((ref, {"lladdr": mac}, OWN))
            if put(ref, fact) is not fact:
                scope.add(fact, (*loc, "peers", index, "ip"), f"neighbour {ip}")
            for subnet in peer.subnets or ():
                fact = route_via(ns, subnet, ip, name, True)
                if put(fact[0], fact) is not fact:
                    scope.add(fact, (*loc, "peers", index, "subnets"), f"the route to {subnet}")


def _places(ns: str, name: str, entry: model.Vxlan, loc: Loc) -> Iterator[tuple[Ref, Loc]]:
    """Where the neighbours and routes are stated: worked out where one of them is there twice, as there are thousands."""
    for index, peer in enumerate(entry.peers):
        if not isinstance(peer, str) and (ip := peer.ip) is not None and peer.address != entry.local:
            yield Ref("neighbour", ns, (name, ip)), (*loc, "peers", index, "ip")
            for subnet in peer.subnets or ():
                yield route_via(ns, subnet, ip, name, True).ref, (*loc, "peers", index, "subnets")


def _peer_attributes(peer: model.Peer, entry: model.Vxlan) -> dict[str, Any]:
    attrs: dict[str, Any] = {"dst": peer.address}
    if peer.vni is not None and peer.vni != entry.id and entry.vnis is None:
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
