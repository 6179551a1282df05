"""Changes, ops and requests: what differs, what is done about it, and what the kernel is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from topo.facts import Fact, Ref

CREATE: Final = "create"
UPDATE: Final = "update"
REPLACE: Final = "replace"
DELETE: Final = "delete"

OWNER: Final = "owner"
"""Stands among a change's attributes where an object is adopted: it is to bear the topology's mark."""

PUT_BACK: Final = "put back"
"""The reason of a change that the file no longer asks for: what was there before comes back."""

KEPT: Final = "kept from now on"
"""The reason of a change to what is there already, but would not stay."""

AGAIN: Final = "again"
"""Stands among the attributes of a create op that makes again what another op may have taken down (`Kind.takes`):
it succeeds, without effect, where the object is still there."""


class Change(NamedTuple):
    """A fact to create, update, replace or delete, with the reason.

    `attrs` are the attributes that differ, in order; `takes` the live facts that go down with it.
    A live fact may bear another ref than the desired one: then the object is renamed.
    """

    action: str
    ref: Ref
    desired: Fact | None
    live: Fact | None
    attrs: tuple[str, ...] = ()
    reason: str = ""
    takes: tuple[Ref, ...] = ()


class Op(NamedTuple):
    """One step of a plan: `verb` is create, update or delete. `old` is what it destroys."""

    verb: str
    ref: Ref
    new: Fact | None
    old: Fact | None
    attrs: tuple[str, ...] = ()


class Rtnl(NamedTuple):
    """An rtnetlink request, sent on the socket of namespace `ns`; `body` is without the nlmsghdr."""

    ns: str
    type: int
    flags: int  # NLM_F_*, without NLM_F_REQUEST
    body: bytes


class Genl(NamedTuple):
    """A generic netlink request (genl(7)) to a family by its name; `body` is without the genlmsghdr."""

    ns: str
    family: str
    command: int
    version: int
    body: bytes


class Netns(NamedTuple):
    """Create, attach or delete the name of a network namespace in /run/netns."""

    action: str  # create | attach | delete | detach
    ns: str
    source: dict[str, Any] | None = None  # the `from` of a namespace that is attached
    setup: bytes = b""  # rtnetlink messages to send inside a new one before its name appears
    inode: int = 0  # of a namespace that had this name when the run began, and is to have it again


class Sysctl(NamedTuple):
    """Write one file under /proc/sys as seen in namespace `ns`; `path` has slashes. `optional`: where there is one."""

    ns: str
    path: str
    value: str
    optional: bool = False


class Nft(NamedTuple):
    """Commands for libnftables in its JSON form (libnftables-json(5)), one transaction."""

    ns: str
    commands: list[dict[str, Any]]


class Flow(NamedTuple):
    """A published port whose connections are to be forgotten; `target` is where it led to, empty for nowhere."""

    family: int  # 4 | 6
    protocol: str  # tcp | udp | sctp
    address: str  # the address that it is bound to, empty for all
    port: int
    target: str = ""
    target_port: int = 0


class Conntrack(NamedTuple):
    """Drop the conntrack entries of these published ports, after the table has changed."""

    ns: str
    flows: tuple[Flow, ...]


class Tun(NamedTuple):
    """Make a persistent TUN or TAP device (linux/if_tun.h), which rtnetlink cannot."""

    ns: str
    ifname: str
    mode: str  # tun | tap
    flags: int  # IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE
    owner: int | None
    group: int | None


Request = Rtnl | Genl | Netns | Sysctl | Nft | Conntrack | Tun


class Env(Protocol):
    """What encoding needs to know of the running kernel: indexes and descriptors, resolved when executing."""

    mark: int

    def index(self, ns: str, ifname: str) -> int:
        """The ifindex of an existing link. Raises KernelError (ENODEV) where there is none."""

    def assign(self, ns: str, ifname: str) -> int:
        """Choose the ifindex of a link that is about to be made, and remember it."""

    def rename(self, ns: str, old: str, new: str) -> None:
        """Remember that a link changed its name."""

    def netns(self, ns: str) -> int:
        """An open descriptor of the namespace."""

    def desired(self, ref: Ref) -> Fact | None:
        """The desired fact of another object: the other end of a veth pair, say."""

    def secret(self, name: str) -> bytes:
        """The key that goes by this name in facts: its public half, or its digest (topo.kinds.secret)."""


Encode = Callable[[Op, Env], Sequence[Request | Callable[[], Request]]]
"""The requests of an op, to be run in order. A callable stands for a request that cannot be made before those
ahead of it ran (it needs the ifindex of a device that a `Tun` makes); the executor calls it when its turn comes."""
