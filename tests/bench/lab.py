"""The lab that is measured: a star of namespaces around one bridge. iproute2 is the witness that it was built."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from typing import Any, NamedTuple

BRIDGE = "br0"
IFNAME = "eth0"
PREFIX = 16
_NETWORK = ipaddress.IPv4Network("10.100.0.0/16")


class Star(NamedTuple):
    """`size` namespaces, each with a veth to one bridge, `lo` up, an address and a default route via the bridge."""

    size: int

    @property
    def name(self) -> str:
        return f"bench-{self.size}"

    @property
    def gateway(self) -> str:
        return str(_NETWORK[1])

    def namespaces(self) -> list[str]:
        return [f"h{number}" for number in range(1, self.size + 1)]

    def address(self, index: int) -> str:
        """The address of the namespace at `index`, from 0, as the bridge's subnet gives them out."""
        return str(_NETWORK[2 + index])

    def text(self, mtu: int | None = None) -> str:
        """The topology file; `mtu`: of the first namespace's interface, which is otherwise the kernel's to choose."""
        first = f"[{{interface: 'h1:{IFNAME}', mtu: {mtu}}}, {BRIDGE}]" if mtu else f"['h1:{IFNAME}', {BRIDGE}]"
        return (
            f"topology: {self.name}\n"
            f"bridges: {{{BRIDGE}: {{subnet: {_NETWORK}}}}}\n"
            f"namespaces: {{'h[1-{self.size}]': {{}}}}\n"
            f"links:\n  - {first}\n  - ['h[2-{self.size}]:{IFNAME}', {BRIDGE}]\n"
        )

    def check(self, mtu: int = 1500) -> None:
        """See that the lab is there. Raises AssertionError."""
        ports = [link["ifname"] for link in _ip("link", "show", "master", BRIDGE, "up")]
        assert len(ports) == self.size, f"{len(ports)} ports of {BRIDGE}, not {self.size}"
        assert sorted(os.listdir("/run/netns")) == sorted(self.namespaces())
        for index in sorted({0, 1, self.size // 3, self.size // 2, self.size - 1}):
            self._check_one(f"h{index + 1}", self.address(index), mtu if index == 0 else 1500)
        assert self.gateway in _addresses(_ip("address", "show", "dev", BRIDGE))

    def _check_one(self, ns: str, address: str, mtu: int) -> None:
        links = {link["ifname"]: link for link in _ip("-n", ns, "address", "show")}
        assert set(links) == {"lo", IFNAME}, links
        assert all("UP" in link["flags"] for link in links.values()), links
        assert links[IFNAME]["mtu"] == mtu, links[IFNAME]
        assert address in _addresses([links[IFNAME]]), links[IFNAME]
        assert [route["gateway"] for route in _ip("-n", ns, "route", "show", "default")] == [self.gateway]

    @staticmethod
    def check_gone() -> None:
        """See that nothing of it is left. Raises AssertionError."""
        assert os.listdir("/run/netns") == []
        assert [link["ifname"] for link in _ip("link", "show")] == ["lo"]

    # iproute2 as a contender

    def batches(self) -> list[str]:
        """What `ip -batch` is fed: namespaces, links, and then one for the inside of each."""
        names = self.namespaces()
        links = [f"link add {BRIDGE} up type bridge", f"address add {self.gateway}/{PREFIX} dev {BRIDGE}"]
        links += [f"link add v{n} up master {BRIDGE} type veth peer name {IFNAME} netns {n}" for n in names]
        return ["\n".join(f"netns add {n}" for n in names), "\n".join(links)]

    def inside(self, index: int) -> str:
        return (
            f"link set lo up\naddress add {self.address(index)}/{PREFIX} dev {IFNAME}\n"
            f"link set {IFNAME} up\nroute add default via {self.gateway}\n"
        )


def _ip(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(["ip", "-j", *arguments], capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return [entry for entry in found if entry]


def _addresses(links: list[dict[str, Any]]) -> list[str]:
    return [info["local"] for link in links for info in link.get("addr_info", ())]
