"""vcan: a CAN bus without hardware (Documentation/networking/can.rst, drivers/net/can/vcan.c)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from topo.facts import Fact
from topo.kinds.kind import LinkKind
from topo.kinds.spec import InterfaceSpec


class Vcan(InterfaceSpec):
    """A virtual CAN bus."""

    cannot: ClassVar = {"mac": "CAN has no addresses", "addresses": "CAN carries no IP", "gateway": "CAN carries no IP"}

    kind: Literal["vcan"] = Field(description="a CAN bus without hardware")


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    """While it is up its MTU, which says what frames it carries, stays (vcan_change_mtu: EBUSY)."""
    return frozenset({"mtu"})


VCAN = LinkKind("vcan", spec=Vcan, option="CONFIG_CAN_VCAN", replace=replace, one_queue=True, mtu=None)
