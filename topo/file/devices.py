"""Lowering of what stands on its own: bridges, VXLANs, the entries of `interfaces`; and the settings of every interface."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from topo.facts import OWN, Fact, Ref
from topo.file import addressing, model, peers, sysctls
from topo.file.model.values import seconds, sysctl_text
from topo.file.scope import Bridge, Loc, Master, Scope, Space, elsewhere, nearest, path, shown
from topo.file.subnets import make_pool
from topo.kinds import mdb
from topo.kinds import port as port_kind
from topo.kinds.alike import new_fact, new_ref
from topo.kinds.words import StatedAddress, interface_name

if TYPE_CHECKING:
    from topo.kinds.shaping_spec import Shaping
    from topo.kinds.spec import InterfaceSettings

_BRIDGE_TIMES: Final = ("forward_delay", "hello_time", "max_age", "ageing", "mcast_query_intvl")
_BRIDGE_MCAST: Final = (
    "mcast_router", "mcast_querier", "mcast_query_use_ifaddr", "mcast_igmp_version", "mcast_mld_version",
)  # fmt: skip
_BRIDGE_VLANS: Final = ("vlan_filtering", "vlan_protocol", "vlan_default_pvid")
_BRIDGE_PLAIN: Final = ("stp", "priority", "group_fwd_mask", "mcast_snooping", *_BRIDGE_MCAST, *_BRIDGE_VLANS)
_VXLAN_PLAIN: Final = ("local", "group", "proxy", "l2miss", "l3miss", "ttl")
_IPV6_LEAST_MTU: Final = 1280  # RFC 8200, section 5
_OVERHEAD: Final = {4: 50, 6: 70}  # bytes: outer IP, UDP, VXLAN and inner Ethernet headers
_PORT_DEFAULTS: Final = {attr.name: attr.default for attr in port_kind.DATA if attr.default is not None}


def _shaping(shaping: Shaping) -> dict[str, Any]:
    from topo.kinds.shaping_spec import attributes  # late, as the model was

    return attributes(shaping)


def _classes(shaping: Shaping, ns: str, ifname: str) -> Iterable[Fact]:
    from topo.kinds.shaping_spec import classes

    return classes(shaping, ns, ifname)


class Common:
    """What every interface takes, worked out once for an entry and used for all that its range expands to."""

    __slots__ = (
        "addresses",
        "attrs",
        "classes",
        "gateway",
        "inet6",
        "ingress",
        "loc",
        "made",
        "shaped_at",
        "shaping",
        "sysctls",
    )

    def __init__(
        self,
        scope: Scope,
        settings: InterfaceSettings | None,
        loc: Loc,
        *,
        link: model.Link | None = None,
        made: bool = True,
        mtu: bool = True,
    ) -> None:
        """`settings` come before those of the whole `link`, these before the file's defaults (for what is `made`).

        With `mtu` false the default MTU does not count.
        """
        self.loc, self.made = loc, made
        layers: list[Any] = [layer for layer in (settings, link, scope.defaults if made else None) if layer is not None]
        stated = {name: _first(layers, name) for name in ("mtu", "up", "txqueuelen", "shaping")}
        if not mtu:
            stated["mtu"] = settings.mtu if settings else None
        self.attrs: dict[str, Any] = {"up": True} if made else {}
        for name in ("up", "mtu", "txqueuelen"):
            if stated[name] is not None:
                self.attrs[name] = stated[name]
        if stated["up"] is False:
            scope.any_down = True
        if settings is not None and settings.mac is not None:
            self.attrs["mac"] = settings.mac
        comment = _first(layers[: 2 if link else 1], "comment") if layers and layers[0] is not scope.defaults else None
        if comment is not None:
            self.attrs["alias"] = comment
        self.addresses: list[str] | None = settings.addresses if settings else None
        self.gateway: Any = settings.gateway if settings else None
        self.ingress: str | None = settings.ingress if settings else None
        self.inet6 = {
            name: value for name in ("addrgenmode", "token") if settings and (value := getattr(settings, name))
        }
        shaping: Shaping | None = stated["shaping"]
        self.shaping = _shaping(shaping) if shaping is not None else None
        self.classes = shaping if shaping is not None and shaping.classes else None
        if self.shaping is not None:
            here = next(layer for layer in layers if layer.shaping is not None)
            above = ("defaults",) if here is scope.defaults else loc[:2] if here is link else loc
            self.shaped_at: Loc = (*above, "shaping")
        self.sysctls = self._sysctls(scope, layers)

    def _sysctls(self, scope: Scope, layers: list[Any]) -> list[tuple[str, str]]:
        found: dict[str, str] = {}
        for layer in reversed(layers):
            for short, value in (layer.sysctls or {}).items():
                try:
                    found.update(dict.fromkeys(sysctls.device_paths(short), sysctl_text(value)))
                except ValueError as error:
                    loc = ("defaults",) if layer is scope.defaults else self.loc
                    scope.problems.add((*loc, "sysctls", short), str(error), nearest(short, sysctls.SHORT_NAMES))
        return list(found.items())

    def settle(self, scope: Scope, space: Space, ifname: str, addresses: Iterable[str], bridge: Bridge | None) -> None:
        """Add the facts of one interface that are not its link: addresses, gateways, shaping, sysctls."""
        facts, ns = scope.facts, space.name
        for text in addresses:
            self._address(scope, space, ifname, text, bridge)
        if self.gateway:
            self._gateways(scope, space, ifname, list(addresses))
        if self.shaping is not None:
            ref = Ref("shaping", ns, (ifname,))
            facts[ref] = Fact(ref, dict(self.shaping))
            if self.classes is not None:
                facts.update((fact.ref, fact) for fact in _classes(self.classes, ns, ifname))
            scope.paths[ref] = path(self.shaped_at)
        if self.ingress is not None:
            ref = Ref("ingress", ns, (ifname,))
            facts[ref] = Fact(ref, {"to": self.ingress})
            scope.paths[ref] = path((*self.loc, "ingress"))
            scope.ingresses[ref] = (*self.loc, "ingress")
        if self.inet6:
            ref = Ref("inet6", ns, (ifname,))
            facts[ref] = Fact(ref, {"addrgenmode": "eui64", "token": None, **self.inet6})
        for pattern, value in self.sysctls:
            ref = Ref("sysctl", ns, (pattern.format(ifname),))
            facts[ref] = Fact(ref, {"value": value})

    def _address(self, scope: Scope, space: Space, ifname: str, text: str, bridge: Bridge | None) -> None:
        address = text.partition("/")[0]
        six = ":" in address
        if bridge is not None:
            once(scope, bridge, address, self.loc)
        if six and self.attrs.get("mtu", _IPV6_LEAST_MTU) < _IPV6_LEAST_MTU:
            scope.problems.add(self.loc, f"IPv6 ({text}) needs an MTU of 1280 at least, not {self.attrs['mtu']}")
        attrs: dict[str, Any] = {"nodad": True} if six and self.made else {}
        key: tuple[str, ...] = (ifname, text)
        if isinstance(text, StatedAddress):
            attrs, key = {**attrs, **text.options}, (ifname, str(text))
            if peer := attrs.get("_peer"):
                key += (f"peer {peer}",)
        ref = new_ref(("address", space.name, key))
        scope.facts[ref] = new_fact((ref, attrs, OWN))

    def _gateways(self, scope: Scope, space: Space, ifname: str, addresses: list[str]) -> None:
        for gateway in self.gateway:
            if (addresses or self.made) and not reaches(addresses, gateway):
                has = ", ".join(addresses) or "none"
                scope.problems.add(
                    (*self.loc, "gateway"),
                    f"no address of {shown(space, ifname)} reaches the gateway {gateway}: it has {has}",
                    "use `routes` with `onlink: true` if it is reachable all the same",
                )
                continue
            scope.add(
                peers.default_route(space.name, gateway, ifname),
                (*self.loc, "gateway"),
                f"the default route of {space.name}",
            )


def once(scope: Scope, bridge: Bridge, address: str, loc: Loc) -> None:
    """See that an address, IP or MAC, stands once in the broadcast domain of a bridge."""
    if address in bridge.taken:
        where = f"bridge {shown(bridge.space, bridge.name)}"
        scope.problems.add(loc, f"{address} is there twice on {where}{elsewhere(bridge.taken[address], loc)}")
    bridge.taken.setdefault(address, loc)


def _first(layers: Iterable[Any], name: str) -> Any:
    for layer in layers:
        value = getattr(layer, name, None)
        if value is not None:
            return value
    return None


def reaches(addresses: Iterable[str], gateway: str) -> bool:
    """Whether one of the addresses (address/length) has `gateway` in its subnet, or it is link-local."""
    number, bits = addressing.parse_address(gateway)
    if bits == 128 and number >> 118 == 0x3FA:  # fe80::/10
        return True
    for text in addresses:
        if isinstance(text, StatedAddress) and (peer := text.options.get("_peer")):
            text = f"{peer}/{text.partition('/')[2]}"
        base, length, width = addressing.parse_prefix(text)
        if width == bits and (base ^ number) >> (bits - length) == 0:
            return True
    return False


def declare_devices(scope: Scope, space: Space) -> list[tuple[str, str, Any, Loc]]:
    """Note what the namespace's sections declare; the kind of section, name, model and place of each."""
    found: list[tuple[str, str, Any, Loc]] = []
    section = space.section
    sections: tuple[tuple[str, dict[str, Any]], ...] = (
        ("bridges", section.bridges), ("vxlans", section.vxlans), ("interfaces", section.interfaces),
    )  # fmt: skip
    for kind, entries in sections:
        for key, entry in entries.items():
            loc = (*space.loc, kind, key)
            for name in scope.names(key, loc, interface_name):
                if name == "lo" and kind == "interfaces" and getattr(entry, "kind", "") == "existing":
                    space.links[name] = loc
                elif not scope.declare(space, name, loc):
                    continue
                found.append((kind, name, entry, loc))
                if kind == "bridges":
                    space.bridges[name] = Bridge(name, space, loc)
    return found


