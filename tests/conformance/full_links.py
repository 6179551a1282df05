"""The cases of kinds of link that only a full kernel has: on the real kernel they run under `nox -s kernels` alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conformance.case import Case, State, each, underlay
from conformance.links import again, changes, link_case, pair
from conformance.tunnels import tunnel_cases
from topo.facts import Fact, link


def full_link_cases(ns: str) -> list[Case]:
    """Every one of them, in this namespace."""
    return [
        *(_dummy(ns), _vlan(ns), _ipvlan(ns, "ipvlan"), _ipvlan(ns, "ipvtap"), _vrf(ns), _bond(ns), _geneve(ns)),
        *(bare(ns, "nlmon"), bare(ns, "vcan"), bare(ns, "wireguard")),
        *(_vxcan(ns), _netkit(ns), _macsec(ns), _hsr(ns)),
        *tunnel_cases(ns),
    ]


def _geneve(ns: str) -> Case:
    own = {
        **each("id", 7, 8),
        **each("remote", "10.9.0.2", "10.9.0.3", "fd09::2"),
        **each("port", 6082, 6083),
        **each("ttl", 9, 10, 0),
        **each("tos", 4, 8),
        **each("df", "unset", "set", "inherit"),
    }
    made = "type geneve id {} remote 10.9.0.2 dstport {}"
    by_hand = {
        "id": again(made.format(9, 6082)),
        "port": again(made.format(7, 6089)),
        **changes("geneve id 7", remote="remote 10.9.0.8", ttl="remote 10.9.0.2 ttl 50", tos="remote 10.9.0.2 tos 12"),
        **changes("geneve id 7", df="remote 10.9.0.2 df set"),
    }
    base = {"id": 7, "remote": "10.9.0.2", "port": 6082}
    return link_case(ns, "geneve", base, own, by_hand, around=underlay(ns), full=True)


def _vxcan(ns: str) -> Case:
    no = {"mac": "it has no Ethernet", "master": "a bridge takes Ethernet only"}
    by_hand = {"mtu": ("ip link set c0 down", "ip link set c0 mtu 16")}
    return pair(ns, "vxcan", {}, each("mtu", 72, 2060), by_hand, no)


def _netkit(ns: str) -> Case:
    """ip(8) shows nothing of it before iproute2 6.8, nor sets it: another kind by that name is what drifts."""
    own = {**each("mode", "l2", "l3"), **each("policy", "forward", "blackhole")}
    gone = again("type dummy")
    return pair(ns, "netkit", {"mode": "l2"}, own, {"mode": gone, "policy": gone})


def _macsec(ns: str) -> Case:
    below = tuple(a_link(ns, name, "dummy") for name in ("u0", "u5"))
    replay = {"replay": True, "window": 0}
    flags = {name: each(name, False, True, also={"send_sci": False})[name] for name in ("end_station", "scb")}
    own = {
        **each("parent", (ns, "u0"), (ns, "u5")),
        **each("mtu", 1400, 1300, 1468),  # 32 bytes less than the device below has
        **each("port", 1, 7),
        **each("cipher", "gcm-aes-128", "gcm-aes-256"),
        **each("encrypt", False, True),
        **each("protect", True, False),
        **each("validation", "strict", "check", "disabled"),
        **each("encodingsa", 0, 3),
        **each("send_sci", True, False),
        **flags,
        "replay": ({"replay": False}, replay),
        **each("window", 0, 9, also=replay),
    }
    words = {"encrypt": "encrypt on", "protect": "protect off", "validation": "validate disabled"}
    words |= {"encodingsa": "encodingsa 2", "send_sci": "send_sci off", "replay": "replay on window 5"}
    words |= {"end_station": "end_station on", "scb": "scb on", "window": "replay on window 5"}
    by_hand = {
        "mtu": ("ip link set c0 mtu 1350",),
        "parent": again("link u5 type macsec"),
        "port": again("link u0 type macsec port 9"),
        "cipher": again("link u0 type macsec cipher gcm-aes-256"),
        **changes("macsec", **words),
    }
    return link_case(ns, "macsec", {"parent": (ns, "u0")}, own, by_hand, around=below, full=True)


def _hsr(ns: str) -> Case:
    """What it is over are whole links: a dummy has no carrier to lose."""
    below = tuple(a_link(ns, name, "dummy") for name in ("u0", "u5", "u7"))
    made = "type hsr slave1 {} slave2 {} supervision {}"
    own = {
        **each("slave1", (ns, "u0"), (ns, "u7")),
        **each("slave2", (ns, "u5"), (ns, "u7")),
        **each("proto", "hsr", "prp"),
        **each("supervision", 0, 9),
    }
    by_hand = {
        "slave1": again(made.format("u7", "u5", 0)),
        "slave2": again(made.format("u0", "u7", 0)),
        "proto": again(made.format("u0", "u5", "0 proto 1")),
        "supervision": again(made.format("u0", "u5", 5)),
    }
    base = {"slave1": (ns, "u0"), "slave2": (ns, "u5")}
    return link_case(
        ns, "hsr", base, own, by_hand, {"mac": "it has that of slave1", "mtu": "it has its slaves'"}, below, full=True
    )


def bare(ns: str, kind: str) -> Case:
    """A kind with nothing of its own, and no Ethernet."""
    no = {"mac": "it has no Ethernet", "master": "a bridge takes Ethernet only"}
    own = {**each("kind", kind, "dummy"), **each("mtu", 2060, 16)} if kind == "vcan" else each("kind", kind, "dummy")
    by_hand = {"kind": again("type dummy")} | (
        {"mtu": ("ip link set c0 down", "ip link set c0 mtu 72")} if kind == "vcan" else {}
    )
    return link_case(ns, kind, {}, own, by_hand, no, full=True)


def a_link(ns: str, ifname: str, kind: str, **attrs: Any) -> Fact:
    return Fact(link(ns, ifname), {"kind": kind, "up": True, "master": None, **attrs})


def _dummy(ns: str) -> Case:
    """It goes from each kind of master to each other."""
    bond = a_link(ns, "o0", "bond", mode="active-backup")
    masters: tuple[State, ...] = (
        {"master": None},
        {"master": "b0"},
        {"master": "r0", "_port_of": "vrf"},
        {"master": "o0", "_port_of": "bond"},
    )
    own = {**each("kind", "dummy", "bridge"), "master": masters}
    by_hand = {"kind": again("type bridge"), "master": ("ip link set c0 master r0",)}
    return link_case(ns, "dummy", {}, own, by_hand, around=(bond, a_link(ns, "r0", "vrf", table=77)), full=True)


def _vlan(ns: str) -> Case:
    flags = ("gvrp", "mvrp", "loose_binding", "bridge_binding")
    own = {
        **each("parent", (ns, "u0"), (ns, "u5")),
        **each("id", 5, 6),
        **each("protocol", "802.1Q", "802.1ad"),
        **each("reorder_hdr", True, False),
        **{name: states for flag in flags for name, states in each(flag, False, True).items()},
    }
    by_hand = {
        "parent": again("link u5 type vlan id 5"),
        "id": again("link u0 type vlan id 9"),
        "protocol": again("link u0 type vlan id 5 protocol 802.1ad"),
        **changes("vlan", reorder_hdr="reorder_hdr off", **{flag: f"{flag} on" for flag in flags}),
    }
    return link_case(ns, "vlan", {"parent": (ns, "u0"), "id": 5}, own, by_hand, around=underlay(ns), full=True)


def _ipvlan(ns: str, kind: str) -> Case:
    own = {
        **each("parent", (ns, "u0"), (ns, "u5")),
        **each("mode", "l2", "l3", "l3s"),
        **each("flags", "bridge", "private", "vepa"),
    }
    by_hand = {
        "parent": again(f"link u5 type {kind} mode l2"),
        "mode": (f"ip link set c0 type {kind} mode l3",),
        "flags": (f"ip link set c0 type {kind} mode l2 private",),
    }
    base = {"parent": (ns, "u0"), "mode": "l2", "flags": "bridge"}
    no = {"mac": "it has its parent's (EOPNOTSUPP)", "master": "a bridge refuses it (EINVAL)"}
    return link_case(ns, kind, base, own, by_hand, no, underlay(ns), full=True)


def _vrf(ns: str) -> Case:
    no = {"master": "a VRF is no port (EINVAL)"}
    return link_case(
        ns, "vrf", {"table": 10}, each("table", 10, 11), {"table": again("type vrf table 12")}, no, full=True
    )


def _bond(ns: str) -> Case:
    def ports(fact: Fact) -> Iterable[Fact]:
        return [a_link(ns, name, "dummy", master="c0", _port_of="bond") for name in ("p0", "p1")]

    lacp, arp = {"mode": "802.3ad"}, {"arp_interval": 100}
    own = {
        **each("mode", "active-backup", "balance-xor", "802.3ad"),
        **each("miimon", 100, 50),
        **each("updelay", 200, 300, also={"miimon": 100}),
        **each("downdelay", 200, 0, also={"miimon": 100}),
        **each("arp_interval", 100, 200),
        **each("arp_ip_target", ("10.9.0.2",), ("10.9.0.3", "10.9.0.4"), also=arp),
        **each("arp_validate", "none", "active", "filter", also=arp),
        **each("primary", (ns, "p0"), (ns, "p1"), None),
        **each("primary_reselect", "always", "better"),
        **each("fail_over_mac", "none", "active"),
        **each("xmit_hash_policy", "layer2", "layer3+4", also={"mode": "balance-xor"}),
        **each("resend_igmp", 1, 2),
        **each("num_grat_arp", 1, 2),
        **each("all_slaves_active", False, True),
        **each("min_links", 0, 1),
        **each("lacp_rate", "slow", "fast", also=lacp),
        **each("ad_select", "stable", "bandwidth", also=lacp),
    }
    made = "type bond mode {}"
    by_hand = {
        **changes(
            "bond",
            miimon="miimon 70",
            updelay="updelay 400",
            downdelay="downdelay 300",
            arp_interval="arp_interval 300",
            arp_ip_target="arp_ip_target 10.9.0.9",
            arp_validate="arp_validate all",
            primary="primary p1",
            primary_reselect="primary_reselect failure",
            resend_igmp="resend_igmp 3",
            num_grat_arp="num_grat_arp 3",
            all_slaves_active="all_slaves_active 1",
            min_links="min_links 2",
        ),
        "mode": again(made.format("balance-rr")),
        "fail_over_mac": again(made.format("active-backup fail_over_mac follow")),
        "xmit_hash_policy": again(made.format("balance-xor xmit_hash_policy layer2+3")),
        "lacp_rate": again(made.format("802.3ad lacp_rate fast")),
        "ad_select": again(made.format("802.3ad ad_select count")),
    }
    return link_case(ns, "bond", {"mode": "active-backup"}, own, by_hand, beside=ports, full=True)
