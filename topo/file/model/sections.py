"""What every namespace holds, the host included; the types of its sections are made when a file has them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import Field, StrictBool, model_validator

from topo.file.model.values import (
    Entry,
    Ifname,
    Mtu,
    QueueLength,
    SysctlName,
    SysctlValue,
    no_entries,
    nothing,
)
from topo.kinds.later import later
from topo.kinds.words import ShortSysctl

if TYPE_CHECKING:
    from topo.file.model.bridges import Bridges
    from topo.file.model.firewall import Chain
    from topo.file.model.interfaces import Interfaces
    from topo.file.model.nat import Dnats, Masquerades, Publishes, Snats
    from topo.file.model.nexthops import Nexthops
    from topo.file.model.rules import Neighbours, Routes, Rules
    from topo.file.model.source import Source
    from topo.file.model.vxlans import Vxlans
    from topo.kinds.shaping_spec import Shaping
else:
    Bridges = later("topo.file.model.bridges", "Bridges")
    Chain = later("topo.file.model.firewall", "Chain")
    Interfaces = later("topo.file.model.interfaces", "Interfaces")
    Dnats = later("topo.file.model.nat", "Dnats")
    Masquerades = later("topo.file.model.nat", "Masquerades")
    Publishes = later("topo.file.model.nat", "Publishes")
    Snats = later("topo.file.model.nat", "Snats")
    Neighbours = later("topo.file.model.rules", "Neighbours")
    Nexthops = later("topo.file.model.nexthops", "Nexthops")
    Routes = later("topo.file.model.rules", "Routes")
    Rules = later("topo.file.model.rules", "Rules")
    Source = later("topo.file.model.source", "Source")
    Vxlans = later("topo.file.model.vxlans", "Vxlans")
    Shaping = later("topo.kinds.shaping_spec", "Shaping")


def _without_nothing(value: Any) -> Any:
    """A mapping without the keys that have nothing behind them: `routes:` alone is as good as none."""
    if isinstance(value, dict) and None in value.values():
        return {key: item for key, item in value.items() if item is not None}
    return value


class Nat(Entry):
    """Network address translation, by one nftables table."""

    masquerade: Masquerades = Field(
        default_factory=no_entries, description="sources hidden behind the interface's address"
    )
    snat: Snats = Field(default_factory=no_entries, description="sources replaced")
    dnat: Dnats = Field(default_factory=no_entries, description="destinations replaced")
    publish: Publishes = Field(default_factory=no_entries, description="ports that lead to a target")


class Firewall(Entry):
    """Packet filtering, by the same nftables table."""

    forward: Chain | None = Field(None, description="packets that pass through")
    input: Chain | None = Field(None, description="packets for the namespace itself")
    output: Chain | None = Field(None, description="packets from the namespace itself")
    isolate: list[Ifname] = Field(default_factory=no_entries, description="bridges of which none may reach another")


class Defaults(Entry):
    """Settings for every interface that the file makes and that does not state its own."""

    mtu: Mtu | None = Field(None, description="MTU in bytes; a VXLAN keeps to what its underlay carries")
    up: StrictBool | None = Field(None, description="whether interfaces are up")
    txqueuelen: QueueLength | None = Field(None, description="length of the transmit queue in packets")
    shaping: Shaping | None = Field(None, description="what becomes of what each sends: a rate limit, or a bad line")
    sysctls: dict[ShortSysctl, SysctlValue] | None = Field(
        None, description="sysctls of each by short name: rp_filter: 2, ipv6.accept_ra: 0"
    )


@cache
def no_nat() -> Nat:
    """What every namespace without `nat` has in common; nothing in it can change."""
    return Nat.model_construct()


@cache
def no_firewall() -> Firewall:
    return Firewall.model_construct()


class Section(Entry):
    """What every namespace holds, the host included."""

    bridges: Bridges = Field(default_factory=nothing, description="bridges by name")
    vxlans: Vxlans = Field(default_factory=nothing, description="VXLAN devices by name")
    interfaces: Interfaces = Field(
        default_factory=nothing, description="interfaces of other kinds by name, and existing ones"
    )
    routes: Routes = Field(default_factory=no_entries, description="routes")
    nexthops: Nexthops = Field(
        default_factory=no_entries, description="nexthop objects and groups of them, which routes name by `nhid`"
    )
    rules: Rules = Field(default_factory=no_entries, description="policy routing rules")
    neighbours: Neighbours = Field(default_factory=no_entries, description="permanent neighbour entries")
    nat: Nat = Field(default_factory=no_nat, description="network address translation")
    firewall: Firewall = Field(default_factory=no_firewall, description="packet filtering")
    sysctls: dict[SysctlName, SysctlValue] = Field(
        default_factory=nothing, description="sysctls of the namespace by dotted name: net.ipv4.tcp_syncookies: 1"
    )
    forwarding: StrictBool | None = Field(
        None, description="whether IPv4 and IPv6 packets are forwarded; unset, `nat` turns on what it needs"
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, value: Any) -> Any:
        return _without_nothing(value)


class Namespace(Section):
    """A network namespace; one that topo makes unless `from` says where it is."""

    from_: Source | None = Field(None, alias="from", description="attach to a namespace that someone else made")
