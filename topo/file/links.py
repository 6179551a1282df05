"""Lowering of `links`: ranges, names of ends, ports of bridges, addresses from subnets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

from topo.facts import HOST, OWN
from topo.file import addressing, model, ranges
from topo.file.devices import Common, add_port, find_bridge, once, plugged
from topo.file.model.values import end_name
from topo.file.scope import Bridge, Loc, Scope, Space, shown
from topo.file.subnets import make_pool
from topo.kinds.alike import new_fact, new_ref
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.words import interface_name

_POINT_TO_POINT: Final = {32: 31, 128: 127}  # RFC 3021, RFC 6164


class End:
    """One end of one veth pair."""

    __slots__ = ("bridge", "ifname", "side", "space")

    def __init__(self, side: Side, space: Space, ifname: str, bridge: Bridge | None) -> None:
        self.side, self.space, self.ifname, self.bridge = side, space, ifname, bridge

    def name(self) -> str:
        """What tells this end from every other of the file, where it has a name or is a bridge's only one."""
        own = self.ifname or (self.bridge.name if self.bridge else "")
        return f"{self.space.name}:{own}"


class Side:
    """One entry of `ends`, its range expanded."""

    __slots__ = ("cannot", "common", "is_bridge", "loc", "made", "names", "ranged", "settings", "texts")

    def __init__(self, scope: Scope, link: model.Link, index: int, loc: Loc) -> None:
        end = link.ends[index]
        self.loc = loc
        self.settings = None if isinstance(end, str) else end
        self.is_bridge = False
        self.names: list[str] | None = None
        if isinstance(end, str):
            text = end
        elif isinstance(end, model.BridgeEnd):
            self.is_bridge = True
            text = end.bridge
            if end.name is not None:
                self.names = scope.names(end.name, (*loc, "name"), interface_name)
        else:
            text = end.interface
        self.ranged = ranges.is_range(text) or (self.names is not None and ranges.is_range(str(end.name)))  # type: ignore[union-attr]
        self.texts = scope.names(text, loc, end_name)
        if self.names is not None and len(self.texts) == 1:
            self.texts *= len(self.names)
        elif self.names and len(self.names) not in (1, len(self.texts)):
            message = f"a range of {len(self.names)} names for a range of {len(self.texts)} ends: both need one length"
            scope.problems.add((*loc, "name"), message)
            self.texts = []
        self.cannot: Mapping[str, str] = {}
        self.made: dict[str, Any] = {"kind": "veth"} if link.kind is None else self._made(scope, link)
        self.common = Common(scope, self.settings, loc, link=link, mtu="mtu" not in self.cannot)

    def _made(self, scope: Scope, link: model.Link) -> dict[str, Any]:
        """What kind of pair it is, and what is that kind's own."""
        kind = link.kind or "veth"
        pair = LINK_KINDS[kind].pair
        self.cannot = pair.cannot if pair else {}
        for name, why in self.cannot.items():
            if name != "bridge" and any(getattr(layer, name, None) is not None for layer in (self.settings, link)):
                scope.problems.add(self.loc, f"a {kind} takes no `{name}`: {why}")
        own = (("mode", link.mode), ("policy", link.policy))
        return {"kind": kind, **{name: value for name, value in own if value is not None}}

    def end(self, scope: Scope, index: int) -> End | None:
        """The end at `index` of the range; None (and an error) where there is no such thing."""
        text = self.texts[index if len(self.texts) > 1 else 0]
        ns, _, name = text.rpartition(":")
        space = scope.space(ns or HOST, self.loc)
        if space is None:
            return None
        bridge = space.bridges.get(name)
        if self.is_bridge:
            bridge = find_bridge(scope, space, name, (*self.loc, "bridge"))
            if bridge is None:
                return None
            names = self.names or [""]
            return End(self, space, names[index if len(names) > 1 else 0], bridge)
        if bridge is None:
            if not ns and name in scope.bridge_names and self.settings is None:
                find_bridge(scope, space, name, self.loc)  # says where it is
                return None
            if not ns and self.settings is None and (meant := _meant(name, space.bridges)):
                cure = f"if it is to be an interface of the host, write `{{interface: {name}}}`"
                scope.problems.add(self.loc, f"there is no bridge {name!r}; is {meant!r} meant?", cure)
                return None
            return End(self, space, name, None)
        if self.settings is not None:
            scope.problems.add(self.loc, f"{name!r} is a bridge", f"write `bridge: {text}` for a port of it")
            return None
        return End(self, space, "", bridge)


