"""With no more than it needs, and in a user namespace with nothing at all: what works, and what is said where it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox.host import ROOT, Host, Result
from sandbox.leaks import RECORD

from faults.figures import FIGURES
from faults.labs import labs
from faults.running import ok, run
from faults.world import World

pytestmark = pytest.mark.timeout(300)
BOTH = ("net_admin", "sys_admin")
TO_MAP = ("setfcap",)  # which the map of somebody who is root outside needs (user_namespaces(7)), and nothing else does
OWN_RUN = 'mount -t sysfs sysfs /sys 2>/dev/null; mount -t tmpfs none /run && ip link set lo up && exec "$@"'
USER = ("unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", OWN_RUN, "sh")


def confined(capabilities: tuple[str, ...], *command: str | Path) -> Result:
    """Run as root, with these capabilities alone."""
    words = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    done = subprocess.run(
        ["setpriv", f"--bounding-set={words}", "--inh-caps=-all", *map(str, command)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env=os.environ | {"TOPO_DEBUG": "1"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


def topo(*words: str | Path) -> tuple[str | Path, ...]:
    return (sys.executable, "-m", "topo", *words)


@pytest.mark.parametrize("name", ["star", "kinds", "vxlan-unicast", "firewall", "rate-limit"])
def test_two_capabilities_are_enough(host: Host, name: str) -> None:
    world = World(host, labs()[name])
    for file in (world.first, world.second):
        result = confined(BOTH, *topo("apply", file))
        assert result.code == 0, result.text
        assert confined(BOTH, *topo("diff", file)).code == 0
    assert confined(BOTH, *topo("destroy", world.name)).code == 0
    assert world.as_before() == []
    world.clear()
    FIGURES.count("CAP_NET_ADMIN and CAP_SYS_ADMIN alone", name)


@pytest.mark.parametrize("have", [(), ("net_admin",), ("sys_admin",)])
def test_what_is_missing_is_said(host: Host, have: tuple[str, ...]) -> None:
    lab = host.file(labs()["star"].first)
    before = host.everywhere()
    commands: list[tuple[str | Path, ...]] = [("apply", lab), ("diff", lab), ("destroy", "star"), ("destroy", lab)]
    for command in commands:
        result = confined(have, *topo(*command))
        assert result.code == 5, (command, result.text)
        for name in BOTH:
            assert (f"CAP_{name.upper()}" in result.err) == (name not in have), result.err
        assert "sudo topo" in result.err and "unshare -Urnm" in result.err
        FIGURES.count("capabilities missing", " ".join(have) or "all")
    commands = [("validate", lab), ("graph", lab), ("schema",)]
    for command in commands:
        assert confined(have, *topo(*command)).code == 0, command
    assert host.everywhere() == before and not RECORD.exists()


SCRIPT = """
set -e
topo="$1 -m topo"; cd $2
$topo apply $3
ip -n $5 -br addr
$topo diff $3
$topo check $3
$topo exec $4:$5 -- ip -br link
stat -c '%a %u' /run/topo /run/topo/*.json
$topo destroy $4
test -z "$(ls /run/netns)"; test ! -e /run/topo
"""


@pytest.mark.parametrize(
    ("sample", "ns"),
    [("three-tier", "leaf1"), ("vxlan-unicast", "c1"), ("nat", "web"), ("policy-routing", "gold"), ("dual-stack", "gw"), ("rate-limit", "home")],
)  # fmt: skip
def test_user_namespace(host: Host, sample: str, ns: str) -> None:
    """Somebody with no capability at all, by `unshare -Urnm`."""
    before = host.everywhere()
    script = ("sh", "-c", SCRIPT, "sh", sys.executable, ROOT, f"samples/{sample}.yaml", sample, ns)
    result = confined(TO_MAP, *USER, *script)
    assert result.code == 0, result.text
    assert "700 0\n600 0\n" in result.out
    assert host.everywhere() == before
    FIGURES.count("in a user namespace", sample)


def test_user_namespace_without_a_run_of_its_own(host: Host) -> None:
    """The host's /run is not ours there: it is said what to do, and nothing is touched."""
    lab = host.file(labs()["star"].first)
    before = host.everywhere()
    RECORD.mkdir(mode=0o700)
    os.chown(RECORD, 65534, 65534)
    result = confined(TO_MAP, "unshare", "-Urn", *topo("apply", lab))
    assert result.code == 5, result.text
    assert "mount -t tmpfs none /run" in result.err
    RECORD.rmdir()
    assert host.everywhere() == before
    FIGURES.count("in a user namespace", "without a /run of its own")


def test_record_is_private_and_synced(host: Host) -> None:
    """0700 and 0600 whatever the umask; written, synced and renamed before the kernel is told anything."""
    world = World(host, labs()["star"])
    old = os.umask(0)
    try:
        steps = ok("apply", world.first).steps
        assert RECORD.stat().st_mode & 0o7777 == 0o700
        assert {path.name: path.stat().st_mode & 0o7777 for path in RECORD.iterdir()} == {"star.json": 0o600}
    finally:
        os.umask(old)
    names = [step.split()[0] for step in steps]
    begun = names.index("rename")
    telling = [n for n, step in enumerate(steps) if step.startswith(("tell", "unshare", "mount", "nft"))]
    # What comes before are questions after kinds of link, put as requests that no kernel grants (kernel.features).
    asked = {steps[n] for n in telling if n < begun}
    assert asked <= {"tell netlink 0 type 16"}, asked
    first = next(n for n in telling if n > begun)
    assert names[begun - 2 : begun + 2] == ["open", "fsync", "rename", "fsync"]
    assert begun < first
    assert run("destroy", world.name).code == 0
    world.clear()
