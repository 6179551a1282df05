"""VXLANs and their peers."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, model_validator

from topo.file.addressing import parse_address
from topo.file.model.settings import Settings
from topo.file.model.values import (
    Entry,
    Ifname,
    Ifnames,
    NamespaceOrHost,
    PortNumber,
    Prefixes,
    Seconds,
    Tos,
    missing,
    no_entries,
    single,
    wrong,
)
from topo.file.spans import span
from topo.kinds.later import Either
from topo.kinds.words import Ip, Mac, canonical_ip

_LAST_VNI: Final = 0xFFFFFF


class Peer(Entry):
    """Another end of a VXLAN."""

    address: Ip = Field(description="address of the host behind which it is (its VTEP)")
    mac: Mac | None = Field(None, description="its MAC address: a unicast FDB entry; unset, frames are flooded to it")
    ip: Ip | None = Field(None, description="its address inside the VXLAN: a permanent neighbour entry")
    subnets: Prefixes | None = Field(None, description="what is routed to it, via `ip`, onlink")
    vni: Annotated[StrictInt, Field(ge=0, le=_LAST_VNI)] | None = Field(
        None, description="its VNI, if another one; of a device with `vnis`, the one in which frames are sent to it"
    )
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


def _span(value: Any) -> tuple[int, int]:
    return span(value, "VNI", 1, _LAST_VNI, "2000, or 2000-2009")


def _vni(value: Any) -> Any:
    _span(value)
    return value


class Vni(Entry):
    """A VNI of a device that has many, or a range of them; `1000` is short for `{vni: 1000}`."""

    vni: Annotated[int | str, Either(_vni)] = Field(description="the VNI, or a range: 2000-2009")
    group: Ip | None = Field(
        None, description="multicast group that unknown destinations in it are sent to; needs `dev`"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.group is not None and not _is_group(self.group):
            raise wrong(
                f"{self.group} is no multicast group; other ends go under `peers`, each with its `vni`", "group"
            )
        if self.group is not None and len(self.numbers()) > 1:
            raise wrong("a group is one VNI's", "group", value=self.group)
        return self

    def numbers(self) -> range:
        first, last = _span(self.vni)
        return range(first, last + 1)


def _is_group(ip: str) -> bool:
    number, bits = parse_address(ip)
    return number >> (bits - 8) == 0xFF or number >> (bits - 4) == 0xE


def _entry(value: Any) -> Vni:
    return Vni(vni=value) if isinstance(value, (int, str)) else Vni.model_validate(value)


_Vnis = Annotated[
    list[Annotated[Vni, Either(_entry, int | str | Vni)]],
    BeforeValidator(single, json_schema_input_type=list[int | str | Vni] | int | str),
    Field(min_length=1),
]


class Vxlan(Settings):
    """A VXLAN device (RFC 7348): one that topo makes, with an `id` or with `vnis`, or one that is `external`."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("id", "vnis", "external")]}
    )

    vnis: _Vnis | None = Field(
        None,
        description="the VNIs of one device for many, each for a VLAN of its bridge (`tunnels` of the port): "
        "[1000, 2000-2009, {vni: 3000, group: 239.1.1.1}]",
    )
    id: Annotated[StrictInt, Field(ge=0, le=_LAST_VNI)] | None = Field(None, description="its VNI")
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
    peers: list[Annotated[Ip | Peer, Either(_peer)]] = Field(
        default_factory=no_entries, description="the other ends: addresses to flood to, or mappings"
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
        elif self.vnis is not None:
            self._many()
        elif self.id is None:
            raise missing("id")
        if self.group is not None:
            if not _is_group(self.group):
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

    def _many(self) -> None:
        for name in ("id", "group"):
            if getattr(self, name) is not None:
                raise wrong(f"`{name}` is for a device of one VNI; here it stands in `vnis`", name)
        known: set[int] = set()
        for index, entry in enumerate(self.vnis or ()):
            if entry.group is not None and self.dev is None:
                raise wrong("a multicast group needs `dev`, the underlay's interface", "vnis", index, "group")
            if twice := known.intersection(entry.numbers()):
                raise wrong(f"VNI {min(twice)} is stated twice", "vnis", index)
            known.update(entry.numbers())
        for index, peer in enumerate(self.peers):
            vni = None if isinstance(peer, str) else peer.vni
            if vni not in known:
                message = (
                    "a peer of a device with `vnis` needs `vni`" if vni is None else f"the device has no VNI {vni}"
                )
                raise wrong(message, "peers", index, *(("vni",) if vni is not None else ()))

    def _one_family(self) -> None:
        """The underlay is IPv4 or IPv6, not both (vxlan_config_validate in drivers/net/vxlan)."""
        groups = [entry.group for entry in self.vnis or () if entry.group]
        first = self.local or self.group or next(iter(groups), None)
        six = None if first is None else ":" in first
        for index, peer in enumerate(self.peers):
            address = peer if isinstance(peer, str) else peer.address
            six = ":" in address if six is None else six
            if (":" in address) != six:
                raise wrong(f"{address} is not of the same family as the rest of the underlay", "peers", index)
        if self.group and (":" in self.group) != six:
            raise wrong(f"{self.group} is not of the same family as `local`", "group")
        for group in groups:
            if (":" in group) != six:
                raise wrong(f"{group} is not of the same family as the rest of the underlay", "vnis")


Vxlans = dict[Ifnames, Vxlan]