def _meant(name: str, bridges: Iterable[str]) -> str:
    """The bridge of which `name` differs in a single letter: more likely a slip than an interface of the host."""
    for bridge in bridges:
        short, long = sorted((name, bridge), key=len)
        if len(short) == len(long) > 2 and sum(a != b for a, b in zip(short, long, strict=True)) == 1:
            return bridge
        if (
            len(long) - len(short) == 1
            and short[-1:].isalpha()
            and any(long[:i] + long[i + 1 :] == short for i in range(len(long)))
        ):
            return bridge
    return ""


def lower_links(scope: Scope) -> None:
    scope.bridge_names = {name for space in scope.spaces.values() for name in space.bridges}
    pools: dict[str, addressing.Pool | None] = {}
    for index, link in enumerate(scope.topology.links):
        loc: Loc = ("links", index)
        sides = [Side(scope, link, i, (*loc, "ends", i)) for i in (0, 1)]
        number = max(len(side.texts) for side in sides)
        if not all(side.texts for side in sides):
            continue
        scope.count(number, "links", loc)
        if any(len(side.texts) not in (1, number) for side in sides):
            lengths = " and ".join(str(len(side.texts)) for side in sides)
            scope.problems.add(
                loc, f"the ends are ranges of {lengths}; they are paired in order, so both need one length"
            )
            continue
        if number > 1 and _one_for_all(scope, sides, loc):
            continue
        subnets = _pools(scope, link, pools, loc)
        for i in range(number):
            a, b = sides[0].end(scope, i), sides[1].end(scope, i)
            if a is not None and b is not None:
                _pair(scope, link, a, b, subnets, loc)


def _one_for_all(scope: Scope, sides: list[Side], loc: Loc) -> bool:
    """See that what stands once opposite a range is a bridge: an interface can be the end of one link only."""
    for side in sides:
        if len(side.texts) == 1 and not side.is_bridge and (end := side.end(scope, 0)) and end.bridge is None:
            scope.problems.add(side.loc, f"{side.texts[0]} is one interface, but the other end is a range of several")
            return True
    return False


def _pools(scope: Scope, link: model.Link, pools: dict[str, addressing.Pool | None], loc: Loc) -> list[addressing.Pool]:
    """The pools of a link's `subnet`. Links with the same subnet share a pool."""
    for index, subnet in enumerate(link.subnet or ()):
        if subnet not in pools:
            pools[subnet] = make_pool(scope, subnet, (*loc, "subnet", index))
    return [pool for subnet in link.subnet or () if (pool := pools[subnet])]


def _pair(scope: Scope, link: model.Link, a: End, b: End, subnets: list[addressing.Pool], loc: Loc) -> None:
    if not a.ifname:
        a.ifname = derived(scope.topology.topology, b.name(), a.name() if not b.ifname else "")
    if not b.ifname:
        b.ifname = derived(scope.topology.topology, a.name(), "")
    named = (a, b) if a.bridge is None else (b, a)  # a name that is derived clashes only where the other one does
    if not all(scope.declare(end.space, end.ifname, end.side.loc) for end in named):
        return
    _end(scope, a, b)
    _end(scope, b, a)
    taken = _from_subnets(scope, link, a, b, subnets, loc)
    a_addresses, b_addresses = _addresses(scope, a, b, taken[0], loc), _addresses(scope, b, a, taken[1], loc)
    a.side.common.settle(scope, a.space, a.ifname, a_addresses, b.bridge)
    b.side.common.settle(scope, b.space, b.ifname, b_addresses, a.bridge)
    if a.bridge is None and b.bridge is None and a.side.common.addresses and b.side.common.addresses:
        for text in {t.partition("/")[0] for t in a_addresses} & {t.partition("/")[0] for t in b_addresses}:
            scope.problems.add(loc, f"both ends have the address {text}")


