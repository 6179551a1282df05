"""IPIP: IPv4 in IPv4 (RFC 2003, net/ipv4/ipip.c)."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from topo.facts import Fact
from topo.kinds.tunnel import IFLA_IPTUN, Outer4, TunnelSpec, form, over4
from topo.wire import U8, Attr, named

SHAPE: Final = over4(IFLA_IPTUN)
IFLA_IPTUN_PROTO: Final = 9


def form_and_mode(desired: Fact, live: Fact) -> frozenset[str]:
    """What it carries is fixed: ip_tunnel_update and ipip6_tunnel_update drop it without a word."""
    return form(desired, live) | {"mode"}


class Ipip(Outer4):
    """An IPIP tunnel."""

    cannot = TunnelSpec.flat

    kind: Literal["ipip"] = Field(description="IPv4 packets in IPv4")
    mode: Literal["ipip", "mplsip", "any"] | None = Field(None, description="what it carries; unset, ipip")


IPIP = SHAPE._replace(
    name="ipip",
    spec=Ipip,
    option="CONFIG_NET_IPIP",
    data=(*SHAPE.data, Attr("mode", IFLA_IPTUN_PROTO, named(U8, {"any": 0, "ipip": 4, "mplsip": 137}), "ipip")),
    replace=form_and_mode,
)
