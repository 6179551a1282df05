"""TUN: an IP device whose packets a process reads and writes at /dev/net/tun (linux/if_tun.h, drivers/net/tun.c).

rtnetlink cannot make it; it can read, set and delete it. `tap` is the same driver with Ethernet frames.
"""

from __future__ import annotations

import grp
import pwd
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt

from topo.changes import Tun
from topo.facts import Fact
from topo.kinds.kind import LinkKind, View
from topo.kinds.spec import InterfaceSpec
from topo.wire import BOOL, U32, Attr

IFLA_TUN_OWNER, IFLA_TUN_GROUP, IFLA_TUN_TYPE = 1, 2, 3
IFLA_TUN_PI, IFLA_TUN_VNET_HDR, IFLA_TUN_MULTI_QUEUE = 4, 5, 7
IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x1000, 0x4000, 0x0100
_IFF_TAP: Final = 2

DATA: Final = (
    Attr("user", IFLA_TUN_OWNER, U32),
    Attr("group", IFLA_TUN_GROUP, U32),
    Attr("pi", IFLA_TUN_PI, BOOL, False),
    Attr("vnet_hdr", IFLA_TUN_VNET_HDR, BOOL, False),
    Attr("multi_queue", IFLA_TUN_MULTI_QUEUE, BOOL, False),
)


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    """All: rtnetlink has no changelink for it, and attaching to change a flag fails while a process has it open."""
    return frozenset(attr.name for attr in DATA)


def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], _: View) -> None:
    if data.get(IFLA_TUN_TYPE, b"")[:1] == bytes([_IFF_TAP]):
        attrs["kind"] = "tap"


def make(fact: Fact) -> Tun:
    """The request that makes the device."""
    attrs = fact.attrs
    flags = 0 if attrs.get("pi") else IFF_NO_PI
    flags |= IFF_VNET_HDR if attrs.get("vnet_hdr") else 0
    flags |= IFF_MULTI_QUEUE if attrs.get("multi_queue") else 0
    return Tun(fact.ref.ns, fact.ref.key[0], attrs["kind"], flags, attrs.get("user"), attrs.get("group"))


def _user(value: int | str) -> int:
    try:
        return value if isinstance(value, int) else pwd.getpwnam(value).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {value!r} here") from None


def _group(value: int | str) -> int:
    try:
        return value if isinstance(value, int) else grp.getgrnam(value).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {value!r} here") from None


class TunTap(InterfaceSpec):
    """What tun and tap have in common."""

    user: Annotated[StrictInt | str, AfterValidator(_user)] | None = Field(
        None, description="the user, by name or number, who may open it without privileges"
    )
    group: Annotated[StrictInt | str, AfterValidator(_group)] | None = Field(
        None, description="the group, by name or number, that may open it without privileges"
    )
    pi: StrictBool = Field(False, description="whether packets bear the 4 bytes of struct tun_pi")
    vnet_hdr: StrictBool = Field(False, description="whether packets bear a virtio_net_hdr, for offloads")
    multi_queue: StrictBool = Field(False, description="whether it can be opened more than once at a time")


class TunSpec(TunTap):
    """A TUN device."""

    kind: Literal["tun"] = Field(description="a TUN device: IP packets")


TUN = LinkKind(
    "tun",
    spec=TunSpec,
    option="CONFIG_TUN",
    data=DATA,
    replace=replace,
    mtu=None,
    txqueuelen=500,  # TUN_READQ_SIZE
    unstated={"user": None, "group": None},
    make=make,
    decode_extra=decode_extra,
)
