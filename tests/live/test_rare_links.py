"""Packets through pairs of CAN and netkit, HSR, PRP and MACsec, under a kernel that has them (nox -s kernels)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import partial

import pytest
from sandbox.host import Host, until

pytestmark = pytest.mark.full


@pytest.fixture(autouse=True)
def cleared(host: Host) -> Iterator[None]:
    yield
    host.ok("destroy", host.directory / "lab.yaml")


def applied(host: Host, text: str) -> None:
    path = host.file("topology: lab\nnamespaces: {a: {}, b: {}}\n" + text if "namespaces" not in text else text)
    host.ok("apply", path)
    host.ok("diff", path)


_CAN = """
import socket, struct, sys
bus = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
bus.bind((sys.argv[1],))
bus.settimeout(20)
if len(sys.argv) > 2:
    bus.send(struct.pack("=IB3x8s", 0x123, 2, b"hi"))
else:
    print("ready", flush=True)
    number, size, data = struct.unpack("=IB3x8s", bus.recv(16))
    print(hex(number), data[:size].decode())
"""


def test_vxcan(host: Host) -> None:
    applied(host, "links: [{ends: [a:can0, b:can0], kind: vxcan}]")
    heard = host.start(sys.executable, "-c", _CAN, "can0", ns="b")
    assert heard.stdout is not None
    assert heard.stdout.readline().strip() == "ready"
    host.start(sys.executable, "-c", _CAN, "can0", "send", ns="a").wait(20)
    assert heard.communicate(timeout=20)[0].strip() == "0x123 hi"


@pytest.mark.parametrize("mode", ["l2", "l3"])
def test_netkit(host: Host, mode: str) -> None:
    lab = f"links: [{{ends: [a:eth0, b:eth0], kind: netkit, mode: {mode}, subnet: 10.1.0.0/24%s}}]"
    applied(host, lab % "")
    assert host.ping("a", "10.1.0.2")
    applied(host, lab % ", policy: blackhole")
    assert host.fails("ping -c1 -W1 10.1.0.2", "a")


_RING = """
topology: lab
namespaces: {{a: {{{0}}}, b: {{{0}}}}}
links: [[a:p0, b:p0], [a:p1, b:p1]]
"""


def has_carrier(host: Host, ifname: str) -> bool:
    return "LOWER_UP" in host.link("a", ifname)["flags"]


@pytest.mark.parametrize("proto", ["hsr", "prp"])
def test_hsr(host: Host, proto: str) -> None:
    """Whichever of the two ways is cut, nothing is lost."""
    node = "interfaces: {{hsr0: {{kind: hsr, slave1: p0, slave2: p1, proto: {}, addresses: 10.1.0.{}/24}}}}"
    text = _RING.format("%s")
    applied(host, text % (node.format(proto, 1), node.format(proto, 2)))
    assert until(lambda: host.ping("a", "10.1.0.2"))
    for way in ("p0", "p1"):
        process = host.start("ping", "-q", "-c20", "-i0.1", "10.1.0.2", ns="a")
        host.run(f"ip link set {way} down", "b")
        words = process.communicate(timeout=60)[0]
        host.run(f"ip link set {way} up", "b")
        assert re.search(r"\b20 received", words), words
        assert until(partial(has_carrier, host, way))


def test_macsec(host: Host) -> None:
    """With keys that somebody else sets."""
    lab = "links: [[a:eth0, b:eth0]]\n"
    spaces = (
        f"{ns}: {{interfaces: {{ms0: {{kind: macsec, parent: eth0, encrypt: true, addresses: 10.1.0.{n}/24}}}}}}"
        for n, ns in ((1, "a"), (2, "b"))
    )
    applied(host, f"topology: lab\nnamespaces: {{{', '.join(spaces)}}}\n{lab}")
    keys = {"a": "00" * 16, "b": "11" * 16}
    for ns, other in (("a", "b"), ("b", "a")):
        mac = host.link(other, "eth0")["address"]
        host.run(f"ip macsec add ms0 tx sa 0 pn 1 on key 01 {keys[ns]}", ns)
        host.run(f"ip macsec add ms0 rx port 1 address {mac}", ns)
        host.run(f"ip macsec add ms0 rx port 1 address {mac} sa 0 pn 1 on key 02 {keys[other]}", ns)
    assert host.ping("a", "10.1.0.2")
    host.ok("diff", host.directory / "lab.yaml")  # the keys are nobody's drift
    host.start("ping", "-q", "-c3", "-i0.3", "10.1.0.2", ns="a")
    seen = host.run("tcpdump -nnlc3 -i eth0", "b")
    assert "ICMP echo" not in seen
    assert "0x88e5" in seen or "MACsec" in seen or "802.1AE" in seen
