"""Warn where tables of others drop what a file promises to forward.

A packet has to pass every base chain of its hook: an accept in topo's table cannot override a drop in another's
(nft(8), "base chains"). Docker sets the policy of iptables' FORWARD to drop, firewalld ends its chains with a reject. So where a
file has NAT or forwarding in a namespace that is not topo's own, sample packets are led through the others' chains.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from topo.errors import KernelError
from topo.facts import HOST, Desired, Fact, Ref, link, parts
from topo.kernel import rtnl, sysctl
from topo.kernel.nft_chains import NftChains
from topo.kernel.spaces import Spaces
from topo.kernel.verdicts import ESTABLISHED, IPV4, IPV6, NEW, Chain, Packet, Tables, swallows
from topo.kernel.xtables import LegacyChains
from topo.kinds.nft import stale_flows, table_name
from topo.wire import AF_INET, AF_INET6, RTM_GETROUTE, RTMSG, U32, attr, attributes, pack_ip

FROM, TO, WITHIN = "from", "to", "within"
_FAMILIES: Final = {4: IPV4, 6: IPV6}
_BRIDGE_NF: Final = {4: "net/bridge/bridge-nf-call-iptables", 6: "net/bridge/bridge-nf-call-ip6tables"}
_FORWARDING: Final = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
_OUTSIDE: Final = {4: "192.88.99.1", 6: "2001:db8::1"}  # for looking up a route
_ELSEWHERE: Final = "-"  # the name of an interface that no rule names
_ANY_PORT: Final = 50000
_PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
_RTA_DST, _RTA_OIF = 1, 4


class _Way(NamedTuple):
    """A packet that is to pass, and which way it goes as seen from one of the file's interfaces."""

    ifname: str
    direction: str
    packet: Packet


def warnings(spaces: Spaces, desired: Desired) -> list[str]:
    """One line for each foreign chain that is in the way, with the cure. Raises nothing: it is only a warning."""
    found: list[str] = []
    if not desired.facts:
        return found
    for ns in [
        HOST,
        *(ref.ns for ref, fact in parts(desired.facts).few.items() if ref.kind == "namespace" and _others(fact)),
    ]:
        if ns in spaces.open:
            try:
                with spaces.away():
                    found += _of_namespace(spaces, desired, ns)
            except (KernelError, OSError):
                continue
    return found


def _others(fact: Fact) -> bool:
    return "from" in fact.attrs and "share" not in fact.attrs["from"]


def _of_namespace(spaces: Spaces, desired: Desired, ns: str) -> Iterator[str]:
    forwarding = [family for family, path in _FORWARDING.items() if _is_on(desired, ns, path)]
    spaces.enter(ns)
    bridged = {family for family, path in _BRIDGE_NF.items() if sysctl.read(path) == "1"}
    if not forwarding and not bridged:
        return
    engines: tuple[Tables, ...] = (NftChains(spaces.netfilter(ns)), LegacyChains())
    chains = [(tables, c) for tables in engines for c in tables.forward if c.table != table_name(desired.name)]
    if not chains:
        return
    ways = [way for family in forwarding for way in _forwarded(spaces, desired, ns, family)]
    bridges = _bridges(desired, ns) if bridged else {}
    ways += [_bridged(name, family) for name, families in bridges.items() for family in families & bridged]
    for tables, chain in chains:
        stopped = {(way.ifname, way.direction): None for way in ways if swallows(tables, chain, way.packet)}
        if stopped:
            yield _words(tables, chain, list(stopped), ns)


def _is_on(desired: Desired, ns: str, path: str) -> bool:
    fact = desired.facts.get(Ref("sysctl", ns, (path,)))
    return fact is not None and fact.attrs["value"] == "1"


# -- what is promised ----------------------------------------------------------------------------------------------


def _forwarded(spaces: Spaces, desired: Desired, ns: str, family: int) -> Iterator[_Way]:
    """Packets between the interfaces that the file makes and the world beyond the namespace's uplink."""
    table = desired.facts.get(Ref("nft", ns, ("inet", table_name(desired.name))))
    flows = [flow for flow in stale_flows(None, table.attrs) if flow.family == family] if table else []
    masked = list(_translated(table.attrs)) if table else []
    way_out = uplink(spaces, ns, family)
    for ifname, network in _networks(desired, ns, family):
        if ifname == way_out:
            continue
        flow = next((flow for flow in flows if ipaddress.ip_address(flow.target) in network), None)
        leaving = any(net is None or (net.version == family and net.overlaps(network)) for net in masked)
        if not flow and not leaving and (flows or masked):
            continue  # it has no part in the file's NAT
        ours = pack_ip(flow.target) if flow else (network.network_address + 2).packed
        there = Packet(_FAMILIES[family], ifname, way_out, ours, None, ESTABLISHED, port=_ANY_PORT)
        back = there._replace(iif=way_out, oif=ifname, source=None, destination=ours)
        if flow:
            protocol = _PROTOCOLS[flow.protocol]
            back = back._replace(state=NEW, protocol=protocol, port=flow.target_port, published=True)
        elif not leaving:  # a router
            back = back._replace(state=NEW)
        yield _Way(ifname, FROM, there._replace(state=NEW) if leaving or not flow else there._replace(published=True))
        yield _Way(ifname, TO, back)


