"""NAT and firewall rules as plain data: what lowering fills in, and what it must see to beside the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

Ports = tuple[int, int]
"""A range of port numbers, first and last; a single port is a range of one."""


class Interface(NamedTuple):
    """An interface to match by name; `negate` is the file's "!br0": any but this one. "eth*" is all that begin so."""

    name: str
    negate: bool = False


class Match(NamedTuple):
    """What a packet must be; what is empty or None is not looked at.

    `from_` and `to` are addresses or prefixes of either family, `protocol` a name as in /etc/protocols that nft
    knows (tcp, udp, sctp, icmp, icmpv6, ...), `state` words of `ct state`, `icmp` words of `icmp type`.
    """

    from_: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    in_: Interface | None = None
    out: Interface | None = None
    protocol: str = ""
    sport: tuple[Ports, ...] = ()
    dport: tuple[Ports, ...] = ()
    state: tuple[str, ...] = ()  # new | established | related | invalid | untracked
    icmp: tuple[str, ...] = ()  # echo-request, ...; with protocol icmp or icmpv6


class Masquerade(NamedTuple):
    """Packets from `from_`, leaving by `out` towards `to`, take the address of the interface they leave by.

    With `keep` they keep theirs, and no entry behind this one befalls them. All prefixes of `from_` or of `to` can be
    negated by a "!" before each. `fwmark` is mark and mask; `random` chooses source ports at random.
    """

    from_: tuple[str, ...] = ()
    out: Interface | None = None
    to: tuple[str, ...] = ()
    fwmark: tuple[int, int] | None = None
    keep: bool = False
    random: bool = False


class Snat(NamedTuple):
    """As Masquerade, but the new source address is `to`."""

    to: str
    from_: tuple[str, ...] = ()
    out: Interface | None = None


class Dnat(NamedTuple):
    """Arriving packets that match go to address `to`, at `port` where one is stated.

    With `match.out` it is the packets that the namespace itself sends. Nothing is added for hairpin: that is Publish.
    """

    to: str
    port: int | None = None
    match: Match = Match()


class Publish(NamedTuple):
    """A port of the namespace's own addresses leads to a target.

    `port` and `target` are ranges of one length, paired in order, or `target` is a single port for all of `port`.
    `to4` and `to6`: the target's addresses, at least one. `address`: only this address of the namespace is bound
    (None: all; 0.0.0.0 and ::, all of that family). `in_`: only packets that arrive there (the namespace's own do not).
    `via`: the interface of this namespace through which the target is reached (the bridge it is plugged into). It is
    needed for access from the target's neighbours, from the target itself and from 127.0.0.1; empty where the target
    is behind another router.
    `more`: further single ports of which all the same is true, each with its port of the target.
    """

    port: Ports
    target: Ports
    to4: str | None = None
    to6: str | None = None
    protocol: str = "tcp"  # tcp | udp | sctp
    address: str | None = None
    in_: Interface | None = None
    via: str = ""
    more: Mapping[int, int] = {}

    def pairs(self) -> tuple[list[int], list[int]]:
        """Every port, and the target's for each."""
        (first, last), (to, to_last) = self.port, self.target
        targets = range(to, to + last - first + 1) if to != to_last else [to] * (last - first + 1)
        return [*range(first, last + 1), *self.more], [*targets, *self.more.values()]


class FirewallRule(NamedTuple):
    """One rule of a firewall chain; `log` is the prefix to log with, None for no log."""

    match: Match
    action: str  # accept | drop | reject
    log: str | None = None


class FirewallChain(NamedTuple):
    """The chain of one hook: its rules in order, and what befalls a packet that none of them decides."""

    hook: str  # forward | input | output
    policy: str = "accept"  # accept | drop
    rules: tuple[FirewallRule, ...] = ()


class Isolate(NamedTuple):
    """Nothing is forwarded from one of these bridges to another of them."""

    bridges: tuple[str, ...]


class Rules(NamedTuple):
    """All of one namespace's `nat` and `firewall`."""

    masquerade: tuple[Masquerade, ...] = ()
    snat: tuple[Snat, ...] = ()
    dnat: tuple[Dnat, ...] = ()
    publish: tuple[Publish, ...] = ()
    firewall: tuple[FirewallChain, ...] = ()
    isolate: tuple[Isolate, ...] = ()


def alike(publishes: Iterable[Publish]) -> Iterable[tuple[Publish, tuple[list[int], list[int]]]]:
    """Those that differ by their ports alone, taken together: one of them, and the ports, with the target's, of all."""
    found: dict[tuple[object, ...], tuple[Publish, tuple[list[int], list[int]]]] = {}
    for publish in publishes:
        ports = publish.pairs()
        first, all_of_them = found.setdefault(publish[2:7], (publish, ports))
        if first is not publish:
            all_of_them[0].extend(ports[0])
            all_of_them[1].extend(ports[1])
    return found.values()


def family_of(text: str) -> int:
    """4 or 6: the family of an address or prefix."""
    return 6 if ":" in text else 4


def needed_sysctls(rules: Rules) -> dict[str, str]:
    """The sysctls (path with slashes -> value) without which `rules` do not work in their namespace.

    Forwarding, of IPv6 only where a rule names an IPv6 address (it turns off router advertisements for the
    namespace's own interfaces). route_localnet lets 127.0.0.1 reach a published target; it is set on the target's
    interface only, and the table's raw_prerouting chain keeps 127.0.0.0/8 closed to packets from outside.
    """
    found: dict[str, str] = {}
    if rules.masquerade or rules.snat or rules.dnat or rules.publish:
        texts = [t for m in rules.masquerade for t in (*m.from_, *m.to)]
        texts += [s.to for s in rules.snat]
        texts += [t for d in rules.dnat for t in (d.to, *d.match.from_, *d.match.to)]
        texts += [t for p in rules.publish for t in (p.to4, p.to6) if t]
        families = {family_of(text) for text in texts} or {4}
        if 4 in families:
            found["net/ipv4/ip_forward"] = "1"
        if 6 in families:
            found["net/ipv6/conf/all/forwarding"] = "1"
    for publish in rules.publish:
        if publish.to4 and publish.via:
            found[f"net/ipv4/conf/{publish.via}/route_localnet"] = "1"
    return found


def needs_hairpin(rules: Rules) -> frozenset[str]:
    """Addresses of targets whose own bridge port must be in hairpin mode where br_netfilter is on for the namespace.

    Without br_netfilter the packet of a target to its own published port is routed and none is needed; with it, the
    kernel changes the destination inside the bridge, which then has to send the frame back out of the port it came by.
    """
    return frozenset(a for p in rules.publish if p.via for a in (p.to4, p.to6) if a)
