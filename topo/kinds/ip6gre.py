"""GRE over IPv6 (RFC 2784, RFC 7676, net/ipv6/ip6_gre.c)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.tunnel import IFLA_GRE, Keyed, Tunnel6, TunnelSpec, over6


class Ip6greSettings(Keyed, Tunnel6):
    """What ip6gre and ip6gretap have in common."""


class Ip6gre(Ip6greSettings):
    """A GRE tunnel over IPv6."""

    cannot = TunnelSpec.flat

    kind: Literal["ip6gre"] = Field(description="IP packets in GRE over IPv6")


IP6GRE = over6(IFLA_GRE, keyed=True)._replace(name="ip6gre", spec=Ip6gre, option="CONFIG_IPV6_GRE")
