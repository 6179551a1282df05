"""What the kernel has of WireGuard's interfaces: a dump for each, as `wg showconf` asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from topo.facts import Fact, Facts
from topo.kernel import generic
from topo.kernel.spaces import Space, Spaces
from topo.kinds import wg
from topo.kinds.kind import View

KINDS: Final = frozenset({"wireguard", "wireguard_peer"})


def read(spaces: Spaces, space: Space, view: View, links: Iterable[Fact]) -> Facts:
    """The facts of those of the links that are WireGuard's. Raises KernelError."""
    found: Facts = {}
    for link in links:
        if link.attrs.get("kind") != "wireguard":
            continue
        asked = wg.request(link.attrs["_index"])
        sock = spaces.generic(space.name)
        messages = generic.dump(sock, wg.FAMILY, wg.WG_CMD_GET_DEVICE, wg.VERSION, asked)
        facts = wg.decode(messages, link.ref.key[0], view, link.origin, spaces.keys.known)
        found.update((fact.ref, fact) for fact in facts)
    return found
