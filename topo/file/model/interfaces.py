"""What has a name in `ip link`: ends of links, bridges, VXLANs, and the entries of `interfaces`."""

from __future__ import annotations

import operator
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, StrictBool, StrictInt, model_validator

from topo.file.addressing import parse_address
from topo.file.model.settings import Mtu, PortSettings, QueueLength, Settings
from topo.file.model.values import (
    BridgeSubnets,
    EndName,
    Entry,
    Ifname,
    Ifnames,
    NamespaceOrHost,
    PortNumber,
    Prefixes,
    Seconds,
    Subnets,
    SysctlValue,
    Tos,
    either,
    end_name,
    missing,
    seconds,
    wrong,
)
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.shaping import Shaping
from topo.kinds.spec import Comment, InterfaceSpec, Ip, Mac, ShortSysctl, canonical_ip

LATER_KINDS: Final = frozenset(
    [
        "bareudp",
        "batadv",
        "bond",
        "dummy",
        "erspan",
        "geneve",
        "gre",
        "gretap",
        "gtp",
        "hsr",
        "ip6erspan",
        "ip6gre",
        "ip6gretap",
        "ip6tnl",
        "ipip",
        "ipoib",
        "ipvlan",
        "ipvtap",
        "macsec",
        "netdevsim",
        "nlmon",
        "sit",
        "team",
        "vcan",
        "vlan",
        "vrf",
        "vti",
        "vti6",
        "vxcan",
        "wireguard",
        "xfrm",
    ]
)
"""Kinds of link that iproute2 knows and topo does not make yet."""

_SECTIONS: Final = {"veth": "links", "bridge": "bridges", "vxlan": "vxlans"}
_FORWARD_DELAY: Final = (2, 30)  # seconds; IEEE 802.1D, BR_MIN_FORWARD_DELAY in net/bridge/br_private_stp.h
_HELLO_TIME: Final = (1, 10)
_MAX_AGE: Final = (6, 40)


class InterfaceEnd(Settings):
    """An end of a link that is an interface of its own."""

    interface: EndName = Field(description="its namespace and name: web:eth0; eth0 alone is in the host")


class BridgeEnd(Settings, PortSettings):
    """An end of a link that is a port of a bridge."""

    bridge: EndName = Field(description="the bridge that it is a port of: br0, or namespace:br0")
    name: Ifnames | None = Field(None, description="its name; unset, a short and stable one is derived")


def _end(value: Any) -> Any:
    if isinstance(value, str):
        return end_name(value)
    if isinstance(value, InterfaceEnd | BridgeEnd):
        return value
    if not isinstance(value, dict):
        raise wrong("an end is namespace:interface, a bridge, or a mapping with `interface` or `bridge`")
    if "bridge" in value and "interface" in value:
        raise wrong("an end has `interface` or `bridge`, not both", "bridge", value=value["bridge"])
    if "bridge" not in value and "interface" not in value:
        raise ValueError("an end needs `interface` or `bridge`")
    return (BridgeEnd if "bridge" in value else InterfaceEnd).model_validate(value)


End = Annotated[EndName | InterfaceEnd | BridgeEnd, either(_end)]


def link_form(value: Any) -> Any:
    """The mapping that `[A, B]` is short for."""
    if isinstance(value, list):
        return {"ends": value}
    if not isinstance(value, dict | Link):
        raise wrong("a link is [A, B], or a mapping with `ends: [A, B]`")
    return value


Ends = Annotated[list[End], Field(min_length=2, max_length=2)]


