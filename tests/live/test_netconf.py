"""What RTM_GETNETCONF tells against the files under /proc/sys that it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sandbox.host import Host

from topo.kernel import netconf, netns
from topo.kernel.spaces import Space, Spaces

FILES = {
    "ipv4": ("forwarding", "mc_forwarding", "ignore_routes_with_linkdown", "rp_filter", "proxy_arp", "bc_forwarding"),
    "ipv6": ("forwarding", "mc_forwarding", "ignore_routes_with_linkdown", "proxy_ndp"),
}
DEVICES = ("all", "default", "lo", "eth0")


@pytest.fixture
def space(host: Host) -> Iterator[Space]:
    host.run("ip netns add n")
    host.run("ip -n n link add eth0 type bridge")
    spaces = Spaces()
    fd = netns.open_path(netns.path("n"))
    assert fd is not None
    with spaces.away():
        found = spaces.add("n", fd)
        found.indexes = {"lo": 1, "eth0": 2, "gone": 77}
        yield found
    spaces.close()
    host.run("ip netns del n")


def _paths(device: str) -> list[str]:
    return [f"net/{family}/conf/{device}/{name}" for family, names in FILES.items() for name in names]


def _wrong(space: Space) -> dict[str, tuple[str | None, str]]:
    """What is told otherwise than the file has it."""
    told: netconf.Answers = {}
    paths = [path for device in DEVICES for path in _paths(device)] + ["net/ipv4/ip_forward"]
    pairs = {path: (netconf.value(space, path, told), Path("/proc/sys", path).read_text().strip()) for path in paths}
    return {path: (mine, file) for path, (mine, file) in pairs.items() if mine != file}


def test_it_tells_what_the_files_say(space: Space) -> None:
    assert not _wrong(space)
    written = 0
    for path in (path for device in DEVICES for path in _paths(device)):
        file = Path("/proc/sys", path)
        with suppress(PermissionError):  # mc_forwarding is a routing daemon's to set
            file.write_text("0" if file.read_text().strip() != "0" else "2" if path.endswith("rp_filter") else "1")
            written += 1
            assert not _wrong(space), f"after {path}"
    assert written == len(DEVICES) * 8


@pytest.mark.parametrize(
    "path",
    ["net/ipv4/conf/gone/forwarding", "net/ipv4/conf/none/forwarding", "net/ipv4/conf/eth0/accept_local",
     "net/ipv4/neigh/eth0/gc_stale_time", "net/ipv6/conf/eth0/rp_filter", "net/core/somaxconn"],
)  # fmt: skip
def test_what_it_does_not_tell_is_left_to_the_files(space: Space, path: str) -> None:
    assert netconf.value(space, path, {}) is None
