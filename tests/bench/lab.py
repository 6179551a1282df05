"""What every lab is: a topology file, the floor's messages for it, what iproute2 is fed, and iproute2 as a witness."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

from . import netlink as nl

FORWARDING = (("/proc/sys/net/ipv4/ip_forward", b"1"), ("/proc/sys/net/ipv6/conf/all/forwarding", b"1"))


class Pieces(NamedTuple):
    """What the floor sends, in this order. Of namespaces "" is the host.

    `before` and `links` come when all namespaces are there, each on the socket of its namespace; `inside` behind all of
    them; `then` are actions inside of namespaces.
    """

    namespaces: list[str]
    sysctls: dict[str, tuple[tuple[str, bytes], ...]]
    before: list[tuple[str, bytes]]
    links: dict[str, list[nl.Veth]]
    inside: dict[str, list[bytes]]
    then: list[tuple[str, Callable[[], object]]]


class Reading(NamedTuple):
    """What is read of one namespace beside links, addresses and routes."""

    tables: tuple[bytes, ...] = ()
    sysctls: tuple[str, ...] = ()
    also: Callable[[], object] | None = None


class Batch(NamedTuple):
    """A program that takes many commands on stdin, `-batch -` or `-f -` at its end, and these commands, one in a line."""

    command: tuple[str, ...]
    text: str

    def run(self) -> None:
        subprocess.run(self.command, input=self.text.encode(), check=True)

    def one_by_one(self) -> None:
        """Each command by a process of its own."""
        for line in self.text.splitlines():
            words = line.split() if self.command[-2] != "-p" else ["-qw", line]
            subprocess.run([*self.command[:-2], *words], check=True)


class Lab:
    """One lab of one size."""

    kind: ClassVar[str]
    unit: ClassVar[str] = "namespaces"
    in_host: tuple[str, ...] = ()
    """Links in the host that others go with."""

    def __init__(self, size: int) -> None:
        self.size = size

    @property
    def name(self) -> str:
        return f"bench-{self.kind}-{self.size}"

    def namespaces(self) -> list[str]:
        raise NotImplementedError

    def text(self, changed: bool = False) -> str:
        """The topology file; `changed`: with one attribute, or one entry, that is another one."""
        raise NotImplementedError

    def pieces(self) -> Pieces:
        raise NotImplementedError

    def reading(self) -> dict[str, Reading]:
        """What is read beside links, addresses and routes, by namespace."""
        return {}

    def batches(self) -> list[Batch]:
        """What iproute2 and nft are fed."""
        raise NotImplementedError

    def check(self, changed: bool = False) -> None:
        """See that the lab is there. Raises AssertionError."""
        raise NotImplementedError

    def check_gone(self) -> None:
        """See that nothing of it is left. Raises AssertionError."""
        assert os.listdir(nl.DIRECTORY) == []
        assert [link["ifname"] for link in ip("link", "show")] == ["lo"]

    def check_names(self) -> None:
        assert sorted(os.listdir(nl.DIRECTORY)) == sorted(self.namespaces())


def make_namespaces(names: Iterable[str]) -> Batch:
    return Batch(("ip", "-batch", "-"), "\n".join(f"netns add {name}" for name in names))


def within(name: str, lines: Iterable[str], program: str = "ip") -> Batch:
    return Batch((program, "-n", name, "-batch", "-"), "\n".join(lines))


def forward(name: str) -> Batch:
    words = "net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1"
    return Batch(("ip", "netns", "exec", name, "sysctl", "-q", "-p", "-"), words)


def some(count: int) -> list[int]:
    """A few of the numbers from 0 below `count`, the ends among them."""
    return sorted({0, min(1, count - 1), count // 3, count // 2, count - 1})


def ip(*arguments: str, program: str = "ip") -> list[dict[str, Any]]:
    done = subprocess.run([program, "-j", *arguments], capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return [entry for entry in found if entry]


def addresses(links: list[dict[str, Any]]) -> list[str]:
    return [info["local"] for link in links for info in link.get("addr_info", ())]


def links_of(name: str) -> dict[str, dict[str, Any]]:
    """The links of a namespace by name, with their addresses; all are up."""
    found = {link["ifname"]: link for link in ip("-n", name, "address", "show")}
    assert all("UP" in link["flags"] for link in found.values()), found
    return found


def routes_of(name: str) -> dict[str, dict[str, Any]]:
    """The routes of a namespace's main table by destination, without the kernel's own."""
    found = ip("-n", name, "-details", "route", "show")
    return {route["dst"]: route for route in found if route.get("protocol") != "kernel"}