def _translated(table: dict[str, Any]) -> Iterator[Any]:
    """The networks whose packets get another source address; None for all."""
    for rule in table["chains"].get("nat_postrouting", {"rules": ()})["rules"]:
        matches = [statement["match"] for statement in rule if "match" in statement]
        if any(match["left"] == {"ct": {"key": "status"}} for match in matches):
            continue  # it turns published connections round
        stated = [
            m["right"] for m in matches if m["left"].get("payload", {}).get("field") == "saddr" and m["op"] == "=="
        ]
        if not stated:
            yield None
        for right in stated:
            held = right.get("set", [right]) if isinstance(right, dict) else [right]
            for one in held:
                prefix = one.get("prefix", {}) if isinstance(one, dict) else {"addr": one, "len": ""}
                text = f"{prefix.get('addr')}/{prefix.get('len')}".rstrip("/")
                yield ipaddress.ip_network(text, strict=False) if prefix else None


def _networks(desired: Desired, ns: str, family: int) -> Iterator[tuple[str, Any]]:
    """The interfaces that the file makes in the namespace, each with one of its networks."""
    seen = set()
    for ref in desired.facts:
        if ref.kind != "address" or ref.ns != ns or (":" in ref.key[1]) != (family == 6) or ref.key[0] in seen:
            continue
        fact = desired.facts.get(link(ns, ref.key[0]))
        network = ipaddress.ip_interface(ref.key[1]).network
        if fact is not None and "kind" in fact.attrs and network.num_addresses > 2:
            seen.add(ref.key[0])
            yield ref.key[0], network


def uplink(spaces: Spaces, ns: str, family: int) -> str:
    """The interface that packets to the world leave by."""
    af, own = (AF_INET, 32) if family == 4 else (AF_INET6, 128)
    space = spaces.get(ns)
    body = RTMSG.pack(af, own, 0, 0, 0, 0, 0, 0, 0) + attr(_RTA_DST, pack_ip(_OUTSIDE[family]))
    try:
        data, at, end = rtnl.ask(space.sock, RTM_GETROUTE, body)
    except KernelError:
        return _ELSEWHERE
    index = attributes(data, at + RTMSG.size, end).get(_RTA_OIF)
    return space.names.get(U32.unpack(index), _ELSEWHERE) if index else _ELSEWHERE


def _bridges(desired: Desired, ns: str) -> dict[str, set[int]]:
    """The bridges on which two can meet, and the families of the addresses there."""
    ports: dict[str, list[Ref]] = {}
    for ref, fact in desired.facts.items():
        if ref.kind == "link" and ref.ns == ns and fact.attrs.get("master"):
            peer = fact.attrs.get("peer")
            ports.setdefault(fact.attrs["master"], []).append(link(*peer) if peer else ref)
    families: dict[Ref, set[int]] = {}
    for ref in desired.facts:
        if ref.kind == "address":
            families.setdefault(link(ref.ns, ref.key[0]), set()).add(6 if ":" in ref.key[1] else 4)
    return {
        name: set().union(*(families.get(ref, set()) for ref in refs))
        for name, refs in ports.items()
        if len(refs) > 1 or link(ns, name) in desired.external
    }


def _bridged(bridge: str, family: int) -> _Way:
    """With br_netfilter, what passes within a bridge goes through these chains as well."""
    return _Way(bridge, WITHIN, Packet(_FAMILIES[family], bridge, bridge, None, None, NEW, 6, _ANY_PORT))


# -- what is said --------------------------------------------------------------------------------------------------


def _words(tables: Tables, chain: Chain, stopped: list[tuple[str, str]], ns: str) -> str:
    by_direction: dict[str, list[str]] = {}
    for ifname, direction in stopped:
        by_direction.setdefault(direction, []).append(ifname)
    what = " and ".join(f"{direction} {', '.join(names)}" for direction, names in by_direction.items())
    where = "" if ns == HOST else f" in namespace {ns}"
    cure = "; ".join(dict.fromkeys(_cure(tables, chain, stopped)))
    engine = chain.program or "nftables"
    return f"the {engine} chain {chain.place()}{where} drops packets {what}, and an accept of topo's cannot override that; let them pass: {cure}"


def _cure(tables: Tables, chain: Chain, stopped: list[tuple[str, str]]) -> Iterator[str]:
    """The commands that let through what is stopped."""
    program = chain.program
    if chain.table == "filter":
        program = program or {IPV4: "iptables", IPV6: "ip6tables"}.get(chain.family, "")
    elif program:
        program += f" -t {chain.table}"
    for ifname, direction in stopped:
        if direction == WITHIN and (ifname, FROM) in stopped:
            continue
        if chain.table == "firewalld":
            yield f"firewall-cmd --zone=trusted --add-interface={ifname}"
        elif program and chain.name == "FORWARD":
            into = "DOCKER-USER" if tables.has(chain.family, chain.table, "DOCKER-USER") else "FORWARD"
            match = {FROM: f"-i {ifname}", TO: f"-o {ifname}", WITHIN: f"-i {ifname} -o {ifname}"}[direction]
            yield f"{program} -I {into} {match} -j ACCEPT"
        else:
            ends = {FROM: ("iifname",), TO: ("oifname",), WITHIN: ("iifname", "oifname")}[direction]
            match = " ".join(f'{end} "{ifname}"' for end in ends)
            yield f"nft insert rule {chain.place()} {match} accept"
