"""What only the live state can tell: the MTU of an underlay, and what a bridge takes over from a NIC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from topo.facts import OWN, TAGGED, Desired, Fact, Facts, Live, Ref, link
from topo.planning.compare import stated

_ETHERNET_MTU: Final = 1500


def resolve(desired: Desired, live: Live, restore: Facts | None = None) -> Desired:
    """`desired`, completed; itself where there is nothing to complete.

    `restore`: the record's originals, by which what a NIC had is known after a bridge has taken it over.
    """
    if not desired.take_over and not desired.underlay_mtu:
        return desired
    facts = dict(desired.facts)
    for bridge, nic in desired.take_over.items():
        _take_over(facts, desired, live, restore or {}, bridge, nic)
    mtus = _Mtus(facts, live, desired.underlay_mtu)
    for ref in desired.underlay_mtu:
        if ref in facts and (mtu := mtus.of(ref)) is not None:
            facts[ref] = _with(facts[ref], {"mtu": mtu})
    return desired._replace(facts=facts)


def _with(fact: Fact, attrs: Mapping[str, Any]) -> Fact:
    return fact._replace(attrs={**fact.attrs, **attrs})


def _take_over(facts: Facts, desired: Desired, live: Live, restore: Facts, bridge: Ref, nic: Ref) -> None:
    """The bridge has the NIC's MAC, MTU, addresses and gateway routes, wherever they are now.

    They are on the NIC before, on the bridge afterwards, in between on either; an address that is on
    the bridge counts only if topo put it there.
    """
    have = live.get(nic)
    if have is None or bridge not in facts:
        return
    inherited: dict[str, Any] = {name: have.attrs[name] for name in ("mac", "mtu") if name in have.attrs}
    facts[bridge] = facts[bridge]._replace(attrs={**inherited, **facts[bridge].attrs})
    for fact in _taken(live, restore, bridge, nic):
        ref, attrs = fact.ref, stated(fact.attrs)
        if ref.kind == "address" and not ref.key[1].startswith("fe80:"):
            nodad = {"nodad": True} if ":" in ref.key[1] else {}
            mine = Ref("address", bridge.ns, (bridge.key[0], ref.key[1]))
            facts.setdefault(mine, Fact(mine, nodad))
        elif ref.kind == "route" and attrs.get("gateway") and attrs.get("dev"):
            facts.setdefault(ref, Fact(ref, {**attrs, "dev": bridge.key[0]}))


def _taken(live: Live, restore: Facts, bridge: Ref, nic: Ref) -> Iterator[Fact]:
    yield from live.on(nic)
    for fact in restore.values():
        if fact.ref.ns != nic.ns:
            continue
        if (fact.ref.kind == "address" and fact.ref.key[0] == nic.key[0]) or fact.attrs.get("dev") == nic.key[0]:
            yield fact
    owner = live.get(bridge)
    if owner is not None and owner.origin == OWN and live.facts[nic].attrs.get("master") == bridge.key[0]:
        yield from (fact for fact in live.on(bridge) if fact.origin == TAGGED)


class _Mtus:
    """The MTU that links have, or will have."""

    def __init__(self, facts: Facts, live: Live, less: Mapping[Ref, int]) -> None:
        self.facts, self.live, self.less = facts, live, less
        self.known: dict[Ref, int | None] = {}
        self.homes: dict[tuple[str, str], Ref] | None = None

    def of(self, ref: Ref) -> int | None:
        """The MTU of a link; None for a vxlan whose underlay cannot be told."""
        if ref in self.known:
            return self.known[ref]
        self.known[ref] = None  # an underlay that is a ring has no MTU to tell
        self.known[ref] = mtu = self._of(ref)
        return mtu

    def _of(self, ref: Ref) -> int | None:
        want, have = self.facts.get(ref), self.live.get(ref)
        if want is not None and "mtu" in want.attrs:
            return int(want.attrs["mtu"])
        if ref in self.less and want is not None:
            below = self._underlay(want)
            mtu = self.of(below) if below else None
            return mtu - self.less[ref] if mtu is not None else None
        if have is not None and isinstance(have.attrs.get("mtu"), int):
            return int(have.attrs["mtu"])
        return _ETHERNET_MTU

    def _underlay(self, vxlan: Fact) -> Ref | None:
        """The device below: the one that is stated, or the one that has the local address."""
        if dev := vxlan.attrs.get("dev"):
            return link(*dev)
        if self.homes is None:
            self.homes = {}
            for facts in (self.facts, self.live.facts):
                for ref in facts:
                    if ref.kind == "address":
                        ip = ref.key[1].partition("/")[0]
                        self.homes.setdefault((ref.ns, ip), link(ref.ns, ref.key[0]))
        home = vxlan.attrs.get("created_in") or vxlan.ref.ns
        return self.homes.get((home, vxlan.attrs.get("local") or ""))
