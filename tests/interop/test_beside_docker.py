"""topo's bridge and published ports beside Docker's, whose FORWARD chain drops what it does not know."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox.asking import answer, ask
from sandbox.host import Host, until

from interop.beside import beside
from interop.bridging import CASES, DUAL, HOST, NO, OUTSIDE, SAMPLE, UNPUBLISHED, Side, more, outside, topos
from interop.containers import Container
from interop.docker import Docker

FORWARDING = [Path(f"/proc/sys/net/{name}") for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")]
WARNING = "  warning: "
ACROSS = ("outside", "host"), ("outside", "range"), ("target", "world"), ("apart", "world")  # what a drop swallows


def tables(host: Host) -> dict[str, Any]:
    """All rules but topo's own, as iptables and nft list them, without counters."""
    found: dict[str, Any] = {
        program: re.sub(r"\[\d+:\d+\]|#.*", "", host.run(f"{program}-save")) for program in ("iptables", "ip6tables")
    }
    return found | {"nft": [entry for entry in host.nft_json() if "topo-bridge-mode" not in str(entry)]}


def applied(host: Host) -> list[str]:
    """Apply the sample for both families; the warnings."""
    text = host.ok("apply", SAMPLE, more(host)).text
    assert host.topo("diff", SAMPLE, more(host)).code == 0
    return [line.removeprefix(WARNING) for line in text.splitlines() if line.startswith(WARNING)]


def cured(lines: list[str]) -> None:
    """Do what the warnings say."""
    for line in lines:
        subprocess.run(["sh", "-ec", line.partition("let them pass: ")[2]], check=True)


def works(host: Host, theirs: Container) -> None:
    """Docker's container is reached by its published port, and reaches the world."""
    for url in (f"http://{HOST[0]}:9090/", f"http://[{HOST[1]}]:9090/"):
        assert until(lambda url=url: host.fetch("outside", url) == "theirs\n"), url  # type: ignore[misc]
    assert host.fetch("host", "http://127.0.0.1:9090/") == "theirs\n"
    assert all(host.ping(theirs.ns, address) for address in OUTSIDE)


def differing(side: Side) -> dict[tuple[str, str, str], str]:
    """The cases that go other than the table says, and how."""
    return {case[:3]: found for case, found in zip(CASES, side.found(), strict=True) if found != case.topo}


def undone(lines: list[str]) -> None:
    """Take back what `cured` did."""
    cured([line.replace(" -I ", " -D ") for line in lines])


def test_dockers_drop(host: Host, request: pytest.FixtureRequest) -> None:
    """apply warns; what it names makes everything of the table work; Docker's own goes on, and its tables stay."""
    with beside(request.config, docker := Docker(*DUAL)), outside(host):
        theirs = docker.run("theirs", "-p", "9090:80")
        works(host, theirs)
        before = tables(host)
        lines = applied(host)
        assert tables(host) == before
        assert [line.partition(" drops")[0] for line in lines] == [
            f"the nftables chain {family} filter FORWARD" for family in ("ip", "ip6")
        ]
        side = topos(host)
        swallowed = differing(side)
        assert all(found == NO for found in swallowed.values()), swallowed
        assert {case[:2] for case in swallowed} >= set(ACROSS)
        works(host, theirs)

        cured(lines)
        docker("network", "create", "later")
        theirs.restart()
        assert applied(host) == []
        assert differing(side) == {}
        works(host, theirs)

        docker("network", "rm", "later")
        docker.run("twice", "-p", "8080:80").rm()
        assert applied(host) == []
        host.close()
        host.ok("destroy", SAMPLE, more(host))
        undone(lines)
        assert tables(host) == before
        works(host, theirs)


def test_the_cure_is_wide_and_isolate_narrows_it(host: Host, request: pytest.FixtureRequest) -> None:
    """Accepted ahead of Docker's isolation, topo's bridge and Docker's reach each other, unless the file forbids it."""
    with beside(request.config, docker := Docker(*DUAL)), outside(host):
        theirs = docker.run("theirs")
        answer(host, theirs.ns, "theirs", UNPUBLISHED)
        lines = applied(host)
        topos(host)

        def across() -> list[str]:
            ways = (("web", theirs.ip()), ("web", theirs.ip6()), (theirs.ns, "172.30.0.2"), (theirs.ns, "fd30::2"))
            return [ask(ns, ("tcp", to, UNPUBLISHED))[0].partition(":")[0] for ns, to in ways]

        assert across() == ["", "", "target", "target"], "Docker lets its own out to everywhere but Docker's"
        cured(lines)
        assert across() == ["theirs", "theirs", "target", "target"]
        apart = host.file(
            "topology: bridge-mode\nbridges: {docker0: {external: true}}\nfirewall: {isolate: [docker0]}\n",
            "apart.yaml",
        )
        host.ok("apply", SAMPLE, more(host), apart)
        assert across() == ["", "", "", ""]
        assert ask("outside", ("tcp", HOST[0], 8080)) == [f"target:80 {OUTSIDE[0]}"]
        host.ok("destroy", SAMPLE)


