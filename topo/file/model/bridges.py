"""Bridges and their ports."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, model_validator

from topo.file.model.settings import PortSettings, PortVlans, Settings
from topo.file.model.values import BridgeSubnets, Ifname, Ifnames, Seconds, empty, no_entries, seconds, wrong
from topo.kinds.later import Either

_FORWARD_DELAY: Final = (2, 30)  # seconds; IEEE 802.1D, BR_MIN_FORWARD_DELAY in net/bridge/br_private_stp.h
_HELLO_TIME: Final = (1, 10)
_MAX_AGE: Final = (6, 40)


class Port(PortSettings):
    """An interface to enslave, with its settings as a port."""

    interface: Ifname = Field(description="the interface: one of this file, or one that is there already")


def _port(value: Any) -> Any:
    if isinstance(value, Port):
        return value
    if isinstance(value, str):
        return Port(interface=value)
    if not isinstance(value, dict):
        raise wrong("a port is the name of an interface, or a mapping with `interface`")
    return Port.model_validate(value)


def _within(low: int, high: int) -> Any:
    def check(value: Any) -> Any:
        if not low <= seconds(value) <= high:
            raise ValueError(f"{value!r}: {low} to {high} seconds are expected")
        return value

    return Either(check)


class Bridge(Settings):
    """A bridge."""

    subnet: BridgeSubnets | None = Field(
        None,
        description="the bridge takes the first address, or the one that stands here (10.0.0.254/24); every end plugged "
        "in without addresses takes the next, and a default route",
    )
    ports: list[Annotated[Ifname | Port, Either(_port)]] = Field(
        default_factory=no_entries, description="interfaces to enslave: those of this namespace, or existing ones"
    )
    external: StrictBool = Field(False, description="it must be there already (docker0, say): only ports are added")
    take_over: Ifname | None = Field(
        None, description="the NIC whose MAC, MTU, addresses and gateway routes it takes, and gives back on destroy"
    )
    stp: StrictBool | None = Field(None, description="whether the spanning tree protocol runs")
    forward_delay: Annotated[Seconds, _within(0, 30)] | None = Field(None, description="STP forward delay in seconds")
    hello_time: Annotated[Seconds, _within(*_HELLO_TIME)] | None = Field(None, description="STP hello time in seconds")
    max_age: Annotated[Seconds, _within(*_MAX_AGE)] | None = Field(None, description="STP maximum age in seconds")
    priority: Annotated[StrictInt, Field(ge=0, le=65535)] | None = Field(None, description="its STP priority")
    ageing: Seconds | None = Field(None, description="seconds until a learned address is forgotten")
    group_fwd_mask: Annotated[StrictInt, Field(ge=0, le=65535)] | None = Field(
        None, description="bits of the link-local groups 01:80:C2:00:00:0X that are forwarded; 0x4000 is LLDP"
    )
    mcast_snooping: StrictBool | None = Field(None, description="whether IGMP and MLD are listened to")
    mcast_router: Literal[0, 1, 2] | None = Field(
        None, description="whether the host routes multicast: 0 never, 1 if it is heard to, 2 always; unset, 1"
    )
    mcast_querier: StrictBool | None = Field(
        None, description="whether it asks who listens to which group (IGMP, MLD); unset, false"
    )
    mcast_query_use_ifaddr: StrictBool | None = Field(
        None, description="whether it asks from its own IPv4 address instead of 0.0.0.0; unset, false"
    )
    mcast_query_intvl: Seconds | None = Field(None, description="seconds between its queries; unset, 125")
    mcast_igmp_version: Literal[2, 3] | None = Field(None, description="version of IGMP that it asks by; unset, 2")
    mcast_mld_version: Literal[1, 2] | None = Field(None, description="version of MLD that it asks by; unset, 1")
    vlan_filtering: StrictBool | None = Field(None, description="whether it keeps VLANs apart")
    vlan_protocol: Literal["802.1Q", "802.1ad"] | None = Field(None, description="which tag it heeds; unset, 802.1Q")
    vlan_default_pvid: Annotated[StrictInt, Field(ge=0, le=4094)] | None = Field(
        None, description="the VLAN of ports of which nothing is said, untagged; 0 for none; unset, 1"
    )
    vlan: PortVlans | None = Field(None, description="the VLANs of the bridge itself; unset, as those of its ports")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.vlan is not None and not self.vlan_filtering:
            raise wrong("a bridge without `vlan_filtering: true` does not heed VLANs", "vlan")
        if (self.group_fwd_mask or 0) & 7:
            raise wrong("bits 0 to 2 (STP, pause frames, LACP) cannot be forwarded", "group_fwd_mask")
        if self.stp and self.forward_delay is not None and seconds(self.forward_delay) < _FORWARD_DELAY[0]:
            raise wrong("with STP the forward delay is 2 to 30 seconds", "forward_delay")
        if self.external:
            self._only_ports()
        return self

    def _only_ports(self) -> None:
        """An external bridge takes nothing but ports; `subnet` and `gateway: false` concern its ends."""
        stated = self.model_fields_set - {"external", "ports", "subnet", "vlan_filtering"}
        for name in sorted(stated):
            if getattr(self, name) is not None:
                raise wrong("an external bridge is someone else's: only `ports` and `subnet` can be stated", name)


Bridges = dict[Ifnames, Annotated[Bridge, BeforeValidator(empty, json_schema_input_type=Bridge | None)]]
