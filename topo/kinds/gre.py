"""GRE: IP in IP with a GRE header between (RFC 2784, RFC 2890, net/ipv4/ip_gre.c)."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, StrictBool

from topo.kinds.tunnel import IFLA_GRE, Keyed, Outer4, TunnelSpec, over4
from topo.wire import BOOL, Attr

_SHAPE: Final = over4(IFLA_GRE, keyed=True)


class GreSettings(Keyed, Outer4):
    """What gre and gretap have in common."""

    ignore_df: StrictBool | None = Field(
        None, description="whether packets with the don't-fragment flag are fragmented"
    )


class Gre(GreSettings):
    """A GRE tunnel."""

    cannot = TunnelSpec.flat

    kind: Literal["gre"] = Field(description="IP packets in GRE over IPv4")


GRE = _SHAPE._replace(
    name="gre",
    spec=Gre,
    option="CONFIG_NET_IPGRE",
    data=(*_SHAPE.data, Attr("ignore_df", 19, BOOL, False)),  # IFLA_GRE_IGNORE_DF
    stays=frozenset({"ignore_df"}),
)
