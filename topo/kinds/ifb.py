"""IFB: the device to which incoming packets are redirected to be shaped (drivers/net/ifb.c)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.facts import Fact
from topo.kinds.kind import LinkKind
from topo.kinds.spec import InterfaceSpec


class Ifb(InterfaceSpec):
    """An IFB."""

    kind: Literal["ifb"] = Field(description="an intermediate functional block device")


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    """The driver has no ndo_set_mac_address: a MAC is given when it is made (EOPNOTSUPP later)."""
    return frozenset({"mac"})


IFB = LinkKind("ifb", spec=Ifb, option="CONFIG_IFB", replace=replace, one_queue=True, txqueuelen=32)  # TX_Q_LIMIT
