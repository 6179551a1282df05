"""The entries of `nat`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, StrictBool, model_validator

from topo.file.model.policy import Fwmark
from topo.file.model.values import (
    Endpoint,
    Entry,
    MatchedInterface,
    MatchedPrefixes,
    PortRange,
    PortRanges,
    Prefixes,
    endpoint,
    wrong,
)
from topo.kinds.words import Ip


class Masquerade(Entry):
    """What leaves takes the address of the interface by which it leaves. The first entry that matches decides."""

    from_: MatchedPrefixes | None = Field(
        None, alias="from", description='where packets come from: a prefix, or several; "!10.0.0.0/8" for elsewhere'
    )
    out: MatchedInterface | None = Field(None, description='the interface they leave by; "!br0" for any other')
    to: MatchedPrefixes | None = Field(
        None, description='where they go: a prefix, or several; "!10.0.0.0/8" for elsewhere'
    )
    fwmark: Fwmark | None = Field(None, description="their mark, or mark/mask: 0x4000/0x4000")
    keep: StrictBool = Field(False, description="what matches keeps its source, whatever the entries behind say")
    random: StrictBool = Field(False, description="choose source ports at random (nft's fully-random)")

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.keep and self.random:
            raise wrong("`random` has no meaning with `keep`: the source stays as it is", "random", value=True)
        return self


class Snat(Entry):
    """What leaves takes another source address."""

    from_: Prefixes | None = Field(None, alias="from", description="where packets come from: a prefix, or several")
    out: MatchedInterface | None = Field(None, description='the interface they leave by; "!br0" for any other')
    to: Ip = Field(description="the new source address")


class Match(Entry):
    """What a packet must be; what is not stated is not looked at."""

    from_: Prefixes | None = Field(None, alias="from", description="its source: a prefix, or several")
    in_: MatchedInterface | None = Field(None, alias="in", description='interface it comes in by; "!br0" for any other')
    out: MatchedInterface | None = Field(None, description='interface it leaves by; "!br0" for any other')
    protocol: Literal["tcp", "udp", "sctp", "dccp", "icmp", "icmpv6", "esp", "ah", "gre"] | None = Field(
        None, description="its protocol"
    )
    sport: PortRanges | None = Field(None, description="its source port: 80, 8000-8010, or several")
    dport: PortRanges | None = Field(None, description="its destination port: 80, 8000-8010, or several")

    @model_validator(mode="after")
    def _ports_of_protocol(self) -> Self:
        for name in ("sport", "dport"):
            if getattr(self, name) is not None and self.protocol not in ("tcp", "udp", "sctp", "dccp"):
                raise wrong(f"`{name}` needs `protocol`: tcp, udp, sctp or dccp", name)
        return self


class Dnat(Match):
    """What comes in and matches goes to another address."""

    address: Prefixes | None = Field(None, description="the destination that is matched: a prefix, or several")
    to: Endpoint = Field(description="the new destination: web:80, 10.0.0.2, [fd00::2]:80")

    @model_validator(mode="after")
    def _one_port(self) -> Self:
        target = endpoint(self.to)[1]
        if target is not None and target[0] != target[1]:
            raise wrong("one port is expected", "to", value=self.to)
        if target is not None and self.protocol not in ("tcp", "udp", "sctp", "dccp"):
            raise wrong("a port needs `protocol`: tcp, udp, sctp or dccp", "to", value=self.to)
        return self


class Publish(Entry):
    """A port of this namespace's own addresses leads to a target."""

    port: PortRange | None = Field(None, description="the port: 8080, or 8000-8010")
    ports: PortRanges | None = Field(None, description="several ports: [80, 443, 8000-8010]")
    to: Endpoint = Field(description="the target: web:80, web (the same ports), 10.0.0.2:80, [fd00::2]:80")
    protocol: Literal["tcp", "udp", "sctp"] = Field("tcp", description="tcp, udp or sctp")
    address: Ip | None = Field(None, description="only this address of the namespace; unset, all of them")
    in_: MatchedInterface | None = Field(None, alias="in", description="only what comes in by this interface")

    @model_validator(mode="after")
    def _port_or_ports(self) -> Self:
        if (self.port is None) == (self.ports is None):
            raise ValueError("either `port` or `ports` is needed")
        return self


Masquerades = list[Masquerade]
Snats = list[Snat]
Dnats = list[Dnat]
Publishes = list[Publish]
