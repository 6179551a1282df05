"""What iproute2 and nft say of one object, in the words of docs/facts.md: nothing here goes through topo's reading.

`witness(fact)` is the attributes of the object that has the fact's ref, None where there is none.
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sandbox.host import NETNS
from sandbox.snapshot import output, read_json

from conformance.case import MARK
from conformance.wireguard import WIREGUARD_KEYS
from topo.facts import HOST, Fact
from topo.kinds.bridge_vlan import ranges, tunnels
from topo.kinds.nexthop import written
from topo.kinds.port import DEFAULTS

Seen = dict[str, Any]


def witness(fact: Fact) -> Seen | None:
    """Raises AssertionError where a command fails: the namespace has to be there, unless it is the object."""
    return _WITNESSES[fact.ref.kind](fact)


def stated(fact: Fact, seen: Seen) -> Seen:
    """Of what was seen, that which `fact` states: the two are to be equal."""
    return {name: seen.get(name, "not seen") for name in fact.attrs}


def links(ns: str) -> dict[str, Seen]:
    """Every link of a namespace as `ip -d -j address` shows it, by name."""
    return {link["ifname"]: link for link in read_json(ns, "ip", "-d", "-j", "addr", "show")}


def ifindex(ns: str, ifname: str) -> int:
    index: int = links(ns)[ifname]["ifindex"]
    return index


def identity(fact: Fact) -> object:
    """What stays where an object is changed in place: the ifindex of its link, a namespace's inode."""
    kind, ns = fact.ref.kind, fact.ref.ns
    if kind == "namespace":
        return (NETNS / ns).stat().st_ino
    if kind in (
        "address",
        "nexthop",
    ):  # nothing tells; of nexthops tests/live/test_nexthops.py has a route of another's
        return None
    if kind in ("route", "rule", "nft", "sysctl"):
        return {name: link["ifindex"] for name, link in links(ns).items()}
    return ifindex(ns, fact.ref.key[0])


def outline(ns: str) -> list[str]:
    """A namespace's links with their settings and addresses, and its routes: a quick look at everything else."""
    found = []
    for name, link in links(ns).items():
        port = link.get("linkinfo", {}).get("info_slave_data", {})
        settings = [link[key] for key in ("mtu", "txqlen")] + [link.get(key) for key in ("master", "ifalias")]
        settings += [port.get(key) for key in (*DEFAULTS, "cost")]
        addresses = [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if not a["local"].startswith("fe80")]
        found.append(f"{name} {'UP' in link['flags']} {settings} {sorted(addresses)}")
    for family in ("-4", "-6"):
        lines = output(ns, "ip", family, "-o", "route", "show", "table", "all").splitlines()
        found += [line for line in lines if not _KERNELS.match(line)]
    return sorted(_PASSING.sub("", line) for line in found)


_KERNELS = re.compile(r"(local|broadcast|multicast|anycast) |fe80::")
_PASSING = re.compile(r" (linkdown|expires \S+)|\s+$")


# Links


def _link(fact: Fact) -> Seen | None:
    ns, ifname = fact.ref.ns, fact.ref.key[0]
    everything = links(ns)
    if ifname not in everything:
        return None
    link = everything[ifname]
    info = link.get("linkinfo", {})
    data = info.get("info_data", {})
    kind = info.get("info_kind")
    seen = {
        "kind": data["type"] if kind == "tun" else kind,
        "up": "UP" in link["flags"],
        "master": link.get("master"),
        "mtu": link["mtu"],
        "mac": link.get("address"),
        "txqueuelen": link["txqlen"],
        "alias": link.get("ifalias", ""),
    }
    if port_of := info.get("info_slave_kind"):
        seen["_port_of"] = port_of
    own = _OWN.get(seen["kind"])
    return {**seen, **(own(ns, link, data) if own else {})}


def _below(ns: str, link: Seen) -> tuple[str, str] | None:
    """The device that IFLA_LINK names, which may be in another namespace."""
    if "link" in link:
        return ns, link["link"]
    if "link_index" not in link:
        return None
    there = _namespace(ns, link["link_netnsid"]) if "link_netnsid" in link else ns
    names = [name for name, other in links(there).items() if other["ifindex"] == link["link_index"]]
    return (there, names[0]) if names else None


def _namespace(ns: str, number: int) -> str:
    """The namespace that has this nsid in `ns`; the host's is the one that has no name."""
    found = re.search(rf"nsid {number} .*name: (\w+)", output(ns, "ip", "netns", "list-id"))
    return found[1] if found else HOST


def _veth(ns: str, link: Seen, data: Seen) -> Seen:
    return {"peer": _below(ns, link)}


_INFO_DATA = """
import struct, sys
from pyroute2 import IPRoute
with IPRoute() as route:
    (link,) = route.link("get", ifname=sys.argv[1])
data = bytes.fromhex(link.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA").replace(":", ""))
while data:
    size, number = struct.unpack_from("=HH", data)
    print(number, int.from_bytes(data[4:size], "little"))
    data = data[(size + 3) & ~3 :]
"""
"""The numbers in IFLA_INFO_DATA of a kind that pyroute2 has no words for."""