class Link(Entry):
    """A veth pair, or a range of them. `[A, B]` is short for `{ends: [A, B]}`."""

    ends: Ends = Field(description="its two ends")
    subnet: Subnets | None = Field(
        None, description="where the ends take their addresses from; with ranges each link takes the next /31 or /127"
    )
    prefix: Annotated[StrictInt, Field(ge=0, le=128)] | None = Field(
        None, description="length of the prefix that each link takes from `subnet`"
    )
    mtu: Mtu | None = Field(None, description="MTU of both ends in bytes")
    up: StrictBool | None = Field(None, description="whether both ends are up")
    txqueuelen: QueueLength | None = Field(None, description="length of the transmit queue of both ends in packets")
    shaping: Shaping | None = Field(None, description="a rate limit on what each end sends")
    sysctls: dict[ShortSysctl, SysctlValue] | None = Field(None, description="sysctls of both ends by short name")
    comment: Comment | None = Field(None, description="a text that the kernel keeps with both ends (their alias)")

    @model_validator(mode="after")
    def _prefix_of_subnet(self) -> Self:
        if self.prefix is not None and self.subnet is None:
            raise wrong("`prefix` is the length that a link takes from `subnet`, which is not stated", "prefix")
        return self


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

    return either(check)


class Bridge(Settings):
    """A bridge."""

    subnet: BridgeSubnets | None = Field(
        None,
        description="the bridge takes the first address, or the one that stands here (10.0.0.254/24); every end plugged "
        "in without addresses takes the next, and a default route",
    )
    ports: list[Annotated[Ifname | Port, either(_port)]] = Field(
        default_factory=list, description="interfaces to enslave: those of this namespace, or existing ones"
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
    vlan_filtering: StrictBool | None = Field(None, description="whether it heeds VLAN tags; true is not built in yet")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.vlan_filtering:
            raise wrong("vlan-aware bridges are not built in yet", "vlan_filtering", value=True)
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


class Peer(Entry):
    """Another end of a VXLAN."""

    address: Ip = Field(description="address of the host behind which it is (its VTEP)")
    mac: Mac | None = Field(None, description="its MAC address: a unicast FDB entry; unset, frames are flooded to it")
    ip: Ip | None = Field(None, description="its address inside the VXLAN: a permanent neighbour entry")
    subnets: Prefixes | None = Field(None, description="what is routed to it, via `ip`, onlink")
    vni: Annotated[StrictInt, Field(ge=0, le=0xFFFFFF)] | None = Field(None, description="its VNI, if another one")
    port: PortNumber | None = Field(None, description="its UDP port, if another one")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.ip is not None and self.mac is None:
            raise wrong("`ip` needs `mac`: together they are a neighbour entry", "ip")
        if self.subnets is not None:
            if self.ip is None:
                raise wrong("`subnets` needs `ip`: the routes go via it", "subnets")
            for index, subnet in enumerate(self.subnets):
                if ":" in subnet and ":" not in self.ip:
                    raise wrong(f"an IPv6 route cannot go via the IPv4 address {self.ip}", "subnets", index)
        return self


def _peer(value: Any) -> Any:
    if isinstance(value, Peer):
        return value
    if isinstance(value, str):
        return canonical_ip(value)
    if not isinstance(value, dict):
        raise wrong("a peer is an address, or a mapping with `address`")
    return Peer.model_validate(value)


class Vxlan(Settings):
    """A VXLAN device (RFC 7348): one that topo makes, with an `id`, or one that is `external`."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["id"]}, {"required": ["external"]}]})

    id: Annotated[StrictInt, Field(ge=0, le=0xFFFFFF)] | None = Field(None, description="its VNI")
    external: StrictBool = Field(False, description="it must be there already (Docker's, say): only `peers` are added")
    local: Ip | None = Field(None, description="address that it sends from")
    dev: Ifname | None = Field(None, description="the underlay's interface")
    group: Ip | None = Field(None, description="multicast group that unknown destinations are sent to; needs `dev`")
    port: PortNumber = Field(4789, description="UDP port; 4789 is IANA's, 8472 flannel's")
    bridge: Ifname | None = Field(None, description="the bridge, in the same namespace, that it is a port of")
    learning: StrictBool = Field(True, description="whether it learns where addresses are from what comes in")
    proxy: StrictBool | None = Field(None, description="whether it answers ARP and ND from its neighbour entries")
    l2miss: StrictBool | None = Field(None, description="whether unknown MAC addresses are notified")
    l3miss: StrictBool | None = Field(None, description="whether unknown IP addresses are notified")
    ttl: Annotated[StrictInt, Field(ge=0, le=255)] | None = Field(
        None, description="TTL of the outer packet; 0 is the kernel's choice"
    )
    tos: Tos | None = Field(None, description="TOS of the outer packet; or inherit")
    ageing: Seconds | None = Field(None, description="seconds until a learned address is forgotten")
    created_in: NamespaceOrHost | None = Field(
        None, description="namespace that it is made in and moved from: its UDP socket and underlay stay there"
    )
    peers: list[Annotated[Ip | Peer, either(_peer)]] = Field(
        default_factory=list, description="the other ends: addresses to flood to, or mappings"
    )

    @model_validator(mode="before")
    @classmethod
    def _no_remote(cls, value: Any) -> Any:
        if isinstance(value, dict) and "remote" in value:
            raise wrong("other ends go under `peers`: peers: [192.0.2.2]", "remote", value=value["remote"])
        return value

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.external:
            self._only_peers()
        elif self.id is None:
            raise missing("id")
        if self.group is not None:
            number, bits = parse_address(self.group)
            if number >> (bits - 8) != 0xFF and number >> (bits - 4) != 0xE:
                raise wrong(f"{self.group} is no multicast group; other ends go under `peers`", "group")
            if self.dev is None:
                raise wrong("a multicast group needs `dev`, the underlay's interface", "group")
        self._one_family()
        return self

    def _only_peers(self) -> None:
        """Of an external device not even VNI and port are known: they are its own for every peer."""
        for name in sorted(self.model_fields_set - {"external", "peers"}):
            if getattr(self, name) is not None:
                raise wrong("an external vxlan is someone else's: only `peers` can be stated", name)
        for index, peer in enumerate(self.peers):
            for name in ("vni", "port"):
                if isinstance(peer, Peer) and getattr(peer, name) is not None:
                    raise wrong("the peers of an external vxlan have its own VNI and port", "peers", index, name)

    def _one_family(self) -> None:
        """The underlay is IPv4 or IPv6, not both (vxlan_config_validate in drivers/net/vxlan)."""
        first = self.local or self.group
        six = None if first is None else ":" in first
        for index, peer in enumerate(self.peers):
            address = peer if isinstance(peer, str) else peer.address
            six = ":" in address if six is None else six
            if (":" in address) != six:
                raise wrong(f"{address} is not of the same family as the rest of the underlay", "peers", index)
        if self.group and (":" in self.group) != six:
            raise wrong(f"{self.group} is not of the same family as `local`", "group")


def _entry_models() -> dict[str, type[InterfaceSpec]]:
    """The models of the entries of `interfaces`, by kind: the registry's, with our form of the settings."""
    return {
        name: type(kind.spec.__name__, (Settings, kind.spec), {"__doc__": kind.spec.__doc__, "__module__": __name__})
        for name, kind in LINK_KINDS.items()
        if kind.spec is not None
    }


ENTRIES: Final = _entry_models()


def _interface(value: Any) -> Any:
    if isinstance(value, InterfaceSpec):
        return value
    if not isinstance(value, dict):
        raise wrong("an interface is a mapping with `kind`")
    kind = value.get("kind")
    if kind is None:
        raise wrong(f"which kind is it? One of {', '.join(sorted(ENTRIES))}", value=value)
    if not isinstance(kind, str):
        raise wrong("the kind of an interface is a name", "kind", value=kind)
    if kind in _SECTIONS:
        raise wrong(f"interfaces of kind {kind!r} have a section of their own: `{_SECTIONS[kind]}`", "kind", value=kind)
    if kind in LATER_KINDS and kind not in ENTRIES:
        raise wrong(f"kind {kind!r} is not built in yet", "kind", value=kind)
    if kind not in ENTRIES:
        raise wrong(f"kind {kind!r} is not known: {', '.join(sorted(ENTRIES))} are", "kind", value=kind)
    return ENTRIES[kind].model_validate(value)


if TYPE_CHECKING:
    Interface = InterfaceSpec
else:
    Interface = Annotated[reduce(operator.or_, ENTRIES.values()), either(_interface)]
