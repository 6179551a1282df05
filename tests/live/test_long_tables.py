"""Tables of hundreds, which are known by their bytes: what differs in them is seen, told and put right, and nothing else."""

from __future__ import annotations

import json
import re

from sandbox.host import Host

PEERS = 300
DRIFTS = {
    "bridge fdb del 02:00:00:00:00:07 dev vx0 dst 10.1.0.7": "fdb vx0 02:00:00:00:00:07",
    "bridge fdb replace 02:00:00:00:00:08 dev vx0 dst 10.9.9.9": "fdb vx0 02:00:00:00:00:08",
    "bridge fdb add 02:00:00:00:09:99 dev vx0 dst 10.9.9.9": "fdb vx0 02:00:00:00:09:99",
    "ip neigh del 10.64.9.0 dev vx0": "neighbour vx0 10.64.9.0",
    "ip neigh replace 10.64.10.0 lladdr 02:00:00:00:0a:aa nud permanent dev vx0": "neighbour vx0 10.64.10.0",
    "ip neigh add 10.99.0.1 lladdr 02:00:00:00:0a:aa nud permanent dev vx0": "neighbour vx0 10.99.0.1",
    "ip route del 10.64.11.0/24": "route 10.64.11.0/24",
    "ip route replace 10.64.12.0/24 via 10.64.13.0 dev vx0 onlink proto 116": "route 10.64.12.0/24",
    "ip route replace 10.64.14.0/24 via 10.64.14.0 dev vx0 onlink proto 116 mtu 1400": "route 10.64.14.0/24",
    "ip route add 10.98.0.0/16 via 10.64.14.0 dev vx0 onlink": "route 10.98.0.0/16",
}


def _text(**changed: str) -> str:
    lines = ["topology: long", "namespaces:", "  n:", "    vxlans:", "      vx0:", "        id: 7"]
    lines += ["        local: 192.0.2.1", "        dev: under", "        peers:"]
    for i in range(1, PEERS):
        above = f"10.{64 + i // 256}.{i % 256}.0"
        address = changed.get(f"p{i}", f"10.1.{i // 250}.{i % 250}")
        mac = f"02:00:00:00:{i >> 8:02x}:{i & 255:02x}"
        if address:
            lines.append(f"          - {{address: {address}, mac: '{mac}', ip: {above}, subnets: [{above}/24]}}")
    ends = "[{interface: 'n:under', addresses: 192.0.2.1/24}, {interface: u0, addresses: 192.0.2.2/24}]"
    return "\n".join([*lines, "links:", f"  - {ends}"]) + "\n"


def test_drift_in_tables_of_hundreds(host: Host) -> None:
    path = host.file(_text())
    host.ok("apply", path)
    before = host.settled()
    assert len(host.ip_json("n", "neigh", "show", "dev", "vx0", "nud", "permanent")) == PEERS - 1
    assert host.topo("diff", path).code == 0
    for command in DRIFTS:
        host.run(command, "n")
    drifted = host.topo("diff", path)
    assert drifted.code == 1
    for words in DRIFTS.values():
        kind, *names = words.split()
        assert any(kind in line and all(name in line for name in names) for line in drifted.out.splitlines()), words
    assert len(re.findall(r"^  [+~-] ", drifted.out, re.MULTILINE)) == len(DRIFTS), drifted.out
    host.ok("apply", path)
    host.same(before, but_for_macs=True)
    host.ok("destroy", "long")


def test_edits_of_a_few_of_hundreds(host: Host) -> None:
    host.ok("apply", host.file(_text()))
    before = host.settled()
    index = host.ifindex("n", "vx0")
    host.ok("apply", host.file(_text(p20="10.2.0.20", p21="", p299="")))
    macs = {entry["mac"]: entry["dst"] for entry in _fdb(host)}
    assert macs["02:00:00:00:00:14"] == "10.2.0.20"
    assert len(macs) == PEERS - 3
    assert not host.routes("n", "10.64.21.0/24")
    assert host.topo("diff", host.file(_text(p20="10.2.0.20", p21="", p299=""))).code == 0
    host.ok("apply", host.file(_text()))
    host.same(before, but_for_macs=True)
    assert host.ifindex("n", "vx0") == index
    host.ok("destroy", "long")


def _fdb(host: Host) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(host.run("bridge -j fdb show dev vx0", "n"))
    return [entry for entry in found if "dst" in entry]