def _netkit(ns: str, link: Seen, data: Seen) -> Seen:
    """What iproute2 has no words for before 6.8, from the bytes that the kernel writes (IFLA_NETKIT_POLICY, _MODE)."""
    told = output(ns, sys.executable, "-c", _INFO_DATA, link["ifname"])
    numbers = {int(nla): int(value) for nla, value in map(str.split, told.splitlines())}
    policy, mode = numbers[3], numbers[5]
    return {**_veth(ns, link, data), "policy": {0: "forward", 2: "blackhole"}[policy], "mode": ("l2", "l3")[mode]}


def _bridge(ns: str, link: Seen, data: Seen) -> Seen:
    return {
        "stp": data["stp_state"] == 1,
        "ageing": data["ageing_time"],
        "group_fwd_mask": int(data["group_fwd_mask"], 16),
        "mcast_snooping": data["mcast_snooping"] == 1,
        "vlan_filtering": data.get("vlan_filtering") == 1,
        "vlan_protocol": data.get("vlan_protocol"),
        "vlan_default_pvid": data.get("vlan_default_pvid"),
        **{name: data[name] for name in ("forward_delay", "hello_time", "max_age", "priority")},
        **{name: data[name] == 1 for name in ("mcast_querier", "mcast_query_use_ifaddr")},
        **{name: data[name] for name in ("mcast_router", "mcast_query_intvl")},
        **{name: data[name] for name in ("mcast_igmp_version", "mcast_mld_version")},
    }


def _vxlan(ns: str, link: Seen, data: Seen) -> Seen:
    made = _namespace(ns, link["link_netnsid"]) if "link_netnsid" in link else ns
    return {
        "local": data.get("local") or data.get("local6"),
        "group": next((data[name] for name in ("group", "remote", "group6", "remote6") if name in data), None),
        "dev": (made, data["link"]) if "link" in data else None,
        "tos": int(data.get("tos", "0"), 16),
        "created_in": made,
        **{name: data.get(name, False) for name in ("learning", "proxy", "l2miss", "l3miss", "external", "vnifilter")},
        **{name: data[name] for name in ("port", "ttl", "ageing")},
        "id": data.get("id", 0),
    }


def _macvlan(ns: str, link: Seen, data: Seen) -> Seen:
    return {"parent": _below(ns, link), "mode": data["mode"]}


def _vlan(ns: str, link: Seen, data: Seen) -> Seen:
    names = ("reorder_hdr", "gvrp", "mvrp", "loose_binding", "bridge_binding")
    flags = {name: name.upper() in data.get("flags", ()) for name in names}
    return {"parent": _below(ns, link), "id": data["id"], "protocol": data["protocol"], **flags}


def _macsec(ns: str, link: Seen, data: Seen) -> Seen:
    names = {"send_sci": "inc_sci", "end_station": "es", "replay": "replay_protect"}
    flags = ("encrypt", "protect", "send_sci", "end_station", "scb", "replay")
    return {
        "parent": _below(ns, link),
        "port": int(data["sci"][-4:], 16),
        "cipher": data["cipher_suite"].lower(),
        "validation": data["validation"],
        "encodingsa": data["encoding_sa"],
        "window": data.get("window"),
        **{name: data[names.get(name, name)] in (True, "on") for name in flags},
    }


def _hsr(ns: str, link: Seen, data: Seen) -> Seen:
    slaves = {name: (ns, data[name]) if data.get(name) else None for name in ("slave1", "slave2")}
    supervision = int(data["supervision_addr"].rpartition(":")[2], 16)
    return {**slaves, "supervision": supervision, "proto": ("hsr", "prp")[data.get("proto", 0)]}


def _ipvlan(ns: str, link: Seen, data: Seen) -> Seen:
    (flags,) = {"bridge", "private", "vepa"} & data.keys()
    return {"parent": _below(ns, link), "mode": data["mode"], "flags": flags}


def _vrf(ns: str, link: Seen, data: Seen) -> Seen:
    return {"table": data["table"]}


def _geneve(ns: str, link: Seen, data: Seen) -> Seen:
    remote = data.get("remote") or data.get("remote6")
    return {"remote": remote, "tos": int(data.get("tos", "0"), 16), **{n: data[n] for n in ("id", "port", "ttl", "df")}}


