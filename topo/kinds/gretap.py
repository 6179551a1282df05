"""GRETAP: Ethernet in GRE (RFC 2784, net/ipv4/ip_gre.c)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.gre import GRE, GreSettings
from topo.kinds.kind import in_place


class Gretap(GreSettings):
    """A GRETAP tunnel."""

    kind: Literal["gretap"] = Field(description="Ethernet frames in GRE over IPv4")


GRETAP = GRE._replace(name="gretap", spec=Gretap, replace=in_place)