def lower_bridge(scope: Scope, space: Space, name: str, entry: model.Bridge, loc: Loc) -> None:
    bridge = space.bridges[name]
    ref = Ref("link", space.name, (name,))
    common = Common(scope, entry, loc, made=not entry.external)
    if entry.external:
        _external(scope, space, ref, loc)
    else:
        attrs: dict[str, Any] = {"kind": "bridge", "master": None, **common.attrs}
        for field in _BRIDGE_PLAIN:
            value = getattr(entry, field)
            if value is not None and (value or field != "vlan_filtering"):  # false is the default, which some refuse
                attrs[field] = value
        for field in _BRIDGE_TIMES:
            if (value := getattr(entry, field)) is not None:
                attrs[field] = round(seconds(value) * 100)
        scope.facts[ref] = Fact(ref, attrs)
    addresses = list(entry.addresses or ())
    for index, subnet in enumerate(entry.subnet or ()):
        _subnet(scope, bridge, subnet, addresses, (*loc, "subnet", index))
    if not entry.external:
        bridge.routes = bool(bridge.gateways) and entry.take_over is None
        space.own += [(name, text) for text in addresses]
        common.settle(scope, space, name, addresses, bridge)
    if any(getattr(entry, field) is not None for field in _BRIDGE_VLANS):
        scope.paths[ref] = path(loc)
    bridge.vlans = None if entry.external else bool(entry.vlan_filtering)
    if entry.vlan is not None:
        scope.vlans[Ref("bridge_vlan", space.name, (name, "self"))] = (entry.vlan, loc)
    _enslave(scope, space, bridge, entry, loc)