class Later(Docker):
    """Docker that the test itself brings up, with `Docker.up`."""

    def up(self) -> None:
        pass


@pytest.fixture
def forwarding() -> Iterator[None]:
    """A host that forwards, whoever comes."""
    before = [path.read_text() for path in FORWARDING]
    for path in FORWARDING:
        path.write_text("1")
    yield
    for path, value in zip(FORWARDING, before, strict=True):
        path.write_text(value)


def test_a_host_that_forwards_already(host: Host, request: pytest.FixtureRequest, forwarding: None) -> None:
    """Docker sets the policy to DROP where it switched forwarding on itself; of IPv6, always."""
    with beside(request.config, docker := Docker(*DUAL)), outside(host):
        theirs = docker.run("theirs", "-p", "9090:80")
        assert host.run("iptables -S FORWARD").startswith("-P FORWARD ACCEPT\n")
        (line,) = applied(host)
        assert line.startswith("the nftables chain ip6 filter FORWARD drops packets from br0, br1 and to br0, br1")
        side = topos(host)
        assert ask("outside", ("tcp", HOST[0], 8080), ("tcp", HOST[1], 8080)) == [f"target:80 {OUTSIDE[0]}", ""]
        cured([line])
        assert applied(host) == []
        assert differing(side) == {}
        works(host, theirs)
        host.ok("destroy", SAMPLE)
        works(host, theirs)


def test_topo_comes_first(host: Host, request: pytest.FixtureRequest) -> None:
    """Then Docker finds forwarding on, and destroy, which puts it back, takes it from Docker, and says so."""
    with beside(request.config, docker := Later(*DUAL)), outside(host):
        before = [path.read_text() for path in FORWARDING]
        assert applied(host) == []
        Docker.up(docker)
        theirs = docker.run("theirs", "-p", "9090:80")
        assert host.run("iptables -S FORWARD").startswith("-P FORWARD ACCEPT\n")
        lines = applied(host)
        assert [line.partition(" drops")[0] for line in lines] == ["the nftables chain ip6 filter FORWARD"]
        cured(lines)
        assert differing(topos(host)) == {}
        works(host, theirs)
        said = host.ok("destroy", SAMPLE).text
        signs = "bridge docker0; masquerading by table"
        assert f"need it by now: {signs} ip nat; if they do, switch it on again afterwards: sysctl -w net.ipv4" in said
        assert f"need it by now: {signs} ip6 nat; if they do, switch it on again afterwards: sysctl -w net.ipv6" in said
        assert [path.read_text() for path in FORWARDING] == before
        host.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        works(host, theirs)


OWN = """
table inet filter {
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "docker0" accept
    oifname "docker0" accept
  }
}
table inet nat {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 172.17.0.0/16 oifname != "docker0" masquerade
    ip6 saddr fd17::/64 oifname != "docker0" masquerade
  }
}
"""


def test_a_host_with_nftables_alone(host: Host, request: pytest.FixtureRequest, forwarding: None) -> None:
    """Docker without iptables, and the host's own nftables rules, which let Docker's bridge through."""
    with beside(request.config, docker := Docker(*DUAL[:2], "--iptables=false")), outside(host):
        subprocess.run(["nft", "-f", "-"], input=OWN, text=True, check=True)
        theirs = docker.run("theirs", "-p", "9090:80")
        works(host, theirs)
        before = host.nft_json()
        (line,) = applied(host)
        assert line.startswith("the nftables chain inet filter forward drops packets from br0, br1 and to br0")
        side = topos(host)
        swallowed = differing(side)
        assert {*swallowed.values()} == {NO}
        assert {case[:2] for case in swallowed} >= set(ACROSS)
        cured([line])
        assert applied(host) == []
        assert differing(side) == {}
        works(host, theirs)
        host.ok("destroy", SAMPLE)
        host.run("nft flush chain inet filter forward")
        host.run("nft add rule inet filter forward ct state established,related accept")
        for match in ("iifname", "oifname"):
            host.run(f'nft add rule inet filter forward {match} "docker0" accept')
        assert host.nft_json() == before
        works(host, theirs)
