"""MACVTAP: a MACVLAN whose frames go to a character device, /dev/tapN (ip-link(8), drivers/net/macvtap.c)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from topo.kinds.macvlan import MACVLAN, Mode
from topo.kinds.spec import Device, InterfaceSpec, parent_field


class Macvtap(InterfaceSpec):
    """A MACVTAP."""

    kind: Literal["macvtap"] = Field(description="a MACVTAP on the parent")
    parent: Device = parent_field()
    mode: Mode | None = Field(None, description="who of the parent's macvtaps reach each other; unset, vepa")


MACVTAP = MACVLAN._replace(name="macvtap", spec=Macvtap, option="CONFIG_MACVTAP", txqueuelen=500)
