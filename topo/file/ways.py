"""Where something leads: the interface that reaches a gateway."""

from __future__ import annotations

from topo.facts import Ref
from topo.file.addressing import parse_address, parse_prefix
from topo.file.scope import Loc, Scope, Space


def outgoing(space: Space, address: str) -> str | None:
    """The interface of the namespace with the longest prefix that holds `address`; None where there is none."""
    number, bits = parse_address(address)
    best, found = -1, None
    for ifname, (base, length, width) in space.spans():
        if width == bits and length > best and (base ^ number) >> (bits - length) == 0:
            best, found = length, ifname
    return found


class Way:
    """Something that leads out of an interface, maybe to a gateway."""

    def __init__(self, scope: Scope, space: Space, loc: Loc) -> None:
        self.scope, self.space, self.loc = scope, space, loc

    def device(self, via: str | None, dev: str | None, onlink: bool, loc: Loc) -> str | None:
        """The interface of a route; None where the kernel is to find it (or there is an error)."""
        scope, space = self.scope, self.space
        if dev is not None and not scope.device(space, dev, (*loc, "dev")):
            return None
        if via is None or onlink:
            return dev
        number, bits = parse_address(via)
        if bits == 128 and number >> 118 == 0x3FA:  # link-local, fe80::/10
            if dev is None:
                scope.problems.add((*loc, "via"), f"{via} is link-local: `dev` says on which interface")
            return dev
        own = {text.partition("/")[0] for _, text in space.addresses()}
        if via in own:
            scope.problems.add((*loc, "via"), f"{via} is an address of namespace {space.name!r} itself, no gateway")
            return dev
        found = self.on_link(via, dev)
        if found is None and self.closed(dev):
            where = f"{dev} of " if dev else ""
            scope.problems.add(
                (*loc, "via"),
                f"no address of {where}namespace {space.name!r} reaches the gateway {via}",
                "or state `onlink: true`",
            )
        return dev or found

    def closed(self, dev: str | None) -> bool:
        """Whether the file knows every address there is: on `dev`, or in the whole namespace."""
        if dev is not None and Ref("link", self.space.name, (dev,)) in self.scope.external:
            return False
        return dev is not None or self.space.made

    def on_link(self, via: str, dev: str | None) -> str | None:
        """The interface on which `via` is, by an address or by another route that needs no gateway."""
        number, bits = parse_address(via)
        for ifname, (base, length, width) in self.space.spans():
            if width == bits and dev in (None, ifname) and (base ^ number) >> (bits - length) == 0:
                return ifname if dev else outgoing(self.space, via)
        for other in self.space.section.routes:
            if other.via is None and other.dev is not None and dev in (None, other.dev) and other.to != "default":
                base, length, width = parse_prefix(other.to)
                if width == bits and (base ^ number) >> (bits - length) == 0:
                    return other.dev
        return None
