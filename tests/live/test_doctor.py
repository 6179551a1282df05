"""`topo doctor`: what it says of the kernel is what iproute2, tc and nft meet, and it changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sandbox.host import Host, has_realms
from sandbox.series import SINCE, too_old

ROOT = Path(__file__).parents[2]
MORE = {  # what `ip link add` wants to hear before it asks the kernel
    "vrf": "table 7",
    "vlan": "id 7",
    "vxlan": "id 7 dstport 4789",
    "geneve": "id 7 remote 192.0.2.1",
    "gre": "local 192.0.2.1 remote 192.0.2.2",
    "gretap": "local 192.0.2.1 remote 192.0.2.2",
    "ip6gre": "local 2001:db8::1 remote 2001:db8::2",
    "ip6gretap": "local 2001:db8::1 remote 2001:db8::2",
    "vti": "local 192.0.2.1 remote 192.0.2.2 key 7",
    "xfrm": "dev x8 if_id 7",
    "veth": "peer name x7",
}
BELOW = dict.fromkeys(("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"), "link x8")
RULES = {
    "ct": ("filter hook forward", "ct state new"),
    "fib": ("filter hook forward", "fib daddr type local"),
    "reject": ("filter hook forward", "reject"),
    "nat": ("nat hook prerouting", "dnat ip to 192.0.2.1"),
    "masquerade": ("nat hook postrouting", "masquerade"),
}


def findings(host: Host, *arguments: str | Path) -> dict[str, dict[str, Any]]:
    """By group and name."""
    document = host.topo("doctor", "-o", "json", *arguments).json()
    assert document["kind"] == "diagnosis"
    assert document["kernel"] == os.uname().release
    return by_name(document)


def by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{found['group']} {found['name']}": found for found in document["findings"]}


def test_it_says_of_every_kind_of_link_what_ip_meets(host: Host) -> None:
    found = {name: f["state"] for name, f in findings(host).items() if f["group"] == "link"}
    tun = found.pop("link tun and tap")
    assert (tun == "yes") == (not host.refusal("ip tuntap add x9 mode tun") and not host.refusal("ip link del x9"))
    assert len(found) > 20
    host.run("ip link add x8 type bridge")
    for name, state in found.items():
        kind = name.split()[1]
        refusal = host.refusal(f"ip link add {BELOW.get(kind, '')} name x9 type {kind} {MORE.get(kind, '')}")
        if not refusal:
            host.run("ip link del x9")
        assert ("Unknown device type" in refusal) == (state == "no"), (name, state, refusal)
    host.run("ip link del x8")


def test_it_says_of_qdiscs_and_bridges_what_tc_and_ip_meet(host: Host) -> None:
    found = findings(host)
    host.run("ip link add x8 type bridge")
    qdiscs = {name.split()[1]: f["state"] for name, f in found.items() if f["group"] == "qdisc"}
    assert {"tbf", "htb", "netem"} <= qdiscs.keys()
    for kind, state in qdiscs.items():
        words = {"tbf": "rate 1mbit burst 10kb latency 5ms"}.get(kind, "")
        where = "" if kind == "ingress" else "root"
        refusal = host.refusal(f"tc qdisc add dev x8 {where} {kind} {words}")
        assert (state == "yes") == (not refusal), refusal
        if not refusal:
            host.run(f"tc qdisc del dev x8 {where or kind}")
    knows = "vlan_protocol" in host.link("host", "x8")["linkinfo"]["info_data"]
    assert (found["bridge VLAN-aware"]["state"] == "yes") == knows
    host.run("ip link del x8")


def test_it_says_of_nftables_what_nft_meets(host: Host) -> None:
    found = findings(host)
    assert found["host libnftables"]["state"] == "yes"
    host.run("nft add table inet x")
    for name, (base, rule) in RULES.items():
        refusal = host.refusal(f"nft add chain inet x for-{name} {{ type {base} priority 0; }}")
        refusal = refusal or host.refusal(f"nft add rule inet x for-{name} {rule}")
        assert (found[f"nftables {name}"]["state"] == "yes") == (not refusal), (name, refusal)
    host.run("nft delete table inet x")


def test_tcx_is_there_where_the_kernel_has_its_code(host: Host) -> None:
    known = " tcx_link_attach" in Path("/proc/kallsyms").read_text()
    assert (findings(host)["other tcx"]["state"] == "yes") == known


def test_it_changes_nothing(host: Host) -> None:
    path = host.file("topology: lab\nnamespaces:\n  web:\n    interfaces: {x0: {kind: dummy}}\n")
    before, run, modules = host.everywhere(), sorted(Path("/run").rglob("*")), loaded()
    for arguments in ((), (path,), (ROOT / "samples/nat.yaml",)):
        host.topo("doctor", *arguments)
    assert host.everywhere() == before
    assert sorted(Path("/run").rglob("*")) == run
    assert loaded() == modules


def loaded() -> str:
    path = Path("/proc/modules")
    return "\n".join(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else ""


@pytest.mark.parametrize("sample", ["nat", "vlans", "vlan-bridge", "tunnels", "vrfs", "rate-limit", "vxlan-unicast"])
def test_it_foretells_what_apply_says(host: Host, sample: str) -> None:
    """Exit code and, where the kernel lacks something, each place in the file."""
    path = ROOT / f"samples/{sample}.yaml"
    told = host.topo("doctor", "--output", "json", path)
    applied = host.topo("apply", path, "--output", "json")
    assert told.code == applied.code, (told.text, applied.text)
    assert told.json()["sufficient"] == (applied.code == 0)
    if applied.code:
        assert told.json()["diagnostics"] == applied.json()["diagnostics"]
        text = host.topo("doctor", path)
        assert text.code == 5
        for place in applied.json()["diagnostics"]:
            assert f"{path}:{place['line']}:{place['column']}: {place['path']}: " in text.out
    else:
        host.ok("destroy", path)


def test_without_rights_it_says_which_and_still_what_the_kernel_has(host: Host) -> None:
    path = host.file("topology: lab\nbridges: {br0: {}}\nchecks:\n  - {from: host, ping: 127.0.0.1}\n")
    told = confined("", "doctor", path, "-o", "json")
    assert told.returncode == 5, told.stdout + told.stderr
    found = by_name(json.loads(told.stdout))
    for name in ("CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_NET_RAW"):
        assert (found[f"privileges {name}"]["state"], found[f"privileges {name}"]["needed"]) == ("no", True)
        assert "root" in found[f"privileges {name}"]["cure"]
    allowed = found["privileges user namespaces"]["state"] == "yes"
    assert found["link bridge"]["state"] == ("yes" if allowed else "unknown")
    assert confined("", "doctor").returncode == 5
    assert confined("net_admin,+sys_admin", "doctor").returncode == 0
    assert confined("net_admin,+sys_admin", "doctor", path).returncode == 5  # for the ping
    assert confined("net_admin,+sys_admin,+net_raw", "doctor", path).returncode == 0


def confined(capabilities: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    kept = f"-all,+{capabilities}" if capabilities else "-all"
    return subprocess.run(
        ["setpriv", f"--bounding-set={kept}", "--inh-caps=-all", sys.executable, "-m", "topo", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_without_the_library_of_nftables(host: Host) -> None:
    """It is hidden from one command."""
    library = findings(host)["host libnftables"]["detail"]
    hidden = f'mount --bind /dev/null {library} && exec {sys.executable} -m topo doctor "$@"'
    for sample, code in (("nat", 5), ("routers", 0)):
        told = subprocess.run(
            ["unshare", "-m", "sh", "-c", hidden, "sh", f"samples/{sample}.yaml"],
            capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
        assert told.returncode == code, told.stdout + told.stderr
        assert ("install libnftables1" in told.stdout) == (sample == "nat")


@pytest.mark.full
def test_a_full_kernel_has_everything(host: Host) -> None:
    told = findings(host)
    lacking = {name for name, found in told.items() if found["state"] not in ("yes", "note")}
    old = {feature for feature in SINCE if too_old(feature)}
    if not has_realms():
        old.add("routing realms")  # a 7.2 that was built before full.config had them
    assert lacking == old
    lines = {(told[name]["group"], told[name]["option"]) for name in old}
    assert host.ok("doctor").out.count("  no ") == len(lines)
