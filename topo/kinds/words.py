"""The words that every kind's grammar has: names, addresses and MAC addresses, each in its canonical form."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from topo.kinds.later import Later
from topo.patterns import late
from topo.wire import pack_ip, unpack_ip

_ENTRY = "topo.kinds.address_spec"
_MAC = late(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_NAMESPACE = late(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SYSCTL = late(r"[a-z0-9_]+([./][a-z0-9_]+)*")


def canonical_ip(text: str) -> str:
    """An IPv4 or IPv6 address as inet_ntop(3) writes it. Raises ValueError for anything else."""
    try:
        packed = pack_ip(text)
        return unpack_ip(packed) if ":" in text else text  # inet_pton(3) takes IPv4 in no other form than this
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


def canonical_group(text: str) -> str:
    """A multicast group that a bridge's port can be a permanent member of: not one that goes everywhere anyway."""
    if _MAC.fullmatch(text):
        if not int(text[:2], 16) & 1 or text.lower() == "ff:ff:ff:ff:ff:ff":
            raise ValueError(f"{text} is no group address: the first byte of one is odd")
        return text.lower()
    ip = canonical_ip(text)
    first = pack_ip(ip)[0]
    if not (first == 0xFF if ":" in ip else 224 <= first <= 239):
        raise ValueError(f"{text} is no group: 224.0.0.0/4 and ff00::/8 are")
    if ip.startswith("224.0.0.") or ip == "ff02::1":
        raise ValueError(f"{text} goes to all ports anyway, and the kernel takes no members of it")
    return ip


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


class StatedAddress(str):
    """An address of which more is said: `options` are the attributes of its fact."""

    __slots__ = ("options",)
    options: dict[str, Any]


def _address(value: Any) -> str:
    if isinstance(value, StatedAddress):
        return value
    if isinstance(value, str):
        return canonical_address(value)
    if isinstance(value, dict):
        stated: str = import_module(_ENTRY).address_entry(value)  # late: most addresses are texts
        return stated
    raise ValueError("an address with its prefix length is expected: 10.0.0.1/24, or a mapping with `address`")


def _written() -> Any:
    return str | import_module(_ENTRY).AddressEntry


def canonical_prefix(text: str) -> str:
    """`address/length` without host bits, canonical; an address alone is itself."""
    ip, slash, length = text.partition("/")
    ip = canonical_ip(ip)
    most = 128 if ":" in ip else 32
    length = length if slash else str(most)
    if not (length.isascii() and length.isdigit() and int(length) <= most):
        raise ValueError(f"{length!r} is no prefix length: 0 to {most} is expected")
    if int.from_bytes(pack_ip(ip), "big") & ((1 << (most - int(length))) - 1):
        raise ValueError(
            f"{text} has host bits: the network's address is expected, or {ip}/{most} for the address alone"
        )
    return f"{ip}/{int(length)}"


Ip = Annotated[str, AfterValidator(canonical_ip)]
Network = Annotated[str, AfterValidator(canonical_prefix)]
Address = Annotated[str, AfterValidator(canonical_address)]
if TYPE_CHECKING:
    AnyAddress = str
else:
    AnyAddress = Annotated[Any, Later(_written, _address)]
Mac = Annotated[str, AfterValidator(canonical_mac)]
InterfaceName = Annotated[str, AfterValidator(interface_name)]
Device = Annotated[str, AfterValidator(device)]
Comment = Annotated[str, AfterValidator(_comment)]
ShortSysctl = Annotated[str, AfterValidator(_short_name)]
