"""What the kernel holds in one namespace, as iproute2 and nft tell it, without what changes by itself.

Left out: counters, handles, ifindexes, timers, what was learned (neighbours, FDB entries), and what the kernel makes
of the rest by itself when it gets to it: the carrier, link-local addresses and their routes, multicast groups, and the
local routing table.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any

_FILTER_HANDLES = re.compile(r" fh \S+| key ht \S+")
_PASSING = {  # keys of iproute2's JSON: indexes, times, and what a device has from others (carrier, offloads)
    "ifindex",
    "link_index",
    "link_netnsid",
    "operstate",
    "handle",
    "valid_life_time",
    "preferred_life_time",
    "expires",
    "tentative",
    "used",
    "confirmed",
    "updated",
    "probes",
    "refcnt",
    "tso_max_size",
    "tso_max_segs",
    "direct_packets_stat",
}
_CARRIER = {"LOWER_UP", "NO-CARRIER", "M-DOWN"}
_LASTING = {"permanent", "static", "PERMANENT"}


def inside(ns: str, command: Sequence[str]) -> list[str]:
    """`command`, to be run in namespace `ns`: a name in /run/netns, a path, or `host`, where we are."""
    if ns == "host":
        return list(command)
    return ["nsenter", f"--net={ns if ns.startswith('/') else f'/run/netns/{ns}'}", "--", *command]


def output(ns: str, *command: str) -> str:
    done = subprocess.run(inside(ns, command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{ns}: {' '.join(command)}: {done.stderr}"
    return done.stdout


def read_json(ns: str, *command: str) -> list[dict[str, Any]]:
    text = output(ns, *command)
    found: list[dict[str, Any]] = json.loads(text) if text.strip() else []
    return found


def snapshot(ns: str) -> dict[str, Any]:
    """Everything lasting in namespace `ns`, each section sorted; two are equal where nothing lasting differs."""
    links = read_json(ns, "ip", "-d", "-j", "addr")
    ports = read_json(ns, "bridge", "-d", "-j", "link")
    for port in ports:
        port.pop("link", None)  # the peer, as `if7` where it is elsewhere
    for link in links:
        link["flags"] = [flag for flag in link["flags"] if flag not in _CARRIER]
        link["addr_info"] = [a for a in link["addr_info"] if not a.get("local", "").startswith("fe80:")]
    sections: dict[str, Any] = {
        "links": links,
        "routes": [
            r for v in ("-4", "-6") for r in read_json(ns, "ip", v, "-d", "-j", "route", "show", "table", "all")
        ],
        "rules": [r for v in ("-4", "-6") for r in read_json(ns, "ip", v, "-j", "rule") if not _of_vrfs(r)],
        "neighbours": [n for n in read_json(ns, "ip", "-d", "-j", "neigh") if _lasts(n.get("state"))],
        "fdb": [e for e in read_json(ns, "bridge", "-j", "fdb") if _lasts(e.get("state")) and not _group(e)],
        "ports": ports,
        "qdiscs": read_json(ns, "tc", "-j", "qdisc"),
        "classes": [
            f"{link['ifname']}: {line}"
            for link in links
            if link.get("qdisc") == "htb"
            for line in output(ns, "tc", "class", "show", "dev", link["ifname"]).splitlines()
        ],
        "filters": [
            f"{link['ifname']}: {_FILTER_HANDLES.sub('', filters)}"
            for link in links
            if link.get("qdisc") == "htb" and (filters := output(ns, "tc", "filter", "show", "dev", link["ifname"]))
        ],
        "nft": ruleset(ns),
    }
    sections["routes"] = [_without_carrier(r) for r in sections["routes"] if not _derived(r)]
    return {name: _sorted(_settled(found)) for name, found in sections.items()}


def ruleset(ns: str) -> list[dict[str, Any]]:
    """`nft list ruleset` as JSON, without counters and handles."""
    listing = json.loads(output(ns, "nft", "-j", "list", "ruleset"))["nftables"]
    return [_settled(entry) for entry in listing if "metainfo" not in entry]


def shape(everywhere: dict[str, Any]) -> dict[str, Any]:
    """Snapshots without what is another each time that a link is made: random MAC addresses, and what comes of them."""
    text = re.sub(r"\b[0-9a-f]{4}\.([0-9a-f]{1,2}:){5}[0-9a-f]{1,2}\b", "BRIDGE-ID", json.dumps(everywhere))
    text = re.sub(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC", text)
    found: dict[str, Any] = json.loads(text, object_hook=_without_numbers)
    return {ns: {name: _sorted(items) for name, items in sections.items()} for ns, sections in found.items()}


def _without_numbers(value: dict[str, Any]) -> dict[str, Any]:
    """A bridge numbers its ports as they come."""
    for name in ("id", "no", "designated_port") if "info_slave_kind" in value else ():
        value["info_slave_data"].pop(name, None)
    return value


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What two snapshots of everywhere differ in, item by item, as `- ` what was and `+ ` what is."""
    found = []
    for ns in sorted({*before, *now}):
        for name in sorted({*before.get(ns, {}), *now.get(ns, {})}):
            was, is_ = before.get(ns, {}).get(name, []), now.get(ns, {}).get(name, [])
            found += [f"- {ns} {name}: {item}" for item in was if item not in is_]
            found += [f"+ {ns} {name}: {item}" for item in is_ if item not in was]
            if was != is_ and not found:
                found.append(f"~ {ns} {name}: {len(was)} items, now {len(is_)}")
    return found


def sysctls(ns: str) -> dict[str, str]:
    """Every readable value under /proc/sys/net of the namespace, but for running counts."""
    done = subprocess.run(inside(ns, ["grep", "-rs", "", "/proc/sys/net"]), capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        path, _, value = line.partition(":")
        if not path.endswith(("_count", "/flush", "fastopen_key")):
            found[path] = found[path] + "\n" + value if path in found else value
    return found


def _derived(route: dict[str, Any]) -> bool:
    kernels = route.get("protocol") == "kernel"
    derived = route.get("table") == "local" or route["dst"] == "fe80::/64" or route.get("type") == "multicast"
    return (kernels and derived) or route.get("protocol") == "ra"


def _of_vrfs(rule: dict[str, Any]) -> bool:
    """Whether it is the rule that the kernel makes with a namespace's first VRF, and leaves there for good."""
    return "l3mdev" in rule and rule["priority"] == 1000


def _without_carrier(route: dict[str, Any]) -> dict[str, Any]:
    hops = {"nexthops": [_without_carrier(hop) for hop in route["nexthops"]]} if "nexthops" in route else {}
    return route | hops | {"flags": [flag for flag in route["flags"] if flag != "linkdown"]}


def _group(entry: dict[str, Any]) -> bool:
    """Whether it is a multicast group that the device listens to."""
    return bool(int(entry["mac"][:2], 16) & 1)


def _lasts(state: object) -> bool:
    states = state if isinstance(state, list) else [state]
    return any(s in _LASTING for s in states)


def _settled(value: Any) -> Any:
    """`value` without what passes."""
    if isinstance(value, list):
        return [_settled(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "counter" in value and isinstance(value["counter"], dict):
        value = value | {"counter": None}
    return {k: _settled(v) for k, v in value.items() if k not in _PASSING and not k.endswith("_timer")}


def _sorted(items: list[Any]) -> list[Any]:
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
