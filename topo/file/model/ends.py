"""The ends of links."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from topo.file.model.settings import PortSettings, Settings
from topo.file.model.values import EndName, Ifnames, wrong


class InterfaceEnd(Settings):
    """An end of a link that is an interface of its own."""

    interface: EndName = Field(description="its namespace and name: web:eth0; eth0 alone is in the host")


class BridgeEnd(Settings, PortSettings):
    """An end of a link that is a port of a bridge."""

    bridge: EndName = Field(description="the bridge that it is a port of: br0, or namespace:br0")
    name: Ifnames | None = Field(None, description="its name; unset, a short and stable one is derived")


def end(value: Any) -> InterfaceEnd | BridgeEnd:
    """An end that is more than a name."""
    if isinstance(value, InterfaceEnd | BridgeEnd):
        return value
    if not isinstance(value, dict):
        raise wrong("an end is namespace:interface, a bridge, or a mapping with `interface` or `bridge`")
    if "bridge" in value and "interface" in value:
        raise wrong("an end has `interface` or `bridge`, not both", "bridge", value=value["bridge"])
    if "bridge" not in value and "interface" not in value:
        raise ValueError("an end needs `interface` or `bridge`")
    return (BridgeEnd if "bridge" in value else InterfaceEnd).model_validate(value)
