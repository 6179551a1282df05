"""What WireGuard's interfaces have beside their link: a key and a port, and their peers (linux/wireguard.h, wg(8)).

Both travel by the generic netlink family `wireguard`. The device's fact is there only where it has a key or a mark; to
delete that takes both away. A peer is a fact of its own, so that a change of one leaves the others, and their
sessions, alone. Keys: topo.kinds.secret.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from topo.changes import CREATE, DELETE, UPDATE, Env, Genl, Op
from topo.facts import Fact, Ref, link
from topo.kinds.curve25519 import public
from topo.kinds.kind import DesiredView, Kind, View, stated_differences
from topo.kinds.secret import Secret, base64_key, digest
from topo.wire import AF_INET, AF_INET6, U16, U32, attr, attr_u32, attribute_list, attributes, nest, pack_ip, unpack_ip

FAMILY: Final = "wireguard"
VERSION: Final = 1
WG_CMD_GET_DEVICE, WG_CMD_SET_DEVICE = 0, 1
_IFINDEX, _IFNAME, _PRIVATE_KEY, _PUBLIC_KEY, _LISTEN_PORT, _FWMARK, _PEERS = 1, 2, 3, 4, 6, 7, 8  # WGDEVICE_A_*
_PEER_KEY, _PRESHARED_KEY, _FLAGS, _ENDPOINT, _KEEPALIVE, _ALLOWED_IPS = 1, 2, 3, 4, 5, 9  # WGPEER_A_*
_REMOVE_ME, _REPLACE_ALLOWED_IPS, _UPDATE_ONLY = 1, 2, 4  # WGPEER_F_*
_IP_FAMILY, _IP_ADDRESS, _IP_LENGTH = 1, 2, 3  # WGALLOWEDIP_A_*
_AT_ONCE: Final = 1000  # allowed IPs in one request: an attribute has 64 KiB at most
_ZEROS: Final = bytes(32)
_SOCKADDR_IN: Final = struct.Struct("=H2s4s8x")
_SOCKADDR_IN6: Final = struct.Struct("=H2sI16sI")


def key_text(key: bytes) -> str:
    return b64encode(key).decode()


def public_of(private: bytes) -> str:
    """The public key of a private one, as wg(8) writes it."""
    return key_text(public(private))


# The device


def encode_device(op: Op, env: Env) -> Sequence[Genl]:
    ref = op.ref
    attrs: Mapping[str, Any] = {"public_key": None, "fwmark": 0} if op.new is None else op.new.attrs
    names = op.attrs if op.verb == UPDATE else attrs
    parts = []
    if "public_key" in names:
        key = attrs.get("public_key")
        parts.append(attr(_PRIVATE_KEY, env.secret(key) if key else _ZEROS))
    if "listen_port" in names:
        parts.append(attr(_LISTEN_PORT, U16.pack(attrs["listen_port"])))
    if "fwmark" in names:
        parts.append(attr_u32(_FWMARK, attrs.get("fwmark", 0)))
    return [_set(ref, env, *parts)] if parts else []


def _set(ref: Ref, env: Env, *parts: bytes) -> Genl:
    body = attr_u32(_IFINDEX, env.index(ref.ns, ref.key[0])) + b"".join(parts)
    return Genl(ref.ns, FAMILY, WG_CMD_SET_DEVICE, VERSION, body)


def requires_device(fact: Fact, _: DesiredView) -> Iterable[Ref]:
    yield link(fact.ref.ns, fact.ref.key[0])


def claims_device(fact: Fact) -> Iterable[tuple[Any, ...]]:
    """A UDP port is one device's (EADDRINUSE)."""
    if port := fact.attrs.get("listen_port"):
        yield "udp", fact.ref.ns, port


def describe_device(fact: Fact) -> str:
    words = (("public key", "public_key"), ("port", "listen_port"))
    return " ".join(f"{word} {fact.attrs[name]}" for word, name in words if fact.attrs.get(name))