def _external(scope: Scope, space: Space, ref: Ref, loc: Loc) -> None:
    """Note a device that is someone else's, of which nothing is stated."""
    scope.external.add(ref)
    scope.paths[ref] = path(loc)
    scope.facts[ref] = Fact(ref, {})
    if space.made:
        scope.problems.add((*loc, "external"), f"namespace {space.name!r} is new: nothing can be there already")


def _subnet(scope: Scope, bridge: Bridge, subnet: str, addresses: list[str], loc: Loc) -> None:
    """Make the pool that a bridge's ends take from, and the bridge's own address in it, appended to `addresses`."""
    number, length, bits = addressing.parse_prefix(subnet)
    base = number >> (bits - length) << (bits - length)
    pool = make_pool(scope, f"{addressing.address_text(base, bits)}/{length}", loc)
    if pool is None:
        return
    own = subnet if number != base else next((text for text in addresses if text in pool), pool.first())
    pool.reserve(own)
    if own not in addresses:
        addresses.append(own)
    bridge.pools.append(pool)
    bridge.gateways.append(own.partition("/")[0])


def _enslave(scope: Scope, space: Space, bridge: Bridge, entry: model.Bridge, loc: Loc) -> None:
    """Note the `ports` and the `take_over` of a bridge."""
    named: list[tuple[str, model.Port | None, Loc]] = []
    for index, stated in enumerate(entry.ports):
        port = stated if isinstance(stated, model.Port) else None
        named.append((port.interface if port else str(stated), port, (*loc, "ports", index)))
    if entry.take_over is not None:
        named.append((entry.take_over, None, (*loc, "take_over")))
        scope.take_over[Ref("link", space.name, (bridge.name,))] = Ref("link", space.name, (entry.take_over,))
    for ifname, port, at in named:
        if not claim(scope, Ref("link", space.name, (ifname,)), bridge, at):
            continue
        plugged(scope, bridge, at)
        if port is not None:
            add_port(scope, space, ifname, port, at)


def claim(scope: Scope, port: Ref, master: Master, loc: Loc) -> bool:
    """Note of whom a link is a port; False (and an error) where that is somebody else already."""
    if port in scope.masters:
        other, first = scope.masters[port]
        scope.problems.add(loc, f"{port.key[0]} is a port of {other.name} already, first at {path(first)}")
        return False
    scope.masters[port] = (master, loc)
    return True


def plugged(scope: Scope, bridge: Bridge, loc: Loc) -> None:
    """Count a port of `bridge`."""
    bridge.ports += 1
    if bridge.ports == 1024:
        name = shown(bridge.space, bridge.name)
        scope.problems.add(loc, f"bridge {name} gets more than 1,023 ports, the most that the kernel takes")


