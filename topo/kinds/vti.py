"""VTI: an interface whose packets IPsec policies of its keys protect (net/ipv4/ip_vti.c)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from topo.kinds.tunnel import TUNNEL, Key, Tunnel4, TunnelSpec, both_directions, device, ends
from topo.wire import BE32, Attr


class Vti(Tunnel4):
    """A VTI tunnel."""

    cannot = TunnelSpec.flat

    kind: Literal["vti"] = Field(description="a tunnel of IPsec policies with its keys as their mark")
    key: Key | None = Field(None, description="key of both directions")
    ikey: Key | None = Field(None, description="key of what comes in")
    okey: Key | None = Field(None, description="key of what goes out")

    def attributes(self, ns: str) -> dict[str, Any]:
        return both_directions(super().attributes(ns), "key")


VTI = TUNNEL._replace(
    name="vti",
    spec=Vti,
    option="CONFIG_NET_IPVTI",
    data=(Attr("ikey", 2, BE32, 0), Attr("okey", 3, BE32, 0), *ends(4, 5)),  # IFLA_VTI_*
    extra=device(1),
)
