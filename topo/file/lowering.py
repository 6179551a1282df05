"""From a topology to the facts that it asks for: a pure function, with every semantic error at once.

The order of the work: namespaces, then everything that has a name, then links (which need the
bridges and their pools), then what refers to names and addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from topo.facts import OWN, Check, Desired, Fact, Ref, Stated
from topo.file import semantics
from topo.file.devices import declare_devices, lower_bridge, lower_vxlan
from topo.file.interfaces import lower_interface
from topo.file.links import lower_links
from topo.file.model import Section, Topology
from topo.file.model.values import namespace_name, sysctl_text
from topo.file.routing import lower_default_routes, lower_routing
from topo.file.scope import Loc, Master, Scope, Space, path
from topo.file.subnets import stated as stated_addresses
from topo.file.sysctls import path as sysctl_path
from topo.kinds.alike import new_fact, new_ref
from topo.kinds.link_kinds import LINK_KINDS

_LOWER: Final[dict[str, Callable[[Scope, Space, str, Any, Loc], None]]] = {
    "bridges": lower_bridge,
    "vxlans": lower_vxlan,
    "interfaces": lower_interface,
}
_ROUTING: Final = frozenset({"routes", "nexthops", "rules", "neighbours"})
_FILTERING: Final = frozenset({"nat", "firewall"})


def lower(topology: Topology) -> Desired:
    """The facts that `topology` asks for. Raises InputError with every semantic error; each names its `path`."""
    scope = Scope(topology)
    _namespaces(scope)
    scope.stated = stated_addresses(topology)
    _devices(scope)
    lower_links(scope)
    _masters(scope)
    _vlans(scope)
    spaces = scope.spaces.values()
    for space in spaces:
        if not space.section.model_fields_set.isdisjoint(_ROUTING):
            lower_routing(scope, space)
    lower_default_routes(scope)
    for space in spaces:
        _sysctls(scope, space)
    checks = _filters_and_checks(scope)
    semantics.check(scope)
    scope.problems.check()
    return Desired(
        name=topology.topology,
        facts=Stated(scope.facts),
        external=frozenset(scope.external),
        take_over=scope.take_over,
        underlay_mtu=scope.underlay_mtu,
        checks=checks,
        paths=scope.paths,
        document=topology.document(),
        secret=frozenset(scope.secret),
    )


def _namespaces(scope: Scope) -> None:
    """The namespaces, ranges expanded, and their facts. Second names (`share`) have a fact, but no sections."""
    first: dict[str, Loc] = {}
    shares: list[tuple[str, str, Section, Loc]] = []
    for key, entry in scope.topology.namespaces.items():
        loc: Loc = ("namespaces", key)
        source = entry.from_
        names = scope.names(key, loc, namespace_name)
        scope.count(len(names), "namespaces", loc)
        for name in names:
            if name in first:
                scope.problems.add(loc, f"namespace {name!r} is declared twice, first at {path(first[name])}")
                continue
            first[name] = loc
            ref = new_ref(("namespace", name, ()))
            if source is None:
                scope.facts[ref] = new_fact((ref, {"up": True}, OWN))
                scope.spaces[name] = Space(name, entry, loc, True)
                continue
            found = source.model_dump(exclude_none=True)
            scope.facts[ref] = Fact(ref, {"from": found})
            scope.paths[ref] = path((*loc, "from"))
            if source.share is None:
                scope.spaces[name] = Space(name, entry, loc, False)
            else:
                shares.append((name, source.share, entry, loc))
    _shares(scope, shares)


def _shares(scope: Scope, shares: list[tuple[str, str, Section, Loc]]) -> None:
    """Second names lead to the namespace that they stand for, through other second names if need be."""
    targets = {name: target for name, target, _, _ in shares}
    rings: set[str] = set()
    for name, target, entry, loc in shares:
        way = [name]
        while target in targets and target not in way:
            way.append(target)
            target = targets[target]
        if target in way:
            ring = way[way.index(target) :]
            if rings.isdisjoint(ring):
                message = f"these share each other in a ring: {' -> '.join((*ring, target))}"
                scope.problems.add((*loc, "from", "share"), message)
            rings.update(ring)
            continue
        if scope.space(target, (*loc, "from", "share")) is None:
            continue
        scope.aliases[name] = target
        ref = Ref("namespace", name, ())
        scope.facts[ref] = Fact(ref, {"from": {"share": target}})
        if stated := sorted(entry.model_fields_set - {"from_"}):
            message = f"{name!r} is a second name of {target!r}: what it holds is stated there"
            scope.problems.add((*loc, stated[0]), message)


def _devices(scope: Scope) -> None:
    """Everything that has a name of its own but links: first all names, then the facts."""
    found: list[tuple[Space, str, str, Any, Loc]] = []
    for space in scope.spaces.values():
        if not space.section.model_fields_set.isdisjoint(_LOWER):
            devices = declare_devices(scope, space)
            scope.count(len(devices), "interfaces", space.loc)
            found += [(space, *device) for device in devices]
    for space, kind, name, entry, loc in found:
        _LOWER[kind](scope, space, name, entry, loc)


def _masters(scope: Scope) -> None:
    """What stands under `ports` of another link gets it as its master; what the file does not make must be there already."""
    for below, place in scope.below.values():
        scope.device(scope.spaces[below.ns], below.key[0], place)
    for space, ifname, place in scope.named:
        scope.device(space, ifname, place)
    for ref, (master, loc) in scope.masters.items():
        ifname = ref.key[0]
        if ifname == "lo":
            scope.problems.add(loc, "lo cannot be a port of anything")
            continue
        if not scope.device(master.space, ifname, loc):
            continue
        above = scope.facts.get(Ref("link", ref.ns, (master.name,)))
        if ref not in scope.facts or above is None:
            continue  # declared, but wrong
        attrs = scope.facts[ref].attrs
        if ref in scope.take_over.values() and ref not in scope.external:
            message = f"{ifname} is made by this file: state its addresses on {master.name}, and {ifname} under `ports`"
            scope.problems.add(loc, message)
        elif attrs.get("master") is not None:
            scope.problems.add(loc, f"{ifname} is a port of {attrs['master']} already")
        elif why := _refused(scope, master, above, scope.facts[ref]):
            scope.problems.add(loc, f"{ifname} cannot be a port of {master.name}: {why}")
        else:
            _enslave(scope, master, above, ref)


def _refused(scope: Scope, master: Master, above: Fact, port: Fact) -> str:
    """Why a link cannot be a port of that master."""
    if port.ref.key[0] in master.space.bridges and "kind" not in port.attrs:  # an external one
        port = port._replace(attrs={"kind": "bridge"})
    ports = LINK_KINDS[master.kind].ports
    return ports.refuses(above, port) if ports else f"a {master.kind} has none"


def _enslave(scope: Scope, master: Master, above: Fact, port: Ref) -> None:
    """Give a link its master; the default routes that it states are in the master's table."""
    attrs = scope.facts[port].attrs
    attrs["master"] = master.name
    if master.kind != "bridge":
        attrs["_port_of"] = master.kind
    ports = LINK_KINDS[master.kind].ports
    table = ports.table(above) if ports else None
    if table is not None:
        scope.tables[port] = table
    for family, dst, metric in ((4, "0.0.0.0/0", 0), (6, "::/0", 1024)) if table else ():
        main = scope.facts.get(Ref("route", port.ns, (family, 254, dst, metric)))
        if main is not None and main.attrs["dev"] == port.key[0]:
            moved = Ref("route", port.ns, (family, table, dst, metric))
            del scope.facts[main.ref]
            scope.add(Fact(moved, main.attrs), scope.first(main.ref) or (), f"the default route of {above.ref}")


