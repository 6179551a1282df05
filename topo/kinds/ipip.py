"""IPIP: IPv4 in IPv4 (RFC 2003, net/ipv4/ipip.c)."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from topo.facts import Fact
from topo.kinds.tunnel import TUNNEL, Outer4, TunnelSpec, device, ends, form, outer
from topo.wire import U8, Attr, named

IFLA_IPTUN_LINK: Final = 1
ENDS: Final = (*ends(2, 3), *outer(4, 5, 10))  # IFLA_IPTUN_LOCAL, _REMOTE, _TTL, _TOS, _PMTUDISC
IFLA_IPTUN_PROTO: Final = 9


def form_and_mode(desired: Fact, live: Fact) -> frozenset[str]:
    """What it carries is fixed: ip_tunnel_update and ipip6_tunnel_update drop it without a word."""
    return form(desired, live) | {"mode"}


class Ipip(Outer4):
    """An IPIP tunnel."""

    cannot = TunnelSpec.flat

    kind: Literal["ipip"] = Field(description="IPv4 packets in IPv4")
    mode: Literal["ipip", "mplsip", "any"] | None = Field(None, description="what it carries; unset, ipip")


IPIP = TUNNEL._replace(
    name="ipip",
    spec=Ipip,
    option="CONFIG_NET_IPIP",
    data=(*ENDS, Attr("mode", IFLA_IPTUN_PROTO, named(U8, {"any": 0, "ipip": 4, "mplsip": 137}), "ipip")),
    replace=form_and_mode,
    extra=device(IFLA_IPTUN_LINK),
)
