"""vxcan: two CAN interfaces with a wire between them (Documentation/networking/can.rst, drivers/net/can/vxcan.c)."""

from __future__ import annotations

from typing import Final

from topo.facts import Fact
from topo.kinds.kind import Pair
from topo.kinds.veth import VETH

VXCAN_INFO_PEER: Final = 1
_NO_IP: Final = "CAN carries no IP"


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    """While it is up its MTU, which says what frames it carries, stays (vxcan_change_mtu: EBUSY)."""
    return frozenset({"peer", "mtu"})


VXCAN = VETH._replace(
    name="vxcan",
    option="CONFIG_CAN_VXCAN",
    replace=replace,
    mtu=None,
    pair=Pair(
        VXCAN_INFO_PEER,
        {
            "mac": "CAN has no addresses",
            "mtu": "it has that of its frames",
            "addresses": _NO_IP,
            "gateway": _NO_IP,
            "subnet": _NO_IP,
            "bridge": "CAN is no Ethernet",
        },
    ),
)
