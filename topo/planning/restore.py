"""What is put back: the originals of foreign things, and the kernel's defaults on links of topo's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from topo.changes import CREATE, OWNER, Change
from topo.facts import (
    FOREIGN,
    HOST,
    OF_PORTS,
    OWN,
    STATIC,
    TAGGED,
    Desired,
    Fact,
    Facts,
    Live,
    Ref,
    link,
    links_of,
    namespace,
    parts,
)
from topo.kinds.registry import LINK_KINDS
from topo.planning.compare import stated
from topo.planning.lost import dying
from topo.planning.ownership import Ownership
from topo.planning.underlay import put_back

_DEFAULTS: dict[str, Any] = {"mtu": 1500, "txqueuelen": 1000, "alias": ""}
"""What the kernel gives a link where nothing is stated (ether_setup in net/ethernet/eth.c)."""


def goal(desired: Desired, live: Live, previous: Desired | None, restore: Facts) -> tuple[Facts, frozenset[Ref]]:
    """What is to be reached, and which of it is put back: the desired facts themselves where there is nothing to put back."""
    extra: Facts = {}
    back: set[Ref] = set()
    if previous is not None and previous.facts is not desired.facts:
        extra.update(_dropped(desired, live, previous, restore))
    for ref, original in restore.items():
        if ref.kind in OF_PORTS and not _has_bridge(ref, desired, live, restore):
            continue
        if ref not in desired.facts and (fact := _original(ref, original, desired, live, previous)):
            extra[ref] = fact
            back.add(ref)
    if extra or (previous is not None and previous.facts is not desired.facts):
        extra.update(_followers(desired, live, extra, previous))
    if not extra:
        return desired.facts, frozenset()
    return {**desired.facts, **extra}, frozenset(back)


def _dropped(desired: Desired, live: Live, previous: Desired, restore: Facts) -> Facts:
    """Links with attributes that the last file stated and this one does not."""
    found: Facts = {}
    mtus = _Mtus(desired, live, previous, restore)
    for ref, was in previous.facts.items():
        want = desired.facts.get(ref) if ref[0] == "link" else None
        if want is None or was.attrs.keys() <= want.attrs.keys():
            continue
        have = live.get(ref)
        original = restore.get(ref)
        if have is None or was.attrs.get("kind") != want.attrs.get("kind"):
            continue
        names = was.attrs.keys() - want.attrs.keys()
        if ref in desired.external and original:
            known = original.attrs
        elif "mtu" in names and (mtu := mtus.unstated(want)) is not None:
            known = {**defaults(have), "mtu": mtu}
        else:
            known = defaults(have)
        attrs = {name: known[name] for name in was.attrs if name in names and name in known}
        if attrs:
            found[ref] = Fact(ref, {**want.attrs, **attrs})
    return found


def _followers(desired: Desired, live: Live, extra: Facts, previous: Desired | None) -> Facts:
    """Links of which no MTU is stated and that had to go down with the one that they follow: they come up with it again."""
    found: Facts = {}
    for ref, want in parts(desired.facts).few.items():
        if ref[0] != "link" or "mtu" in want.attrs or ref in extra:
            continue
        kind, have = LINK_KINDS.get(want.attrs.get("kind", "")), live.get(ref)
        below = want.attrs.get(kind.follows) if kind and kind.follows else None
        if not below or have is None or (there := live.get(home := link(*below))) is None:
            continue
        wanted, was = extra.get(home) or desired.facts.get(home), previous.facts.get(home) if previous else None
        low = mtu = there.attrs.get("mtu")
        high = wanted.attrs.get("mtu", mtu) if wanted else mtu
        if high == mtu and was:  # a run that was killed may have raised it already
            low = was.attrs.get("mtu")
        if isinstance(low, int) and isinstance(high, int) and low < high and have.attrs.get("mtu") == low:
            found[ref] = Fact(ref, {**want.attrs, "mtu": high})
    return found


class _Mtus:
    """The MTU that links get or keep, of which some state none any more."""

    def __init__(self, desired: Desired, live: Live, previous: Desired, restore: Facts) -> None:
        self.desired, self.live, self.previous, self.restore = desired, live, previous, restore
        self._ports: dict[Ref, list[Ref]] | None = None

    def unstated(self, fact: Fact) -> int | None:
        """What the kernel gives such a link where none is stated; None where that is not known."""
        kind = LINK_KINDS.get(fact.attrs.get("kind", ""))
        if kind is None:
            return None
        if kind.follows == "ports":
            found = (self.of(port) for port in self._ports_of(fact.ref))
            return min((mtu for mtu in found if mtu is not None), default=kind.mtu)
        below = fact.attrs.get(kind.follows)
        return self.of(link(*below)) if below else kind.mtu

    def of(self, ref: Ref) -> int | None:
        want, have, was = (of.facts.get(ref) for of in (self.desired, self.live, self.previous))
        if want is not None and "mtu" in want.attrs:
            return int(want.attrs["mtu"])
        if want is not None and (have is None or (was is not None and "mtu" in was.attrs)):
            return self.unstated(want)
        return have.attrs.get("mtu") if have is not None else None

    def _ports_of(self, master: Ref) -> list[Ref]:
        """Those of the file, and those of others, which stay."""
        if self._ports is None:
            self._ports = {}
            for ref, fact in self.desired.facts.items():
                if ref.kind == "link" and (name := fact.attrs.get("master")):
                    self._ports.setdefault(link(ref.ns, name), []).append(ref)
        return self._ports.get(master, []) + [ref for ref in self.live.ports(master) if self._stays(ref, master)]

    def _stays(self, port: Ref, master: Ref) -> bool:
        """Whether somebody else's link goes on to be a port, and was one before topo came."""
        have = self.restore.get(port) or self.live.get(port)
        if have is None or have.origin == OWN or port in self.desired.facts:
            return False
        return bool(have.attrs.get("master", master.key[0]) == master.key[0])


