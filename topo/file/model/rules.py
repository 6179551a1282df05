"""What has no name: routes, rules, neighbours, NAT, firewall and checks."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, model_validator

from topo.file.model.values import (
    U32,
    Destination,
    Endpoint,
    Entry,
    Fwmark,
    Ifname,
    MatchedInterface,
    MatchedPrefixes,
    NamespacesOrHost,
    PortRange,
    PortRanges,
    Prefix,
    Prefixes,
    Seconds,
    Table,
    endpoint,
    wrong,
)
from topo.kinds.spec import Ip, Mac

Words = Annotated[
    list[str],
    BeforeValidator(lambda v: [v] if isinstance(v, str) else v, json_schema_input_type=list[str] | str),
]


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


class Nat(Entry):
    """Network address translation, by one nftables table."""

    masquerade: list[Masquerade] = Field(
        default_factory=list, description="sources hidden behind the interface's address"
    )
    snat: list[Snat] = Field(default_factory=list, description="sources replaced")
    dnat: list[Dnat] = Field(default_factory=list, description="destinations replaced")
    publish: list[Publish] = Field(default_factory=list, description="ports that lead to a target")


class FirewallRule(Match):
    """A rule; the first that matches decides."""

    to: Prefixes | None = Field(None, description="its destination: a prefix, or several")
    state: (
        Annotated[Words, Field(description="what conntrack says of it: established, related, new, invalid")] | None
    ) = None
    icmp: Words | None = Field(None, description="its ICMP type, with protocol icmp or icmpv6: echo-request")
    action: Literal["accept", "drop", "reject"] = Field(description="what befalls it")
    log: str | None = Field(None, min_length=1, max_length=127, description="a prefix to log it with")

    @model_validator(mode="after")
    def _words(self) -> Self:
        for index, word in enumerate(self.state or ()):
            if word not in ("new", "established", "related", "invalid", "untracked"):
                raise wrong(f"{word!r} is no state: new, established, related, invalid, untracked", "state", index)
        if self.icmp is not None and self.protocol not in ("icmp", "icmpv6"):
            raise wrong("`icmp` needs `protocol`: icmp or icmpv6", "icmp")
        return self


class Chain(Entry):
    """What befalls packets at one place: the rules in order, then the policy."""

    policy: Literal["accept", "drop"] = Field("accept", description="what befalls a packet that no rule decides")
    rules: list[FirewallRule] = Field(default_factory=list, description="the rules, the first that matches decides")


class Firewall(Entry):
    """Packet filtering, by the same nftables table."""

    forward: Chain | None = Field(None, description="packets that pass through")
    input: Chain | None = Field(None, description="packets for the namespace itself")
    output: Chain | None = Field(None, description="packets from the namespace itself")
    isolate: list[Ifname] = Field(default_factory=list, description="bridges of which none may reach another")


class Check(Entry):
    """Something that must be reachable, or must not."""

    from_: NamespacesOrHost = Field(alias="from", description="the namespace to try from, or host")
    ping: Endpoint | None = Field(None, description="a namespace or an address to ping")
    tcp: Endpoint | None = Field(None, description="where to connect to: web:80, 10.0.0.1:22, [::1]:80")
    udp: Endpoint | None = Field(None, description="where to send a datagram to and wait for an answer: web:53")
    expect: Literal["reachable", "blocked"] = Field("reachable", description="what must come of it")
    within: Seconds = Field(5, description="how long it may take: 5s, 200ms, or seconds")

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        stated = [name for name in ("ping", "tcp", "udp") if getattr(self, name) is not None]
        if len(stated) != 1:
            raise ValueError("one of `ping`, `tcp` and `udp` is needed")
        method = stated[0]
        target = getattr(self, method)
        port = endpoint(target)[1]
        if method == "ping" and port is not None:
            raise wrong("a ping has no port", "ping", value=target)
        if method != "ping" and (port is None or port[0] != port[1]):
            raise wrong(f"one port is needed: {target}:80", method, value=target)
        return self
