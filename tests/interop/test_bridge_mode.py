"""samples/seeds/bridge-mode.yaml beside `docker run -p`: the same for who uses it, case by case."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sandbox.host import ROOT, Host
from sandbox.snapshot import read_json

from interop.beside import beside
from interop.bridging import CASES, DUAL, SAMPLE, by_docker, by_topo, more, outside, with_tables
from interop.docker import Docker

PAGE = ROOT / "docs" / "seeds" / "bridge-mode.md"
BRIDGE_NF = [Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}") for name in ("iptables", "ip6tables")]


def switched() -> Iterator[int]:
    """br_netfilter off, then on, which is where a test finds it."""
    for value in (0, 1):
        for path in BRIDGE_NF:
            assert path.exists(), "this kernel has no br_netfilter: modprobe br_netfilter"
            path.write_text(str(value))
        yield value


CLOSED = """
topology: bridge-mode
firewall:
  forward:
    rules:
      - { state: [established, related], action: accept }
      - { out: br0, to: [172.30.0.2, "fd30::2"], protocol: tcp, dport: [80, 8000-8002], action: accept }
      - { out: br0, to: [172.30.0.2, "fd30::2"], protocol: udp, dport: [80, 8000-8002], action: accept }
      - { in: "!br0", out: br0, action: drop }
"""


def test_case_by_case(host: Host, request: pytest.FixtureRequest) -> None:
    """The table: Docker with its proxy and without, topo; each without br_netfilter and with it, in turn."""
    found: dict[str, list[str]] = {}
    for name, options in (("Docker", ()), ("no proxy", ("--userland-proxy=false",))):
        docker = Docker(*DUAL, *options)
        with beside(request.config, docker), outside(host), by_docker(host, docker) as side:
            found |= {f"{name} {on}": side.found() for on in switched()}
    for name, files in (("topo", ()), ("topo closed", (host.file(CLOSED, "closed.yaml"),))):
        with outside(host), by_topo(host, more(host), *files) as side:
            found |= {f"{name} {on}": side.found() for on in switched()}
    expected = {
        "Docker 0": [case.docker for case in CASES],
        "Docker 1": [case.docker for case in CASES],
        "no proxy 0": [case.unbridged for case in CASES],
        "no proxy 1": [case.direct for case in CASES],
        "topo 0": [case.topo for case in CASES],
        "topo 1": [case.topo for case in CASES],
        "topo closed 0": [case.closed() for case in CASES],
        "topo closed 1": [case.closed() for case in CASES],
    }
    assert found.keys() == expected.keys()
    wrong = [
        f"{name}: {case.who} -> {case.to}, {case.over}: {there}, not {here}"
        for name in expected
        for case, here, there in zip(CASES, expected[name], found[name], strict=True)
        if here != there
    ]
    assert wrong == []


def test_the_page_has_the_tables() -> None:
    """`TOPO_TOUR=write` writes them there, as it does the consoles."""
    text = PAGE.read_text(encoding="utf-8")
    if os.environ.get("TOPO_TOUR") == "write":
        PAGE.write_text(with_tables(text), encoding="utf-8")
    else:
        assert with_tables(text) == text


def test_the_sample(host: Host) -> None:
    before = host.settled()
    host.ok("apply", SAMPLE)
    host.ok("diff", SAMPLE)
    host.ok("check", SAMPLE)
    host.serve("web", 80, "web")
    assert host.fetch("host", "http://127.0.0.1:8080/") == "web ::ffff:172.30.0.1"
    host.ok("destroy", SAMPLE)
    host.same(before)


def settings(bridge: str) -> dict[str, Any]:
    """What the kernel has of a bridge: its sysctls, its own settings, and whether its MAC address was set."""
    found: dict[str, Any] = {"assigned": Path(f"/sys/class/net/{bridge}/addr_assign_type").read_text()}
    for path in Path("/proc/sys/net").glob(f"ipv?/*/{bridge}/*"):
        with suppress(OSError):  # write-only, or unset
            found[f"{path.parts[4]} {path.name}"] = path.read_text()
    link = read_json("host", "ip", "-d", "-j", "link", "show", bridge)[0]
    data = {key: value for key, value in link["linkinfo"]["info_data"].items() if not key.endswith(("_id", "_timer"))}
    return found | data | {key: link[key] for key in ("mtu", "qdisc")}


def ports(bridge: str) -> list[dict[str, Any]]:
    """The settings of a bridge's ports."""
    names = ("ifname", "link", "ifindex", "link_index", "flags", "master")
    entries = [port for port in read_json("host", "bridge", "-d", "-j", "link") if port["master"] == bridge]
    return [{key: value for key, value in entry.items() if key not in names} for entry in entries]


def test_the_bridge_is_as_dockers(host: Host, request: pytest.FixtureRequest) -> None:
    """Without the proxy even the ports are, but that topo's are in hairpin mode only where that is needed."""
    docker = Docker(*DUAL, "--userland-proxy=false")
    with beside(request.config, docker), outside(host):
        docker.run("target", "-p", "8080:80")
        docker.run("sibling")
        host.ok("apply", SAMPLE, more(host))
        host.settle()
        ours, theirs = settings("br0"), settings("docker0")
        assert {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]} == {}
        [target] = [port for port in ports("br0") if port["hairpin"]]
        assert ports("docker0") == [target, target], "Docker has all of them in hairpin mode"
        assert target | {"hairpin": False} in ports("br0")
        host.ok("destroy", SAMPLE)
