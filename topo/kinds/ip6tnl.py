"""IP6TNL: IPv6 or IPv4 in IPv6 (RFC 2473, net/ipv6/ip6_tunnel.c)."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from topo.kinds.tunnel import IFLA_IPTUN, Tunnel6, TunnelSpec, over6
from topo.wire import U8, Attr, named

_SHAPE: Final = over6(IFLA_IPTUN)
_MODE: Final = Attr("mode", 9, named(U8, {"any": 0, "ipip6": 4, "ip6ip6": 41}), "any")  # IFLA_IPTUN_PROTO


class Ip6tnl(Tunnel6):
    """An IP6TNL tunnel."""

    cannot = TunnelSpec.flat

    kind: Literal["ip6tnl"] = Field(description="IPv6 or IPv4 packets in IPv6")
    mode: Literal["ip6ip6", "ipip6", "any"] | None = Field(None, description="what it carries; unset, any")


IP6TNL = _SHAPE._replace(name="ip6tnl", spec=Ip6tnl, option="CONFIG_IPV6_TUNNEL", data=(*_SHAPE.data, _MODE))
