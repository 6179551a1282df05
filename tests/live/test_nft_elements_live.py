"""Elements of nftables sets on the real kernel, where they are many and of all makes: nft's own listing is the witness,
and the kernel's announcements tell what was touched."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sandbox.host import ROOT, Host
from sandbox.snapshot import output

from topo import api
from topo.errors import KernelError
from topo.kernel.netfilter import NETLINK_NETFILTER
from topo.kernel.nftables import Nftables, canonical
from topo.kinds.nft import Publish, Rules, fact, parse, replacement
from topo.kinds.nftelements import Elements
from topo.planning.plan import lines

FIRST, MANY = 10_000, 300
TABLE = "inet topo-many"
ALL = range(FIRST, FIRST + MANY)


def text(*more: str, ports: dict[int, int] | None = None) -> str:
    """Published ports of both families, many of them; bound ones, and for an interface; and a dozen rules."""
    ports = dict.fromkeys(ALL, 80) if ports is None else ports
    lines = ["topology: many", "namespaces:", "  web: {}", "bridges: {br0: {subnet: [10.7.0.0/24, 'fd07::/64']}}"]
    lines += ["links: [['web:eth0', br0]]", "nat:", "  publish:"]
    lines += [f"    - {{port: {port}, to: 'web:{to}'}}" for port, to in ports.items()]
    lines += [
        "    - {ports: [9000-9003], to: 'web:80-83', address: 10.7.0.1}",
        "    - {port: 9, to: web, in: br9}",
        *more,
    ]
    return "\n".join(lines) + "\n"


def maps() -> dict[str, dict[str, str]]:
    """The elements of all maps as nft lists them."""
    listing = json.loads(output("host", "nft", "-j", "list", "table", *TABLE.split()))["nftables"]
    return {
        entry["map"]["name"]: {json.dumps(key): str(value) for key, value in entry["map"].get("elem", ())}
        for entry in listing
        if "map" in entry
    }


class Announced:
    """The kernel's announcements: for each transaction how many messages of which kind (NFT_MSG_* of nf_tables.h)."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self.sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self.sock.bind((0, 1 << 6))  # NFNLGRP_NFTABLES

    def transactions(self) -> list[Counter[int]]:
        found = [Counter[int]()]
        while True:
            try:
                data = self.sock.recv(1 << 17, socket.MSG_DONTWAIT)
            except BlockingIOError:
                assert not found[-1], "each ends with NFT_MSG_NEWGEN"
                return found[:-1]
            at = 0
            while at < len(data):
                size, kind = struct.unpack_from("=IH", data, at)
                at += (size + 3) & ~3
                if kind & 0xFF == 15:
                    found.append(Counter())
                else:
                    found[-1][kind & 0xFF] += 1


NEWCHAIN, NEWRULE, NEWSETELEM, DELSETELEM = 3, 6, 12, 14


@pytest.fixture
def announced() -> Iterator[Announced]:
    listening = Announced()
    yield listening
    listening.sock.close()


def test_no_chain_is_there_before_all_elements_are(host: Host, announced: Announced) -> None:
    host.ok("apply", host.file(text()))
    *before, last = announced.transactions()
    assert last.keys() == {NEWCHAIN, NEWRULE}, "all chains, with all rules, come in one transaction, and last"
    assert not any(NEWCHAIN in one or NEWRULE in one for one in before)
    assert sum(one[NEWSETELEM] for one in before) == 2 * (2 * MANY + 4 + 2) + 2 + 1
    assert maps()["publish_tcp4_port"] == {str(port): "80" for port in ALL}
    assert maps()["publish_tcp6_addr"] == {str(port): "fd07::2" for port in ALL}
    host.ok("destroy", "many")
    assert not host.nft_json()


def test_one_port_that_leads_elsewhere_is_one_element(host: Host, announced: Announced) -> None:
    ports = dict.fromkeys(ALL, 80)
    host.ok("apply", host.file(text()))
    announced.transactions()
    lab = host.file(text(ports={**ports, FIRST + 7: 81}))
    plan = host.topo("diff", lab).out
    assert f"~ element publish_tcp4_port {FIRST + 7} : 80 -> 81" in plan and "tcp6_port" in plan, plan
    host.ok("apply", lab)
    assert announced.transactions() == [Counter({DELSETELEM: 2, NEWSETELEM: 2})], "of either family one"
    assert maps()["publish_tcp6_port"][str(FIRST + 7)] == "81"
    host.ok("apply", lab)
    assert announced.transactions() == []
    host.ok("apply", host.file(text(ports={**ports, 7: 80})))
    assert announced.transactions() == [Counter({DELSETELEM: 2, NEWSETELEM: 6})]
    host.ok("destroy", "many")


