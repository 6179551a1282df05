"""Routes, policy routing rules and neighbour entries."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from topo.file.model.values import U32, Destination, Entry, Fwmark, Ifname, PortRange, Prefix, Table, wrong
from topo.kinds.words import Ip, Mac


class NextHop(Entry):
    """One way of a multipath route."""

    via: Ip | None = Field(None, description="the gateway")
    dev: Ifname | None = Field(None, description="the interface; unset, the one with an address that reaches `via`")
    weight: Annotated[StrictInt, Field(ge=1, le=256)] = Field(1, description="its share")
    onlink: StrictBool = Field(False, description="take the gateway for reachable on `dev`, whatever its address")

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if self.via is None and self.dev is None:
            raise ValueError("a next hop needs `via` or `dev`")
        if self.onlink and (self.via is None or self.dev is None):
            raise wrong("`onlink` needs `via` and `dev`", "onlink", value=True)
        return self


class Route(Entry):
    """A route (ip-route(8))."""

    to: Destination = Field(description="the destination: a prefix, an address, or default")
    via: Ip | None = Field(None, description="the gateway; an IPv4 route may go via an IPv6 address")
    dev: Ifname | None = Field(None, description="the interface; unset, the one with an address that reaches `via`")
    onlink: StrictBool = Field(False, description="take the gateway for reachable on `dev`, whatever its address")
    nexthops: Annotated[list[NextHop], Field(min_length=1)] | None = Field(None, description="several ways at once")
    type: Literal["unicast", "blackhole", "unreachable", "prohibit"] = Field(
        "unicast", description="what befalls a packet: unicast sends it on, the others drop it"
    )
    metric: U32 | None = Field(None, description="its preference, the lowest wins; unset, 0 (IPv4) or 1024 (IPv6)")
    table: Table = Field("main", description="the routing table: main, default, local or a number")
    src: Ip | None = Field(None, description="the preferred source address")
    mtu: Annotated[StrictInt, Field(ge=68, le=65535)] | None = Field(None, description="the path's MTU in bytes")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        ways = [name for name in ("via", "dev", "nexthops") if getattr(self, name) is not None]
        if self.type != "unicast" and ways:
            raise wrong(f"a {self.type} route leads nowhere: `{ways[0]}` has no meaning", ways[0])
        if self.type == "unicast" and not ways:
            raise ValueError("a route needs `via`, `dev` or `nexthops`")
        if self.nexthops is not None and len(ways) > 1:
            raise wrong(f"`nexthops` holds every way: state `{ways[0]}` there", ways[0])
        if self.onlink and (self.via is None or self.dev is None):
            raise wrong("`onlink` needs `via` and `dev`", "onlink", value=True)
        self._one_family()
        return self

    def _one_family(self) -> None:
        six = ":" in self.to
        gateways: list[tuple[tuple[str | int, ...], str]] = [(("via",), self.via)] if self.via is not None else []
        gateways += [(("nexthops", i, "via"), hop.via) for i, hop in enumerate(self.nexthops or ()) if hop.via]
        for loc, via in gateways:
            if six and ":" not in via:
                raise wrong(f"an IPv6 route cannot go via the IPv4 address {via}", *loc, value=via)
        six = six or (self.to == "default" and any(":" in via for _, via in gateways))
        if self.src is not None and (":" in self.src) != six:
            raise wrong(f"{self.src} is not of the route's family", "src", value=self.src)
        if self.metric == 0 and six:
            raise wrong("the kernel takes metric 0 for 1024 in IPv6: state another", "metric", value=0)


class Rule(Entry):
    """A policy routing rule (ip-rule(8))."""

    priority: U32 | None = Field(
        None, description="its place, the lowest first; unset, 20000 and its place in the list"
    )
    family: Literal["inet", "inet6"] | None = Field(
        None, description="inet or inet6; unset, what `from` and `to` tell, or inet"
    )
    from_: Prefix | None = Field(None, alias="from", description="the packet's source")
    to: Prefix | None = Field(None, description="the packet's destination")
    iif: Ifname | None = Field(None, description="the interface that it came in by; lo for the namespace's own")
    oif: Ifname | None = Field(None, description="the interface that a socket is bound to")
    fwmark: Fwmark | None = Field(None, description="its mark, or mark/mask: 0x1/0xff")
    tos: Annotated[StrictInt, Field(ge=0, le=255)] | None = Field(None, description="its TOS")
    ipproto: Literal["tcp", "udp", "sctp", "icmp", "ipv6-icmp", "dccp", "gre", "esp", "ah"] | None = Field(
        None, description="its protocol"
    )
    sport: PortRange | None = Field(None, description="its source port, or a range")
    dport: PortRange | None = Field(None, description="its destination port, or a range")
    uidrange: str | None = Field(None, pattern=r"^\d{1,10}-\d{1,10}$", description="user ids of the socket: 1000-1999")
    invert: StrictBool | None = Field(None, description="apply to what does not match")
    table: Table | None = Field(None, description="the routing table to look up: main, default, local or a number")
    suppress_prefixlength: Annotated[StrictInt, Field(ge=0, le=128)] | None = Field(
        None, description="pass over what the table finds with a prefix this short"
    )
    action: Literal["blackhole", "unreachable", "prohibit"] | None = Field(None, description="instead of a table")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if (self.table is None) == (self.action is None):
            raise ValueError("a rule has either a `table` to look up, or an `action`")
        if self.suppress_prefixlength is not None and self.table is None:
            raise wrong("`suppress_prefixlength` needs a `table`", "suppress_prefixlength")
        families = {":" in p for p in (self.from_, self.to) if p is not None}
        if self.family is not None:
            families.add(self.family == "inet6")
        if len(families) > 1:
            raise ValueError("`from`, `to` and `family` are of different families")
        return self


class Neighbour(Entry):
    """A permanent neighbour entry (ip-neighbour(8))."""

    ip: Ip | None = Field(None, description="its address")
    address: Ip | None = Field(None, description="the same as `ip`")
    mac: Mac = Field(description="its MAC address")
    dev: Ifname | None = Field(None, description="the interface; unset, the one with an address that reaches it")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.ip is None) == (self.address is None):
            raise ValueError("a neighbour has one `ip`")
        return self


Routes = list[Route]
Rules = list[Rule]
Neighbours = list[Neighbour]
