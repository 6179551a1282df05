"""The namespaces of a run: a descriptor, a socket and a table of names each, opened once and held."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from topo.errors import InputError, KernelError
from topo.facts import HOST
from topo.kernel import generic, netfilter, netns, rtnl
from topo.kernel.attachments import Attachments
from topo.kernel.keys import Keys

if TYPE_CHECKING:
    from topo.kernel.nftables import Nftables


class Space:
    """One namespace that is open. `made`: topo makes its name in /run/netns; `label`: the inode that has the name."""

    __slots__ = (
        "_generic", "_nf_sock", "_nft", "doomed", "fd", "indexes", "inode", "label", "marked", "name", "names",
        "sock",
    )  # fmt: skip

    def __init__(self, name: str, fd: int, sock: socket.socket) -> None:
        self.name, self.fd, self.sock = name, fd, sock
        self.inode = netns.inode(fd)
        self.label = 0
        self.names: dict[int, str] = {}
        self.indexes: dict[str, int] = {}
        self.marked: set[int] = set()  # ifindexes of links that bear the topology's mark
        self.doomed: set[int] = set()  # those of them that a killed run was about to delete
        self._nft: Nftables | None = None
        self._nf_sock: socket.socket | None = None
        self._generic: socket.socket | None = None

    def close(self) -> None:
        self.sock.close()
        os.close(self.fd)
        for sock in (self._nf_sock, self._generic):
            if sock:
                sock.close()
        if self._nft:
            self._nft.close()


def _allow_many_files() -> None:
    """Each namespace takes two descriptors or more; the customary soft limit of 1,024 is there for select(2) alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Spaces:
    """Opens namespaces, and moves this thread between them; `home` is where it came from and goes back to."""

    def __init__(self, attachments: Attachments | None = None, keys: Keys | None = None) -> None:
        _allow_many_files()
        self.attachments = attachments or Attachments()
        self.keys = keys or Keys()
        self.home = netns.here()
        self._at: str | None = HOST
        self.open: dict[str, Space] = {HOST: Space(HOST, os.dup(self.home), rtnl.open_socket(large=True))}

    @contextmanager
    def away(self) -> Iterator[None]:
        """Whatever happens inside, the thread is home again afterwards."""
        try:
            yield
        finally:
            if self._at != HOST:
                netns.setns(self.home)
                self._at = HOST

    def enter(self, name: str) -> Space:
        """Move this thread into an open namespace. Raises KernelError."""
        space = self.get(name)
        if self._at != name:
            self._go(space.fd, name)
        return space

    def _go(self, fd: int, name: str | None) -> None:
        try:
            netns.setns(fd)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise InputError(f"{name}: this is a namespace, but not one of networking") from None
            raise KernelError(error.errno or 0, doing=f"entering namespace {name}") from None
        self._at = name

    def get(self, name: str) -> Space:
        space = self.open.get(name)
        if space is None:
            raise KernelError(errno.ENOENT, "no such namespace", doing=f"namespace {name}")
        return space

    def add(self, name: str, fd: int) -> Space:
        """Take over `fd`, a namespace, under this name."""
        try:
            if self._at != name:
                self._go(fd, name)
            sock = rtnl.open_socket()
        except BaseException:
            self._at = None
            os.close(fd)
            raise
        space = self.open[name] = Space(name, fd, sock)
        return space

    def hold(self, name: str) -> bool:
        """Open one of `attachments`, or keep it open; whether there is one of this name."""
        inode = self.attachments.at.get(name)
        held = self.open.get(name)
        if held is None or held.inode != inode:
            self.drop(name)
            if inode is not None:
                self.add(name, os.dup(self.attachments.fds[inode]))
        return inode is not None

    def create(self, name: str, setup: bytes, sign: int) -> Space:
        """Make a namespace: set it up, then give it its name, with its sign. Raises KernelError."""
        self.drop(name)  # one of this name that somebody has made meanwhile
        self._at = None
        try:
            netns.unshare(netns.CLONE_NEWNET)
            fd = netns.here()
        except OSError as error:
            full = error.errno == errno.ENOSPC
            raise KernelError(error.errno or 0, "sysctl user.max_net_namespaces is reached" if full else "") from None
        self._at = name
        space = self.add(name, fd)
        try:
            if setup and (refused := rtnl.send(space.sock, [setup])):
                raise KernelError(refused[0].errno, refused[0].extack)
            netns.name(netns.SELF, name, sign)
        except OSError as error:
            self.drop(name)
            raise KernelError(error.errno or 0, _words(error)) from None
        except KernelError:
            self.drop(name)
            raise
        space.names, space.indexes, space.label = {1: "lo"}, {"lo": 1}, space.inode
        return space

    def drop(self, name: str) -> None:
        """Close what is held of a namespace: what is held keeps it alive."""
        if space := self.part(name):
            space.close()

    def part(self, name: str) -> Space | None:
        """As `drop`, but to be closed later, by who gets it."""
        if self._at == name:
            self._at = None
        return self.open.pop(name, None)

    def nftables(self, name: str) -> Nftables:
        """The libnftables context of a namespace. Raises UnsupportedError where the library is missing."""
        space = self.get(name)
        if space._nft is None:
            from topo.kernel.nftables import Nftables

            self.enter(name)
            space._nft = Nftables()
        return space._nft

    def netfilter(self, name: str) -> socket.socket:
        """The NETLINK_NETFILTER socket of a namespace."""
        space = self.get(name)
        if space._nf_sock is None:
            self.enter(name)
            space._nf_sock = netfilter.open_socket()
        return space._nf_sock

    def generic(self, name: str) -> socket.socket:
        """The NETLINK_GENERIC socket of a namespace."""
        space = self.get(name)
        if space._generic is None:
            self.enter(name)
            space._generic = generic.open_socket()
        return space._generic

    def close(self) -> None:
        """Close all but `attachments`."""
        with suppress(OSError):  # some processes may not: then the thread never left
            netns.setns(self.home)
        for space in self.open.values():
            space.close()
        self.open.clear()
        os.close(self.home)


def _words(error: OSError) -> str:
    return f"{error.filename} is there already" if error.errno == errno.EEXIST else ""
