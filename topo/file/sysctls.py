"""Sysctls of a network namespace: from the names that users write to the files under /proc/sys."""

from __future__ import annotations

from typing import Final

# The files of net/ipv4/conf/DEVICE and net/ipv6/conf/DEVICE in Linux 6.18 (net/ipv4/devinet.c, net/ipv6/addrconf.c).
_IPV4: Final = frozenset(
    [
        "accept_local",
        "accept_redirects",
        "accept_source_route",
        "arp_accept",
        "arp_announce",
        "arp_evict_nocarrier",
        "arp_filter",
        "arp_ignore",
        "arp_notify",
        "bc_forwarding",
        "bootp_relay",
        "disable_policy",
        "disable_xfrm",
        "drop_gratuitous_arp",
        "drop_unicast_in_l2_multicast",
        "force_igmp_version",
        "forwarding",
        "igmpv2_unsolicited_report_interval",
        "igmpv3_unsolicited_report_interval",
        "ignore_routes_with_linkdown",
        "log_martians",
        "mc_forwarding",
        "medium_id",
        "promote_secondaries",
        "proxy_arp",
        "proxy_arp_pvlan",
        "route_localnet",
        "rp_filter",
        "secure_redirects",
        "send_redirects",
        "shared_media",
        "src_valid_mark",
        "tag",
    ]
)
_IPV6: Final = frozenset(
    [
        "accept_dad",
        "accept_ra",
        "accept_ra_defrtr",
        "accept_ra_from_local",
        "accept_ra_min_hop_limit",
        "accept_ra_min_lft",
        "accept_ra_mtu",
        "accept_ra_pinfo",
        "accept_ra_rt_info_max_plen",
        "accept_ra_rt_info_min_plen",
        "accept_ra_rtr_pref",
        "accept_redirects",
        "accept_source_route",
        "accept_untracked_na",
        "addr_gen_mode",
        "autoconf",
        "dad_transmits",
        "disable_ipv6",
        "disable_policy",
        "drop_unicast_in_l2_multicast",
        "drop_unsolicited_na",
        "enhanced_dad",
        "force_forwarding",
        "force_mld_version",
        "force_tllao",
        "forwarding",
        "hop_limit",
        "ignore_routes_with_linkdown",
        "ioam6_enabled",
        "ioam6_id",
        "ioam6_id_wide",
        "keep_addr_on_down",
        "max_addresses",
        "max_desync_factor",
        "mc_forwarding",
        "mldv1_unsolicited_report_interval",
        "mldv2_unsolicited_report_interval",
        "mtu",
        "ndisc_evict_nocarrier",
        "ndisc_notify",
        "ndisc_tclass",
        "optimistic_dad",
        "proxy_ndp",
        "ra_defrtr_metric",
        "ra_honor_pio_life",
        "ra_honor_pio_pflag",
        "regen_max_retry",
        "regen_min_advance",
        "router_probe_interval",
        "router_solicitation_delay",
        "router_solicitation_interval",
        "router_solicitation_max_interval",
        "router_solicitations",
        "rpl_seg_enabled",
        "seg6_enabled",
        "seg6_require_hmac",
        "stable_secret",
        "suppress_frag_ndisc",
        "temp_prefered_lft",
        "temp_valid_lft",
        "use_oif_addrs_only",
        "use_optimistic",
        "use_tempaddr",
    ]
)
SHORT_NAMES: Final = _IPV4 | _IPV6
_PER_DEVICE: Final = ("conf", "neigh")


def device_paths(short: str) -> tuple[str, ...]:
    """The paths of a device's sysctl, with {} for the device; of both families where both have the name.

    `rp_filter`, or with its family `ipv6.accept_ra`, `ipv4.neigh.gc_stale_time`. Raises ValueError for others.
    """
    words = short.replace("/", ".").split(".")
    if words[0] in ("ipv4", "ipv6"):
        table = words[1] if len(words) == 3 and words[1] in _PER_DEVICE else "conf"
        if len(words) == 2 or (len(words) == 3 and words[1] in _PER_DEVICE):
            return (f"net/{words[0]}/{table}/{{}}/{words[-1]}",)
    elif len(words) == 1:
        families = [family for family, names in (("ipv4", _IPV4), ("ipv6", _IPV6)) if short in names]
        if families:
            return tuple(f"net/{family}/conf/{{}}/{short}" for family in families)
        raise ValueError(
            f"{short!r} is no sysctl of a device that is known; write ipv4.{short} or ipv6.{short} if it is one"
        )
    raise ValueError(f"{short!r} is no short name of a device's sysctl, such as rp_filter or ipv6.accept_ra")


def path(name: str) -> str:
    """The path under /proc/sys of a dotted name (or of one with slashes, as sysctl(8) takes both).

    In a dotted name the part of a device may hold dots: net.ipv4.conf.eth0.10.rp_filter.
    """
    dot, slash = name.find("."), name.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        return name
    words = [word.replace("/", ".") for word in name.split(".")]
    if len(words) > 5 and words[2] in _PER_DEVICE:
        words[3:-1] = [".".join(words[3:-1])]
    return "/".join(words)
