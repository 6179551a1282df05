"""What a user may write for every interface, whatever its kind; the specs of the kinds build on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

from topo.facts import HOST, Fact
from topo.kinds.later import later
from topo.kinds.words import Address, AnyAddress, Comment, Device, InterfaceName, Ip, Mac, ShortSysctl
from topo.wire import pack_ip


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _token(ip: str) -> str:
    if any(pack_ip(ip)[:8]) or ":" not in ip:
        raise ValueError(f"{ip} is not the last 64 bits of an IPv6 address: write ::1")
    return ip


__all__ = [
    "Address",
    "Comment",
    "Device",
    "InterfaceName",
    "InterfaceSettings",
    "InterfaceSpec",
    "Ip",
    "Mac",
    "ShortSysctl",
    "parent_field",
]

if TYPE_CHECKING:
    from topo.kinds.shaping_spec import Shaping
else:
    Shaping = later("topo.kinds.shaping_spec", "Shaping")


class InterfaceSettings(BaseModel):
    """The settings that every interface takes. What is not stated is the kernel's to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    addresses: Annotated[list[AnyAddress], BeforeValidator(_list)] | None = Field(
        None, description="its IPv4 and IPv6 addresses with prefix lengths: [10.0.0.1/24, fd00::1/64]"
    )
    gateway: Literal[False] | Annotated[list[Ip], BeforeValidator(_list)] | None = Field(
        None, description="a default route via this address, one of each family at most; false for none"
    )
    mac: Mac | None = Field(None, description="its MAC address: 02:00:00:00:00:01")
    mtu: Annotated[StrictInt, Field(ge=68, le=65535)] | None = Field(None, description="its MTU in bytes")
    up: StrictBool | None = Field(None, description="whether it is up; interfaces that topo makes are, if not stated")
    txqueuelen: Annotated[StrictInt, Field(ge=0, le=0x7FFFFFFF)] | None = Field(
        None, description="the length of its transmit queue in packets"
    )
    shaping: Shaping | None = Field(None, description="what becomes of what it sends: a rate limit, or a bad line")
    ingress: InterfaceName | None = Field(
        None,
        description="an ifb of the same namespace that takes all that comes in, so that the ifb's `shaping` shapes it",
    )
    sysctls: dict[ShortSysctl, StrictBool | StrictInt | str] | None = Field(
        None, description="its own sysctls by short name: rp_filter: 2, ipv6.accept_ra: 0"
    )
    addrgenmode: Literal["eui64", "none", "random"] | None = Field(
        None,
        description="how it makes its own IPv6 addresses: from its MAC, not at all, or by chance; unset, eui64; "
        "for stable_secret state the sysctl `ipv6.stable_secret`",
    )
    token: Annotated[Ip, AfterValidator(_token)] | None = Field(
        None, description="the last 64 bits of the addresses that it makes from router advertisements: ::1"
    )
    comment: Comment | None = Field(None, description="a text that the kernel keeps with it (its alias)")


class InterfaceSpec(InterfaceSettings):
    """An entry of `interfaces`: a kind, the kind's own settings, and those of every interface."""

    settings: ClassVar[frozenset[str]] = frozenset({"kind", "ports", *InterfaceSettings.model_fields})
    cannot: ClassVar[Mapping[str, str]] = {}  # settings of every interface that this kind does not take, and why

    def attributes(self, ns: str) -> dict[str, Any]:
        """The link fact's attributes that the kind's own settings state, for an interface in namespace `ns`."""
        own = (name for name in type(self).model_fields if name not in self.settings)
        stated = {name: value for name in own if (value := getattr(self, name)) is not None}
        if "parent" in stated:
            above, colon, ifname = stated["parent"].rpartition(":")
            stated["parent"] = (above if colon else ns, ifname)
        return stated

    def beside(self, ns: str, ifname: str) -> Iterable[tuple[Fact, tuple[str | int, ...]]]:
        """The facts that it has beside its link, each with the place within the entry that states it."""
        return ()


def ports_field() -> Any:
    return Field(default_factory=list, description="interfaces to enslave: those of this namespace, or existing ones")


def parent_field() -> Any:
    return Field(description=f"the device below: eth0 in the same namespace, or {HOST}:eth0 in another one")
