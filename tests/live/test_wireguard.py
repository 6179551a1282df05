"""WireGuard under a kernel that has it (nox -s kernels): keys that nothing shows, peers that are left alone, rotation."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox.host import Host, until

pytestmark = pytest.mark.full

LAB = """
topology: lab
namespaces:
  a:
    interfaces:
      wg0:
        kind: wireguard
        private_key_file: {directory}/a.key
        listen_port: 51820
        addresses: 10.2.0.1/24
        peers:
          - {{public_key: {b}, endpoint: "10.1.0.2:51820", allowed_ips: 10.2.0.2, preshared_key_file: {directory}/psk}}
{more}
  b:
    interfaces:
      wg0:
        kind: wireguard
        private_key_command: [cat, {directory}/b.key]
        listen_port: 51820
        addresses: 10.2.0.2/24
        peers:
          - {{public_key: {a}, allowed_ips: 10.2.0.1, preshared_key_file: {directory}/psk}}
links:
  - [{{interface: a:eth0, addresses: 10.1.0.1/24}}, {{interface: b:eth0, addresses: 10.1.0.2/24}}]
checks:
  - {{from: a, ping: 10.2.0.2}}
"""


class Lab:
    """Two ends, and their keys in files."""

    def __init__(self, host: Host) -> None:
        self.host, self.directory = host, host.directory
        self.said = ""
        for name in ("a.key", "b.key"):
            self.renew(name)
        self._write("psk", wg("genpsk"))

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.touch(0o600)
        path.write_text(text + "\n")

    def renew(self, name: str) -> None:
        self._write(name, wg("genkey"))

    def public(self, name: str) -> str:
        return wg("pubkey", (self.directory / name).read_text())

    def file(self, more: str = "") -> Path:
        text = LAB.format(directory=self.directory, a=self.public("a.key"), b=self.public("b.key"), more=more)
        return self.host.file(text)

    def topo(self, *arguments: str | Path) -> int:
        """A run whose words are kept."""
        result = self.host.topo(*arguments)
        self.said += result.text
        return result.code

    def handshake(self, ns: str) -> int:
        return int(self.host.run("wg show wg0 latest-handshakes", ns).split()[1])


def wg(word: str, text: str = "") -> str:
    return subprocess.run(["wg", word], input=text, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def lab(host: Host) -> Iterator[Lab]:
    lab = Lab(host)
    yield lab
    host.ok("destroy", "lab")


def test_keys_are_nowhere(lab: Lab) -> None:
    """In no output, plan, record or draft of one; and the kernel has them."""
    secrets = [(lab.directory / name).read_text().strip() for name in ("a.key", "b.key", "psk")]
    lab.file()
    path, plan = lab.directory / "lab.yaml", lab.directory / "plan.json"
    assert lab.topo("diff", path) == 1
    assert lab.topo("plan", path, "-o", plan) in (0, 1)
    assert lab.topo("apply", "--output", "json", path) == 0
    assert lab.host.run("wg show wg0 private-key", "a").strip() == secrets[0]
    assert lab.host.run("wg show wg0 preshared-keys", "a").split()[1] == secrets[2]
    old = [(lab.directory / "a.key").read_text().strip()]
    lab.renew("a.key")
    for arguments in (("diff", "--output", "json"), ("diff",), ("apply",)):
        lab.topo(*arguments, path)
    assert lab.topo("show", "lab") == 0
    text = lab.said + plan.read_text() + "".join(p.read_text() for p in Path("/run/topo").rglob("*") if p.is_file())
    assert lab.public("a.key") in text
    for secret in (*secrets, *old, (lab.directory / "a.key").read_text().strip()):
        raw = base64.b64decode(secret)
        assert not any(form in text for form in (secret, raw.hex(), raw.hex(":"), repr(raw)[2:-1]))


def test_a_peer_comes_and_goes_beside_the_others(lab: Lab) -> None:
    host, path = lab.host, lab.file()
    host.ok("apply", path)
    host.ok("check", path)
    before = lab.handshake("a")
    assert before > 0
    other = wg("pubkey", wg("genkey"))
    host.ok("apply", lab.file(f"          - {{public_key: {other}, allowed_ips: [10.2.0.9, 10.3.0.0/16]}}"))
    assert other in host.run("wg show wg0 peers", "a")
    assert lab.handshake("a") == before, "the session of the other peer goes on"
    host.ok("apply", lab.file())
    assert other not in host.run("wg show wg0 peers", "a")
    assert lab.handshake("a") == before
    index = host.link("a", "wg0")["ifindex"]
    lab.renew("a.key")
    result = host.topo("diff", lab.file())
    assert "public_key" in result.out
    assert lab.public("a.key") in result.out
    host.ok("apply", path)
    assert host.link("a", "wg0")["ifindex"] == index, "a key changes in place"
    assert until(lambda: host.ping("a", "10.2.0.2"))


def test_a_rotation_that_fails_gives_the_old_key_back(lab: Lab) -> None:
    """The new file asks for a link that the kernel refuses when the key has been changed already."""
    host, path = lab.host, lab.file()
    host.ok("apply", path)
    old = host.run("wg show wg0 private-key", "a")
    lab.renew("a.key")
    host.run("ip link add blocker type wireguard", "b")
    host.run("wg set blocker listen-port 51999", "b")
    host.run("ip link set blocker up", "b")
    try:
        text = lab.file().read_text()
        head, _, tail = text.rpartition("listen_port: 51820")
        host.file(head + "listen_port: 51999" + tail)
        result = host.topo("apply", path)
        assert result.code == 3, result.text
        assert "Address already in use" in result.text
        assert host.run("wg show wg0 private-key", "a") == old
        assert host.run("wg show wg0 listen-port", "b").strip() == "51820"
    finally:
        host.run("ip link del blocker", "b")


def test_a_bad_key_touches_nothing(lab: Lab) -> None:
    host, path = lab.host, lab.file()
    (lab.directory / "a.key").write_text("this is no key\n")
    result = host.topo("apply", path)
    assert result.code == 2
    assert f"{path.name}:8:" in result.text
    assert "44 characters of base64" in result.text
    assert "this is no key" not in result.text
    assert host.namespaces() == set()