def derived(topology: str, other: str, own: str) -> str:
    """The name of an end that states none: stable, and of eleven bytes whatever the names it is made of."""
    return "v" + blake2b(f"{topology}\0{other}\0{own}".encode(), digest_size=5).hexdigest()


def _end(scope: Scope, end: End, other: End) -> None:
    """The link fact of one end, and its port."""
    ref = new_ref(("link", end.space.name, (end.ifname,)))
    bridge = end.bridge
    if bridge is not None and (why := end.side.cannot.get("bridge")):
        scope.problems.add(end.side.loc, f"a {end.side.made['kind']} is no port of {bridge.name}: {why}")
    if bridge is None and other.bridge is not None and "mac" in end.side.common.attrs:
        once(scope, other.bridge, end.side.common.attrs["mac"], end.side.loc)
    attrs: dict[str, Any] = {
        **end.side.made,
        "master": bridge.name if bridge else None,
        **end.side.common.attrs,
        "peer": (other.space.name, other.ifname),
    }
    scope.facts[ref] = new_fact((ref, attrs, OWN))
    if bridge is not None:
        plugged(scope, bridge, end.side.loc)
        settings = end.side.settings
        if settings is not None and isinstance(settings, model.BridgeEnd):
            add_port(scope, end.space, end.ifname, settings, end.side.loc)


def _from_subnets(
    scope: Scope, link: model.Link, a: End, b: End, subnets: list[addressing.Pool], loc: Loc
) -> tuple[list[str], list[str]]:
    """What the two ends take from the link's `subnet`: each link of a range a small subnet of its own."""
    found: tuple[list[str], list[str]] = ([], [])
    carved = (link.prefix is not None or a.side.ranged or b.side.ranged) and not a.bridge and not b.bridge
    for pool in subnets:
        try:
            source = pool.take_subnet(_length(link.prefix, pool.bits, subnets)) if carved else pool
            for end, texts in ((a, found[0]), (b, found[1])):
                if end.bridge is None and end.side.common.addresses is None:
                    texts.append(source.take())
        except ValueError as error:
            scope.problems.add((*loc, "subnet"), str(error))
    return found


def _length(prefix: int | None, bits: int, subnets: list[addressing.Pool]) -> int:
    """The length of the prefix that each link takes. With both families `prefix` is IPv4's, IPv6 has as many host bits."""
    if prefix is None:
        return _POINT_TO_POINT[bits]
    return prefix + 96 if bits == 128 and len(subnets) > 1 else prefix


def _addresses(scope: Scope, end: End, other: End, taken: list[str], loc: Loc) -> list[str]:
    """The addresses of an end: stated, from the link's subnet, or from the bridge on the other side."""
    stated = end.side.common.addresses
    addresses = taken if stated is None else stated
    bridge = other.bridge
    if bridge is not None and bridge.pools and end.bridge is None and stated is None and not taken:
        addresses = _from_bridge(scope, end, bridge)
    if addresses:
        end.space.linked.extend([(end.ifname, text) for text in addresses])
    return addresses


def _from_bridge(scope: Scope, end: End, bridge: Bridge) -> list[str]:
    """The next address of each of the bridge's pools, and default routes via the bridge unless told otherwise."""
    if bridge.used_up:
        return []
    try:
        addresses = [pool.take() for pool in bridge.pools]
    except ValueError as error:
        bridge.used_up = True
        where = shown(bridge.space, bridge.name)
        scope.problems.add(
            end.side.loc, f"no address left for {shown(end.space, end.ifname)} on bridge {where}: {error}"
        )
        return []
    if end.side.common.gateway is None and end.space.name != HOST and end.space is not bridge.space:
        scope.default_routes += [(end.space, gateway, end.ifname) for gateway in bridge.gateways]
    return addresses
