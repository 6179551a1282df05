"""What only the live state can tell: the MTU of an underlay, and what a bridge takes over from a NIC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from topo.facts import Desired, Fact, Facts, Live, Ref, altered, link
from topo.planning.underlay import take_over

_ETHERNET_MTU: Final = 1500


def resolve(desired: Desired, live: Live, restore: Facts | None = None) -> Desired:
    """`desired`, completed; itself where there is nothing to complete.

    `restore`: the record's originals, by which what a NIC had is known after a bridge has taken it over.
    """
    if not desired.take_over and not desired.underlay_mtu:
        return desired
    facts = desired.facts
    if desired.take_over:
        facts = dict(facts)
        for bridge, nic in desired.take_over.items():
            take_over(facts, live, restore or {}, bridge, nic)
    mtus, links = _Mtus(facts, live, desired.underlay_mtu), {}
    for ref in desired.underlay_mtu:
        if ref in facts and (mtu := mtus.of(ref)) is not None:
            links[ref] = _with(facts[ref], {"mtu": mtu})
    return desired._replace(facts=altered(facts, links))


def _with(fact: Fact, attrs: Mapping[str, Any]) -> Fact:
    return fact._replace(attrs={**fact.attrs, **attrs})


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
