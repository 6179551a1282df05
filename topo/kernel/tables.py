"""The bodies of the dump requests, one or several for each table (rtnetlink(7))."""

from __future__ import annotations

from typing import Final

from topo.facts import PROTOCOL
from topo.kinds.mdb import BR_PORT_MSG
from topo.kinds.vlan_state import BR_VLAN_MSG
from topo.kinds.vni import TUNNEL_MSG
from topo.wire import (
    AF_BRIDGE,
    AF_INET,
    AF_INET6,
    FIBRULEHDR,
    IFADDRMSG,
    IFINFOMSG,
    NDMSG,
    NHMSG,
    RTM_GETLINK,
    RTM_GETMDB,
    RTM_GETNEIGH,
    RTM_GETNEXTHOP,
    RTM_GETRULE,
    RTM_GETTUNNEL,
    RTM_GETVLAN,
    RTMSG,
    attr_u32,
)

_IFLA_EXT_MASK, _SKIP_STATS = 29, 1 << 3  # linux/if_link.h, RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h
_VLANS_IN_RANGES: Final = 1 << 2  # RTEXT_FILTER_BRVLAN_COMPRESSED
_BOTH: Final = (AF_INET, AF_INET6)
_BY_HAND: Final = (PROTOCOL, 3, 4)  # topo's routes, RTPROT_BOOT (what `ip route` gives), RTPROT_STATIC

ALL_LINKS: Final = IFINFOMSG.pack(0, 0, 0, 0, 0) + attr_u32(_IFLA_EXT_MASK, _SKIP_STATS)
BRIDGE_VLANS: Final = IFINFOMSG.pack(AF_BRIDGE, 0, 0, 0, 0) + attr_u32(_IFLA_EXT_MASK, _VLANS_IN_RANGES)
LOOPBACK: Final = IFINFOMSG.pack(0, 0, 1, 0, 0)
ALL_ADDRESSES: Final = IFADDRMSG.pack(0, 0, 0, 0, 0)
ALL_ROUTES: Final = RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)  # of every family
ROUTES_BY_HAND: Final = tuple(RTMSG.pack(f, 0, 0, 0, 0, p, 0, 0, 0) for f in _BOTH for p in _BY_HAND)

PLAIN: Final = (
    ("rule", RTM_GETRULE, tuple(FIBRULEHDR.pack(f, *(0,) * 6) for f in _BOTH)),
    ("nexthop", RTM_GETNEXTHOP, (NHMSG.pack(0, 0, 0, 0),)),
    ("neighbour", RTM_GETNEIGH, tuple(NDMSG.pack(f, 0, 0, 0, 0) for f in _BOTH)),
    ("bridge_vlan", RTM_GETLINK, (BRIDGE_VLANS,)),
    ("vlan_state", RTM_GETVLAN, (BR_VLAN_MSG.pack(AF_BRIDGE, 0, 0, 0),)),
    ("mdb", RTM_GETMDB, (BR_PORT_MSG.pack(AF_BRIDGE, 0),)),
    ("inet6", RTM_GETLINK, (IFINFOMSG.pack(AF_INET6, 0, 0, 0, 0),)),
    ("vni", RTM_GETTUNNEL, (TUNNEL_MSG.pack(AF_BRIDGE, 0, 0, 0),)),
    ("fdb", RTM_GETNEIGH, (NDMSG.pack(AF_BRIDGE, 0, 0, 0, 0),)),
)
"""Tables that are read as they are: the kind, the request, and its bodies."""
