"""What the kernel lacks is refused before anything is touched: exit 5, the place, the kind, the kernel option."""

from __future__ import annotations

import json

import pytest
from sandbox.host import Host

from topo import api
from topo.changes import CREATE, UPDATE, Change
from topo.errors import LackingError
from topo.facts import HOST, Desired, Fact, link
from topo.file.lowering import lower
from topo.kernel import features, nft_features, rtnl
from topo.kernel.feature import Feature
from topo.kinds.link_kinds import LINK_KINDS

ENTRIES = {
    "dummy": ("CONFIG_DUMMY", ""),
    "bond": ("CONFIG_BONDING", ""),
    "vrf": ("CONFIG_NET_VRF", "table: 7"),
    "vlan": ("CONFIG_VLAN_8021Q", "parent: lo, id: 7"),
    "macvlan": ("CONFIG_MACVLAN", "parent: br0"),
    "wireguard": ("CONFIG_WIREGUARD", "private_key_command: [wg, genkey]"),
    "macsec": ("CONFIG_MACSEC", "parent: br0"),
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_what_ip_cannot_make_is_refused_and_nothing_else(host: Host, kind: str) -> None:
    """iproute2 says whether this kernel knows the kind; where it does, it is made."""
    option, more = ENTRIES[kind]
    words = f"kind: {kind}, {more}" if more else f"kind: {kind}"
    text = f"topology: lab\nnamespaces:\n  web:\n    bridges: {{br0: {{}}}}\n    interfaces:\n      x0: {{{words}}}\n"
    if kind == "vlan":
        text = text.replace("parent: lo", "parent: br0")
    path = host.file(text)
    refusal = host.refusal(f"ip link add x9 type {kind}")
    lacks = "Unknown device type" in refusal
    if not refusal:
        host.run("ip link del x9")
    before = host.everywhere()
    result = host.topo("apply", path)
    if not lacks:
        assert result.code == 0, result.text
        host.ok("destroy", path)
        return
    assert result.code == 5, result.text
    assert f"{path}:6:7: namespaces.web.interfaces.x0: " in result.err
    assert f"no links of kind {kind}" in result.err
    assert option in result.err
    assert host.everywhere() == before
    assert host.topo("list", "--output", "json").json()["topologies"] == []
    (place,) = json.loads(host.topo("apply", path, "--output", "json").out)["diagnostics"]
    assert (place["line"], place["path"]) == (6, "namespaces.web.interfaces.x0")


def test_a_kind_that_no_kernel_has(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question to the kernel makes nothing, and is answered on every one."""
    none = LINK_KINDS["macvlan"]._replace(name="nosuchkind", option="CONFIG_NOSUCHKIND")
    monkeypatch.setitem(LINK_KINDS._found, "nosuchkind", none)
    facts = [Fact(link(HOST, name), {"kind": name}) for name in ("nosuchkind", "macvlan", "veth", "bridge", "vxlan")]
    changes = [Change(CREATE, fact.ref, fact, None) for fact in facts]
    before = host.snapshot()
    with rtnl.open_socket() as sock, pytest.raises(LackingError) as error:
        features.require(sock, changes, Desired("lab", {fact.ref: fact for fact in facts}))
    (diagnostic,) = error.value.diagnostics
    assert "nosuchkind" in diagnostic.message
    assert "CONFIG_NOSUCHKIND" in diagnostic.hint
    assert host.snapshot() == before


def test_a_qdisc_that_tc_cannot_make_is_refused(host: Host) -> None:
    """As with links: where tc says that the kernel does not know it, topo does, and touches nothing."""
    path = host.file("topology: lab\nbridges:\n  br0:\n    shaping: {delay: 5ms}\n")
    refusal = host.refusal("tc qdisc add dev lo root netem delay 5ms")
    if not refusal:
        host.run("tc qdisc del dev lo root")
    before = host.everywhere()
    result = host.topo("apply", path)
    if not refusal:
        assert result.code == 0, result.text
        host.ok("destroy", path)
        return
    assert "unknown" in refusal, refusal
    assert result.code == 5, result.text
    assert f"{path}:4:5: bridges.br0.shaping: " in result.err
    assert "has no netem" in result.err
    assert "CONFIG_NET_SCH_NETEM" in result.err
    assert host.everywhere() == before


@pytest.mark.parametrize("kind", ["tbf", "htb"])
def test_a_qdisc_of_ones_own_is_left_where_it_is(host: Host, kind: str) -> None:
    """The question whether the kernel knows it is put to lo, whatever that has."""
    host.run("tc qdisc add dev lo root pfifo limit 7")
    path = host.file(f"topology: lab\nbridges:\n  br0:\n    shaping: {{kind: {kind}, rate: 1mbit}}\n")
    host.ok("apply", path)
    assert "pfifo" in host.run("tc qdisc show dev lo")
    host.ok("destroy", path)
    host.run("tc qdisc del dev lo root")


@pytest.mark.parametrize(
    ("kind", "stated", "words", "option"),
    [
        ("mpls", "{labels: [100]}", "mpls 100", "CONFIG_MPLS_IPTUNNEL"),
        ("seg6", '{segs: ["fd00::2"]}', "seg6 mode encap segs fd00::2", "CONFIG_IPV6_SEG6_LWTUNNEL"),
    ],
)
def test_an_encapsulation_that_ip_cannot_have_is_refused(
    host: Host, kind: str, stated: str, words: str, option: str
) -> None:
    """iproute2 says whether this kernel has it; topo doctor says the same as apply."""
    text = f"""
topology: lab
namespaces:
  a:
    routes:
      - to: 10.5.0.0/24
        via: 10.0.0.2
        encap: {{{kind}: {stated}}}
  b: {{}}
links: [[{{interface: a:e0, addresses: 10.0.0.1/24}}, b:e0]]
"""
    path = host.file(text)
    host.run("ip link add x9 type veth peer name x8")
    host.run("ip addr add 10.0.0.1/24 dev x9")
    host.run("ip link set x9 up")
    refusal = host.refusal(f"ip route add 10.5.0.0/24 encap {words} via 10.0.0.2 dev x9")
    host.run("ip link del x9")
    before = host.everywhere()
    asked, result = host.topo("doctor", path), host.topo("apply", path)
    if not refusal:
        assert (asked.code, result.code) == (0, 0), result.text
        host.ok("destroy", path)
        return
    assert (asked.code, result.code) == (5, 5), result.text
    for said in (asked.text, result.err):
        assert f"{path}:8:9: namespaces.a.routes[0].encap: " in said
        assert f"has no encap {kind}, which the route to 10.5.0.0/24 in a asks for" in said
        assert option in said
    assert host.everywhere() == before


def test_a_bridge_that_cannot_keep_vlans_apart_is_refused(host: Host) -> None:
    """Without CONFIG_BRIDGE_VLAN_FILTERING the kernel takes the word for it and does nothing; of the protocol `ip` shows nothing then."""
    path = host.file("topology: lab\nbridges:\n  br0:\n    vlan_filtering: true\n")
    host.run("ip link add x9 type bridge")
    knows = "vlan_protocol" in host.link("host", "x9")["linkinfo"]["info_data"]
    host.run("ip link del x9")
    before = host.everywhere()
    result = host.topo("apply", path)
    if knows:
        assert result.code == 0, result.text
        assert host.link("host", "br0")["linkinfo"]["info_data"]["vlan_filtering"] == 1
        host.ok("destroy", path)
        return
    assert result.code == 5, result.text
    assert f"{path}:3:3: bridges.br0: " in result.err
    assert "has no VLAN-aware bridges" in result.err
    assert "CONFIG_BRIDGE_VLAN_FILTERING" in result.err
    assert host.everywhere() == before


def test_what_nftables_lacks(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel takes `meta ibrname` in the family inet: it stands for an expression that this one was built without."""
    rule = {"match": {"op": "==", "left": {"meta": {"key": "ibrname"}}, "right": "br0"}}
    refusal = host.refusal("nft -c add table inet x; add chain inet x c; add rule inet x c meta ibrname br0")
    assert "not supported" in refusal, refusal
    feature = Feature(
        nft_features.NFT, "ibrname", "CONFIG_NFT_BRIDGE_META", "has no ibrname of nftables, which {} needs"
    )
    monkeypatch.setitem(nft_features._STATEMENTS, "ibrname", (feature, [rule]))
    path = host.file("topology: lab\nnat: {masquerade: [{from: 10.0.0.0/8, out: lo}]}\n")
    topology = api.load(path)
    desired = lower(topology)
    ref, fact = next((ref, fact) for ref, fact in desired.facts.items() if ref.kind == "nft")
    chains = {**fact.attrs["chains"], "other": {"hook": None, "rules": [[{"ibrname": None}]]}}
    with rtnl.open_socket() as sock:
        features.require(sock, [Change(CREATE, ref, fact, None)], desired)
        odd = Fact(ref, {**fact.attrs, "chains": chains})
        with pytest.raises(LackingError) as caught:
            features.require(sock, [Change(CREATE, ref, odd, None)], desired)
        features.require(sock, [Change(UPDATE, ref, odd, odd)], desired)  # what is there is not asked for
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.path == "nat" and "ibrname" in diagnostic.message
    assert "CONFIG_NFT_BRIDGE_META" in diagnostic.hint
    assert host.run("nft list ruleset") == "", "it was asked, and nothing was made"
