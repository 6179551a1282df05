"""bond: several interfaces as one (ip-link(8), Documentation/networking/bonding.rst, drivers/net/bonding)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from topo.changes import Env
from topo.errors import KernelError
from topo.facts import Fact
from topo.kinds.kind import LinkKind, Ports, View
from topo.kinds.spec import InterfaceName, InterfaceSpec, Ip, ports_field
from topo.wire import BOOL, IP, U8, U32, Attr, attr, attr_u32, attribute_list, in_order, named, nest

IFLA_BOND_ARP_IP_TARGET, IFLA_BOND_PRIMARY = 8, 11

Mode = Literal["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]
XmitHashPolicy = Literal["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"]
ArpValidate = Literal["none", "active", "backup", "all", "filter", "filter_active", "filter_backup"]
Milliseconds = Annotated[StrictInt, Field(ge=0, le=0x7FFFFFFF)]


def _named(name: str, nla: int, words: Any, default: str, form: Any = U8) -> Attr:
    return Attr(name, nla, named(form, in_order(*words.__args__)), default)


DATA: Final = (
    _named("mode", 1, Mode, "balance-rr"),
    Attr("miimon", 3, U32, 0),
    Attr("updelay", 4, U32, 0),
    Attr("downdelay", 5, U32, 0),
    Attr("arp_interval", 7, U32, 0),
    _named("arp_validate", 9, ArpValidate, "none", U32),
    _named("primary_reselect", 12, Literal["always", "better", "failure"], "always"),
    _named("fail_over_mac", 13, Literal["none", "active", "follow"], "none"),
    _named("xmit_hash_policy", 14, XmitHashPolicy, "layer2"),
    Attr("resend_igmp", 15, U32, 1),
    Attr("num_grat_arp", 16, U8, 1),
    Attr("all_slaves_active", 17, BOOL, False),
    Attr("min_links", 18, U32, 0),
    _named("lacp_rate", 21, Literal["slow", "fast"], "slow"),
    _named("ad_select", 22, Literal["stable", "bandwidth", "count"], "stable"),
)
_FIXED: Final = frozenset({"mode", "fail_over_mac", "xmit_hash_policy", "lacp_rate", "ad_select"})
_WITH_PRIMARY: Final = frozenset({"active-backup", "balance-tlb", "balance-alb"})
_WITHOUT_ARP: Final = frozenset({"802.3ad", "balance-tlb", "balance-alb"})


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    """What the kernel changes only while the bond is down, or has no ports (BOND_OPTFLAG_IFDOWN, _NOSLAVES)."""
    return _FIXED


def extra(attrs: Mapping[str, Any], env: Env) -> bytes:
    parts = []
    if (targets := attrs.get("arp_ip_target")) is not None:
        parts.append(nest(IFLA_BOND_ARP_IP_TARGET, *(attr(n, IP.pack(ip)) for n, ip in enumerate(targets))))
    if "primary" in attrs:
        with suppress(KernelError):  # where it is still to be made, it is told of when it is a port: `Ports.told`
            primary = attrs["primary"]
            parts.append(attr_u32(IFLA_BOND_PRIMARY, env.index(*primary) if primary else 0))
    return b"".join(parts)


def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], view: View) -> None:
    targets = attribute_list(data.get(IFLA_BOND_ARP_IP_TARGET, b""))
    attrs["arp_ip_target"] = tuple(IP.unpack(ip) for _, ip in targets)
    primary = view.ifname(U32.unpack(data[IFLA_BOND_PRIMARY])) if IFLA_BOND_PRIMARY in data else None
    attrs["primary"] = (view.ns, primary) if primary else None


def refuses(master: Fact, port: Fact) -> str:
    """What the bond decides for its ports: their MTU is its own, and so is their MAC address but for fail_over_mac."""
    if port.attrs.get("kind") == "bond":
        return "it is a bond, which cannot be in another one"
    for name, words in (("mtu", "MTU"), ("mac", "MAC address")):
        own = name == "mac" and master.attrs.get("fail_over_mac", "none") != "none"
        if name in port.attrs and not own and port.attrs[name] != master.attrs.get(name):
            return f"its {words} is {master.ref.key[0]}'s to choose: state it there"
    return ""


class Bond(InterfaceSpec):
    """A bond. Its ports are up as long as they are its ports, and have its MTU and, unless `fail_over_mac`, its MAC."""

    kind: Literal["bond"] = Field(description="several interfaces as one")
    ports: list[InterfaceName] = ports_field()
    mode: Mode | None = Field(None, description="how they share the load; unset, balance-rr")
    miimon: Milliseconds | None = Field(
        None, description="milliseconds between looks at the carrier of the ports; 0 is off"
    )
    updelay: Milliseconds | None = Field(
        None, description="milliseconds until a port is used again; a multiple of miimon"
    )
    downdelay: Milliseconds | None = Field(None, description="milliseconds until one is given up; a multiple of miimon")
    arp_interval: Milliseconds | None = Field(None, description="milliseconds between ARP requests to arp_ip_target")
    arp_ip_target: Annotated[list[Ip], Field(max_length=16)] | None = Field(
        None, description="IPv4 addresses that are asked for by ARP to see whether a port works"
    )
    arp_validate: ArpValidate | None = Field(None, description="of which ports the ARP answers are looked at")
    primary: InterfaceName | None = Field(None, description="the port that is used when it works")
    primary_reselect: Literal["always", "better", "failure"] | None = Field(
        None, description="when the primary is used again after it failed"
    )
    fail_over_mac: Literal["none", "active", "follow"] | None = Field(
        None, description="whether ports keep MAC addresses of their own, in active-backup"
    )
    xmit_hash_policy: XmitHashPolicy | None = Field(None, description="by what a port is chosen for a packet")
    resend_igmp: Annotated[StrictInt, Field(ge=0, le=255)] | None = Field(
        None, description="how many IGMP reports follow a failover"
    )
    num_grat_arp: Annotated[StrictInt, Field(ge=0, le=255)] | None = Field(
        None, description="how many gratuitous ARP and ND announcements follow a failover"
    )
    all_slaves_active: StrictBool | None = Field(
        None, description="whether frames that come in by idle ports are taken"
    )
    min_links: Annotated[StrictInt, Field(ge=0, le=0x7FFFFFFF)] | None = Field(
        None, description="ports that have to work for the bond to have a carrier, in 802.3ad"
    )
    lacp_rate: Literal["slow", "fast"] | None = Field(None, description="LACP every 30 seconds, or every second")
    ad_select: Literal["stable", "bandwidth", "count"] | None = Field(None, description="how 802.3ad chooses ports")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        mode = self.mode or "balance-rr"
        if self.primary is not None and mode not in _WITH_PRIMARY:
            raise ValueError(f"mode {mode} has no primary; {', '.join(sorted(_WITH_PRIMARY))} have")
        if self.primary is not None and self.primary not in self.ports:
            raise ValueError(f"the primary {self.primary} is not among its ports")
        if self.lacp_rate is not None and mode != "802.3ad":
            raise ValueError(f"mode {mode} knows no LACP: lacp_rate needs 802.3ad")
        if self.arp_interval and (self.miimon or mode in _WITHOUT_ARP):
            raise ValueError("ARP monitoring goes neither with miimon nor with 802.3ad, balance-tlb and balance-alb")
        if self.arp_ip_target and any(":" in ip for ip in self.arp_ip_target):
            raise ValueError("arp_ip_target takes IPv4 addresses")
        for name in ("updelay", "downdelay"):
            delay = getattr(self, name) or 0
            if delay and (not self.miimon or delay % self.miimon):
                raise ValueError(f"{name} is a multiple of miimon, by which the kernel counts")
        return self

    def attributes(self, ns: str) -> dict[str, Any]:
        stated = super().attributes(ns)
        if "primary" in stated:
            stated["primary"] = (ns, stated["primary"])
        if "arp_ip_target" in stated:
            stated["arp_ip_target"] = tuple(stated["arp_ip_target"])
        return stated


BOND = LinkKind(
    "bond",
    spec=Bond,
    option="CONFIG_BONDING",
    data=DATA,
    replace=replace,
    bare=True,
    extra=extra,
    more=frozenset({"arp_ip_target", "primary"}),
    unstated={"arp_ip_target": (), "primary": None},
    decode_extra=decode_extra,
    ports=Ports(refuses=refuses, down=True, told="primary"),
)