def test_rules_change_around_the_elements(host: Host, announced: Announced) -> None:
    """In one transaction, in which no element is sent; nft then lists what it lists of the same file applied at once."""
    changed = text("  masquerade: [{from: 10.7.0.0/24, out: '!br0'}]", "firewall: {forward: {policy: drop}}")
    other = text(
        "firewall: {forward: {rules: [{in: br0, action: drop}]}, isolate: [br0, br1]}",
        "interfaces: {br1: {kind: existing}}",
    )
    other = other.replace("    - {port: 9, to: web, in: br9}\n", "")
    host.run("ip link add br1 type bridge")
    host.ok("apply", host.file(text()))
    for file in (changed, other, text()):
        announced.transactions()
        host.ok("apply", host.file(file))
        (one,) = announced.transactions()
        assert one[NEWSETELEM] + one[DELSETELEM] < 12 and one[NEWRULE] > 9, one
        after = host.nft_json()
        host.run(f"nft delete table {TABLE}")
        host.ok("apply", host.file(file))
        assert _same(host.nft_json(), after)
    host.ok("destroy", "many")
    host.run("ip link del br1")


DRIFTS = {
    "deleted": ("delete element {} publish_tcp4_addr {{ 10007 }}", "+ element publish_tcp4_addr 10007 : 10.7.0.2"),
    "deleted IPv6": ("delete element {} publish_tcp6_port {{ 10007 }}", "+ element publish_tcp6_port 10007 : 80"),
    "added": ("add element {} publish_tcp4_addr {{ 77 : 10.7.0.9 }}", "- element publish_tcp4_addr 77 : 10.7.0.9"),
    "added IPv6": ("add element {} publish_tcp6_addr {{ 77 : fd07::9 }}", "- element publish_tcp6_addr 77 : fd07::9"),
    "other value": (
        "delete element {0} publish_tcp4_addr {{ 10007 }}; add element {0} publish_tcp4_addr {{ 10007 : 10.7.0.3 }}",
        "~ element publish_tcp4_addr 10007 : 10.7.0.3 -> 10.7.0.2",
    ),
    "bound": (
        "delete element {} publish_bound_tcp4_port {{ 10.7.0.1 . 9002 }}",
        "+ element publish_bound_tcp4_port 10.7.0.1 . 9002 : 82",
    ),
    "for an interface": (
        "add element {} publish_in_tcp6_port {{ eth7 . 5 : 6 }}",
        "- element publish_in_tcp6_port eth7 . 5 : 6",
    ),
    "in a set": ("add element {} publish_to6 {{ fd07::9 }}", "- element publish_to6 fd07::9"),
    "names": ("add element {} publish_loop {{ br0 . eth1 }}", "- element publish_loop br0 . eth1"),
    "flushed": ("flush map {} publish_tcp6_addr", "+ element publish_tcp6_addr 10000 : fd07::2"),
    "a comment": (
        'add element {} publish_tcp4_addr {{ 77 comment "by hand" : 10.7.0.9 }}',
        '- element publish_tcp4_addr {"elem": {"val": 77, "comment": "by hand"}} : 10.7.0.9',
    ),
    "a set with a timeout": (
        "add set {0} left {{ type ipv4_addr; flags timeout; timeout 1h; }}; add element {0} left {{ 1.2.3.4 }}",
        "- set left",
    ),
    "a set of prefixes": (
        "add set {} nets {{ type ipv4_addr; flags interval; elements = {{ 10.0.0.0/8 }} }}",
        '- element nets {"prefix": {"addr": "10.0.0.0", "len": 8}}',
    ),
    "a set of another type": ("add set {} marks {{ type mark; elements = {{ 7 }} }}", "- element marks 7"),
    "a rule": ("add rule {} publish counter drop", "- rule publish: counter drop"),
    "a policy": ("add chain {} nat_output {{ policy drop; }}", "~ chain nat_output policy drop -> accept"),
    "a chain": ("add chain {} more", "- chain more"),
    "a counter": ("add counter {} c", '- {"counter": {"name": "c"}}'),
}


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another table"])
def test_drift_is_told_and_put_right(host: Host, beside: bool) -> None:
    """Beside another table of the family libnftables lists the elements, as it cannot leave them out of one table."""
    if beside:
        host.run("nft add table inet other")
        host.run("nft add chain inet other c { type filter hook input priority 0 ; }")
        host.run("nft add set inet other s { type inet_service ; elements = { 1 } ; }")
    lab = host.file(text())
    host.ok("apply", lab)
    listing = host.nft_json()
    wrong = []
    for name, (command, words) in DRIFTS.items():
        host.run(f"nft {command.format(TABLE, TABLE)}")
        explained = lines(api.plan(api.load(lab)))
        if not any(line.strip() == words for line in explained):
            wrong.append((name, words, "\n".join(explained)))
        api.apply(api.load(lab))
        if not _same(host.nft_json(), listing):
            wrong.append((name, "put right", ""))
    assert not wrong
    assert host.ok("diff", lab).code == 0
    host.ok("destroy", "many")
    assert {entry["table"]["name"] for entry in host.nft_json() if "table" in entry} == ({"other"} if beside else set())
    if beside:
        host.run("nft delete table inet other")


