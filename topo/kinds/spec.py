"""What a user may write for every interface, whatever its kind; the specs of the kinds build on it."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

from topo.facts import HOST
from topo.kinds.shaping import Shaping
from topo.wire import pack_ip, unpack_ip

_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SYSCTL = re.compile(r"[a-z0-9_]+([./][a-z0-9_]+)*")


def canonical_ip(text: str) -> str:
    """An IPv4 or IPv6 address as inet_ntop(3) writes it. Raises ValueError for anything else."""
    try:
        return unpack_ip(pack_ip(text))
    except (OSError, ValueError, UnicodeError):
        raise ValueError(f"{text!r} is no IPv4 or IPv6 address") from None


def canonical_address(text: str) -> str:
    """`address/length` of an interface, canonical. Raises ValueError."""
    ip, slash, length = text.partition("/")
    ip = canonical_ip(ip)
    most = 128 if ":" in ip else 32
    if not slash:
        raise ValueError(f"{text!r} needs a prefix length: {ip}/24, or {ip}/{most} for the address alone")
    if not (length.isascii() and length.isdigit() and int(length) <= most):
        raise ValueError(f"{length!r} is no prefix length: 0 to {most} is expected")
    return f"{ip}/{int(length)}"


def canonical_mac(text: str) -> str:
    """An Ethernet address an interface can have: six bytes, not all zero, no group address."""
    if not _MAC.fullmatch(text):
        raise ValueError(f"{text!r} is no MAC address: six bytes with colons are expected, as 02:00:00:00:00:01")
    mac = text.lower()
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{text} is a group address: an interface cannot have it")
    if mac == "00:00:00:00:00:00":
        raise ValueError("an interface cannot have the MAC address of zeros")
    return mac


def interface_name(text: str) -> str:
    """`text`, where the kernel takes it as an interface's name (dev_valid_name), and it holds no `%`."""
    if not 1 <= len(text.encode()) <= 15:
        raise ValueError(f"{text!r}: an interface's name has 1 to 15 bytes, this has {len(text.encode())}")
    if text in (".", "..") or any(c in "/:%" or c.isspace() or not c.isprintable() for c in text):
        raise ValueError(f"{text!r} is no name of an interface: it holds no '/', ':', '%' or white space")
    return text


def device(text: str) -> str:
    """`eth0` or `namespace:eth0`."""
    ns, colon, ifname = text.rpartition(":")
    if colon and not _NAMESPACE.fullmatch(ns):
        raise ValueError(f"{ns!r} is no name of a namespace")
    interface_name(ifname)
    return text


def _comment(text: str) -> str:
    if not 1 <= len(text.encode()) <= 255 or "\0" in text:
        raise ValueError("a comment has 1 to 255 bytes")  # IFALIASZ in linux/if.h
    return text


def _short_name(text: str) -> str:
    if not _SYSCTL.fullmatch(text):
        raise ValueError(f"{text!r} is no short name of a device's sysctl, such as rp_filter or ipv6.accept_ra")
    return text


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Ip = Annotated[str, AfterValidator(canonical_ip)]
Address = Annotated[str, AfterValidator(canonical_address)]
Mac = Annotated[str, AfterValidator(canonical_mac)]
InterfaceName = Annotated[str, AfterValidator(interface_name)]
Device = Annotated[str, AfterValidator(device)]
Comment = Annotated[str, AfterValidator(_comment)]
ShortSysctl = Annotated[str, AfterValidator(_short_name)]


class InterfaceSettings(BaseModel):
    """The settings that every interface takes. What is not stated is the kernel's to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    addresses: Annotated[list[Address], BeforeValidator(_list)] | None = Field(
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
    shaping: Shaping | None = Field(None, description="a rate limit on what it sends")
    sysctls: dict[ShortSysctl, StrictBool | StrictInt | str] | None = Field(
        None, description="its own sysctls by short name: rp_filter: 2, ipv6.accept_ra: 0"
    )
    comment: Comment | None = Field(None, description="a text that the kernel keeps with it (its alias)")


class InterfaceSpec(InterfaceSettings):
    """An entry of `interfaces`: a kind, the kind's own settings, and those of every interface."""

    settings: ClassVar[frozenset[str]] = frozenset({"kind", *InterfaceSettings.model_fields})

    def attributes(self, ns: str) -> dict[str, Any]:
        """The link fact's attributes that the kind's own settings state, for an interface in namespace `ns`."""
        own = (name for name in type(self).model_fields if name not in self.settings)
        stated = {name: value for name in own if (value := getattr(self, name)) is not None}
        if "parent" in stated:
            above, colon, ifname = stated["parent"].rpartition(":")
            stated["parent"] = (above if colon else ns, ifname)
        return stated


def parent_field() -> Any:
    return Field(description=f"the device below: eth0 in the same namespace, or {HOST}:eth0 in another one")