def _tunnel(ns: str, link: Seen, data: Seen) -> Seen:
    """An IP tunnel of whatever kind: what its kind has not is shown as unset, and no case states it."""
    unset = "::" if "6" in link["linkinfo"]["info_kind"] else "0.0.0.0"
    keys = {name: _quad(data[name]) if name in data else None for name in ("ikey", "okey")}
    flags = ("iseq", "oseq", "icsum", "ocsum", "pmtudisc", "ignore_df")
    return {
        **{name: unset if data.get(name) == "any" else data.get(name) for name in ("local", "remote")},
        "link": (ns, data["link"]) if "link" in data else _below(ns, link) if link.get("link") else None,
        "ttl": data.get("ttl"),
        "tos": int(data.get("tos", "0"), 16),
        "mode": data.get("proto"),
        "if_id": int(data.get("if_id", "0"), 16),
        **{name: data.get(name, False) for name in flags},
        **keys,
        **_outer6(data),
    }


def _outer6(data: Seen) -> Seen:
    words = {"encaplimit": "ign_encap_limit", "tclass": "use_orig_tclass", "flowlabel": "use_orig_flowlabel"}
    seen = {"encaplimit": data.get("encap_limit"), **{n: int(data.get(n, "0"), 16) for n in ("tclass", "flowlabel")}}
    return seen | {
        name: "none" if name == "encaplimit" else "inherit"
        for name, flag in words.items()
        if data.get(f"ip6_tnl_f_{flag}")
    }


def _quad(text: str) -> int:
    return int.from_bytes(bytes(map(int, text.split("."))), "big")


def _bond(ns: str, link: Seen, data: Seen) -> Seen:
    validate = re.search(r"arp_validate (\S+)", output(ns, "ip", "-d", "link", "show", link["ifname"]))
    same = ("mode", "miimon", "updelay", "downdelay", "arp_interval", "primary_reselect", "fail_over_mac")
    return {
        **{name: data[name] for name in (*same, "xmit_hash_policy", "resend_igmp", "min_links", "ad_select")},
        "arp_ip_target": tuple(data.get("arp_ip_target", ())),
        "arp_validate": validate and validate[1],
        "primary": (ns, data["primary"]) if "primary" in data else None,
        "num_grat_arp": data["num_peer_notif"],
        "all_slaves_active": data["all_slaves_active"] == 1,
        "lacp_rate": data["ad_lacp_rate"],
    }


def _tun(ns: str, link: Seen, data: Seen) -> Seen:
    ids = {name: int(data[name]) if name in data else None for name in ("user", "group")}
    return {**ids, **{name: data[name] for name in ("pi", "vnet_hdr", "multi_queue")}}


def _erspan(ns: str, link: Seen, data: Seen) -> Seen:
    hwid = data.get("erspan_hwid")
    own = {name: data.get(name) for name in ("erspan_ver", "erspan_index", "erspan_dir")}
    return {**_tunnel(ns, link, data), **own, "erspan_hwid": int(hwid, 16) if isinstance(hwid, str) else hwid}


_OWN: dict[str, Callable[[str, Seen, Seen], Seen]] = {
    "veth": _veth,
    "vxcan": _veth,
    "netkit": _netkit,
    "bridge": _bridge,
    "vxlan": _vxlan,
    "macvlan": _macvlan,
    "macvtap": _macvlan,
    "vlan": _vlan,
    "macsec": _macsec,
    "hsr": _hsr,
    "ipvlan": _ipvlan,
    "ipvtap": _ipvlan,
    "vrf": _vrf,
    "bond": _bond,
    "geneve": _geneve,
    **dict.fromkeys(("gre", "gretap", "ip6gre", "ip6gretap", "ipip", "sit", "ip6tnl", "vti", "xfrm"), _tunnel),
    **dict.fromkeys(("erspan", "ip6erspan"), _erspan),
    "tun": _tun,
    "tap": _tun,
}


# What is on links


def _port(fact: Fact) -> Seen | None:
    link = links(fact.ref.ns).get(fact.ref.key[0], {})
    data = link.get("linkinfo", {}).get("info_slave_data")
    if data is None:
        return None
    own = {"fast_leave": data["fastleave"], "mcast_router": data["multicast_router"]}
    return {**own, **{name: data[name] for name in (*DEFAULTS, "cost") if name in data}}


def _bridge_vlan(fact: Fact) -> Seen | None:
    for entry in read_json(fact.ref.ns, "bridge", "-j", "vlan", "show"):
        if entry["ifname"] != fact.ref.key[0]:
            continue
        vlans = {v["vlan"]: v.get("flags", ()) for v in entry.get("vlans", ())}
        untagged = {vid for vid, flags in vlans.items() if "Egress Untagged" in flags}
        return {
            "tunnels": _tunnels(fact) or None,
            "pvid": next((vid for vid, flags in vlans.items() if "PVID" in flags), 0),
            "untagged": ranges(untagged),
            "tagged": ranges(vlans.keys() - untagged),
        }
    return {"pvid": 0, "untagged": "", "tagged": ""} if fact.ref.key[0] in links(fact.ref.ns) else None


