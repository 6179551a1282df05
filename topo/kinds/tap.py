"""TAP: a TUN device with Ethernet frames (linux/if_tun.h). Its IFLA_INFO_KIND is `tun` as well."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.tun import TUN, TunTap


class TapSpec(TunTap):
    """A TAP device."""

    kind: Literal["tap"] = Field(description="a TAP device: Ethernet frames")


TAP = TUN._replace(name="tap", spec=TapSpec, mtu=1500, txqueuelen=1000)
