"""IPVTAP: an IPVLAN whose packets go to a character device, /dev/tapN (drivers/net/ipvlan/ipvtap.c)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.ipvlan import IPVLAN, IpvlanSettings


class Ipvtap(IpvlanSettings):
    """An IPVTAP."""

    kind: Literal["ipvtap"] = Field(description="an IPVTAP on the parent")


IPVTAP = IPVLAN._replace(name="ipvtap", spec=Ipvtap, option="CONFIG_IPVTAP", txqueuelen=500)  # TUN_READQ_SIZE of tap.c