def _vlan_state(fact: Fact) -> Seen | None:
    ifname, vid = fact.ref.key
    for entry in read_json(fact.ref.ns, "bridge", "-d", "-j", "vlan", "show", "dev", ifname):
        for vlan in entry["vlans"]:
            if vlan["vlan"] <= vid <= vlan.get("vlanEnd", vlan["vlan"]) and vlan["state"] != "forwarding":
                return {"state": vlan["state"]}
    return None


def _tunnels(fact: Fact) -> str:
    shown = read_json(fact.ref.ns, "bridge", "-j", "vlan", "tunnelshow", "dev", fact.ref.key[0])
    vnis: dict[int, int] = {}
    for one in shown[0].get("tunnels", ()) if shown and len(fact.ref.key) == 1 else ():
        for vid in range(one["vlan"], one.get("vlanEnd", one["vlan"]) + 1):
            vnis[vid] = one["tunid"] + vid - one["vlan"]
    return tunnels(vnis)


def _inet6(fact: Fact) -> Seen | None:
    ifname = fact.ref.key[0]
    tokens = [entry["token"] for entry in read_json(fact.ref.ns, "ip", "-j", "token", "show", "dev", ifname)]
    mode = read_json(fact.ref.ns, "ip", "-d", "-j", "link", "show", "dev", ifname)[0]["inet6_addr_gen_mode"]
    return {"addrgenmode": mode, "token": next((token for token in tokens if token != "::"), None)}


def _vni(fact: Fact) -> Seen | None:
    ifname, number = fact.ref.key
    for device in read_json(fact.ref.ns, "bridge", "-j", "vni", "show", "dev", ifname):
        for entry in device["vnis"]:
            if entry["vni"] <= number <= entry.get("vniEnd", entry["vni"]):
                return {"group": entry.get("group")}
    return None


def _mdb(fact: Fact) -> Seen | None:
    for table in read_json(fact.ref.ns, "bridge", "-j", "-d", "mdb", "show"):
        for entry in table["mdb"]:
            words = (f"src {entry['src']}" if "src" in entry else "", f"vlan {entry['vid']}" if "vid" in entry else "")
            key = (entry["port"], entry["grp"], *filter(None, words))
            if key == fact.ref.key and entry["state"] == "permanent":
                return {}
    return None


def _address(fact: Fact) -> Seen | None:
    ifname, address, *peer = fact.ref.key
    for entry in links(fact.ref.ns)[ifname]["addr_info"]:
        there = [f"peer {entry['address']}"] if "address" in entry else []
        if f"{entry['local']}/{entry['prefixlen']}" == address and there == peer:
            return {
                "_peer": entry.get("address"),
                "metric": entry.get("metric", 0),
                "valid_lft": entry["valid_life_time"],
                "preferred_lft": 0 if entry.get("deprecated") else entry["preferred_life_time"],
                **{name: entry.get(name) for name in ("label", "scope", "broadcast")},
                **{name: entry.get(name, False) for name in ("nodad", "noprefixroute", "home", "mngtmpaddr")},
            }
    return None


def _neighbour(fact: Fact) -> Seen | None:
    ifname, ip = fact.ref.key
    for entry in read_json(fact.ref.ns, "ip", "-j", "neigh", "show", "dev", ifname):
        if entry["dst"] == ip and "PERMANENT" in entry["state"]:
            return entry
    return None


def _fdb(fact: Fact) -> Seen | None:
    ifname, mac, dst, *more = fact.ref.key
    for entry in read_json(fact.ref.ns, "bridge", "-j", "fdb", "show", "dev", ifname):
        if more != ([f"src_vni {entry['src_vni']}"] if "src_vni" in entry else []):
            continue
        if entry["mac"] == mac and entry["state"] == "permanent" and dst in ("", entry.get("dst")):
            return {"dst": entry["dst"], "port": _number(entry.get("port")), "vni": _number(entry.get("vni"))}
    return None


def _number(value: object) -> int | None:
    return None if value is None else int(str(value), 0)


def _shaping(fact: Fact) -> Seen | None:
    ns, ifname = fact.ref.ns, fact.ref.key[0]
    roots = [q for q in read_json(ns, "tc", "-j", "qdisc", "show", "dev", ifname) if q.get("root")]
    if not roots or roots[0]["kind"] not in ("tbf", "htb", "netem", "fq_codel", "cake"):
        return None
    root = roots[0]
    if root["kind"] == "netem":
        return _netem(root["options"]) | {"distribution": _DISTRIBUTIONS.get(root["handle"], "uniform")}
    if root["kind"] in ("fq_codel", "cake"):
        return _queues(root["kind"], root["options"])
    if root["kind"] == "tbf":
        options = root["options"]
        return {"kind": "tbf", "rate": options["rate"], "burst": options["burst"], "latency": options["lat"]}
    assert root["options"]["default"] == "0x1", root
    text = output(ns, "tc", "class", "show", "dev", ifname)
    assert re.search(r"^class htb 1:1 root", text, re.MULTILINE), text
    found = {name: re.search(rf"\b{name} ([\d.]+)(\w*)", text) for name in ("rate", "ceil", "burst", "cburst")}
    return {"kind": "htb", **{name: float(m[1]) * _UNITS[m[2]] for name, m in found.items() if m}}


