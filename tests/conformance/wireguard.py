"""The cases of what WireGuard has beside its link, and the keys that they have."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from conformance.case import Case, each, spaces
from topo.facts import Fact, Ref, link
from topo.kinds.secret import digest
from topo.kinds.wg import public_of


def _private(word: str) -> bytes:
    return sha256(word.encode()).digest()


ONE, TWO = public_of(_private("one")), public_of(_private("two"))
PEER, OTHER_PEER = public_of(_private("peer")), public_of(_private("other peer"))
PSK, OTHER_PSK = digest(_private("psk")), digest(_private("other psk"))
SECRETS = {ONE: _private("one"), TWO: _private("two"), PSK: _private("psk"), OTHER_PSK: _private("other psk")}
"""What the run that is tested has read of files, by what facts call it."""

WIREGUARD_KEYS = {b64encode(_private(word)).decode(): digest(_private(word)) for word in ("psk", "other psk")}
"""What wg shows of preshared keys, and what facts call them."""


def wireguard_cases(ns: str) -> dict[str, Case]:
    around = (*spaces(ns), Fact(link(ns, "c0"), {"kind": "wireguard", "up": True, "master": None}))
    key = Fact(Ref("wireguard", ns, ("c0",)), {"public_key": ONE, "fwmark": 0})
    device = Case(
        "wireguard",
        Fact(key.ref, {**key.attrs, "fwmark": 5}),
        {
            **each("public_key", ONE, TWO),
            **each("listen_port", 51820, 51821),
            **each("fwmark", 5, 6, 0),
        },
        {
            "public_key": ("wg set c0 private-key /dev/null",),
            "listen_port": ("wg set c0 listen-port 777",),
            "fwmark": ("wg set c0 fwmark 9",),
        },
        ("wg set c0 private-key /dev/null fwmark 0",),
        around,
        full=True,
    )
    peer = Case(
        "wireguard_peer",
        Fact(
            Ref("wireguard_peer", ns, ("c0", PEER)),
            {"preshared_key": None, "persistent_keepalive": 0, "allowed_ips": "10.9.1.1/32 fd09:1::/64"},
        ),
        {
            **each("preshared_key", PSK, OTHER_PSK, None),
            **each("endpoint", "192.0.2.1:51820", "192.0.2.1:51821", "[2001:db8::1]:51820"),
            **each("persistent_keepalive", 25, 0, 9),
            **each("allowed_ips", "10.9.1.1/32 fd09:1::/64", "10.9.1.0/24", "", "10.9.1.1/32 10.9.2.0/24"),
        },
        {
            "preshared_key": (f"wg set c0 peer {PEER} preshared-key /dev/null",),
            "endpoint": (f"wg set c0 peer {PEER} endpoint 192.0.2.9:1",),
            "persistent_keepalive": (f"wg set c0 peer {PEER} persistent-keepalive 77",),
            "allowed_ips": (f"wg set c0 peer {PEER} allowed-ips 10.9.3.0/24",),
        },
        (f"wg set c0 peer {PEER} remove",),
        (*around, key),
        full=True,
    )
    return {"wireguard-device": device, "wireguard-peer": peer}
