"""GRE over IPv6 (RFC 2784, RFC 7676, net/ipv6/ip6_gre.c)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field

from topo.changes import Env
from topo.kinds.kind import View
from topo.kinds.tunnel import (
    KEYS,
    OUTER6,
    TUNNEL,
    UNKEYED,
    UNSTATED6,
    Keyed,
    Tunnel6,
    TunnelSpec,
    decode_outer6,
    ends,
    gre_flags,
    gre_unflag,
    outer6,
)
from topo.wire import U8, Attr

_OUTER: Final = (11, 12, 13)  # IFLA_GRE_ENCAP_LIMIT, _FLOWINFO, _FLAGS

DATA: Final = (*ends(6, 7, six=True), Attr("ttl", 8, U8, 0))


def extra(attrs: Mapping[str, Any], env: Env) -> bytes:
    return gre_flags(attrs, env) + outer6(*_OUTER)(attrs, env)


def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], view: View) -> None:
    gre_unflag(data, attrs, view)
    decode_outer6(*_OUTER)(data, attrs, view)


class Ip6greSettings(Keyed, Tunnel6):
    """What ip6gre and ip6gretap have in common."""


class Ip6gre(Ip6greSettings):
    """A GRE tunnel over IPv6."""

    cannot = TunnelSpec.flat

    kind: Literal["ip6gre"] = Field(description="IP packets in GRE over IPv6")


IP6GRE = TUNNEL._replace(
    name="ip6gre",
    spec=Ip6gre,
    option="CONFIG_IPV6_GRE",
    data=DATA,
    extra=extra,
    more=TUNNEL.more | KEYS | OUTER6,
    unstated={**UNKEYED, **UNSTATED6},
    decode_extra=decode_extra,
)
