"""veth: a pair of interfaces, what goes into one comes out of the other (veth(4), drivers/net/veth.c).

A pair is two facts. One end leads: its op makes both; the other's op does what the one message could not.
"""

from __future__ import annotations

from typing import Final

from topo.facts import HOST, Fact
from topo.kinds.kind import LinkKind, Pair

VETH_INFO_PEER: Final = 1


def leads(fact: Fact, peer: Fact | None) -> bool:
    """Whether this end of a pair makes both: the one in a bridge, else the one that is first by namespace and name."""
    if peer is None:
        return True
    mine, other = bool(fact.attrs.get("master")), bool(peer.attrs.get("master"))
    return mine if mine != other else fact.ref < peer.ref


def home(fact: Fact) -> str:
    """The namespace whose socket makes the pair: the host's where an end is there, so that a star is one batch."""
    return HOST if HOST in (fact.ref.ns, fact.attrs["peer"][0]) else fact.ref.ns


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    return frozenset({"peer"})


VETH = LinkKind(
    "veth",
    option="CONFIG_VETH",
    replace=replace,
    below="peer",
    home=home,
    one_queue=True,
    pair=Pair(VETH_INFO_PEER),
)