def _shaping_class(fact: Fact) -> Seen | None:
    text = output(fact.ref.ns, "tc", "class", "show", "dev", fact.ref.key[0], "classid", f"1:{fact.ref.key[1]:x}")
    if f"class htb 1:{fact.ref.key[1]:x} parent 1:1 " not in text:
        return None
    found = {name: re.search(rf"\b{name} ([\d.]+)(\w*)", text) for name in ("rate", "ceil", "burst", "cburst", "prio")}
    return {name: float(m[1]) * _UNITS.get(m[2], 1) for name, m in found.items() if m}


_SELECTORS = {  # as tc-u32(8) shows what it makes of its own words
    "": "all", "00b80000/00fc0000 at 0": "dscp 46", "0b800000/0fc00000 at 0": "dscp 46",
    "0a000000/ff800000 at 12": "src 10.0.0.0/9", "0a000007/ffffffff at 16": "dst 10.0.0.7/32", "00060000/00ff0000 at 8": "proto 6",
    "00350000/ffff0000 at 20": "sport 53", "00000050/0000ffff at 20": "dport 80", "00001100/0000ff00 at 4": "proto 17",
    "00000050/0000ffff at 40": "dport 80", "00000000/00000000 at 0": "",
    "fd000000/ffffffff at 8": "src fd00::/65", "00000000/ffffffff at 12": "", "00000000/80000000 at 16": "",
    "fd000000/ffffffff at 24": "dst fd00::7/128", "00000000/ffffffff at 28": "", "00000000/ffffffff at 32": "",
    "00000007/ffffffff at 36": "",
}  # fmt: skip


def _shaping_filter(fact: Fact) -> Seen | None:
    text = output(fact.ref.ns, "tc", "filter", "show", "dev", fact.ref.key[0], "parent", "1:")
    at = re.search(rf"protocol (\w+) pref {fact.ref.key[1]} u32 .*flowid 1:(\w+) .*\n((?:  match .*\n?)*)", text)
    if at is None:
        return None
    lines = re.findall(r"  match (.*)", at[3])
    order = ("src", "dst", "dscp", "proto", "sport", "dport")
    words = [word for line in lines if (word := _SELECTORS.get(line, line))]
    words.sort(key=lambda word: order.index(word.split()[0]) if word.split()[0] in order else 9)
    return {"match": " ".join([{"ipv6": "ip6"}.get(at[1], at[1]), *words]), "class": int(at[2], 16)}


def _ingress(fact: Fact) -> Seen | None:
    ns, ifname = fact.ref.ns, fact.ref.key[0]
    qdiscs = read_json(ns, "tc", "-j", "qdisc", "show", "dev", ifname, "ingress")
    if [qdisc["kind"] for qdisc in qdiscs] != ["ingress"]:
        return None
    text = output(ns, "tc", "filter", "show", "dev", ifname, "ingress")  # in JSON tc leaves out what is matched
    everything = re.findall(r"^  match 00000000/00000000 at 0$", text, re.MULTILINE)
    ways = re.findall(r"mirred \(Egress Redirect to device (\S+)\) stolen", text)
    return {"to": ways[0] if len(ways) == len(everything) == 1 else None}


def _queues(kind: str, options: Seen) -> Seen:
    seen = {"kind": kind, **options}
    if kind == "fq_codel":
        return {**seen, "ecn": options.get("ecn", False)}
    filters = {"disabled": "off", "enabled": "on", "aggressive": "aggressive"}
    return {
        **seen,
        "rate": 0 if options["bandwidth"] == "unlimited" else options["bandwidth"],
        "ack_filter": filters[options["ack-filter"]],
        "overhead": None if options.get("raw") else options.get("overhead", 0),
        "atm": options.get("atm", "noatm"),
        "mpu": options.get("mpu", 0),
        "memory_limit": options.get("memlimit", 0),
    }


_DISTRIBUTIONS = {"7ff1:": "normal", "7ff2:": "pareto", "7ff3:": "paretonormal"}


def _netem(options: Seen) -> Seen:
    """Times of tc are seconds, shares parts of 1; what is 0 is left out."""
    names = {"loss-random": "loss", "duplicate": "duplicate", "reorder": "reorder", "corrupt": "corrupt"}
    delay, rate = options.get("delay", {}), options.get("rate", {})
    seen: Seen = {
        "kind": "netem",
        "delay": delay.get("delay", 0) * 1e6,
        "jitter": delay.get("jitter", 0) * 1e6,
        "delay_correlation": delay.get("correlation", 0) * 100,
        "rate": rate.get("rate", 0),
        "limit": options["limit"],
        "gap": options.get("gap", 0),
    }
    for shown, name in names.items():
        found = options.get(shown, {})
        seen[name] = found.get(shown.removesuffix("-random"), 0) * 100
        seen[f"{name}_correlation"] = found.get("correlation", 0) * 100
    models = {"gemodel": ("p", "r", "1-h", "1-k"), "state": ("p13", "p31", "p32", "p23", "p14")}
    for name, words in models.items():
        if found := options.get(f"loss-{name}"):
            seen["loss"] = (name, *(found[word] * 100 for word in words))
    return seen


