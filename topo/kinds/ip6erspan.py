"""ERSPAN over IPv6 (draft-foschiano-erspan, net/ipv6/ip6_gre.c)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.erspan import ErspanSettings, mirrored
from topo.kinds.tunnel import IFLA_GRE, Tunnel6, over6


class Ip6erspan(ErspanSettings, Tunnel6):
    """An ERSPAN session over IPv6."""

    kind: Literal["ip6erspan"] = Field(description="mirrored Ethernet frames in GRE over IPv6")


IP6ERSPAN = mirrored(over6(IFLA_GRE, keyed=True))._replace(name="ip6erspan", spec=Ip6erspan, option="CONFIG_IPV6_GRE")
