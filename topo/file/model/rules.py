"""Routes, policy routing rules and neighbour entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, model_validator

from topo.file.model.policy import Dscp, FlowLabel, Fwmark, PortOrPart, Protocol, Realms, Table
from topo.file.model.values import U8, U32, Destination, Entry, Ifname, Milliseconds, Positive, Prefix, single, wrong
from topo.kinds.later import later
from topo.kinds.words import Ip, Mac

if TYPE_CHECKING:
    from topo.file.model.encaps import Encap
else:
    Encap = later("topo.file.model.encaps", "Encap")


class NextHop(Entry):
    """One way of a multipath route."""

    via: Ip | None = Field(None, description="the gateway")
    dev: Ifname | None = Field(None, description="the interface; unset, the one with an address that reaches `via`")
    weight: Annotated[StrictInt, Field(ge=1, le=256)] = Field(1, description="its share")
    onlink: StrictBool = Field(False, description="take the gateway for reachable on `dev`, whatever its address")
    encap: Encap | None = Field(None, description="what is put around packets that go this way")

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if self.via is None and self.dev is None:
            raise ValueError("a next hop needs `via` or `dev`")
        if self.onlink and (self.via is None or self.dev is None):
            raise wrong("`onlink` needs `via` and `dev`", "onlink", value=True)
        return self


Lockable = Literal[
    "mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit", "initcwnd", "rto_min",
    "initrwnd", "quickack",
]  # fmt: skip
NOWHERE: Final = ("blackhole", "unreachable", "prohibit", "throw")


class Metrics(Entry):
    """What the kernel is told of the path of a route; what is not stated it finds out, or takes from its sysctls."""

    mtu: Annotated[StrictInt, Field(ge=68, le=65520)] | None = Field(
        None, description="the path's MTU in bytes; unset, the interface's"
    )
    advmss: Annotated[StrictInt, Field(ge=1, le=65495)] | None = Field(
        None, description="the maximal segment size that TCP tells the other end, in bytes; unset, what the MTU leaves"
    )
    hoplimit: Annotated[StrictInt, Field(ge=1, le=255)] | None = Field(
        None, description="TTL or hop limit of what is sent; unset, net.ipv4.ip_default_ttl, 64"
    )
    initcwnd: Positive | None = Field(None, description="TCP's first congestion window in segments; unset, 10")
    initrwnd: Positive | None = Field(None, description="the first receive window that TCP tells, in segments")
    window: Positive | None = Field(None, description="the largest window that TCP tells, in bytes")
    cwnd: Positive | None = Field(None, description="the largest congestion window in segments, where it is locked")
    ssthresh: Positive | None = Field(None, description="TCP's first slow start threshold in segments")
    reordering: Positive | None = Field(None, description="reordering that TCP bears at first, in segments; unset, 3")
    rtt: Milliseconds | None = Field(None, description="the first estimate of the round trip's time: 100ms")
    rttvar: Milliseconds | None = Field(None, description="the first estimate of that time's variance: 50ms")
    rto_min: Milliseconds | None = Field(None, description="TCP's least retransmission timeout; unset, 200ms")
    quickack: StrictBool | None = Field(None, description="whether TCP acknowledges at once")
    fastopen_no_cookie: StrictBool | None = Field(None, description="whether TCP Fast Open does without a cookie")
    congctl: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,15}$")] | None = Field(
        None, description="TCP's congestion control: bbr; unset, net.ipv4.tcp_congestion_control"
    )
    features: (
        Annotated[
            list[Literal["ecn"]], BeforeValidator(single, json_schema_input_type=list[Literal["ecn"]] | Literal["ecn"])
        ]
        | None
    ) = Field(None, description="ecn: use explicit congestion notification")
    lock: (
        Annotated[list[Lockable], BeforeValidator(single, json_schema_input_type=list[Lockable] | Lockable)] | None
    ) = Field(None, description="metrics that the kernel is not to change by what it learns of the path: [mtu]")


class Route(Metrics):
    """A route (ip-route(8))."""

    to: Destination = Field(description="the destination: a prefix, an address, or default")
    via: Ip | None = Field(None, description="the gateway; an IPv4 route may go via an IPv6 address")
    dev: Ifname | None = Field(None, description="the interface; unset, the one with an address that reaches `via`")
    onlink: StrictBool = Field(False, description="take the gateway for reachable on `dev`, whatever its address")
    encap: Encap | None = Field(
        None, description="what is put around the packets: MPLS labels, a tunnel's header, SRv6"
    )
    nexthops: Annotated[list[NextHop], Field(min_length=1)] | None = Field(None, description="several ways at once")
    nhid: Positive | None = Field(
        None, description="the way that is stated under the namespace's `nexthops`, by its id"
    )
    type: Literal[
        "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"
    ] = Field(
        "unicast",
        description="what befalls a packet: unicast sends it on, local takes it in; blackhole drops it, unreachable and "
        "prohibit tell the sender, throw goes on with the next rule",
    )
    metric: U32 | None = Field(None, description="its preference, the lowest wins; unset, 0 (IPv4) or 1024 (IPv6)")
    table: Table | None = Field(
        None,
        description="the routing table: main, default, local, a number, or a name of /etc/iproute2/rt_tables; unset, "
        "main, and local for the types local, broadcast and anycast",
    )
    src: Ip | None = Field(None, description="the preferred source address")
    tos: U8 | None = Field(None, description="for packets of this TOS only (IPv4), a multiple of 4")
    scope: Literal["global", "site", "link", "host"] | None = Field(
        None,
        description="how far its destination is (IPv4); unset, link without a gateway, host for local, else global",
    )
    pref: Literal["low", "medium", "high"] | None = Field(
        None, description="its preference among routers (IPv6, RFC 4191); unset, medium"
    )

    realms: Realms | None = Field(
        None, description="the realm of its destination, or from/to (IPv4): what `nft` matches by rtclassid: 7, 5/7"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        ways = [name for name in ("via", "dev", "nexthops", "nhid") if getattr(self, name) is not None]
        if self.type in NOWHERE and ways:
            raise wrong(f"a {self.type} route leads nowhere: `{ways[0]}` has no meaning", ways[0])
        if self.type not in NOWHERE and not ways:
            raise ValueError("a route needs `via`, `dev`, `nexthops` or `nhid`")
        if self.type in ("local", "broadcast", "anycast") and ways != ["dev"]:
            raise wrong(f"a {self.type} route has a `dev` only: what it leads to is here", ways[0])
        if self.tos and self.tos & 3:
            raise wrong("the two lowest bits of a TOS are for ECN: state a multiple of 4", "tos", value=self.tos)
        if self.nhid is not None and len(ways) > 1:
            raise wrong(f"`nhid` is all of the way: `{ways[0]}` is the nexthop's", ways[0])
        if self.nexthops is not None and len(ways) > 1:
            raise wrong(f"`nexthops` holds every way: state `{ways[0]}` there", ways[0])
        if self.nhid is not None and self.type != "unicast":
            raise wrong(f"a {self.type} route has no nexthop", "nhid", value=self.nhid)
        if self.onlink and (self.via is None or self.dev is None):
            raise wrong("`onlink` needs `via` and `dev`", "onlink", value=True)
        if self.encap is not None and not (self.via or self.dev):
            raise wrong("`encap` stands beside `via` or `dev`, or at each of `nexthops`", "encap")
        if self.realms is not None and not (self.via or self.dev):
            raise wrong("`realms` stands beside `via` or `dev`", "realms", value=self.realms)
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
        for name in ("tos", "scope", "realms") if six else ("pref",):
            if getattr(self, name) is not None:
                raise wrong(f"IPv{6 if six else 4} routes have no `{name}`", name, value=getattr(self, name))
        if self.metric == 0 and six:
            raise wrong("the kernel takes metric 0 for 1024 in IPv6: state another", "metric", value=0)


class Rule(Entry):
    """A policy routing rule (ip-rule(8))."""

    priority: U32 | None = Field(
        None, description="its place, the lowest first; unset, 20000 and its place in the list"
    )
    family: Literal["inet", "inet6"] | None = Field(
        None, description="inet or inet6; unset, what `from`, `to` and `flowlabel` tell, or inet"
    )
    from_: Prefix | None = Field(None, alias="from", description="the packet's source")
    to: Prefix | None = Field(None, description="the packet's destination")
    iif: Ifname | None = Field(None, description="the interface that it came in by; lo for the namespace's own")
    oif: Ifname | None = Field(None, description="the interface that a socket is bound to")
    fwmark: Fwmark | None = Field(None, description="its mark, or mark/mask: 0x1/0xff")
    tos: U8 | None = Field(None, description="its TOS (IPv4) or traffic class, a multiple of 4")
    dscp: Dscp | None = Field(
        None, description="its DSCP, all six bits of it (Linux 6.12 and later), or those of a mask: 8/0x38 (6.15)"
    )
    flowlabel: FlowLabel | None = Field(
        None, description="its flow label (IPv6, Linux 6.14 and later), or those of its bits that a mask has: 0x7/0xff"
    )
    ipproto: Protocol | None = Field(
        None, description="its protocol: tcp, udp, sctp, icmp, ipv6-icmp, dccp, gre, esp, ah, ospf, or a number"
    )
    sport: PortOrPart | None = Field(
        None, description="its source port, a range, or some of its bits: 0x1f00/0xff00 (Linux 6.15 and later)"
    )
    dport: PortOrPart | None = Field(None, description="its destination port, in the same ways")
    uidrange: str | None = Field(None, pattern=r"^\d{1,10}-\d{1,10}$", description="user ids of the socket: 1000-1999")
    tun_id: Annotated[StrictInt, Field(ge=1, lt=1 << 64)] | None = Field(
        None, description="the id that the tunnel which it came in by had for it"
    )
    invert: StrictBool | None = Field(None, description="apply to what does not match (`not`)")
    table: Table | None = Field(
        None,
        description="the routing table to look up: main, default, local, a number, or a name of /etc/iproute2/rt_tables",
    )
    l3mdev: Literal[True] | None = Field(
        None, description="look up the table of the VRF that it came in by or goes out of"
    )
    goto: U32 | None = Field(None, description="go on with the rules from this priority, which is behind its own")
    suppress_prefixlength: Annotated[StrictInt, Field(ge=0, le=128)] | None = Field(
        None, description="pass over what the table finds with a prefix this short"
    )
    suppress_ifgroup: Annotated[StrictInt, Field(ge=0, le=0x7FFFFFFF)] | None = Field(
        None, description="pass over what the table finds out of an interface of this group"
    )
    realms: Realms | None = Field(
        None, description="the realm of what it sends on, or from/to (IPv4), where the route has none: 7, 5/7"
    )
    action: Literal["blackhole", "unreachable", "prohibit", "nop"] | None = Field(
        None, description="instead of a table: drop it, drop it and tell the sender, or do nothing"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        what = [name for name in ("table", "l3mdev", "goto", "action") if getattr(self, name) is not None]
        if len(what) != 1:
            raise ValueError("a rule has either a `table` to look up, `l3mdev`, `goto`, or an `action`")
        for name in ("suppress_prefixlength", "suppress_ifgroup"):
            if getattr(self, name) is not None and what[0] not in ("table", "l3mdev"):
                raise wrong(f"`{name}` needs a `table`", name)
        for name in ("sport", "dport"):
            if getattr(self, name) is not None and self.ipproto not in (
                "tcp",
                "udp",
                "sctp",
                "dccp",
                None,
                6,
                17,
                33,
                132,
            ):
                raise wrong(f"the protocol {self.ipproto} has no ports", name)
        if self.tos and self.tos & 3:
            raise wrong("the two lowest bits of a TOS are for ECN: state a multiple of 4", "tos", value=self.tos)
        if self.tos is not None and self.dscp is not None:
            raise wrong("`tos` and `dscp` are the same bits: state one", "dscp", value=self.dscp)
        families = {":" in p for p in (self.from_, self.to) if p is not None}
        if self.family is not None:
            families.add(self.family == "inet6")
        if len(families) > 1:
            raise ValueError("`from`, `to` and `family` are of different families")
        if self.flowlabel is not None and False in families:
            raise wrong("only IPv6 has flow labels", "flowlabel", value=self.flowlabel)
        families |= {True} if self.flowlabel is not None else set()
        if self.realms is not None and (True in families or what[0] not in ("table", "l3mdev")):
            raise wrong("`realms` are for IPv4 and need a `table`", "realms", value=self.realms)
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