_UNITS = {"bit": 1 / 8, "Kbit": 1000 / 8, "Mbit": 1e6 / 8, "Gbit": 1e9 / 8, "b": 1, "Kb": 1024, "Mb": 1024**2}


# Routing


def _route(fact: Fact) -> Seen | None:
    family, table, dst, metric, *tos = fact.ref.key
    words = ["ip", f"-{family}", "-d", "-N", "-j", "route", "show", "table", str(table)]
    for route in _ways(fact.ref.ns, *words):
        same = int(route.get("tos", "0"), 16) == (int(tos[0].removeprefix("tos "), 16) if tos else 0)
        if route.get("protocol") not in ("kernel", "2") and _key(route, family) == (dst, metric) and same:
            seen = _route_attributes(route)
            if "lock" in fact.attrs:  # which is in the text alone
                text = output(fact.ref.ns, "ip", f"-{family}", "route", "show", dst, "table", str(table))
                seen["lock"] = tuple(re.findall(r"(\w+) lock \d", text)) or None
            return seen
    return None


def _key(route: Seen, family: int) -> tuple[str, int]:
    to = "0.0.0.0/0" if family == 4 else "::/0"
    dst = route["dst"]
    if dst not in ("default", "0/0"):
        to = dst if "/" in dst else f"{dst}/{32 if family == 4 else 128}"
    return to, int(route.get("metric", 0))


def _gateway(way: Seen) -> str | None:
    found: str | None = way.get("gateway") or way.get("via", {}).get("host")
    return found


_TYPES = {
    "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5,
    "blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9,
}  # fmt: skip


def _ways(ns: str, *words: str) -> list[Seen]:
    """Routes or nexthops. Of an encapsulation iproute2 writes the parts among those of the route, by the same names: here they are one."""

    def apart(pairs: list[tuple[str, Any]]) -> Seen:
        found: Seen = {}
        inner: Seen | None = None
        for name, value in pairs:
            if name == "encap":
                inner = found[name] = {"encap": value}
            elif inner is not None and name not in ("gateway", "via", "dev"):
                inner[name] = value
            else:
                inner, found[name] = None, value
        return found

    parsed: list[Seen] = json.loads(output(ns, *words), object_pairs_hook=apart)
    return parsed


def _encapsulation(way: Seen) -> tuple[str, ...]:
    """In the words of topo.kinds.encap: what is nothing is left out."""
    if "encap" not in way:
        return ()
    inner = dict(way["encap"])
    kind = inner.pop("encap")
    if kind == "mpls":
        stack = inner["dst"] if isinstance(inner["dst"], str) else "/".join(str(hop["label"]) for hop in inner["dst"])
        return (f"mpls {stack}" + (f" ttl {inner['ttl']}" if "ttl" in inner else ""),)
    names = ("action", "mode", "segs", "id", "dst", "src", "ttl", "tos", "hoplimit", "tc", "table", "nh4", "nh6")
    shown = {name: inner[name] for name in names if inner.get(name) not in (None, 0, "0.0.0.0", "::")}
    if "segs" in shown:
        shown["segs"] = ",".join(segment for segment in shown["segs"] if segment != "::")
    return (" ".join([kind, *(f"{name} {value}" for name, value in shown.items())]),)


def _route_attributes(route: Seen) -> Seen:
    kind = {str(number): name for name, number in _TYPES.items()}
    shown = str(route.get("type", "unicast"))
    type_ = kind.get(shown, shown)
    metrics: Seen = next(iter(route.get("metrics", ())), {})
    hops = tuple(
        (_gateway(hop), hop["dev"], hop["weight"], "onlink" in hop["flags"], *_encapsulation(hop))
        for hop in route.get("nexthops", ())
    )
    return {
        "type": "unicast" if "nhid" in route else type_,
        "gateway": _gateway(route),
        "dev": None if _TYPES[type_] > 5 else route.get("dev"),
        "nexthops": hops or None,
        "onlink": "onlink" in route["flags"],
        "src": route.get("prefsrc"),
        "mtu": None,
        **metrics,
        **{name: metrics[name] * parts for name, parts in (("rtt", 8), ("rttvar", 4)) if name in metrics},
        "congctl": metrics.get("congestion"),
        "features": ("ecn",) if "ecn" in metrics else None,
        "scope": {"200": "site", "254": "host"}.get(route["scope"]),
        "pref": None if route.get("pref") == "medium" else route.get("pref"),
        "nhid": route.get("nhid"),
        "encap": next(iter(_encapsulation(route)), None),
        "_tos": int(route.get("tos", "0"), 16),
        "realms": _realms(route.get("flow", {}), "") or None,
    }