# Peers


def encode_peer(op: Op, env: Env) -> Sequence[Genl]:
    _, key = op.ref.key
    identity = attr(_PEER_KEY, base64_key(key))
    if op.verb == DELETE or op.new is None:
        return [_peer(op.ref, env, identity, _REMOVE_ME)]
    attrs = op.new.attrs
    names = op.attrs if op.verb == UPDATE else ("preshared_key", "endpoint", "persistent_keepalive", "allowed_ips")
    parts = [identity]
    if "preshared_key" in names:
        psk = attrs.get("preshared_key")
        parts.append(attr(_PRESHARED_KEY, env.secret(psk) if psk else _ZEROS))
    if "endpoint" in names and attrs.get("endpoint"):
        parts.append(attr(_ENDPOINT, pack_endpoint(attrs["endpoint"])))
    if "persistent_keepalive" in names:
        parts.append(attr(_KEEPALIVE, U16.pack(attrs.get("persistent_keepalive", 0))))
    flags = 0 if op.verb == CREATE else _UPDATE_ONLY
    if "allowed_ips" not in names:
        return [_peer(op.ref, env, b"".join(parts), flags)]
    ips = str(attrs.get("allowed_ips", "")).split()
    first, *rest = [ips[at : at + _AT_ONCE] for at in range(0, len(ips), _AT_ONCE)] or [[]]
    made = _peer(op.ref, env, b"".join((*parts, _allowed(first))), flags | _REPLACE_ALLOWED_IPS)
    return [made, *(_peer(op.ref, env, identity + _allowed(more), _UPDATE_ONLY) for more in rest)]


def _peer(ref: Ref, env: Env, body: bytes, flags: int) -> Genl:
    return _set(ref, env, nest(_PEERS, nest(0, body, attr_u32(_FLAGS, flags))))


def _allowed(ips: Iterable[str]) -> bytes:
    return nest(_ALLOWED_IPS, *(nest(0, *_one_allowed(ip)) for ip in ips))


def _one_allowed(prefix: str) -> Iterator[bytes]:
    ip, _, length = prefix.partition("/")
    yield attr(_IP_FAMILY, U16.pack(AF_INET6 if ":" in ip else AF_INET))
    yield attr(_IP_ADDRESS, pack_ip(ip))
    yield attr(_IP_LENGTH, bytes([int(length)]))


def pack_endpoint(text: str) -> bytes:
    """A struct sockaddr_in or sockaddr_in6."""
    ip, _, port = text.rpartition(":")
    address, number = pack_ip(ip.strip("[]")), int(port).to_bytes(2, "big")
    if len(address) == 4:
        return _SOCKADDR_IN.pack(AF_INET, number, address)
    return _SOCKADDR_IN6.pack(AF_INET6, number, 0, address, 0)


def unpack_endpoint(data: bytes) -> str | None:
    if len(data) == _SOCKADDR_IN.size:
        _, port, address = _SOCKADDR_IN.unpack(data)
        return f"{unpack_ip(address)}:{int.from_bytes(port, 'big')}"
    if len(data) == _SOCKADDR_IN6.size:
        _, port, _, address, _ = _SOCKADDR_IN6.unpack(data)
        return f"[{unpack_ip(address)}]:{int.from_bytes(port, 'big')}"
    return None


def in_order(prefixes: Iterable[str]) -> str:
    """Allowed IPs as one text, in an order that is the same whoever tells them."""

    def number(prefix: str) -> tuple[int, bytes, int]:
        ip, _, length = prefix.partition("/")
        address = pack_ip(ip)
        return len(address), address, int(length)

    return " ".join(sorted(prefixes, key=number))


def compare_peer(desired: Fact, live: Fact) -> tuple[str, ...]:
    """An endpoint is never taken away: the kernel has no word for that, and learns one from whoever speaks with the key."""
    names = stated_differences(desired, live)
    return tuple(name for name in names if name != "endpoint" or desired.attrs[name])