def add_port(scope: Scope, space: Space, ifname: str, settings: model.PortSettings, loc: Loc) -> None:
    """Add the port fact, if anything differs from the kernel's default."""
    stated = {
        n: v
        for n in model.PortSettings.model_fields
        if n not in ("vlan", "mdb") and n in settings.model_fields_set and (v := getattr(settings, n)) is not None
    }
    if settings.vlan is not None:
        scope.vlans[Ref("bridge_vlan", space.name, (ifname,))] = (settings.vlan, loc)
        if settings.vlan.tunnels and not stated.setdefault("vlan_tunnel", True):
            scope.problems.add((*loc, "vlan_tunnel"), "`tunnels` need it: leave it out, or state true")
    for place, group in enumerate(settings.mdb or ()):
        ref = Ref("mdb", space.name, mdb.key(ifname, group.group, group.source, group.vid))
        scope.add(Fact(ref, {}), (*loc, "mdb", place), f"{group.group} on {ifname}")
    if any(_PORT_DEFAULTS.get(name) != value for name, value in stated.items()):
        ref = Ref("port", space.name, (ifname,))
        scope.facts[ref] = Fact(ref, stated)


def lower_vxlan(scope: Scope, space: Space, name: str, entry: model.Vxlan, loc: Loc) -> None:
    ref = Ref("link", space.name, (name,))
    if entry.external:
        _external(scope, space, ref, loc)
        peers.lower(scope, space.name, name, entry, loc)
        return
    common = Common(scope, entry, loc, mtu=False)
    underlay: Space | None = space
    if entry.created_in is not None:
        underlay = scope.space(entry.created_in, (*loc, "created_in"))
    if underlay is None:
        return
    attrs = {
        "kind": "vxlan",
        "master": None,
        **common.attrs,
        **({"id": entry.id} if entry.vnis is None else {"external": True, "vnifilter": True}),
        "learning": entry.learning,
        "port": entry.port,
    }
    for field in _VXLAN_PLAIN:
        if (value := getattr(entry, field)) is not None:
            attrs[field] = value
    if entry.tos is not None:
        attrs["tos"] = 1 if entry.tos == "inherit" else entry.tos
    if entry.ageing is not None:
        attrs["ageing"] = round(seconds(entry.ageing))
    if underlay is not space:
        attrs["created_in"] = underlay.name
    if entry.dev is not None:
        attrs["dev"] = (underlay.name, entry.dev)
        scope.below[ref] = (Ref("link", underlay.name, (entry.dev,)), (*loc, "dev"))
    if entry.bridge is not None:
        _plug_vxlan(scope, space, ref, entry.bridge, (*loc, "bridge"))
    scope.paths[ref] = path(loc)
    scope.facts[ref] = Fact(ref, attrs)
    if entry.mtu is None:
        groups = [each.group for each in entry.vnis or () if each.group]
        first = entry.local or entry.group or next(iter((*groups, *_peer_addresses(entry))), "")
        scope.underlay_mtu[ref] = _OVERHEAD[6 if ":" in first else 4]
    addresses = list(entry.addresses or ())
    space.own += [(name, text) for text in addresses]
    common.settle(scope, space, name, addresses, None)
    for each in entry.vnis or ():
        for number in each.numbers():
            vni = Ref("vni", space.name, (name, number))
            scope.facts[vni] = Fact(vni, {"group": each.group})
    peers.lower(scope, space.name, name, entry, loc)


def _peer_addresses(entry: model.Vxlan) -> Iterable[str]:
    return (peer if isinstance(peer, str) else peer.address for peer in entry.peers)


def _plug_vxlan(scope: Scope, space: Space, ref: Ref, name: str, loc: Loc) -> None:
    bridge = find_bridge(scope, space, name, loc)
    if bridge is None:
        return
    if claim(scope, ref, bridge, loc):
        plugged(scope, bridge, loc)


def find_bridge(scope: Scope, space: Space, name: str, loc: Loc) -> Bridge | None:
    """The bridge `name` of this namespace; None and an error where there is none."""
    bridge = space.bridges.get(name)
    if bridge is None:
        elsewhere = next((s for s in scope.spaces.values() if name in s.bridges), None)
        if elsewhere is not None:
            message = f"bridge {name!r} is in namespace {elsewhere.name!r}, not in {space.name!r}"
            scope.problems.add(loc, message, f"write {elsewhere.name}:{name} at an end of a link")
        else:
            where = "" if space.name == "host" else f" in namespace {space.name!r}"
            other = "bridges that are there already are declared with `external: true`"
            scope.problems.add(
                loc, f"there is no bridge {name!r}{where}", lambda: nearest(name, space.bridges) or other
            )
    return bridge
