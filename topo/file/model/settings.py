"""The settings of interfaces: of every one, and of a bridge's ports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, StrictInt, model_validator

from topo.file.model.values import Entry, SysctlValue, single, wrong
from topo.file.spans import span
from topo.kinds.bridge_vlan import numbers
from topo.kinds.later import Either
from topo.kinds.spec import InterfaceSettings
from topo.kinds.vlan_state import STATES
from topo.kinds.words import AnyAddress, Ip, ShortSysctl, canonical_group, canonical_ip


def _gateway(value: Any) -> Any:
    """False, or addresses of which one of each family at most."""
    if value is False:
        return False
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(item, str) for item in values):
        raise ValueError("an address, a list of one IPv4 and one IPv6 address, or false is expected")
    found = [canonical_ip(item) for item in values]
    if len({":" in item for item in found}) < len(found):
        raise ValueError("one gateway of each family at most")
    return found


_EitherGateway: Final = Either(_gateway, Literal[False] | list[str] | str)


class Settings(InterfaceSettings):
    """The settings of every interface, with errors that name their place and nothing else."""

    model_config = Entry.model_config

    addresses: (
        Annotated[list[AnyAddress], BeforeValidator(single, json_schema_input_type=list[AnyAddress] | str)] | None
    ) = Field(None, description="its IPv4 and IPv6 addresses with prefix lengths: [10.0.0.1/24, fd00::1/64]")
    gateway: Annotated[Literal[False] | list[Ip] | None, _EitherGateway] = Field(
        None,
        description="a default route via this address, or one of each family; false for none where a bridge would give one",
    )
    sysctls: dict[ShortSysctl, SysctlValue] | None = Field(
        None, description="its own sysctls by short name: rp_filter: 2, ipv6.accept_ra: 0"
    )


def _vlans(value: Any) -> list[int | str]:
    """VLANs and ranges of them, each checked."""
    values = value if isinstance(value, list) else [value]
    for item in values:
        span(item, "VLAN", 1, _LAST_VLAN, "20, or 30-32")
    return values


_LAST_VLAN: Final = 4094
_LAST_VNI: Final = 0xFFFFFF


def _by_vlan(parse: Callable[[dict[str, Any]], object], what: str) -> Callable[[Any], dict[str, Any]]:
    """A check of a mapping of VLANs to `what`, of which `parse` can read each."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong(f"a mapping of VLANs to {what}")
        found = {str(vlans): of for vlans, of in value.items()}
        parse(found)
        return found

    return check


def tunnel_numbers(stated: Mapping[str, int | str]) -> dict[int, int]:
    """The VNI of each VLAN. Raises ValueError."""
    found: dict[int, int] = {}
    for vlans, vnis in stated.items():
        first, last = span(vlans, "VLAN", 1, _LAST_VLAN, "20, or 30-32")
        low, high = span(vnis, "VNI", 1, _LAST_VNI, "2000, or 2000-2002")
        if last - first != high - low:
            raise ValueError(f"VLANs {vlans} and VNIs {vnis} are not as many")
        pairs = dict(zip(range(first, last + 1), range(low, high + 1), strict=True))
        if twice := found.keys() & pairs.keys():
            raise ValueError(f"VLAN {min(twice)} stands for two VNIs")
        if shared := set(found.values()).intersection(pairs.values()):
            raise ValueError(f"two VLANs stand for VNI {min(shared)}")
        found |= pairs
    return found


def vlan_states(stated: Mapping[str, str]) -> dict[int, str]:
    """The state of each VLAN. Raises ValueError."""
    found: dict[int, str] = {}
    for vlans, state in stated.items():
        first, last = span(vlans, "VLAN", 1, _LAST_VLAN, "20, or 30-32")
        if state not in STATES:
            raise ValueError(f"{state!r} is no state of a VLAN: {', '.join(STATES)}")
        if twice := found.keys() & set(range(first, last + 1)):
            raise ValueError(f"VLAN {min(twice)} is stated twice")
        found.update(dict.fromkeys(range(first, last + 1), state))
    return found


Vlans = Annotated[list[int | str], Either(_vlans, list[int | str] | int | str)]


