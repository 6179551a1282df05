"""TAP: a TUN device with Ethernet frames (linux/if_tun.h). Its IFLA_INFO_KIND is `tun` as well."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.kind import LinkKind
from topo.kinds.tun import DATA, TunTap, decode_extra, make, replace


class TapSpec(TunTap):
    """A TAP device."""

    kind: Literal["tap"] = Field(description="a TAP device: Ethernet frames")


TAP = LinkKind("tap", spec=TapSpec, data=DATA, replace=replace, make=make, decode_extra=decode_extra)
