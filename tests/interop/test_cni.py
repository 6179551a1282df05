"""CNI beside topo: its containers on topo's bridge, topo's namespaces on its bridge, and neither disturbs the other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tour
from sandbox.host import SAMPLES, Host
from sandbox.monitor import Quiet

from interop.cni import Cni, bridge_network

SAMPLE = SAMPLES / "seeds/cni.yaml"
OURS = bridge_network("lab", "lab0", ("10.88.0.0/24", "10.88.0.128", "10.88.0.1"))
BOTH = bridge_network(
    "both", "lab0", ("10.88.0.0/24", "10.88.0.192", "10.88.0.1"), ("fd88::/64", "fd88::1:0", "fd88::1")
)
THEIRS = bridge_network("theirs", "cni0", ("10.89.0.0/24", "10.89.0.128", "10.89.0.1"))


@pytest.fixture
def cni(host: Host) -> Iterator[Cni]:
    """CNI's plugins on a host that forwards, with somebody outside; what they leave by design is taken away."""
    before = host.run("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding").split()
    host.run("ip netns add outside")
    host.run("ip link add up0 type veth peer name eth0 netns outside")
    for command in ("link set up0 up", "addr add 192.0.2.1/24 dev up0"):
        host.run(f"ip {command}")
    for command in ("link set eth0 up", "addr add 192.0.2.2/24 dev eth0"):
        host.run(f"ip {command}", "outside")
    yield Cni(host)
    host.topo("destroy", "cni")
    host.run("nft flush ruleset")
    for name in ("up0", "cni0", "lab0"):
        host.fails(f"ip link del {name}")
    host.run("ip netns del outside")
    for name, value in zip(("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"), before, strict=True):
        host.run(f"sysctl -qw {name}={value}")


def test_sample(host: Host, cni: Cni) -> None:
    theirs = cni.add("c1", THEIRS)
    host.serve("c1", 80, "c1")
    host.ok("apply", SAMPLE)
    host.ok("diff", SAMPLE)
    assert theirs.check() == ""

    ours, both = cni.add("c2", OURS, {8080: 80}), cni.add("c3", BOTH)
    for ns in ("c2", "c3", "web"):
        host.serve(ns, 80, ns)
    host.serve("outside", 8000, "outside")
    host.settle()

    def all_is_well() -> None:
        host.ok("diff", SAMPLE)
        assert (theirs.check(), ours.check(), both.check()) == ("", "", "")
        assert host.fetch("probe", f"http://{theirs.address}/") == "c1 ::ffff:10.89.0.10"
        assert host.fetch("web", f"http://{ours.address}/") == "c2 ::ffff:10.88.0.2"
        assert host.fetch("c2", "http://10.88.0.2/").startswith("web ")
        assert host.fetch("c3", "http://[fd88::2]/").startswith("web fd88::1:")
        assert host.fetch("web", f"http://{both.address}/") == "c3 ::ffff:10.88.0.2"
        assert host.fetch("c2", "http://192.0.2.2:8000/") == "outside ::ffff:192.0.2.1", "masqueraded by CNI"
        assert host.fetch("outside", "http://192.0.2.1:8080/") == "c2 ::ffff:192.0.2.2", "published by CNI"
        assert host.ping("c1", "10.89.0.10")

    all_is_well()
    with Quiet(host, ["host", "web", "probe", "c1", "c2", "c3"]):
        host.ok("apply", SAMPLE)
    all_is_well()
    host.run("ip link del eth0", "web")
    host.run("ip link del eth0", "probe")
    assert host.topo("diff", SAMPLE).code == 1
    host.ok("apply", SAMPLE)
    all_is_well()
    edited = host.file(SAMPLE.read_text().replace("web: {}", "web: {}\n  db: {}") + "  - [db:eth0, lab0]\n")
    host.ok("apply", edited)
    assert host.ping("db", ours.address)
    host.ok("apply", SAMPLE)
    all_is_well()

    ours.delete()
    host.ok("diff", SAMPLE)
    both.delete()
    theirs.delete()
    host.ok("diff", SAMPLE)
    host.ok("destroy", SAMPLE)
    assert not host.link("host", "lab0")
    assert host.link("host", "cni0"), "what CNI made stays"


def test_destroy_leaves_what_is_cnis(host: Host, cni: Cni) -> None:
    theirs = cni.add("c1", THEIRS)
    host.settle()
    before = host.settled()
    host.ok("apply", SAMPLE)
    ours = cni.add("c2", OURS, {8080: 80})
    rules = host.nft_json()
    assert host.ping("web", ours.address)
    said = host.ok("destroy", SAMPLE).text
    assert f"others have ports on it, which stay without a bridge: {ours.port}" in said

    assert theirs.check() == ""
    now = host.settled()
    assert now["c1"] == before["c1"]
    for section in ("links", "ports", "routes"):
        assert [item for item in before["host"][section] if item not in now["host"][section]] == [], section
    assert host.nft_json() == rules
    assert not host.link("host", "lab0"), "the bridge was topo's"
    assert "master" not in host.link("host", ours.port)
    assert host.addresses("c2", "eth0") == {f"{ours.address}/24"}
    assert "lab0 not found" in ours.check(), "CNI sees it too"

    host.ok("apply", SAMPLE)
    assert host.silent("web", ours.address), "whose port it was is no business of topo's"
    host.run(f"ip link set {ours.port} master lab0")
    assert host.ping("web", ours.address)
    assert ours.check() == ""
    host.ok("diff", SAMPLE)
    host.ok("destroy", SAMPLE)
    ours.delete()
    theirs.delete()


def test_an_address_that_only_cni_wants_is_drift(host: Host, cni: Cni) -> None:
    """On topo's bridge the file says which addresses there are: the gateway has to be one of them."""
    lab = host.file("topology: cni\nbridges: {lab0: {}}\n")
    host.ok("apply", lab)
    container = cni.add("c2", OURS)
    drift = host.topo("diff", lab)
    assert drift.code == 1
    assert re.search(r"- address +lab0 10\.88\.0\.1/24", drift.out)
    lab = host.file("topology: cni\nbridges: {lab0: {addresses: 10.88.0.1/24}}\n")
    host.ok("diff", lab)
    host.ok("apply", lab)
    assert host.ping("c2", "10.88.0.1")
    assert container.check() == ""
    container.delete()
    host.ok("destroy", "cni")


def test_the_page_shows_what_happens(host: Host, cni: Cni, tmp_path: Path) -> None:
    """`TOPO_TOUR=write python -m pytest -m interop tests/interop/test_cni.py` writes what happens into it."""
    page = tour.ROOT / "docs/seeds/cni.md"
    text = page.read_text(encoding="utf-8")
    with tour.Shell(tmp_path, text) as shell:
        outputs = [shell.run(step.command) for step in tour.steps(text)]
    if os.environ.get("TOPO_TOUR") == "write":
        page.write_text(tour.rewritten(text, outputs), encoding="utf-8")
        return
    for step, found in zip(tour.steps(text), outputs, strict=True):
        assert tour.loose(found) == tour.loose(step.output), step.command
    assert "".join(SAMPLE.read_text().splitlines(keepends=True)[3:]) in text, "the page shows the sample"
