"""Labs of many entries in one place: published ports in an nftables table, peers of a VXLAN. Sizes are entries."""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import subprocess
from functools import cache
from typing import Any, Final

from . import netlink as nl
from .lab import (
    FORWARDING,
    Batch,
    Lab,
    Pieces,
    Reading,
    addresses,
    forward,
    ip,
    links_of,
    make_namespaces,
    some,
    within,
)

_LINK: Final = 1000  # ifindexes
_VXLAN: Final = 1001
_VTEP: Final = "192.0.2.1"


class Nat(Lab):
    """A namespace that publishes `size` TCP ports, each leading to a port of its own of another namespace."""

    kind = "nat"
    unit = "published ports"
    in_host = ()
    MAPS: Final = ("publish_tcp4_addr", "publish_tcp4_port")

    def namespaces(self) -> list[str]:
        return ["gw", "web"]

    def ports(self, changed: bool = False) -> dict[int, int]:
        found = {10_000 + i: 20_000 + i for i in range(self.size)}
        return {**found, 10_000 + self.size // 2: 9} if changed else found

    def text(self, changed: bool = False) -> str:
        lines = [f"topology: {self.name}", "namespaces:", "  web: {}", "  gw:", "    forwarding: true"]
        lines += ["    nat:", "      publish:"]
        lines += [f"        - {{port: {port}, to: 'web:{to}'}}" for port, to in self.ports(changed).items()]
        one, other = "interface: 'gw:lan', addresses: 10.0.0.1/24", "interface: 'web:eth0', addresses: 10.0.0.2/24"
        return "\n".join([*lines, "links:", f"  - [{{{one}}}, {{{other}, gateway: 10.0.0.1}}]"]) + "\n"

    def pieces(self) -> Pieces:
        pair = nl.Veth(("gw", "lan", _LINK), ("web", "eth0", _LINK))
        inside = {
            "gw": [nl.up(1), nl.address(_LINK, "10.0.0.1", 24)],
            "web": [nl.up(1), nl.up(_LINK), nl.address(_LINK, "10.0.0.2", 24), nl.route("default", "10.0.0.1", _LINK)],
        }
        frame, batch = frame_text().encode(), _elements(self.ports())

        def tables() -> None:
            _library(frame)
            sock = nl.opened(nl.NETFILTER, large=True)
            nl.sent(sock, batch)
            sock.close()

        return Pieces(["gw", "web"], {"gw": FORWARDING}, [], {"": [pair]}, inside, [("gw", tables)])

    def reading(self) -> dict[str, Reading]:
        return {"gw": Reading(nl.NETCONF, ("/proc/sys/net/ipv4/conf/lan/route_localnet",), _read_tables)}

    def batches(self) -> list[Batch]:
        web = ["link set lo up", "address add 10.0.0.2/24 dev eth0", "link set eth0 up"]
        elements = (
            [f"{port} : 10.0.0.2" for port in self.ports()],
            [f"{port} : {to}" for port, to in self.ports().items()],
        )
        text = frame_text()
        for name, of in zip(self.MAPS, elements, strict=True):
            text += "".join(f"add element inet topo-bench {name} {{ {element} }}\n" for element in of)
        return [
            make_namespaces(self.namespaces()),
            Batch(("ip", "-batch", "-"), "link add lan up netns gw type veth peer name eth0 netns web"),
            within("gw", ["link set lo up", "address add 10.0.0.1/24 dev lan"]),
            within("web", [*web, "route add default via 10.0.0.1"]),
            forward("gw"),
            Batch(("ip", "netns", "exec", "gw", "nft", "-f", "-"), text),
        ]

    def check(self, changed: bool = False) -> None:
        self.check_names()
        assert "10.0.0.2" in addresses([links_of("web")["eth0"]])
        found = _nft("gw", "list", "ruleset")
        maps = {entry["map"]["name"]: dict(entry["map"].get("elem", ())) for entry in found if "map" in entry}
        address, port = (maps[name] for name in self.MAPS)
        assert port == self.ports(changed), f"{len(port)} ports"
        assert address == dict.fromkeys(self.ports(), "10.0.0.2"), f"{len(address)} addresses"
        rules = json.dumps([entry["rule"]["expr"] for entry in found if "rule" in entry])
        assert all(f"@{name}" in rules for name in self.MAPS) and "masquerade" in rules


def frame_text() -> str:
    """The table of published ports without them, one command in a line: maps, chains and rules as topo makes them."""
    table = "inet topo-bench"
    return "\n".join(
        (
            f"add table {table}",
            f"add map {table} publish_tcp4_addr {{ type inet_service : ipv4_addr ; }}",
            f"add map {table} publish_tcp4_port {{ type inet_service : inet_service ; }}",
            f"add set {table} publish_to4 {{ type ipv4_addr ; }}",
            f"add set {table} publish_loop {{ type ifname . ifname ; }}",
            f"add element {table} publish_to4 {{ 10.0.0.2 }}",
            f'add element {table} publish_loop {{ "lan" . "lan" }}',
            f"add chain {table} raw_prerouting {{ type filter hook prerouting priority -300 ; }}",
            f"add chain {table} publish",
            f"add chain {table} nat_prerouting {{ type nat hook prerouting priority -100 ; }}",
            f"add chain {table} nat_output {{ type nat hook output priority -100 ; }}",
            f"add chain {table} nat_postrouting {{ type nat hook postrouting priority 100 ; }}",
            f'add rule {table} raw_prerouting iifname != "lo" ip saddr 127.0.0.0/8 drop',
            f'add rule {table} raw_prerouting iifname != "lo" ip daddr 127.0.0.0/8 drop',
            f"add rule {table} publish dnat ip to tcp dport map @publish_tcp4_addr : tcp dport map @publish_tcp4_port",
            f"add rule {table} nat_prerouting fib daddr type local jump publish",
            f"add rule {table} nat_output fib daddr type local jump publish",
            f"add rule {table} nat_postrouting ct status dnat ip daddr @publish_to4 iif 0 masquerade",
            f"add rule {table} nat_postrouting ct status dnat ip daddr @publish_to4 iifname . oifname @publish_loop masquerade",
            "",
        )
    )


# nfnetlink: linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h

_NFTABLES: Final = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GETTABLE, _GETCHAIN, _GETRULE, _GETSET, _NEWELEMENT, _GETELEMENT = (_NFTABLES | n for n in (1, 4, 7, 10, 12, 13))
_BEGIN, _END = 16, 17  # NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END
_INET, _NESTED = 1, 0x8000
_IN_ONE: Final = 1000  # elements of one message: a list's length must fit 16 bits


def _elements(ports: dict[int, int]) -> bytes:
    """A transaction that puts all elements into both maps."""
    batch = nl.message(_BEGIN, nl.REQUEST, struct.pack(">BBH", 0, 0, 10))
    keys = [struct.pack(">H", port) for port in ports]
    targets = [struct.pack(">H", to) for to in ports.values()]
    for name, data in zip(Nat.MAPS, ([nl.ip4("10.0.0.2")] * len(keys), targets), strict=True):
        for start in range(0, len(keys), _IN_ONE):
            pairs = zip(keys[start : start + _IN_ONE], data[start : start + _IN_ONE], strict=True)
            listed = b"".join(nl.attr(1 | _NESTED, _value(1, key) + _value(2, value)) for key, value in pairs)
            where = nl.attr(1, b"topo-bench\0") + nl.attr(2, name.encode() + b"\0")
            body = struct.pack(">BBH", _INET, 0, 0) + where + nl.attr(3 | _NESTED, listed)
            batch += nl.message(_NEWELEMENT, nl.REQUEST | 0x400, body)  # NLM_F_CREATE
    return batch + nl.message(_END, nl.REQUEST, struct.pack(">BBH", 0, 0, 10))


def _value(nla: int, data: bytes) -> bytes:
    return nl.attr(nla | _NESTED, nl.attr(1, data))


def _read_tables() -> list[tuple[Any, ...]]:
    """The tables of this namespace, their chains and rules as they come, and all elements of the maps, decoded."""
    sock = nl.opened(nl.NETFILTER)
    rows: list[tuple[Any, ...]] = []
    table = b""
    for kind in (_GETTABLE, _GETSET, _GETCHAIN, _GETRULE):
        for data in _dumped(sock, kind, b""):
            rows.append((kind, data))
            if kind == _GETTABLE:
                a = nl.places(data, 4, len(data))
                table = data[a[1] : data.index(0, a[1]) + 1]
    for name in Nat.MAPS:
        for data in _dumped(sock, _GETELEMENT, nl.attr(1, table) + nl.attr(2, name.encode() + b"\0")):
            _decode(data, rows)
    sock.close()
    return rows


def _dumped(sock: socket.socket, kind: int, body: bytes) -> list[bytes]:
    sock.send(nl.message(kind, nl.DUMP, struct.pack(">BBH", _INET, 0, 0) + body))
    found: list[bytes] = []
    while True:
        data, at = sock.recv(1 << 17), 0
        while at < len(data):
            size, answer, *_ = nl.HEADER.unpack_from(data, at)
            if answer == 3:  # NLMSG_DONE
                return found
            assert answer != 2, "refused"
            found.append(data[at + 16 : at + size])
            at += (size + 3) & ~3


def _decode(data: bytes, rows: list[tuple[Any, ...]]) -> None:
    attrs = nl.places(data, 4, len(data))
    at = attrs[3]
    end = at - 4 + (data[at - 4] | data[at - 3] << 8)
    unpack = nl.ATTR.unpack_from
    while at < end:
        size = unpack(data, at)[0]
        length = unpack(data, at + 4)[0]  # the key, in it its value; behind it the data
        second = at + 4 + length
        key = int.from_bytes(data[at + 12 : at + 14], "big")
        rows.append((key, data[second + 8 : second + 4 + unpack(data, second + 4)[0]]))
        at += size


@cache
def _nftables() -> ctypes.CDLL:
    library = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_run_cmd_from_buffer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    library.nft_ctx_free.argtypes = (ctypes.c_void_p,)
    return library


def _library(text: bytes) -> None:
    """Run commands in this namespace."""
    context = _nftables().nft_ctx_new(0)
    assert _nftables().nft_run_cmd_from_buffer(context, text) == 0, "nft refused"
    _nftables().nft_ctx_free(context)


def _nft(ns: str, *words: str) -> list[dict[str, Any]]:
    command = ["ip", "netns", "exec", ns, "nft", "-j", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return found


class Overlay(Lab):
    """A namespace with a VXLAN of `size` unicast peers: an FDB entry, a neighbour and an onlink route for each."""

    kind = "overlay"
    unit = "peers"
    in_host = ("u0",)

    def namespaces(self) -> list[str]:
        return ["node"]

    @staticmethod
    def _peer(i: int) -> tuple[str, str, str]:
        """Its address below, its MAC address, and its address above, which is its subnet's too."""
        return (
            f"10.1.{i // 250}.{i % 250 + 1}",
            f"0a:00:00:00:{i >> 8:02x}:{i & 255:02x}",
            f"10.{64 + (i >> 8)}.{i & 255}.0",
        )

    def _peers(self, changed: bool = False) -> list[tuple[str, str, str]]:
        found = [self._peer(i) for i in range(self.size)]
        if changed:
            found[self.size // 2] = ("10.2.0.1", *found[self.size // 2][1:])
        return found

    def text(self, changed: bool = False) -> str:
        lines = [f"topology: {self.name}", "namespaces:", "  node:", "    vxlans:", "      vx0:"]
        lines += ["        id: 42", f"        local: {_VTEP}", "        dev: under", "        peers:"]
        lines += [
            f"          - {{address: {below}, mac: '{mac}', ip: {above}, subnets: [{above}/24]}}"
            for below, mac, above in self._peers(changed)
        ]
        one, other = f"interface: 'node:under', addresses: {_VTEP}/24", "interface: u0, addresses: 192.0.2.2/24"
        return "\n".join([*lines, "links:", f"  - [{{{one}}}, {{{other}}}]"]) + "\n"

    def pieces(self) -> Pieces:
        pair = nl.Veth(("", "u0", _LINK), ("node", "under", _LINK))
        node = [nl.up(1), nl.up(_LINK), nl.address(_LINK, _VTEP, 24), _vxlan()]
        for below, mac, above in self._peers():
            hardware = bytes.fromhex(mac.replace(":", ""))
            fdb = nl.NDMSG.pack(7, _VXLAN, 0xC0, 2, 0) + nl.attr(2, hardware) + nl.attr(1, nl.ip4(below))
            neighbour = nl.NDMSG.pack(2, _VXLAN, 0x80, 0, 0) + nl.attr(1, nl.ip4(above)) + nl.attr(2, hardware)
            node += [nl.message(nl.NEWNEIGH, nl.NEW, fdb), nl.message(nl.NEWNEIGH, nl.NEW, neighbour)]
            node.append(nl.route(f"{above}/24", above, _VXLAN, onlink=True))
        host = [nl.address(_LINK, "192.0.2.2", 24)]
        return Pieces(["node"], {}, [], {"": [pair]}, {"": host, "node": node}, [])

    def reading(self) -> dict[str, Reading]:
        return {"node": Reading((nl.NEIGHBOURS, nl.FDB))}

    def batches(self) -> list[Batch]:
        node = ["link set lo up", f"address add {_VTEP}/24 dev under", "link set under up"]
        node.append(f"link add vx0 up type vxlan id 42 local {_VTEP} dev under dstport 4789 nolearning")
        forwarding = []
        for below, mac, above in self._peers():
            node += [f"neighbour add {above} lladdr {mac} dev vx0 nud permanent"]
            node += [f"route add {above}/24 via {above} dev vx0 onlink"]
            forwarding.append(f"fdb append {mac} dev vx0 dst {below} self permanent")
        return [
            make_namespaces(["node"]),
            Batch(
                ("ip", "-batch", "-"),
                "link add u0 up type veth peer name under netns node\naddress add 192.0.2.2/24 dev u0",
            ),
            within("node", node),
            within("node", forwarding, "bridge"),
        ]

    def check(self, changed: bool = False) -> None:
        self.check_names()
        peers = self._peers(changed)
        assert "vx0" in links_of("node")
        forwarding = {e["mac"]: e["dst"] for e in ip("-n", "node", "fdb", "show", "dev", "vx0", program="bridge")}
        assert forwarding == {mac: below for below, mac, _ in peers}, len(forwarding)
        neighbours = {
            e["dst"]: e["lladdr"] for e in ip("-n", "node", "-4", "neighbour", "show", "dev", "vx0", "nud", "permanent")
        }
        assert neighbours == {above: mac for _, mac, above in peers}, len(neighbours)
        routes = {e["dst"]: e["gateway"] for e in ip("-n", "node", "route", "show", "dev", "vx0")}
        assert routes == {f"{above}/24": above for _, _, above in peers}, len(routes)
        assert all(peers[i][2] in neighbours for i in some(self.size))


def _vxlan() -> bytes:
    data = nl.u32(1, 42) + nl.attr(4, nl.ip4(_VTEP)) + nl.u32(3, _LINK)  # IFLA_VXLAN_ID, _LOCAL, _LINK
    data += nl.attr(7, b"\0") + nl.attr(15, struct.pack(">H", 4789))  # IFLA_VXLAN_LEARNING, _PORT
    body = nl.IFINFO.pack(0, 0, _VXLAN, 1, 1) + nl.attr(3, b"vx0\0") + nl.u32(27, nl.GROUP)
    body += nl.u32(31, 1) + nl.u32(32, 1)
    return nl.message(nl.NEWLINK, nl.NEW, body + nl.attr(18, nl.attr(1, b"vxlan") + nl.attr(2, data)))