def _realms(shown: Seen, prefix: str) -> int:
    return int(shown.get(f"{prefix}from", 0)) << 16 | int(shown.get(f"{prefix}to", 0))


def _nexthop(fact: Fact) -> Seen | None:
    six = {hop["id"] for hop in read_json(fact.ref.ns, "ip", "-6", "-d", "-j", "nexthop")}
    for hop in _ways(fact.ref.ns, "ip", "-N", "-d", "-j", "nexthop"):
        if hop["id"] == fact.ref.key[0]:
            resilient = hop.get("resilient_args", {})
            return {
                "family": None if "group" in hop else 6 if hop["id"] in six else 4,
                "gateway": _gateway(hop),
                "dev": hop.get("dev"),
                "encap": next(iter(_encapsulation(hop)), None),
                "onlink": "onlink" in hop["flags"],
                "blackhole": "blackhole" in hop,
                "group": written((one["id"], one.get("weight", 1)) for one in hop.get("group", ())) or None,
                "type": hop.get("type", "mpath") if "group" in hop else None,
                **{name: value * 100 if "timer" in name else value for name, value in resilient.items()},
            }
    return None


_PROTOCOLS = {"tcp": 6, "udp": 17}
_TABLES = {"main": 254, "default": 253, "local": 255}


def _rule(fact: Fact) -> Seen | None:
    """There is at most one rule of this priority in the tests; it is this one where all of it is as stated."""
    family, priority, _ = fact.ref.key
    found = [r for r in read_json(fact.ref.ns, "ip", f"-{family}", "-j", "rule") if r["priority"] == priority]
    assert len(found) < 2, found
    if not found:
        return None
    seen = _rule_attributes(found[0])
    same = all(bool(fact.attrs.get(name)) == seen[name] for name in ("invert", "l3mdev"))
    return seen if same and all(fact.attrs.get(name) in (value, None) for name, value in seen.items()) else None


def _rule_attributes(rule: Seen) -> Seen:
    action = next((name for name in ("goto", "nop") if name in rule), "to_table")
    seen: Seen = {"action": rule.get("action", action), "invert": "not" in rule, "l3mdev": "l3mdev" in rule}
    if "table" in rule:
        seen["table"] = _TABLES.get(rule["table"]) or int(rule["table"])
    for side, name in (("src", "from"), ("dst", "to")):
        if rule.get(side, "all") != "all":
            seen[name] = f"{rule[side]}/{rule[f'{side}len']}"
    if "fwmark" in rule:
        seen["fwmark"] = int(rule["fwmark"], 16)
    if rule.get("fwmask", "0xffffffff") != "0xffffffff":
        seen["fwmask"] = int(rule["fwmask"], 16)
    if "tos" in rule:
        seen["tos"] = int(rule["tos"], 16)
    if "flow_to" in rule:
        seen["realms"] = _realms(rule, "flow_")
    if "ipproto" in rule:
        seen["ipproto"] = _PROTOCOLS[rule["ipproto"]]
    for name, shown in (("sport", "sport"), ("dport", "dport"), ("uidrange", "uid")):
        if shown in rule:
            seen[name] = (rule[shown], rule[shown])
        elif f"{shown}_start" in rule:
            seen[name] = (rule[f"{shown}_start"], rule[f"{shown}_end"])
    if "suppress_prefixlen" in rule:
        seen["suppress_prefixlength"] = rule["suppress_prefixlen"]
    if "suppress_ifgroup" in rule:
        seen["suppress_ifgroup"] = int(rule["suppress_ifgroup"])
    return {**seen, **{name: rule[name] for name in ("iif", "oif", "tun_id", "goto") if name in rule}}


# The rest


def _namespace_itself(fact: Fact) -> Seen | None:
    """`from`: one whose namespace this is, of those that the fact may mean."""
    ns = fact.ref.ns
    if not (NETNS / ns).exists():
        return None
    seen: Seen = {"up": "UP" in links(ns)["lo"]["flags"]}
    if source := fact.attrs.get("from"):
        path = Path(source.get("path") or NETNS / source["share"])
        seen["from"] = source if path.stat().st_ino == (NETNS / ns).stat().st_ino else "another namespace"
    else:
        assert links(ns)["lo"]["group"] == str(MARK)
    return seen


def _sysctl(fact: Fact) -> Seen | None:
    return {"value": output(fact.ref.ns, "sysctl", "-n", fact.ref.key[0]).strip()}


