"""The underlay: what a bridge takes over from a NIC, what goes back, and the order in which nothing is lost.

Measured with pings every 5 ms and a TCP session (docs/seeds/underlay.md); where a step is out of place, packets are:

- While the NIC becomes a port, or is let go, the kernel drops what comes in; and a strict rp_filter does until the addresses
  have moved. So all of the handover is sent at once, behind everything else, and with a way round (kernel.detour).
- A NIC that is a port still sends; one that is none no longer receives through the bridge. So it is let go last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from topo.changes import CREATE, DELETE, REPLACE, UPDATE, Change, Op
from topo.facts import FOREIGN, OWN, TAGGED, Desired, Fact, Facts, Live, Ref, link, links_of
from topo.kinds.address import FOREVER
from topo.planning.compare import stated

# What is taken over


def take_over(facts: Facts, live: Live, restore: Facts, bridge: Ref, nic: Ref) -> None:
    """Add to `facts` that the bridge has the NIC's MAC, MTU, addresses, neighbours and routes, wherever they are now.

    They are on the NIC before, on the bridge afterwards, in between on either; what is on the bridge counts only if
    topo put it there.
    """
    have = live.get(nic)
    if have is None or bridge not in facts:
        return
    inherited: dict[str, Any] = {name: have.attrs[name] for name in ("mac", "mtu") if name in have.attrs}
    facts[bridge] = facts[bridge]._replace(attrs={**inherited, **facts[bridge].attrs})
    for fact in _taken(live, restore, bridge, nic):
        if moved := _moved(fact, bridge, nic):
            facts.setdefault(moved.ref, moved)


def _taken(live: Live, restore: Facts, bridge: Ref, nic: Ref) -> Iterator[Fact]:
    yield from live.on(nic)
    for fact in restore.values():
        # Routes of daemons are moved once; from then on they are the daemons' own affair again.
        if nic in links_of(fact) and not (fact.ref.kind == "route" and fact.origin == FOREIGN):
            yield fact
    owner = live.get(bridge)
    if owner is not None and owner.origin == OWN and live.facts[nic].attrs.get("master") == bridge.key[0]:
        yield from (fact for fact in live.on(bridge) if fact.origin == TAGGED)


def _moved(fact: Fact, bridge: Ref, nic: Ref) -> Fact | None:
    """The same on the bridge; None for what stays with the NIC."""
    (kind, ns, key), ifname = fact.ref, bridge.key[0]
    if kind == "address" and moves(fact):
        attrs = {name: fact.attrs[name] for name in _KEPT_OF_ADDRESS if name in fact.attrs}
        return Fact(Ref(kind, ns, (ifname, *key[1:])), {**attrs, **({"nodad": True} if ":" in key[1] else {})})
    if kind == "neighbour" and moves(fact):
        return Fact(Ref(kind, ns, (ifname, *key[1:])), {"lladdr": fact.attrs["lladdr"]})
    if kind == "route" and not fact.attrs.get("nhid"):  # the way of such a one is its nexthop's
        attrs = {**stated(fact.attrs), **_way(fact, nic.key[0], ifname)}
        if fact.origin == FOREIGN:
            attrs["_protocol"] = fact.attrs["_protocol"]
        return Fact(fact.ref, attrs)
    return None


_KEPT_OF_ADDRESS = ("_peer", "_broadcast", "_scope", "_priority")


def _way(route: Fact, old: str, new: str) -> dict[str, Any]:
    """Where a route leads, with one device in the place of another."""
    hops = route.attrs.get("nexthops")
    return {
        "dev": new if route.attrs.get("dev") == old else route.attrs.get("dev"),
        "nexthops": hops and tuple((gateway, new if dev == old else dev, *rest) for gateway, dev, *rest in hops),
    }


def moves(have: Fact) -> bool:
    """Whether an address or neighbour of a NIC goes to the bridge: not what the kernel or a daemon will make there."""
    if have.ref.kind == "neighbour":
        return have.origin != FOREIGN
    return have.ref.kind == "address" and not (have.origin == FOREIGN and str(have.ref.key[1]).startswith("fe80:"))


def put_back(original: Fact, live: Live) -> Fact | None:
    """A daemon's route to put back: as the daemon has it by now, out of the device that it led out of; None where the
    daemon has withdrawn it."""
    have = live.get(original.ref)
    if have is None:
        return None
    where = {name: original.attrs.get(name) for name in ("dev", "nexthops")}
    return Fact(original.ref, {**have.attrs, **where}, original.origin)


def warnings(desired: Desired, live: Live) -> Iterator[str]:
    """What somebody else looks after, and will go on to look after on the NIC."""
    for bridge, nic in desired.take_over.items():
        daemons: dict[int, int] = {}
        for fact in live.on(nic):
            if fact.ref.kind == "address" and moves(fact) and fact.attrs.get("_lifetime", (0, FOREVER))[1] != FOREVER:
                by = "router advertisements or DHCPv6" if ":" in fact.ref.key[1] else "DHCP"
                yield (
                    f"{fact.ref} is leased for another {fact.attrs['_lifetime'][1]:,} s ({by}); on {bridge} it stays for "
                    f"good: have the client look after {bridge} instead of {nic}, or give the host a fixed address"
                )
            elif fact.ref.kind == "route" and fact.origin == FOREIGN:
                protocol = fact.attrs.get("_protocol", 0)
                daemons[protocol] = daemons.get(protocol, 0) + 1
        for protocol, number in daemons.items():
            routes = f"{number} routes" if number > 1 else "a route"
            yield (
                f"{routes} of another program (protocol {protocol}) out of {nic} will lead out of {bridge}: have that "
                f"program look after {bridge}"
            )


# The handover


class Handover(NamedTuple):
    """Addresses that move between a bridge and a NIC that becomes its port (`taking`), or is one no longer."""

    bridge: Ref
    nic: Ref
    taking: bool


def handovers(changes: Sequence[Change], live: Live) -> list[Handover]:
    """Those that these changes are: addresses of others that leave a NIC for its bridge, or come back to it."""
    mine = (OWN, TAGGED)
    moved = [c for c in changes if c.ref[0] == "address"]
    taken = {c.ref for c in moved if c.action == DELETE and c.live and c.live.origin not in mine}
    given = {c.ref for c in moved if c.action == CREATE and c.desired and c.desired.origin not in mine}
    if not taken and not given:
        return []
    made = {c.ref for c in moved if c.action == CREATE}
    found: dict[Handover, None] = {}
    for change in changes:
        for nic, bridge, taking in _ways(change.ref, change, live) if change.ref.kind == "link" else ():
            there = made if taking else {fact.ref for fact in live.on(bridge)}
            if any(_moved_to(ref, bridge) in there for ref in (taken if taking else given) if ref.key[0] == nic.key[0]):
                found[Handover(bridge, nic, taking)] = None
    return list(found)


def _moved_to(address: Ref, link: Ref) -> Ref:
    return Ref("address", link.ns, (link.key[0], *address.key[1:]))


def _is_address(what: Fact | Change) -> bool:
    return what.ref.kind == "address"


def _ways(ref: Ref, change: Change, live: Live) -> Iterable[tuple[Ref, Ref, bool]]:
    """(NIC, bridge, taking) of a link that changes: one that gets or loses its master, or the master that goes."""
    was = change.live.attrs.get("master") if change.live else None
    now = change.desired.attrs.get("master", was) if change.desired else None
    if change.live is not None and change.desired is not None and was != now:
        if now:
            yield ref, link(ref.ns, now), True
        if was:
            yield ref, link(ref.ns, was), False
    if change.action in (DELETE, REPLACE):
        yield from ((port, ref, False) for port in live.ports(ref))


Steps = list[list[int]]
"""The ops of a handover, by their places among all: groups that come one after the other."""


def step_by_step(ops: Sequence[Op], handover: Handover, live: Live) -> Iterator[Op]:
    """The ops, and what giving back needs beside: the NIC is let go by itself, and the addresses leave the bridge before it
    is deleted."""
    bridge, nic, taking = handover
    if taking:
        yield from ops
        return
    have = live.facts[nic]
    going = set()
    for op in ops:
        going |= {op.ref} if op.verb == DELETE else set()
        if op.ref == nic and op.verb == UPDATE and "master" in op.attrs:
            if rest := tuple(name for name in op.attrs if name != "master"):
                yield op._replace(attrs=rest)
        else:
            yield op
    back = {
        op.ref.key[1] for op in ops if op.verb == CREATE and op.ref.kind == "address" and op.ref.key[0] == nic.key[0]
    }
    for fact in live.on(bridge):
        if _is_address(fact) and fact.ref.key[1] in back and fact.ref not in going:
            yield Op(DELETE, fact.ref, None, fact)
    yield Op(UPDATE, nic, _with(have, master=None), have, ("master",))


def _with(fact: Fact, **attrs: Any) -> Fact:
    return fact._replace(attrs={**fact.attrs, **attrs})


def steps(ops: Sequence[Op], handover: Handover) -> Steps:
    """Taken, the NIC becomes a port; the addresses and neighbours are made in their new place; the routes follow; the
    addresses leave their old place; given back, the NIC is let go."""
    bridge, nic, taking = handover
    source, target = (nic, bridge) if taking else (bridge, nic)
    port, made, routes, gone = Steps(([], [], [], []))
    for i, op in enumerate(ops):
        there = links_of(op.new) if op.new else ()
        if op.ref.kind in ("address", "neighbour"):
            if op.verb == CREATE and target in there:
                made.append(i)
            elif op.verb == DELETE and op.old and source in links_of(op.old):
                gone.append(i)
        elif op.ref.kind == "route" and op.old and target in there and source in links_of(op.old):
            routes.append(i)
        elif op.ref == nic and op.verb == UPDATE and "master" in op.attrs:
            port.append(i)
    return [port, made, routes, gone] if taking else [made, routes, gone, port]