def defaults(have: Fact) -> dict[str, Any]:
    """The values that the kernel gives such a link when nothing is stated."""
    kind = LINK_KINDS.get(have.attrs.get("kind", ""))
    known = {name: value for name, value in _DEFAULTS.items() if name in have.attrs}
    if kind is None:
        return known
    known |= {name: getattr(kind, name) for name in ("mtu", "txqueuelen") if name in known}
    known.update((a.name, a.default) for a in kind.data)
    return {**{name: value for name, value in known.items() if value is not None}, **kind.unstated}


def _original(ref: Ref, original: Fact, desired: Desired, live: Live, previous: Desired | None) -> Fact | None:
    """The fact to put back for an original that the file no longer touches; None while it is not its turn."""
    if ref.kind == "sysctl" and ref not in live:  # not read: a sysctl cannot be missing
        return None
    below = links_of(original)
    if any(one in desired.take_over.values() for one in below):
        return None
    around = (*below, ref) if ref.kind == "link" else below
    home = namespace(ref.ns)
    if ref.ns != HOST and (home in live or not around):  # an attached one has no fact once its name is gone
        around = (*around, home)
    if not all(_stays(part, desired, live) for part in around):
        return None
    if ref.kind == "link":
        was = previous.facts.get(ref) if previous else None
        names = was.attrs if was else original.attrs
        attrs = {name: original.attrs[name] for name in names if name in stated(original.attrs)}
        if "_port_of" in original.attrs:  # which tells how it becomes a port of its former master again
            attrs["_port_of"] = original.attrs["_port_of"]
        return Fact(ref, attrs, original.origin)
    if ref.kind == "route" and original.origin == FOREIGN:
        return put_back(original, live)
    return Fact(ref, dict(original.attrs), original.origin)


def _has_bridge(port: Ref, desired: Desired, live: Live, restore: Facts) -> bool:
    """Whether a foreign link is, or will be, a port at all: topo's own bridge may go from under it."""
    (home,) = links_of(Fact(port, {}))
    fact = restore.get(home) or live.get(home)
    master = fact.attrs.get("master") if fact else None
    return bool(master) and _stays(Ref("link", port.ns, (master,)), desired, live)


def _stays(part: Ref, desired: Desired, live: Live) -> bool:
    """Whether a link or namespace is there and will be."""
    have = live.get(part)
    return have is not None and (have.origin != OWN or part in desired.facts)


def originals(changes: Iterable[Change], live: Live, desired: Desired, previous: Desired | None = None) -> Facts:
    """The live facts that `changes` alter and that are not topo's: what the record keeps, to be put back.

    What is adopted is topo's from then on and is not among them; nor is drift on what topo owns.
    """
    owner = Ownership(desired, live, previous, adopt=False)
    changes = tuple(changes)
    gone = dying(changes)  # with all that is in them
    found: Facts = {}
    for change in changes:
        if OWNER in change.attrs:
            continue
        touched = [] if change.live is None or change.action == CREATE else [change.live]
        touched += [fact for ref in change.takes if ref[1] not in gone and (fact := live.get(ref))]
        for fact in touched:
            if fact.ref.ns not in gone and _foreign(fact, owner):
                found.setdefault(fact.ref, fact)
    return found


def _foreign(fact: Fact, owner: Ownership) -> bool:
    kind = fact.ref.kind
    if fact.origin == TAGGED or kind in ("namespace", "nft"):
        return False
    if kind == "link":
        return fact.ref in owner.desired.external or fact.ref in owner.was_external
    if kind == "sysctl":
        return True
    if fact.ref in owner.stated:  # made by topo, or its original is in the record since then
        return False
    return not owner.place(fact) and (
        fact.origin in (STATIC, FOREIGN) or kind in OF_PORTS or kind in ("shaping", "fdb")
    )


def still_needed(restore: Facts, desired: Desired) -> Facts:
    """What of the record's originals `desired` still holds changed: the rest is back, once an apply succeeded."""
    nics = set(desired.take_over.values())
    return {
        ref: fact for ref, fact in restore.items() if ref in desired.facts or any(one in nics for one in links_of(fact))
    }
