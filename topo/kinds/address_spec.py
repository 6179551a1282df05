"""An address with more said of it than itself (ip-address(8))."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from topo.kinds.address import FOREVER
from topo.kinds.words import Address, Ip, StatedAddress

Seconds = Annotated[StrictInt, Field(ge=0, lt=FOREVER)]
_ONLY: dict[str, tuple[str, ...]] = {"IPv4": ("label", "scope", "broadcast"), "IPv6": ("nodad", "home", "mngtmpaddr")}


class AddressEntry(BaseModel):
    """An address and what else is to be said of it; `10.0.0.1/24` is short for `{address: 10.0.0.1/24}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    address: Address = Field(description="the address with its prefix length: 10.0.0.1/24")
    peer: Ip | None = Field(None, description="the address of the other end, to which the prefix length belongs")
    label: Annotated[str, Field(min_length=1, max_length=15)] | None = Field(
        None,
        description="its label, for tools that know no second address (IPv4): eth0:web; unset, the interface's name",
    )
    scope: Literal["global", "site", "link", "host"] | None = Field(
        None, description="where it is valid (IPv4); unset, global, and host for 127.0.0.0/8"
    )
    broadcast: Ip | None = Field(None, description="the broadcast address (IPv4); unset, none")
    metric: Annotated[StrictInt, Field(ge=0, le=0xFFFFFFFF)] | None = Field(
        None, description="metric of the route to its prefix; unset, 0 with IPv4 and 256 with IPv6"
    )
    valid_lft: Seconds | None = Field(None, description="seconds until it goes by itself; unset, never")
    preferred_lft: Seconds | None = Field(
        None,
        description="seconds for which it is chosen as a source; 0: only what is bound to it; unset, as `valid_lft`",
    )
    noprefixroute: StrictBool | None = Field(None, description="whether it comes without the route to its prefix")
    nodad: StrictBool | None = Field(
        None, description="whether it is used without asking if another has it (IPv6); unset, true on what topo makes"
    )
    home: StrictBool | None = Field(None, description="whether it is a home address of Mobile IPv6 (RFC 6275)")
    mngtmpaddr: StrictBool | None = Field(None, description="whether temporary addresses are made of it (RFC 8981)")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        six = ":" in self.address
        for family, names in _ONLY.items():
            for name in names if six == (family == "IPv4") else ():
                if getattr(self, name) is not None:
                    raise ValueError(f"only {family} addresses have `{name}`")
        for name in ("peer", "broadcast"):
            ip = getattr(self, name)
            if ip is not None and (":" in ip) != six:
                raise ValueError(f"`{name}` is of the other family: {ip}")
        if self.valid_lft == 0:
            raise ValueError("an address that is valid for 0 seconds is none")
        if not six and self.preferred_lft and self.valid_lft is None:
            raise ValueError("without `valid_lft` the kernel heeds no `preferred_lft` of an IPv4 address but 0")
        if (self.preferred_lft or 0) > (self.valid_lft or FOREVER):
            raise ValueError("`preferred_lft` is longer than `valid_lft`")
        return self

    def stated(self) -> StatedAddress:
        """The address, with what is to be in its fact."""
        names = ("label", "scope", "broadcast", "metric", "noprefixroute", "nodad", "home", "mngtmpaddr")
        options: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.valid_lft is not None or self.preferred_lft is not None:
            valid = FOREVER if self.valid_lft is None else self.valid_lft
            options["valid_lft"] = valid
            options["preferred_lft"] = valid if self.preferred_lft is None else self.preferred_lft
        if self.peer is not None:
            options["_peer"] = self.peer
        text = StatedAddress(self.address)
        text.options = options
        return text


def address_entry(value: Any) -> StatedAddress:
    """A mapping of the file."""
    return AddressEntry.model_validate(value).stated()
