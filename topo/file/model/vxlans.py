"""VXLANs and their peers."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StrictBool, StrictInt, model_validator

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
    wrong,
)
from topo.kinds.later import Either
from topo.kinds.words import Ip, Mac, canonical_ip


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


Vxlans = dict[Ifnames, Vxlan]
