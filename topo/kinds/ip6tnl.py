"""IP6TNL: IPv6 or IPv4 in IPv6 (RFC 2473, net/ipv6/ip6_tunnel.c)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field

from topo.changes import Env
from topo.kinds.tunnel import (
    OUTER6,
    TUNNEL,
    UNSTATED6,
    Tunnel6,
    TunnelSpec,
    decode_outer6,
    device,
    ends,
    outer6,
)
from topo.wire import U8, Attr, named

IFLA_IPTUN_LINK: Final = 1
_OUTER: Final = (6, 7, 8)  # IFLA_IPTUN_ENCAP_LIMIT, _FLOWINFO, _FLAGS

DATA: Final = (
    *ends(2, 3, six=True),
    Attr("ttl", 4, U8, 0),
    Attr("mode", 9, named(U8, {"any": 0, "ipip6": 4, "ip6ip6": 41}), "any"),
)


def extra(attrs: Mapping[str, Any], env: Env) -> bytes:
    return device(IFLA_IPTUN_LINK)(attrs, env) + outer6(*_OUTER)(attrs, env)


class Ip6tnl(Tunnel6):
    """An IP6TNL tunnel."""

    cannot = TunnelSpec.flat

    kind: Literal["ip6tnl"] = Field(description="IPv6 or IPv4 packets in IPv6")
    mode: Literal["ip6ip6", "ipip6", "any"] | None = Field(None, description="what it carries; unset, any")


IP6TNL = TUNNEL._replace(
    name="ip6tnl",
    spec=Ip6tnl,
    option="CONFIG_IPV6_TUNNEL",
    data=DATA,
    extra=extra,
    more=TUNNEL.more | OUTER6,
    unstated=UNSTATED6,
    decode_extra=decode_outer6(*_OUTER),
)