class PortVlans(Entry):
    """The VLANs of a bridge's port, all of them (bridge(8), bridge vlan)."""

    pvid: Annotated[StrictInt, Field(ge=1, le=_LAST_VLAN)] | None = Field(
        None, description="the VLAN of what comes in without a tag, and goes out without one unless it is in `tagged`"
    )
    untagged: Vlans | None = Field(None, description="more VLANs that go out without a tag: 10, or [20, 30-32]")
    tagged: Vlans | None = Field(None, description="VLANs that go out with their tag: 10, or [20, 30-32]")
    tunnels: (
        Annotated[
            dict[str, int | str],
            Either(_by_vlan(tunnel_numbers, "VNIs is expected: {10: 1000, 20-22: 2020-2022}"), dict[str, int | str]),
        ]
        | None
    ) = Field(
        None,
        description="of a VXLAN with `vnis`: the VNIs that its VLANs stand for: {10: 1000, 20-22: 2020-2022}",
    )

    states: (
        Annotated[
            dict[str, str],
            Either(_by_vlan(vlan_states, "states is expected: {10: blocking, 20-22: learning}"), dict[str, str]),
        ]
        | None
    ) = Field(
        None,
        description="what a spanning tree would say of its VLANs: {10: blocking, 20-22: learning}; disabled, listening, "
        "learning, forwarding or blocking; unset, forwarding. For bridges without `stp`",
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        tagged, untagged = vlan_numbers(self.tagged), vlan_numbers(self.untagged)
        if both := untagged & tagged:
            raise wrong(f"VLAN {min(both)} is both tagged and untagged", "untagged")
        if self.tunnels and (out := tunnel_numbers(self.tunnels).keys() - tagged - untagged - {self.pvid}):
            raise wrong(f"VLAN {min(out)} is none that the port is in", "tunnels")
        if self.states and (out := vlan_states(self.states).keys() - tagged - untagged - {self.pvid}):
            raise wrong(f"VLAN {min(out)} is none that it is in", "states")
        return self


def vlan_numbers(stated: list[int | str] | None) -> set[int]:
    """The VLANs of a list of them and of ranges."""
    return numbers(",".join(map(str, stated or ())))


class Group(Entry):
    """A multicast group that a port is a member of; `239.1.1.1` is short for `{group: 239.1.1.1}`."""

    group: str = Field(description="the group: an IPv4, IPv6 or MAC address")
    source: Ip | None = Field(None, description="the one source that is listened to; unset, all")
    vid: Annotated[StrictInt, Field(ge=1, le=_LAST_VLAN)] | None = Field(None, description="the VLAN; unset, none")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.source is not None and (":" in self.source) != (":" in self.group):
            raise wrong("the source is of another family than the group", "source")
        return self


def _group(value: Any) -> Group:
    found = Group(group=value) if isinstance(value, str) else Group.model_validate(value)
    return found.model_copy(update={"group": canonical_group(found.group)})


Groups = Annotated[
    list[Annotated[Group, Either(_group, str | Group)]],
    BeforeValidator(single, json_schema_input_type=list[str | Group] | str),
]


class PortSettings(Entry):
    """What a bridge knows of one of its ports (bridge(8), bridge link set)."""

    hairpin: bool | None = Field(None, description="frames may go back out of the port they came in by")
    isolated: bool | None = Field(None, description="isolated ports do not reach each other")
    learning: bool | None = Field(None, description="addresses are learned from what comes in")
    flood: bool | None = Field(None, description="unknown unicast is flooded to it")
    mcast_flood: bool | None = Field(None, description="unknown multicast is flooded to it")
    bcast_flood: bool | None = Field(None, description="broadcast is flooded to it")
    neigh_suppress: bool | None = Field(None, description="ARP and ND are answered for known neighbours")
    guard: bool | None = Field(None, description="BPDU guard: a BPDU coming in disables the port")
    root_block: bool | None = Field(None, description="it never becomes the root port")
    fast_leave: bool | None = Field(None, description="multicast stops as soon as a leave comes in")
    proxy_arp: bool | None = Field(None, description="the bridge answers ARP on it")
    mcast_to_unicast: bool | None = Field(None, description="multicast is sent to each member as unicast")
    mcast_router: Literal[0, 1, 2] | None = Field(
        None, description="whether a multicast router is behind it: 0 never, 1 if one is heard, 2 always; unset, 1"
    )
    locked: bool | None = Field(None, description="only from addresses that the FDB has at it are frames taken")
    vlan_tunnel: bool | None = Field(None, description="of a VXLAN: VLANs and VNIs stand for each other")
    mdb: Groups | None = Field(
        None, description="multicast groups of which it is always a member, as `bridge mdb` has them"
    )
    cost: Annotated[StrictInt, Field(ge=1, le=65535)] | None = Field(None, description="its STP path cost")
    priority: Annotated[StrictInt, Field(ge=0, le=63)] | None = Field(None, description="its STP priority")
    vlan: PortVlans | None = Field(
        None, description="the VLANs that it is in, of a bridge with `vlan_filtering`; unset, `vlan_default_pvid`"
    )