def requires_peer(fact: Fact, _: DesiredView) -> Iterable[Ref]:
    ns, ifname = fact.ref.ns, fact.ref.key[0]
    yield link(ns, ifname)
    yield Ref("wireguard", ns, (ifname,))


def describe_peer(fact: Fact) -> str:
    words = (("endpoint", "endpoint"), ("allowed", "allowed_ips"))
    return " ".join(f"{word} {fact.attrs[name]}" for word, name in words if fact.attrs.get(name))


# Reading


def request(index: int) -> bytes:
    """The attributes that a dump of one device is asked for with."""
    return attr_u32(_IFINDEX, index)


def decode(messages: Iterable[bytes], ifname: str, view: View, origin: str, secrets: dict[str, bytes]) -> list[Fact]:
    """The facts of one device from all messages of its dump: a peer that is too long for one goes on in the next.

    The keys go into `secrets`.
    """
    device: dict[str, Any] = {"public_key": None, "fwmark": 0, "listen_port": 0}
    peers: dict[str, dict[str, Any]] = {}
    ips: dict[str, list[str]] = {}
    for message in messages:
        found = attributes(message)
        private = found.get(_PRIVATE_KEY, b"")
        if len(private) == 32 and any(private) and _PUBLIC_KEY in found:
            device["public_key"] = key_text(found[_PUBLIC_KEY])
            secrets[device["public_key"]] = private
        for name, nla, form in (("listen_port", _LISTEN_PORT, U16), ("fwmark", _FWMARK, U32)):
            if nla in found:
                device[name] = form.unpack(found[nla])
        for _, data in attribute_list(found.get(_PEERS, b"")):
            peer = attributes(data)
            if len(peer.get(_PEER_KEY, b"")) != 32:
                continue
            key = key_text(peer[_PEER_KEY])
            if key not in peers:
                peers[key] = _of_peer(peer, secrets)
            ips.setdefault(key, []).extend(_ips(peer))
    facts = [
        Fact(Ref("wireguard_peer", view.ns, (ifname, key)), {**attrs, "allowed_ips": in_order(ips[key])}, origin)
        for key, attrs in peers.items()
    ]
    if device["public_key"] or device["fwmark"]:
        facts.insert(0, Fact(Ref("wireguard", view.ns, (ifname,)), device, origin))
    return facts


def _of_peer(peer: dict[int, bytes], secrets: dict[str, bytes]) -> dict[str, Any]:
    psk = peer.get(_PRESHARED_KEY, b"")
    told = digest(psk) if any(psk) else None
    if told:
        secrets[told] = psk
    return {
        "endpoint": unpack_endpoint(peer.get(_ENDPOINT, b"")),
        "preshared_key": told,
        "persistent_keepalive": U16.unpack(peer[_KEEPALIVE]) if _KEEPALIVE in peer else 0,
    }


def _ips(peer: dict[int, bytes]) -> Iterator[str]:
    for _, data in attribute_list(peer.get(_ALLOWED_IPS, b"")):
        found = attributes(data)
        if len(address := found.get(_IP_ADDRESS, b"")) in (4, 16) and found.get(_IP_LENGTH):
            yield f"{unpack_ip(address)}/{found[_IP_LENGTH][0]}"


WIREGUARD_DEVICE: Final = Kind(
    "wireguard",
    encode_device,
    requires=requires_device,
    claims=claims_device,
    describe=describe_device,
    secrets={"private_key": Secret("public_key", base64_key, public_of)},
)
WIREGUARD_PEER: Final = Kind(
    "wireguard_peer",
    encode_peer,
    requires=requires_peer,
    compare=compare_peer,
    describe=describe_peer,
    secrets={"preshared_key": Secret("preshared_key", base64_key, digest)},
)
