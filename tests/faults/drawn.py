"""Topologies drawn at random over the grammar, as documents: what hypothesis makes up, and what the loader then says to it.

Everything is drawn from a few names and numbers, so that two documents share some, and an edit renames, moves, changes and
replaces. Only kinds of links that every kernel has; `nic0` and `nic1` are there already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st

from topo.errors import TopoError
from topo.facts import link
from topo.file.lowering import lower
from topo.file.model import Topology

Document = dict[str, Any]
Drawing = Callable[[st.SearchStrategy[Any]], Any]

GIVEN: Final = "\n".join(
    f"ip link add {name} address 02:00:00:00:bb:0{n} type veth peer name {name}-peer address 02:00:00:00:cc:0{n}\n"
    f"ip link set {name} up\nip link set {name}-peer up"
    for n, name in enumerate(("nic0", "nic1"))
)
"""What is there before."""

SETTINGS: Final = {
    "mtu": (1500, 1400, 1280), "mac": ("02:00:00:00:0d:01", "02:00:00:00:0d:02"), "txqueuelen": (500, 1000),
    "comment": ("x", "a longer text, with \"signs' $in it"), "up": (True, True, False),
    "shaping": (
        {"rate": "2mbit", "burst": "16kb", "latency": "50ms"}, {"rate": "3mbit"}, {"kind": "htb", "rate": "8mbit"},
        {"kind": "htb", "rate": "8mbit", "ceil": "9mbit"}, {"rate": "1mbit", "limit": "64kb"},
        *({"kind": "htb", "rate": "8mbit", "default": 20, "classes": [
            {"id": 10, "rate": "1mbit", "match": [{"dscp": dscp}]}, {"id": 20, "rate": rate, "prio": 1},
        ]} for dscp, rate in ((46, "2mbit"), (10, "3mbit"))),
    ),
    "addrgenmode": ("none", "eui64"),
    "sysctls": ({"rp_filter": 2}, {"rp_filter": 1, "ipv6.accept_ra": 0}, {"arp_ignore": 1}, {"ipv6.disable_ipv6": 0}),
}  # fmt: skip
BRIDGE: Final = {
    "stp": (False,), "ageing": (100, 300), "mcast_snooping": (False, True), "priority": (4096, 32768),
    "forward_delay": (2, 15), "hello_time": (1, 2), "max_age": (10, 20), "group_fwd_mask": (0, 0x4000),
}  # fmt: skip
PORT: Final = {
    "hairpin": (True, False), "isolated": (True,), "learning": (True, False), "flood": (False,), "cost": (9, 100),
    "priority": (8, 32), "guard": (True, False), "neigh_suppress": (True,), "fast_leave": (True,), "root_block": (True,),
    "mcast_flood": (False,), "bcast_flood": (False,), "proxy_arp": (True,), "mcast_to_unicast": (True,),
}  # fmt: skip
VXLAN: Final = {
    "ttl": (0, 64), "tos": (0, 8), "learning": (True, False), "ageing": (300, 100), "proxy": (True,), "l2miss": (True,),
    "l3miss": (True,), "port": (4789, 8472),
}  # fmt: skip
RULES: Final = (
    {"from": "10.5.0.0/16", "table": 100}, {"fwmark": "0x1/0xff", "table": 101}, {"to": "10.6.0.0/16", "action": "prohibit"},
    {"iif": "lo", "table": 100}, {"tos": 8, "table": 102}, {"ipproto": "tcp", "dport": "80-90", "table": 100},
    {"uidrange": "1000-1999", "table": 100}, {"from": "fd05::/16", "table": 100}, {"oif": "e0", "table": 100},
    {"from": "10.5.0.0/16", "table": 100, "invert": True}, {"table": "main", "suppress_prefixlength": 0},
)  # fmt: skip
HOST_SYSCTLS: Final = (
    {"net.ipv4.ip_forward": 1}, {"net.ipv4.tcp_syncookies": 0, "net.ipv4.ip_forward": 1}, {"net/ipv4/conf/all/rp_filter": 2},
    {"net.ipv4.ping_group_range": "0 100"}, {"net.ipv6.conf.all.forwarding": 1},
)  # fmt: skip


class Draft:
    """One document in the making."""

    def __init__(self, draw: Drawing) -> None:
        self.draw = draw
        self.spaces = [ns for ns in ("a", "b", "c") if self.coin()]
        self.bridges: dict[str, list[str]] = {}
        self.taken: set[tuple[str, str]] = set()
        self.macs: set[str] = set()
        self.number = 0

    def some(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def coin(self) -> bool:
        return bool(self.draw(st.booleans()))

    def maybe(self, choices: dict[str, tuple[Any, ...]], *without: str, often: int = 4) -> Document:
        """Some of `choices`; each is stated about once in `often` times."""
        names = [name for name in choices if name not in without and not self.draw(st.integers(0, often - 1))]
        return {name: self.some(*choices[name]) for name in names}

    def settings(self, *without: str) -> Document:
        """Of an interface. A MAC address is given out once."""
        found = self.maybe(SETTINGS, *without)
        if found.get("mac") in self.macs:
            del found["mac"]
        self.macs.update(filter(None, [found.get("mac")]))
        return found

    def free(self, ns: str, *names: str) -> str:
        """One of these names that is free there, and no longer is; empty for none."""
        left = [name for name in names if (ns, name) not in self.taken]
        name = self.some(*left) if left else ""
        self.taken.add((ns, name))
        return name

    def net(self) -> str:
        """Three numbers of a prefix that nobody else in this document has."""
        self.number += 1
        return f"10.{self.some(30, 31)}.{self.number}"

    def addresses(self) -> list[str]:
        net = self.net()
        found = [f"{net}.{self.some(1, 2)}/24"]
        found += [f"{net}.{self.some(3, 4)}/24"] if self.coin() else []
        found += [f"fd{self.some(30, 31)}:{self.number}::1/64"] if self.coin() else []
        return found


def documents() -> st.SearchStrategy[Document]:
    """Documents of the topology `drawn`."""
    return _documents().filter(valid)


@st.composite
def _documents(draw: Drawing) -> Document:
    """Nearly all of them are valid."""
    d = Draft(draw)
    document: Document = {"topology": "drawn", **_section(d, "host")}
    document["namespaces"] = {ns: _section(d, ns) for ns in d.spaces}
    links = [link for _ in range(d.some(0, 1, 2, 3, 4)) if (link := _link(d))]
    ports = [_vxlan(d, document, ns) for ns in ("host", *d.spaces) if d.coin()]
    assert all(ports)
    if links:
        document["links"] = links
    for ns in ("host", *d.spaces):
        _routing(d, document if ns == "host" else document["namespaces"][ns], links, ns)
    if d.coin():
        document["defaults"] = d.maybe({"txqueuelen": (700,), "up": (True,)})
    return document


def _section(d: Draft, ns: str) -> Document:
    found: Document = {}
    names = [name for name in ("br0", "br1") if d.coin() and d.coin()]
    d.bridges[ns] = names
    if names:
        found["bridges"] = {name: _bridge(d) for name in names}
    if interfaces := _interfaces(d, ns):
        found["interfaces"] = interfaces
    if names and ns == "host" and d.coin() and "nic1" not in interfaces:
        found["bridges"][names[0]]["ports"] = [d.some("nic1", {"interface": "nic1", **d.maybe(PORT)})]
    if d.coin() and d.coin():
        found["sysctls"] = d.some(*HOST_SYSCTLS)
    elif ns != "host" and d.coin():
        found["forwarding"] = d.coin()
    return found


def _bridge(d: Draft) -> Document:
    found = {**d.settings("shaping"), **d.maybe(BRIDGE)}
    if not d.draw(st.integers(0, 7)):
        found |= {"stp": True, "forward_delay": 2}  # twice as long until its ports forward, which is waited for
    if d.coin() and found.get("up", True):
        net = d.net()
        found["subnet"] = d.some(f"{net}.0/24", f"{net}.254/24", [f"{net}.0/24", f"fd40:{d.number}::/64"])
    return found


def _interfaces(d: Draft, ns: str) -> Document:
    found: Document = {}
    if ns == "host" and d.coin():
        found["nic0"] = {"kind": "existing", **d.settings("up", "mac")} | (
            {"addresses": d.addresses()} if d.coin() else {}
        )
    kinds = ("tap", "tun", "ifb", "macvlan", "macvtap")
    for name in ("i0", "i1"):
        if not (d.coin() and d.coin()):
            continue
        kind = d.some(*kinds)
        entry = {"kind": kind, **d.settings(*(("mac",) if kind == "tun" else ()))}
        if kind in ("macvlan", "macvtap"):
            entry |= {"parent": "nic0" if ns == "host" else "host:nic0", "mode": d.some("bridge", "private", "vepa")}
            entry.pop("mtu", None)
        elif kind in ("tap", "tun"):
            entry |= d.maybe({"user": (1000, 0)})
        if kind != "ifb" and d.coin() and d.coin():
            entry["addresses"] = d.addresses()
        found[name] = entry
        d.taken.add((ns, name))
    return found


def _link(d: Draft) -> Document | list[Any]:
    ends: list[Document] = []
    for _ in range(2):
        bridges = [(ns, name) for ns, names in d.bridges.items() for name in names]
        if bridges and not ends and d.coin():  # two bridges that are linked twice are a loop: it would not end
            ns, bridge = d.some(*bridges)
            name = d.free(ns, "p0", "p1", "p2")
            if name:
                where = "" if ns == "host" else f"{ns}:"
                ends.append({"bridge": f"{where}{bridge}", "name": name, **d.settings("mtu"), **d.maybe(PORT, often=8)})
            continue
        ns = d.some("host", *d.spaces)
        name = d.free(ns, "e0", "e1", "e2")
        if name:
            end = {"interface": name if ns == "host" else f"{ns}:{name}", **d.settings("mtu")}
            ends.append(end | ({"addresses": d.addresses()} if d.coin() and d.coin() else {}))
    return {"ends": ends, **d.maybe({"mtu": SETTINGS["mtu"]})} if len(ends) == 2 else []


def _vxlan(d: Draft, document: Document, ns: str) -> str:
    section = document if ns == "host" else document["namespaces"][ns]
    d.number += 1
    entry = {"id": d.number, "local": d.some("192.0.2.1", "192.0.2.2"), **d.maybe(VXLAN), **d.settings("mtu")}
    entry["mtu"] = d.some(1450, 1400)
    if d.coin():
        entry["peers"] = [
            "192.0.2.8", {"address": "192.0.2.3", "mac": "0a:00:00:00:00:03"},
            {"address": "192.0.2.4", "mac": d.some("0a:00:00:00:00:04", "0a:00:00:00:00:05")},
        ]  # fmt: skip
    if d.bridges[ns] and d.coin():
        entry["bridge"] = d.some(*d.bridges[ns])
    elif ns != "host" and d.coin():
        entry["created_in"] = "host"
    section["vxlans"] = {"vx0": entry}
    return ns


def _nets(section: Document, links: list[Any], ns: str) -> list[tuple[str, str]]:
    """(interface, three numbers) of what has an address here, is up, and is no port."""
    prefix = "" if ns == "host" else f"{ns}:"
    entries = [(name, entry) for name, entry in section.get("interfaces", {}).items()]
    for pair in links:
        for end in pair["ends"]:
            where, _, name = str(end.get("interface", ":")).rpartition(":")
            if f"{where}:" == (prefix or ":") and name:
                entries.append((name, end))
    return [
        (name, entry["addresses"][0].rpartition(".")[0])
        for name, entry in entries
        if entry.get("addresses") and entry.get("up", True)
    ]


def _routing(d: Draft, section: Document, links: list[Any], ns: str) -> None:
    routes: list[Document] = []
    nets = _nets(section, links, ns)
    for name, net in nets:
        if d.coin():
            to = d.some(f"10.9{len(routes)}.0.0/16", f"10.8{len(routes)}.0.0/16")
            routes.append(
                {"to": to, "via": f"{net}.250", **d.maybe({"metric": (5, 7), "mtu": (1300,), "table": (100, 101)})}
            )
        kind = section.get("interfaces", {}).get(name, {}).get("kind")
        if kind != "tun" and d.coin() and d.coin():  # a point-to-point device has one for all: 0.0.0.0 (net/ipv4/arp.c)
            section.setdefault("neighbours", []).append(
                {"ip": f"{net}.{d.some(77, 78)}", "mac": d.some("02:00:00:00:07:77", "02:00:00:00:07:78"), "dev": name}
            )
    if len(nets) > 1 and d.coin():
        hops = [{"via": f"{net}.251", "weight": d.some(1, 2)} for _, net in nets[:2]]
        routes.append({"to": "10.70.0.0/16", "nexthops": hops})
    if d.coin() and d.coin():
        routes.append(
            {
                "to": "10.60.0.0/16",
                "type": d.some("blackhole", "unreachable", "prohibit"),
                **d.maybe({"metric": (5, 7)}),
            }
        )
    if routes:
        section["routes"] = routes
    if d.coin() and d.coin():
        rules = [{"priority": 500 + n, **d.some(*RULES)} for n in range(d.some(1, 2))]
        section["rules"] = rules
    _filtering(d, section, nets)


def _filtering(d: Draft, section: Document, nets: list[tuple[str, str]]) -> None:
    if d.coin() and d.coin():
        target = nets[0][1] if nets else "10.40.0"
        section["nat"] = d.some(
            {"masquerade": [{"from": "10.40.0.0/24", "out": "!br0"}]},
            {"masquerade": [{"from": "10.40.0.0/24", "to": "10.0.0.0/8", "keep": True}, {"from": "10.40.0.0/16"}]},
            {"snat": [{"from": "10.41.0.0/24", "to": "198.51.100.7"}]},
            {"dnat": [{"in": "nic0", "protocol": "tcp", "dport": 2222, "to": f"{target}.2:22"}]},
            {"publish": [{"port": d.some(8080, 8081), "to": f"{target}.9:80"}]},
        )
    if d.coin() and d.coin():
        section["firewall"] = d.some(
            {"forward": {"policy": "drop", "rules": [{"state": ["established", "related"], "action": "accept"}]}},
            {
                "input": {
                    "rules": [{"in": "nic1", "protocol": "tcp", "dport": [22, 80], "action": "reject", "log": "x "}]
                }
            },
            {"output": {"rules": [{"to": ["10.1.0.0/16", "10.2.0.0/16"], "action": "drop"}]}},
        )


def valid(document: Document) -> bool:
    """Whether topo takes it, and every way that a route of it goes is there: an interface that is up and has an address."""
    try:
        desired = lower(Topology.model_validate(document))
    except (ValueError, TopoError):
        return False
    facts = desired.facts
    if any(f"ip link add {ref.key[0]} " not in GIVEN for ref in desired.external):  # which another document makes
        return False
    for ref, fact in facts.items():
        if ref.kind == "route":
            attrs = fact.attrs
            for gateway, dev in (
                (attrs.get("gateway"), attrs.get("dev")),
                *(hop[:2] for hop in attrs.get("nexthops") or ()),
            ):
                there = facts.get(link(ref.ns, dev)) if dev else None
                if (gateway and not dev) or (there and there.attrs.get("up") is False):
                    return False
    return True


def edits(document: Document) -> st.SearchStrategy[Document]:
    """That document with some sections out of another one; what does not go together is not edited."""

    def edited(other: Document, keep: list[bool]) -> Document:
        keys = sorted({*document, *other})
        mixed = {
            key: (document if kept else other) for key, kept in zip(keys, [*keep, *[True] * len(keys)], strict=False)
        }
        found = {key: source[key] for key, source in mixed.items() if key in source}
        return found if valid(found) else other

    return st.builds(edited, documents(), st.lists(st.booleans(), max_size=12))
