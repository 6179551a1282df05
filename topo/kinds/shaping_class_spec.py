"""What a user writes for the classes of an htb; `topo.kinds.shaping_class` makes classes and filters of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from topo.facts import Fact, Ref
from topo.kinds.shaping import canonical, default_burst, keeps
from topo.kinds.shaping_class import words
from topo.kinds.units import Rate, Size
from topo.kinds.words import Network

_PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "icmpv6": 58}
_WITH_PORTS: Final = ("tcp", "udp", "sctp")
_OF_FAMILY: Final = {"icmp": "ip", "icmpv6": "ip6"}
Port = Annotated[StrictInt, Field(ge=1, le=65535)]


class PacketMatch(BaseModel):
    """Packets that a class is for: all that is stated has to be so."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    from_: Network | None = Field(None, alias="from", description="where they come from: 10.0.0.0/8, or an address")
    to: Network | None = Field(None, description="where they go to")
    protocol: Literal["tcp", "udp", "sctp", "icmp", "icmpv6"] | None = Field(None, description="what they carry")
    sport: Port | None = Field(None, description="the port that they come from; needs `protocol`")
    dport: Port | None = Field(None, description="the port that they go to; needs `protocol`")
    dscp: Annotated[StrictInt, Field(ge=0, le=63)] | None = Field(None, description="their DSCP; EF is 46")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("what packets are to be like is missing; those that no class is for go to the `default`")
        if (self.sport or self.dport) and self.protocol not in _WITH_PORTS:
            raise ValueError(f"ports are those of a `protocol`: {', '.join(_WITH_PORTS)}")
        if len(self._families()) > 1:
            raise ValueError("it is partly of IPv4, partly of IPv6: no packet is")
        return self

    def _families(self) -> set[str]:
        found = {"ip6" if ":" in prefix else "ip" for prefix in (self.from_, self.to) if prefix}
        return found | ({_OF_FAMILY[self.protocol]} if self.protocol in _OF_FAMILY else set())

    def texts(self) -> list[str]:
        """What the filters match, one for each family that it can be of."""
        stated = {
            "src": self.from_, "dst": self.to, "dscp": self.dscp, "sport": self.sport, "dport": self.dport,
            "proto": _PROTOCOLS.get(self.protocol or ""),
        }  # fmt: skip
        return [words(family, stated) for family in sorted(self._families()) or ("ip", "ip6")]


class ShapingClass(BaseModel):
    """A class of an htb: a share that is certain, and more while others leave theirs."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    id: Annotated[StrictInt, Field(ge=2, le=0xFFFF)] = Field(description="its number: 10 is tc's class 1:a")
    rate: Rate = Field(description="how much it may send in any case: 10mbit")
    ceil: Rate | None = Field(None, description="how much it may send when there is room; unset, what all together may")
    burst: Size | None = Field(None, description="how much may be sent at once; unset, 10 ms, 16kb at least")
    cburst: Size | None = Field(None, description="how much may be sent at once at `ceil`; unset, as `burst`")
    prio: Annotated[StrictInt, Field(ge=0, le=7)] = Field(0, description="0 gets first what others leave, 7 last")
    match: list[PacketMatch] = Field(
        default_factory=list, description="the packets that it is for: those of any of these"
    )

    def attributes(self, most: int) -> dict[str, int]:
        """Those of its fact, where all together may send `most`. Raises ValueError."""
        ceil = self.ceil or most
        burst = self.burst or default_burst(self.rate)
        cburst = self.cburst or max(burst, default_burst(ceil))
        if ceil < self.rate:
            raise ValueError(f"class {self.id}: ceil is below rate")
        if ceil > most:
            raise ValueError(f"class {self.id}: ceil is above what all together may send")
        if not (keeps(burst, self.rate) and keeps(cburst, ceil)):
            raise ValueError(f"class {self.id}: burst takes more than 274 seconds, the most that the kernel can keep")
        attrs = canonical({"kind": "htb", "rate": self.rate, "ceil": ceil, "burst": burst, "cburst": cburst})
        del attrs["kind"]
        return {**attrs, "prio": self.prio}


def facts(classes: list[ShapingClass], default: int, most: int, ns: str, ifname: str) -> Iterator[Fact]:
    """The classes of an interface and their filters, in the order of the file; what none matches goes to the default."""
    number = 0
    for one in classes:
        yield Fact(Ref("shaping_class", ns, (ifname, one.id)), one.attributes(most))
        for text in (text for match in one.match for text in match.texts()):
            number += 1
            yield Fact(Ref("shaping_filter", ns, (ifname, number)), {"match": text, "class": one.id})
    yield Fact(Ref("shaping_filter", ns, (ifname, LAST)), {"match": "all", "class": default})


LAST: Final = 0xFFFF
"""The preference of the filter for all that no other matches."""