def _vlans(scope: Scope) -> None:
    aware = any(bridge.vlans for space in scope.spaces.values() for bridge in space.bridges.values())
    if aware or scope.vlans:
        from topo.file.vlans import lower_vlans  # late: few files have any

        lower_vlans(scope)


def _filters_and_checks(scope: Scope) -> tuple[Check, ...]:
    filtering = [s for s in scope.spaces.values() if not s.section.model_fields_set.isdisjoint(_FILTERING)]
    if not filtering and not scope.topology.checks:
        return ()
    from topo.file.nat import lower_checks, lower_sections  # late: a twentieth of what starting costs

    for space in filtering:
        lower_sections(scope, space)
    return lower_checks(scope)


def _sysctls(scope: Scope, space: Space) -> None:
    section = space.section
    scope.count(len(section.sysctls), "sysctls", space.loc)
    for name, value in section.sysctls.items():
        ref = Ref("sysctl", space.name, (sysctl_path(name),))
        fact = Fact(ref, {"value": sysctl_text(value)})
        if scope.facts.get(ref, fact).attrs != fact.attrs:
            scope.problems.add((*space.loc, "sysctls", name), f"{name} is stated twice, with different values")
        scope.facts[ref] = fact
    if section.forwarding is not None:
        for file in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            ref = Ref("sysctl", space.name, (file,))
            scope.facts.setdefault(ref, Fact(ref, {"value": str(int(section.forwarding))}))
    for bridge in space.bridges.values():
        if bridge.routes:  # nobody who is plugged in is to become its router (CVE-2020-13401)
            ref = Ref("sysctl", space.name, (f"net/ipv6/conf/{bridge.name}/accept_ra",))
            scope.facts.setdefault(ref, Fact(ref, {"value": "0", "optional": True}))
