"""SIT: IPv6 in IPv4 (RFC 4213, net/ipv6/sit.c)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.ipip import IFLA_IPTUN_PROTO, IPIP, SHAPE
from topo.kinds.tunnel import Outer4, TunnelSpec
from topo.wire import U8, Attr, named


class Sit(Outer4):
    """A SIT tunnel."""

    cannot = TunnelSpec.flat

    kind: Literal["sit"] = Field(description="IPv6 packets in IPv4")
    mode: Literal["ip6ip", "ipip", "mplsip", "any"] | None = Field(None, description="what it carries; unset, ip6ip")


_MODE = Attr("mode", IFLA_IPTUN_PROTO, named(U8, {"any": 0, "ipip": 4, "ip6ip": 41, "mplsip": 137}), "ip6ip")
_DATA = tuple(attr._replace(default=64) if attr.name == "ttl" else attr for attr in SHAPE.data)  # ipip6_netlink_parms
SIT = IPIP._replace(name="sit", spec=Sit, option="CONFIG_IPV6_SIT", data=(*_DATA, _MODE))
