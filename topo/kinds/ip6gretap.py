"""Ethernet in GRE over IPv6 (RFC 2784, RFC 7676, net/ipv6/ip6_gre.c)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.ip6gre import IP6GRE, Ip6greSettings
from topo.kinds.kind import in_place


class Ip6gretap(Ip6greSettings):
    """A GRETAP tunnel over IPv6."""

    kind: Literal["ip6gretap"] = Field(description="Ethernet frames in GRE over IPv6")


IP6GRETAP = IP6GRE._replace(name="ip6gretap", spec=Ip6gretap, replace=in_place)
