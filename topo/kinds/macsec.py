"""MACsec: Ethernet frames encrypted hop by hop on a device below (IEEE 802.1AE, ip-macsec(8), drivers/net/macsec.c).

The link alone: its keys come from a key agreement (wpa_supplicant's or hostapd's MKA), or from `ip macsec`. The kernel never
tells a key, so that topo could neither compare nor put back one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from topo.changes import Env
from topo.facts import Fact
from topo.kinds.kind import LinkKind, View
from topo.kinds.macvlan import home
from topo.kinds.spec import Device, InterfaceSpec, parent_field
from topo.wire import BE16, BOOL, U8, U32, U64, Attr, Format, attr, in_order, named

Cipher = Literal["gcm-aes-128", "gcm-aes-256", "gcm-aes-xpn-128", "gcm-aes-xpn-256"]
_SCI, _PORT = 1, 2  # IFLA_MACSEC_*
_FIRST_CIPHER: Final = 0x0080C20001000001  # MACSEC_CIPHER_ID_* in linux/if_macsec.h
_CIPHERS: Final = {name: _FIRST_CIPHER + number for number, name in enumerate(Cipher.__args__)}  # type: ignore[attr-defined]
_ONE: Final = 1  # the port of a MAC address that needs but one (MACSEC_PORT_ES)

_FORMER: Final = 0x0080020001000001  # MACSEC_DEFAULT_CIPHER_ID: by this number the kernel tells of gcm-aes-128
_CIPHER: Final = named(U64, {"former": _FORMER, **_CIPHERS})


def _cipher(data: bytes) -> str:
    name: str = _CIPHER.unpack(data)
    return "gcm-aes-128" if name == "former" else name


DATA: Final = (
    Attr("cipher", 4, Format(_CIPHER.pack, _cipher), "gcm-aes-128"),
    Attr("window", 5, U32),
    Attr("encodingsa", 6, U8, 0),
    Attr("encrypt", 7, BOOL, False),
    Attr("protect", 8, BOOL, True),
    Attr("send_sci", 9, BOOL, True),
    Attr("end_station", 10, BOOL, False),
    Attr("scb", 11, BOOL, False),
    Attr("replay", 12, BOOL, False),
    Attr("validation", 13, named(U8, in_order("disabled", "check", "strict")), "strict"),
)


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    """What identifies it is fixed (EINVAL), and a new MAC address takes the port away (macsec_set_mac_address)."""
    return frozenset({"parent", "cipher", "port", "mac"})


def extra(attrs: Mapping[str, Any], _: Env) -> bytes:
    return attr(_PORT, BE16.pack(attrs["port"])) if "port" in attrs else b""


def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], _: View) -> None:
    attrs["port"] = BE16.unpack(data[_SCI][6:])  # behind the MAC address


def claims(fact: Fact) -> Iterator[tuple[Any, ...]]:
    """A channel is on a device once (macsec_newlink: EBUSY)."""
    attrs = fact.attrs
    if attrs.get("parent"):
        yield "macsec", attrs["parent"], attrs.get("mac"), attrs.get("port", _ONE)


class Macsec(InterfaceSpec):
    """A MACsec interface. Its keys are others' to set: a key agreement's, or `ip macsec`'s."""

    kind: Literal["macsec"] = Field(description="the frames of the parent, encrypted")
    parent: Device = parent_field()
    port: Annotated[StrictInt, Field(ge=1, le=0xFFFF)] | None = Field(
        None, description="the number of this channel at its MAC address; unset, 1"
    )
    cipher: Cipher | None = Field(None, description="how it encrypts; unset, gcm-aes-128")
    encrypt: StrictBool | None = Field(None, description="whether it encrypts, beside signing; unset, false")
    protect: StrictBool | None = Field(None, description="whether it signs what it sends; unset, true")
    validation: Literal["disabled", "check", "strict"] | None = Field(
        None, description="what becomes of frames that are not signed well (ip's validate); unset, strict: dropped"
    )
    encodingsa: Annotated[StrictInt, Field(ge=0, le=3)] | None = Field(
        None, description="the secure association (key) that it sends with; unset, 0"
    )
    send_sci: StrictBool | None = Field(None, description="whether frames name their channel; unset, true")
    end_station: StrictBool | None = Field(None, description="whether frames say that the MAC address is enough")
    scb: StrictBool | None = Field(None, description="whether frames say that they are of a single copy broadcast")
    replay: StrictBool | None = Field(None, description="whether frames that come twice are dropped; unset, false")
    window: Annotated[StrictInt, Field(ge=0, le=0xFFFFFFFF)] | None = Field(
        None, description="with `replay`, how many frames one may be late; unset, 0"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.window is not None and not self.replay:
            raise ValueError("`window` needs `replay: true`")
        if sum(bool(flag) for flag in (self.send_sci, self.end_station, self.scb)) > 1:
            raise ValueError("of `send_sci`, `end_station` and `scb` one can be on")
        return self

    def attributes(self, ns: str) -> dict[str, Any]:
        stated = super().attributes(ns)
        if self.end_station or self.scb:
            stated["send_sci"] = False
        return {"window": 0, **stated} if self.replay else stated


MACSEC = LinkKind(
    "macsec",
    spec=Macsec,
    option="CONFIG_MACSEC",
    data=DATA,
    replace=replace,
    below="parent",
    home=home,
    mtu=None,
    mtu_again=True,  # macsec_newlink: that of the device below, less 32 bytes, whatever was told
    extra=extra,
    more=frozenset({"port"}),
    unstated={"port": _ONE},
    decode_extra=decode_extra,
    claims=claims,
)