def _same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    return sorted(json.dumps(_sorted(entry)) for entry in one) == sorted(json.dumps(_sorted(entry)) for entry in other)


def _sorted(entry: dict[str, Any]) -> Any:
    """With the elements of a set in an order of their own, not in that of the kernel's hashes."""
    ((what, body),) = entry.items()
    return {what: {**body, "elem": sorted(map(json.dumps, body["elem"]))}} if body and "elem" in body else entry


@pytest.fixture
def nft() -> Iterator[Nftables]:
    context = Nftables()
    yield context
    context.close()


def published(count: int = 1000, **more: Any) -> dict[str, Any]:
    publish = Publish((1000, 999 + count), (1000, 999 + count), "10.7.0.2", "fd07::2", via="br0", **more)
    attrs: dict[str, Any] = fact("many", "host", Rules(publish=(publish,))).attrs
    return attrs


def test_a_load_that_is_refused_leaves_nothing(host: Host, nft: Nftables) -> None:
    bad = {"add": {"rule": {"family": "inet", "table": "topo-many", "chain": "nowhere", "expr": [{"drop": None}]}}}
    with pytest.raises(KernelError, match="No such file or directory"):
        nft.run([*replacement("inet", "topo-many", published()), bad])
    assert not host.nft_json()
    nft.run(replacement("inet", "topo-many", published(10)))
    before = host.nft_json()
    with pytest.raises(KernelError, match="No such file or directory"):
        nft.run([*replacement("inet", "topo-many", published()), bad])
    assert host.nft_json() == before, "a table in force stays until the new one is"
    host.run("nft flush ruleset")


def test_what_a_killed_load_left_is_loaded_anew(host: Host, nft: Nftables, announced: Announced) -> None:
    host.run(f"nft add table {TABLE}")
    host.run(f"nft add set {TABLE} half {{ type ipv4_addr ; }}")
    announced.transactions()
    nft.run(replacement("inet", "topo-many", published()))
    assert len(announced.transactions()) > 1
    assert parse(nft.list_table("inet", "topo-many") or {}) == published()
    nft.run(replacement("inet", "topo-many", published(2000)))
    assert len(announced.transactions()) == 1, "it is in force: it is replaced as one"
    assert nft.read("inet", "topo-many", {}) == published(2000)
    host.run("nft flush ruleset")


def test_edits_that_are_refused_change_nothing(host: Host, nft: Nftables) -> None:
    """More of them than fit into one message, of which the last is wrong."""
    one, other = published(), published(5000, address="10.7.0.1")
    nft.run(replacement("inet", "topo-many", one))
    before = host.nft_json()
    place = {"family": "inet", "table": "topo-many"}
    fresh = fact("many", "host", Rules(publish=(Publish((2000, 6999), (2000, 6999), "10.7.0.2"),))).attrs["sets"]
    wrong = other["sets"]["publish_bound_tcp4_port"]

    def add(name: str, held: dict[str, Any]) -> dict[str, Any]:
        return {"add": {"element": {**place, "name": name, "elem": Elements(held, list(held["elements"]))}}}

    good = add("publish_tcp4_port", fresh["publish_tcp4_port"])
    with pytest.raises(KernelError):
        nft.run([good, add("publish_tcp4_port", wrong)])
    assert host.nft_json() == before
    with pytest.raises(KernelError, match="No such file or directory"):
        nft.run([good, add("nowhere", fresh["publish_tcp4_addr"])])
    assert host.nft_json() == before
    nft.run([good])
    assert len(maps()["publish_tcp4_port"]) == 6000
    host.run("nft flush ruleset")


