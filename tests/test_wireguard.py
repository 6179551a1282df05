"""WireGuard's facts: what is sent and read, against pyroute2; keys from files and commands, which nothing shows."""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroute2.netlink.generic.wireguard import wgmsg
from test_codec_links import Env

import topo
from topo.changes import CREATE, DELETE, UPDATE, Change, Genl, Op
from topo.errors import InputError
from topo.facts import OWN, Desired, Fact, Ref
from topo.kernel.keys import Keys
from topo.kinds import wg
from topo.kinds.curve25519 import public
from topo.kinds.secret import Source, digest
from topo.planning.plan import Plan

KEY = base64.b64encode(bytes(range(32))).decode()
PEER = base64.b64encode(bytes(range(32, 64))).decode()
DEVICE, OTHER = Ref("wireguard", "web", ("wg0",)), Ref("wireguard_peer", "web", ("wg0", PEER))
GENLMSGHDR = 4


@given(st.binary(min_size=32, max_size=32))
@settings(max_examples=20)
def test_public_keys_are_those_of_wg(private: bytes) -> None:
    told = subprocess.run(["wg", "pubkey"], input=base64.b64encode(private), capture_output=True, check=True).stdout
    assert public(private) == base64.b64decode(told)


def read(request: Genl) -> Any:
    """What pyroute2 finds in a request."""
    body = struct.pack("=IHHIIBBH", 20 + len(request.body), 50, 5, 1, 0, request.command, request.version, 0)
    message = wgmsg(body + request.body)
    message.decode()
    return message


def test_a_device_is_sent_as_pyroute2_reads_it() -> None:
    op = Op(CREATE, DEVICE, Fact(DEVICE, {"public_key": KEY, "listen_port": 51820, "fwmark": 7}), None)
    (request,) = wg.encode_device(op, Env())
    message = read(request)
    assert message.get_attr("WGDEVICE_A_IFINDEX") == 1000
    assert message.get_attr("WGDEVICE_A_LISTEN_PORT") == 51820
    assert message.get_attr("WGDEVICE_A_FWMARK") == 7
    assert base64.b64decode(message.get_attr("WGDEVICE_A_PRIVATE_KEY")) == b"\1" * 32


def test_one_attribute_changes_alone() -> None:
    old, new = (Fact(DEVICE, {"public_key": KEY, "listen_port": port, "fwmark": 0}) for port in (1, 2))
    (request,) = wg.encode_device(Op(UPDATE, DEVICE, new, old, ("listen_port",)), Env())
    message = read(request)
    assert message.get_attr("WGDEVICE_A_LISTEN_PORT") == 2
    assert message.get_attr("WGDEVICE_A_PRIVATE_KEY") is None
    assert message.get_attr("WGDEVICE_A_FWMARK") is None


def peer_of(request: Genl) -> Any:
    (peer,) = read(request).get_attr("WGDEVICE_A_PEERS")
    return peer


@pytest.mark.parametrize("endpoint", ["192.0.2.1:51820", "[2001:db8::1]:1"])
def test_a_peer_is_sent_as_pyroute2_reads_it(endpoint: str) -> None:
    attrs = {"preshared_key": "digest x", "endpoint": endpoint, "persistent_keepalive": 25}
    fact = Fact(OTHER, {**attrs, "allowed_ips": "10.0.0.2/32 fd00::/64"})
    (request,) = wg.encode_peer(Op(CREATE, OTHER, fact, None), Env())
    peer = peer_of(request)
    assert peer.get_attr("WGPEER_A_PUBLIC_KEY") == PEER.encode()
    assert peer.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") == 25
    assert peer.get_attr("WGPEER_A_FLAGS") == 2, "what it was allowed before, it is not now"
    found = peer.get_attr("WGPEER_A_ENDPOINT")
    assert f"{found['addr'] if '.' in found['addr'] else '[' + found['addr'] + ']'}:{found['port']}" == endpoint
    allowed = peer.get_attr("WGPEER_A_ALLOWEDIPS")
    assert [ip["addr"] for ip in allowed if isinstance(ip, dict)] == ["10.0.0.2/32", "fd00::/64"]