def _nft(fact: Fact) -> Seen | None:
    """The table's sets and chains, without anything of its own for the kernel's or nft's choosing."""
    family, table = fact.ref.key
    sets: Seen = {}
    chains: Seen = {}
    listing = json.loads(output(fact.ref.ns, "nft", "-j", "list", "ruleset"))["nftables"]
    bodies = [(what, body) for entry in listing for what, body in entry.items() if what != "metainfo"]
    if ("table", family, table) not in [(what, body["family"], body.get("name")) for what, body in bodies]:
        return None
    for what, body in bodies:
        if body.get("table") != table:
            continue
        if what in ("set", "map"):
            sets[body["name"]] = {
                str(e[0] if what == "map" else e): str(e[1]) if what == "map" else "" for e in _elements(body)
            }
        elif what == "chain":
            chains[body["name"]] = {k: body[k] for k in ("type", "hook", "prio", "policy") if k in body} | {"rules": []}
        elif what == "rule":
            chains[body["chain"]]["rules"].append(body["expr"])
    return {"sets": sets, "chains": chains, "other": []}


def _elements(body: Seen) -> list[Any]:
    def plain(value: Any) -> Any:
        return " . ".join(map(str, value["concat"])) if isinstance(value, dict) and "concat" in value else value

    return [[plain(v) for v in e] if isinstance(e, list) else plain(e) for e in body.get("elem", ())]


def _wireguard(fact: Fact) -> Seen | None:
    """The first line of `wg show c0 dump`: private key, public key, port, mark."""
    private, public, port, fwmark = output(fact.ref.ns, "wg", "show", fact.ref.key[0], "dump").splitlines()[0].split()
    mark = 0 if fwmark == "off" else int(fwmark, 16)
    none = private == "(none)"
    if none and not mark:
        return None
    return {"public_key": None if none else public, "listen_port": int(port), "fwmark": mark}


def _wireguard_peer(fact: Fact) -> Seen | None:
    for line in output(fact.ref.ns, "wg", "show", fact.ref.key[0], "dump").splitlines()[1:]:
        key, psk, endpoint, allowed, _, _, _, keepalive = line.split()
        if key == fact.ref.key[1]:
            return {
                "preshared_key": {"(none)": None, **WIREGUARD_KEYS}.get(psk, psk),
                "endpoint": None if endpoint == "(none)" else endpoint,
                "allowed_ips": "" if allowed == "(none)" else " ".join(sorted(allowed.split(","), key=_numbers)),
                "persistent_keepalive": 0 if keepalive == "off" else int(keepalive),
            }
    return None


def _numbers(prefix: str) -> tuple[int, int]:
    network = ipaddress.ip_network(prefix)
    return network.version, int(network.network_address)


_WITNESSES: dict[str, Callable[[Fact], Seen | None]] = {
    "namespace": _namespace_itself,
    "link": _link,
    "port": _port,
    "bridge_vlan": _bridge_vlan,
    "vlan_state": _vlan_state,
    "mdb": _mdb,
    "vni": _vni,
    "inet6": _inet6,
    "shaping_class": _shaping_class,
    "shaping_filter": _shaping_filter,
    "address": _address,
    "route": _route,
    "nexthop": _nexthop,
    "rule": _rule,
    "neighbour": _neighbour,
    "fdb": _fdb,
    "sysctl": _sysctl,
    "shaping": _shaping,
    "ingress": _ingress,
    "nft": _nft,
    "wireguard": _wireguard,
    "wireguard_peer": _wireguard_peer,
}


def agrees(fact: Fact, seen: Seen | None) -> bool:
    """Whether what was seen is what the fact states."""
    if seen is None:
        return False
    # tc rounds to three digits, and bursts to the bytes of a microsecond.
    coarse = max(fact.attrs.get("rate", 0), fact.attrs.get("ceil", 0)) / 1e6 if fact.ref.kind == "shaping" else 0
    return all(_same(fact.ref.kind, name, want, seen.get(name), coarse) for name, want in fact.attrs.items())


def _same(kind: str, name: str, want: Any, have: Any, coarse: float) -> bool:
    if kind == "nft":
        return bool(_plain(want) == _plain(have))
    if kind == "shaping" and name != "kind":  # tc shows three digits of an htb's class
        if isinstance(want, tuple):  # a model of loss
            return (
                isinstance(have, tuple) and want[0] == have[0] and list(want[1:]) == pytest.approx(have[1:], abs=1e-3)
            )
        if want is None or isinstance(want, str | bool):
            return bool(want == have)
        return isinstance(have, int | float) and bool(abs(want - have) <= max(0.01 * want, coarse))
    if name.endswith("_lft"):  # they run
        return bool(want - 120 <= (have or 0) <= want)
    if name == "nexthops":
        return set(want or ()) == set(have or ())
    if name == "invert":
        return bool(want) == bool(have)
    return bool(want == have)


def _plain(value: Any) -> Any:
    """A table's sets by their elements alone."""
    if isinstance(value, dict):
        if "elements" in value:
            return _plain(value["elements"])
        if value.get("left") == {"meta": {"key": "iif"}}:  # nft 1.0 shows the number of no interface as text
            return {**value, "right": str(value["right"])}
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
