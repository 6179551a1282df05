"""What the kernel holds in one namespace, as iproute2 and nft tell it, without what changes by itself.

Left out: counters, handles, ifindexes, timers, what was learned (neighbours, FDB entries), IPv6's duplicate address
detection under way, and the local routing table, which the kernel fills from the addresses.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any

_PASSING = {  # keys of iproute2's JSON that tell of indexes, of time, or of how often the state was read
    "ifindex",
    "link_index",
    "link_netnsid",
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
}
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
    sections: dict[str, Any] = {
        "links": links,
        "routes": [
            r for v in ("-4", "-6") for r in read_json(ns, "ip", v, "-d", "-j", "route", "show", "table", "all")
        ],
        "rules": [r for v in ("-4", "-6") for r in read_json(ns, "ip", v, "-j", "rule")],
        "neighbours": [n for n in read_json(ns, "ip", "-d", "-j", "neigh") if _lasts(n.get("state"))],
        "fdb": [e for e in read_json(ns, "bridge", "-j", "fdb") if _lasts(e.get("state"))],
        "ports": read_json(ns, "bridge", "-d", "-j", "link"),
        "qdiscs": read_json(ns, "tc", "-j", "qdisc"),
        "classes": [
            c | {"dev": link["ifname"]}
            for link in links
            if link.get("qdisc") == "htb"
            for c in read_json(ns, "tc", "-j", "class", "show", "dev", link["ifname"])
        ],
        "nft": ruleset(ns),
    }
    sections["routes"] = [r for r in sections["routes"] if not _derived(r)]
    return {name: _sorted(_settled(found)) for name, found in sections.items()}


def ruleset(ns: str) -> list[dict[str, Any]]:
    """`nft list ruleset` as JSON, without counters and handles."""
    listing = json.loads(output(ns, "nft", "-j", "list", "ruleset"))["nftables"]
    return [_settled(entry) for entry in listing if "metainfo" not in entry]


def shape(everywhere: dict[str, Any]) -> dict[str, Any]:
    """Snapshots without what is another each time that a link is made: random MAC addresses, and what comes of them."""
    text = re.sub(r"fe80::[0-9a-f:]+", "LINK-LOCAL", json.dumps(everywhere))
    text = re.sub(r"\b[0-9a-f]{4}\.([0-9a-f]{1,2}:){5}[0-9a-f]{1,2}\b", "BRIDGE-ID", text)
    text = re.sub(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC", text)
    found: dict[str, Any] = json.loads(text, object_hook=_without_numbers)
    return {ns: {name: _sorted(items) for name, items in sections.items()} for ns, sections in found.items()}


def _without_numbers(value: dict[str, Any]) -> dict[str, Any]:
    """A bridge numbers its ports as they come."""
    for name in ("id", "no", "designated_port") if "info_slave_kind" in value else ():
        value["info_slave_data"].pop(name, None)
    return value


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
    kernels = route.get("protocol") == "kernel" and route.get("table") == "local"
    return kernels or route.get("protocol") == "ra" or route.get("type") == "multicast"


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
