"""Attributes of RTM_NEWLINK (linux/if_link.h), and the messages that are made of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from topo.wire import IFINFOMSG, NLATTR, attr_u32

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_TXQLEN = 1, 3, 4, 5, 10, 13
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_NET_NS_FD = 18, 20, 27, 28
IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES, IFLA_LINK_NETNSID = 31, 32, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5

IFF_UP: Final = 1
ONE_QUEUE: Final = attr_u32(IFLA_NUM_TX_QUEUES, 1) + attr_u32(IFLA_NUM_RX_QUEUES, 1)
"""One queue each way. With more, making a link waits for RCU (net_set_real_num_queues in net/core/dev.c)."""


def body(index: int, *parts: bytes, up: bool | None = None) -> bytes:
    """The body of RTM_NEWLINK or RTM_DELLINK; `up` None leaves the flag as it is."""
    flags, change = (IFF_UP if up else 0), (0 if up is None else IFF_UP)
    return IFINFOMSG.pack(0, 0, index, flags, change) + b"".join(parts)


def selected(data: bytes, offset: int, end: int, wanted: Collection[int]) -> dict[int, bytes]:
    """As `topo.wire.attributes`, but only those `wanted`: a link's message has some sixty, most of no concern."""
    found = {}
    unpack = NLATTR.unpack_from
    while offset + 4 <= end:
        size, nla = unpack(data, offset)
        if size < 4 or offset + size > end:
            break
        if (nla := nla & 0x3FFF) in wanted:
            found[nla] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found