def test_a_peer_that_goes_is_the_only_one_that_is_named() -> None:
    (request,) = wg.encode_peer(Op(DELETE, OTHER, None, Fact(OTHER, {})), Env())
    peer = peer_of(request)
    assert peer.get_attr("WGPEER_A_FLAGS") == 1
    assert peer.get_attr("WGPEER_A_PUBLIC_KEY") == PEER.encode()
    assert read(request).get_attr("WGDEVICE_A_FLAGS") is None, "the others stay"


def test_more_allowed_ips_than_a_message_takes() -> None:
    ips = [f"10.{i >> 8}.{i & 255}.0/24" for i in range(2500)]
    fact = Fact(OTHER, {"preshared_key": None, "persistent_keepalive": 0, "allowed_ips": wg.in_order(ips)})
    requests = wg.encode_peer(Op(CREATE, OTHER, fact, None), Env())
    assert [peer_of(request).get_attr("WGPEER_A_FLAGS") for request in requests] == [2, 4, 4]
    assert all(len(request.body) < 65536 for request in requests)
    view: Any = SimpleNamespace(ns="web")
    secrets: dict[str, bytes] = {}
    assert wg.decode([request.body for request in requests], "wg0", view, OWN, secrets) == [
        Fact(OTHER, {**fact.attrs, "endpoint": None})
    ]


def test_what_is_told_and_what_is_kept() -> None:
    sent = wg.encode_device(Op(CREATE, DEVICE, Fact(DEVICE, {"public_key": KEY, "fwmark": 3}), None), Env())
    body = sent[0].body + struct.pack("=HH", 36, 4) + base64.b64decode(KEY)
    secrets: dict[str, bytes] = {}
    view: Any = SimpleNamespace(ns="web")
    facts = wg.decode([body], "wg0", view, OWN, secrets)
    assert facts == [Fact(DEVICE, {"public_key": KEY, "fwmark": 3, "listen_port": 0})]
    assert secrets == {KEY: b"\1" * 32}


LAB = """\
topology: lab
interfaces:
  wg0:
    kind: wireguard
    private_key_{how}
    peers:
      - public_key: {peer}
        preshared_key_file: {psk}
        allowed_ips: 10.0.0.2
"""


class Lab:
    """A file with a key and a preshared key of its own."""

    def __init__(self, directory: Path) -> None:
        self.private, self.psk = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
        self.key_file, self.psk_file = directory / "key", directory / "psk"
        for path, text in ((self.key_file, self.private), (self.psk_file, self.psk)):
            path.touch(0o600)
            path.write_text(text + "\n")

    def desired(self, how: str = "") -> Desired:
        text = LAB.format(how=how or f"file: {self.key_file}", peer=PEER, psk=self.psk_file)
        return topo.lower(topo.loads(text))

    def told(self, how: str = "") -> tuple[Keys, Desired]:
        keys = Keys()
        return keys, keys.told(self.desired(how))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_facts_have_the_public_key_and_a_digest(lab: Lab) -> None:
    assert isinstance(lab.desired().facts[Ref("wireguard", "host", ("wg0",))].attrs["private_key"], Source)
    keys, desired = lab.told()
    device, peer = (
        desired.facts[Ref(kind, "host", key)] for kind, key in (("wireguard", ("wg0",)), (OTHER.kind, OTHER.key))
    )
    assert device.attrs == {"public_key": wg.public_of(base64.b64decode(lab.private)), "fwmark": 0}
    assert peer.attrs["preshared_key"] == digest(base64.b64decode(lab.psk))
    assert set(keys.known.values()) == {base64.b64decode(lab.private), base64.b64decode(lab.psk)}
    assert keys.warnings == []