def test_reading_knows_what_it_was_told_to_expect(host: Host, nft: Nftables) -> None:
    attrs = published()
    nft.run(replacement("inet", "topo-many", attrs))
    live = nft.read("inet", "topo-many", attrs["sets"])
    assert live == attrs
    assert all(live["sets"][name]["elements"] is held["elements"] for name, held in attrs["sets"].items())
    assert nft.read("inet", "topo-many", published(address="10.7.0.1")["sets"]) == attrs
    assert nft.read("inet", "elsewhere", {}) is None
    assert canonical(attrs) == attrs
    host.run("nft flush ruleset")


def test_what_others_put_there_can_be_put_back(host: Host, nft: Nftables) -> None:
    """As an undo does: what was read, whatever its make, is what is desired."""
    host.ok("apply", host.file(text()))
    for name in DRIFTS.keys() - {"deleted", "added", "a counter", "a set with a timeout"}:
        command, _ = DRIFTS[name]
        host.run(f"nft {command.format(TABLE, TABLE)}")
    found = nft.read("inet", "topo-many", {})
    assert found is not None and len(found["sets"]["nets"]["elements"]) == 1
    nft.run(replacement("inet", "topo-many", published()))
    assert nft.read("inet", "topo-many", {}) == published()
    nft.run(replacement("inet", "topo-many", found))
    assert nft.read("inet", "topo-many", {}) == found
    host.run(f"nft delete table {TABLE}")
    nft.run(replacement("inet", "topo-many", found))
    assert nft.read("inet", "topo-many", {}) == found, "in three parts, too"
    host.ok("destroy", "many")


def test_what_was_changed_is_read_back_and_what_others_changed_too(host: Host, nft: Nftables) -> None:
    """Few elements are read one by one, as long as the generation says that nothing else has changed."""
    attrs = published()
    nft.run(replacement("inet", "topo-many", attrs))
    name, held = "publish_tcp4_port", attrs["sets"]["publish_tcp4_port"]
    place = {"family": "inet", "table": "topo-many", "name": name}

    def lead(old: str, new: str) -> None:
        gone, come = ({**held, "elements": {"1007": to}} for to in (old, new))
        nft.run(
            [
                {"delete": {"element": {**place, "elem": Elements(gone, ["1007"])}}},
                {"add": {"element": {**place, "elem": Elements(come, ["1007"])}}},
            ]
        )

    def read() -> dict[str, str]:
        found = nft.read("inet", "topo-many", attrs["sets"])
        fresh = Nftables()
        assert found == fresh.read("inet", "topo-many", {}) == parse(nft.list_table("inet", "topo-many") or {})
        fresh.close()
        elements: dict[str, str] = (found or {})["sets"][name]["elements"]
        return {key: to for key, to in elements.items() if held["elements"].get(key) != to}

    assert read() == {}
    lead("1007", "7")
    assert read() == {"1007": "7"}
    host.run(f"nft add element {TABLE} {name} {{ 5 : 6 }}")
    assert read() == {"1007": "7", "5": "6"}, "before, and between the change and the look"
    lead("7", "8")
    host.run(f"nft delete element {TABLE} {name} {{ 5 }}")
    assert read() == {"1007": "8"}
    host.run(f'nft add element {TABLE} {name} {{ 5 comment "x" : 6 }}')
    assert len(read()) == 2
    lead("8", "9")
    host.run(f"nft flush chain {TABLE} publish")
    assert len(read()) == 2
    host.run("nft flush ruleset")


def test_without_leave_for_a_great_buffer(host: Host) -> None:
    """In a user namespace of one's own SO_SNDBUFFORCE is refused: a load goes in parts that fit."""
    lab = host.file(text(ports={port: port for port in range(1000, 20_000)}))
    script = f"mount -t tmpfs none /run && {sys.executable} -m topo apply {lab} >&2 && nft list map {TABLE} publish_tcp4_port"
    done = subprocess.run(
        ["unshare", "-Urnm", "sh", "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.partition("elements")[2].count(" : ") == 19_000