def test_nothing_that_is_written_has_a_key(lab: Lab) -> None:
    """Neither a plan, nor what the record holds of the file, nor the facts as text."""
    _, desired = lab.told()
    changes = tuple(Change(CREATE, ref, fact, None) for ref, fact in desired.facts.items())
    text = json.dumps(Plan("lab", changes, desired).to_json()) + repr(desired) + json.dumps(dict(desired.document))
    for secret in (lab.private, lab.psk):
        raw = base64.b64decode(secret)
        assert not any(form in text for form in (secret, raw.hex(), repr(raw)[2:-1]))


@pytest.mark.parametrize(
    "how, words",
    [
        ("file: /nowhere/key", "cannot read the key in /nowhere/key: No such file or directory"),
        ("file: /dev/null", "/dev/null is no regular file"),
        ("command: [/nowhere/key]", "cannot run the command /nowhere/key: No such file or directory"),
        ("command: ['false']", "the command false failed (exit code 1)"),
        ("command: [echo, c2hvcnQ=]", "44 characters of base64 are expected"),
    ],
)
def test_what_gives_no_key_is_an_error_at_its_place(lab: Lab, how: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        lab.told(how)
    (diagnostic,) = error.value.diagnostics
    assert words in diagnostic.message
    assert diagnostic.path == f"interfaces.wg0.private_key_{how.partition(':')[0]}"
    assert "c2hvcnQ" not in str(error.value).replace("[echo, c2hvcnQ=]", "")


def test_a_bad_key_is_not_shown(lab: Lab) -> None:
    lab.key_file.write_text("my-secret-that-is-no-key\n")
    with pytest.raises(InputError) as error:
        lab.told()
    assert "my-secret" not in str(error.value)


def test_a_command_gives_a_key(lab: Lab) -> None:
    _, desired = lab.told(f"command: [cat, {lab.key_file}]")
    assert desired.facts[Ref("wireguard", "host", ("wg0",))] == lab.told()[1].facts[Ref("wireguard", "host", ("wg0",))]


def test_a_key_that_everybody_can_read_is_warned_of(lab: Lab) -> None:
    lab.key_file.chmod(0o644)
    keys, _ = lab.told()
    (warning,) = keys.warnings
    assert str(lab.key_file) in warning
    assert "chmod 600" in warning


def test_a_peer_cannot_have_the_interfaces_own_key(lab: Lab) -> None:
    own = wg.public_of(base64.b64decode(lab.private))
    text = LAB.format(how=f"file: {lab.key_file}", peer=own, psk=lab.psk_file)
    with pytest.raises(InputError, match="the public key of wg0 itself"):
        Keys().told(topo.lower(topo.loads(text)))


@pytest.mark.parametrize(
    "peers, words",
    [
        (f"[{{public_key: {PEER}, allowed_ips: 10.0.0.1/24}}]", "host bits"),
        (f"[{{public_key: {PEER}}}, {{public_key: {PEER}}}]", "it can be of one only"),
        (f"[{{public_key: {PEER}, endpoint: 'host:1'}}]", "IPv4 or IPv6"),
        ("[{public_key: abc}]", "44 characters"),
        (f"[{{public_key: {PEER}, preshared_key: x}}]", "preshared_key"),
    ],
)
def test_peers_that_are_wrong(peers: str, words: str) -> None:
    text = f"topology: lab\ninterfaces: {{wg0: {{kind: wireguard, private_key_file: /a, peers: {peers}}}}}"
    with pytest.raises(InputError, match=words):
        topo.loads(text)


@pytest.mark.parametrize("word", ["private_key", "private_key_file", "preshared_key"])
def test_a_key_in_the_file_itself_is_not_shown(word: str) -> None:
    text = f"topology: lab\ninterfaces:\n  wg0:\n    kind: wireguard\n    {word}: {KEY}\n"
    with pytest.raises(InputError) as error:
        topo.loads(text)
    assert word in str(error.value)
    assert KEY not in str(error.value)
