"""The kinds of link of a full kernel: pyroute2's message classes read what is sent, and write what is read.

What pyroute2 has no word for, or another size than the kernel (linux/if_link.h), stands as bytes in `BESIDE`.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_codec_links import MARK, Env, Reading, info, plain, pyroute2_body, pyroute2_read

from topo import wire
from topo.changes import CREATE, UPDATE, Op
from topo.facts import Fact, link
from topo.kinds import link_decode
from topo.kinds.ifla import IFLA_INFO_DATA, IFLA_LINKINFO
from topo.kinds.link import LINK
from topo.wire import IFINFOMSG, RTM_NEWLINK

Attrs = dict[str, Any]
BELOW = ("web", "eth0")

SENT: list[tuple[str, Attrs, Attrs]] = [  # the kind, the fact's attributes, and what pyroute2 calls them
    ("dummy", {}, {}),
    ("nlmon", {}, {}),
    ("vcan", {}, {}),
    (
        "vlan",
        {"parent": BELOW, "id": 5, "protocol": "802.1ad", "gvrp": True, "reorder_hdr": False},
        {"IFLA_VLAN_ID": 5, "IFLA_VLAN_PROTOCOL": 0x88A8, "IFLA_VLAN_FLAGS": {"flags": 2, "mask": 3}},
    ),
    ("ipvlan", {"parent": BELOW, "mode": "l3s"}, {"IFLA_IPVLAN_MODE": 2}),
    ("vrf", {"table": 77}, {"IFLA_VRF_TABLE": 77}),
    (
        "bond",
        {
            "mode": "802.3ad",
            "miimon": 100,
            "updelay": 200,
            "lacp_rate": "fast",
            "ad_select": "bandwidth",
            "min_links": 2,
        }
        | {"xmit_hash_policy": "layer3+4", "primary": BELOW, "resend_igmp": 3, "num_grat_arp": 4},
        {"IFLA_BOND_MODE": 4, "IFLA_BOND_MIIMON": 100, "IFLA_BOND_UPDELAY": 200, "IFLA_BOND_AD_LACP_RATE": 1}
        | {"IFLA_BOND_AD_SELECT": 1, "IFLA_BOND_MIN_LINKS": 2, "IFLA_BOND_XMIT_HASH_POLICY": 1}
        | {"IFLA_BOND_PRIMARY": 1000, "IFLA_BOND_RESEND_IGMP": 3, "IFLA_BOND_NUM_PEER_NOTIF": 4},
    ),
    (
        "bond",
        {"mode": "active-backup", "arp_interval": 100, "arp_validate": "filter", "primary_reselect": "failure"}
        | {"fail_over_mac": "follow", "downdelay": 7, "all_slaves_active": True},
        {"IFLA_BOND_MODE": 1, "IFLA_BOND_ARP_INTERVAL": 100, "IFLA_BOND_ARP_VALIDATE": 4}
        | {"IFLA_BOND_PRIMARY_RESELECT": 2, "IFLA_BOND_FAIL_OVER_MAC": 2, "IFLA_BOND_DOWNDELAY": 7}
        | {"IFLA_BOND_ALL_SLAVES_ACTIVE": 1},
    ),
    (
        "geneve",
        {"id": 7, "remote": "192.0.2.2", "port": 6082, "ttl": 9, "tos": 8},
        {"IFLA_GENEVE_ID": 7, "IFLA_GENEVE_REMOTE": "192.0.2.2", "IFLA_GENEVE_PORT": 6082}
        | {"IFLA_GENEVE_TTL": 9, "IFLA_GENEVE_TOS": 8},
    ),
    ("geneve", {"id": 7, "remote": "fd00::2"}, {"IFLA_GENEVE_ID": 7, "IFLA_GENEVE_REMOTE6": "fd00::2"}),
    *(
        (
            kind,
            {"local": "192.0.2.1", "remote": "192.0.2.2", "link": BELOW, "ttl": 9, "tos": 8, "pmtudisc": False}
            | {"ikey": 5, "okey": 6, "iseq": True, "oseq": False, "icsum": False, "ocsum": True, "ignore_df": True},
            {"IFLA_GRE_LOCAL": "192.0.2.1", "IFLA_GRE_REMOTE": "192.0.2.2", "IFLA_GRE_LINK": 1000, "IFLA_GRE_TTL": 9}
            | {"IFLA_GRE_TOS": 8, "IFLA_GRE_PMTUDISC": 0, "IFLA_GRE_IGNORE_DF": 1, "IFLA_GRE_IKEY": 5}
            | {"IFLA_GRE_OKEY": 6, "IFLA_GRE_IFLAGS": {"value": 0x3000}, "IFLA_GRE_OFLAGS": {"value": 0xA000}},
        )
        for kind in ("gre", "gretap")
    ),
    *(
        (
            kind,
            {"local": "fd00::1", "remote": "fd00::2", "link": BELOW, "ttl": 9}
            | {"encaplimit": 5, "tclass": 8, "flowlabel": 0x12345},
            {"IFLA_IP6GRE_LOCAL": "fd00::1", "IFLA_IP6GRE_REMOTE": "fd00::2", "IFLA_IP6GRE_LINK": 1000}
            | {"IFLA_IP6GRE_TTL": 9, "IFLA_IP6GRE_ENCAP_LIMIT": 5, "IFLA_IP6GRE_FLOWINFO": 0x812345}
            | {"IFLA_IP6GRE_FLAGS": 0},
        )
        for kind in ("ip6gre", "ip6gretap")
    ),
    *(
        (
            kind,
            {"local": "192.0.2.1", "remote": "192.0.2.2", "link": BELOW, "ttl": 9, "tos": 8, "pmtudisc": False}
            | {"mode": "mplsip"},
            {f"IFLA_{name}_LOCAL": "192.0.2.1", f"IFLA_{name}_REMOTE": "192.0.2.2", f"IFLA_{name}_LINK": 1000}
            | {f"IFLA_{name}_TTL": 9, f"IFLA_{name}_TOS": 8, f"IFLA_{name}_PMTUDISC": 0, f"IFLA_{name}_PROTO": 137},
        )
        for kind, name in (("ipip", "IPIP"), ("sit", "SIT"))
    ),
    (
        "ip6tnl",
        {"local": "fd00::1", "remote": "fd00::2", "ttl": 9, "mode": "ip6ip6"}
        | {"encaplimit": "none", "tclass": "inherit", "flowlabel": "inherit"},
        {"IFLA_IP6TNL_LOCAL": "fd00::1", "IFLA_IP6TNL_REMOTE": "fd00::2", "IFLA_IP6TNL_TTL": 9}
        | {"IFLA_IP6TNL_PROTO": 41, "IFLA_IP6TNL_FLOWINFO": 0, "IFLA_IP6TNL_FLAGS": 7},
    ),
    (
        "vti",
        {"local": "192.0.2.1", "remote": "192.0.2.2", "link": BELOW, "ikey": 5, "okey": 6},
        {"IFLA_VTI_LOCAL": "192.0.2.1", "IFLA_VTI_REMOTE": "192.0.2.2", "IFLA_VTI_LINK": 1000}
        | {"IFLA_VTI_IKEY": 5, "IFLA_VTI_OKEY": 6},
    ),
    ("xfrm", {"link": BELOW, "if_id": 5}, {"IFLA_XFRM_LINK": 1000, "IFLA_XFRM_IF_ID": 5}),
]
BESIDE: list[tuple[str, Attrs, dict[int, bytes]]] = [  # numbers and formats of linux/if_link.h
    ("ipvlan", {"parent": BELOW, "flags": "private"}, {2: b"\1\0"}),
    ("ipvtap", {"parent": BELOW, "mode": "l2", "flags": "vepa"}, {1: b"\0\0", 2: b"\2\0"}),
    ("geneve", {"id": 7, "df": "inherit"}, {1: b"\7\0\0\0", 13: b"\2"}),
    (
        "bond",
        {"arp_ip_target": ("192.0.2.2", "192.0.2.3")},
        {8: wire.attr(0, b"\xc0\0\2\2") + wire.attr(1, b"\xc0\0\2\3")},
    ),
]
_JOINED = {"parent", "link"}  # known when all namespaces are read (link_decode.join)


def sent(kind: str, attrs: Attrs) -> bytes:
    """The message that makes such a link."""
    fact = Fact(link("web", "x0"), {"kind": kind, **attrs})
    env = Env()
    env.assign(*BELOW)
    (request,) = LINK.encode(Op(CREATE, fact.ref, fact, None), env)
    assert not callable(request)
    body: bytes = request.body  # type: ignore[union-attr]
    return body


def read(body: bytes) -> Fact:
    (fact,) = LINK.decode(RTM_NEWLINK, body, 0, len(body), Reading({1000: "eth0"}))
    return fact


@pytest.mark.parametrize("kind, attrs, expected", SENT)
def test_pyroute2_reads_what_is_sent(kind: str, attrs: Attrs, expected: Attrs) -> None:
    msg = pyroute2_read(sent(kind, attrs))
    assert msg.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == kind
    assert msg.get_attr("IFLA_LINK") == (1000 if "parent" in attrs else None)
    data = msg.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
    found = {name: value for name, value in data["attrs"]} if data else {}
    plainly = {
        name: value["value"] if name in ("IFLA_GRE_IFLAGS", "IFLA_GRE_OFLAGS") else value
        for name, value in expected.items()
    }
    assert found == plainly


@pytest.mark.parametrize("kind, attrs, expected", SENT)
def test_what_pyroute2_wrote_is_read(kind: str, attrs: Attrs, expected: Attrs) -> None:
    if kind.startswith("ip6gre"):  # the kernel always tells these
        expected = {"IFLA_IP6GRE_IFLAGS": 0, "IFLA_IP6GRE_OFLAGS": 0, **expected}
    link_of = [("IFLA_LINK", 1000)] if _JOINED & attrs.keys() else []
    body = pyroute2_body(
        7, [("IFLA_IFNAME", "x0"), ("IFLA_GROUP", MARK), *link_of, *info(kind, list(expected.items()))]
    )
    fact = read(body)
    link_decode.join(fact, lambda ns, index: "eth0", lambda ns, nsid: None)
    assert LINK.compare(Fact(fact.ref, {"kind": kind, **attrs}), fact) == ()


@pytest.mark.parametrize("kind, attrs, expected", BESIDE)
def test_what_pyroute2_does_not_know(kind: str, attrs: Attrs, expected: dict[int, bytes]) -> None:
    body = sent(kind, attrs)
    data = wire.attributes(wire.attributes(body, IFINFOMSG.size)[IFLA_LINKINFO])[IFLA_INFO_DATA]
    assert wire.attributes(data) == expected
    stated = {name: value for name, value in attrs.items() if name not in _JOINED}
    assert LINK.compare(Fact(link("web", "x0"), {"kind": kind, **stated}), read(body)) == ()


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in SENT} - {"dummy", "nlmon", "vcan"}))
@given(st.dictionaries(st.integers(1, 32), st.binary(max_size=9)))
def test_attributes_of_the_wrong_size_do_no_harm(kind: str, noise: dict[int, bytes]) -> None:
    data = b"".join(wire.attr(nla, value) for nla, value in noise.items())
    linkinfo = wire.nest(IFLA_LINKINFO, wire.attr_str(1, kind), wire.nest(IFLA_INFO_DATA, data))
    assert read(pyroute2_body(7, [("IFLA_IFNAME", "x0")]) + linkinfo).attrs["kind"] == kind


def test_an_update_of_a_tunnel_carries_all_of_it() -> None:
    """ipgre_changelink takes what is left out for its default, the MTU included."""
    old = Fact(link("web", "x0"), {"kind": "gre", "local": "192.0.2.1", "remote": "192.0.2.2", "ttl": 9, "ikey": 5})
    new = old._replace(attrs={"kind": "gre", "ttl": 10, "mtu": 1400})
    env = Env()
    (request,) = LINK.encode(Op(UPDATE, new.ref, new, old, ("ttl",)), env)
    msg = pyroute2_read(request.body)  # type: ignore[union-attr]
    data = dict(msg.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")["attrs"])
    assert (data["IFLA_GRE_TTL"], data["IFLA_GRE_LOCAL"], data["IFLA_GRE_REMOTE"]) == (10, "192.0.2.1", "192.0.2.2")
    assert (data["IFLA_GRE_IKEY"], data["IFLA_GRE_IFLAGS"]) == (5, 0x2000)
    assert msg.get_attr("IFLA_MTU") == 1400


def test_a_bond_takes_only_what_is_down() -> None:
    """bond_enslave: EPERM for what is up; and the master says when it comes up."""
    bond = Fact(link("web", "bond0"), {"kind": "bond", "primary": ("web", "x0")})
    new = Fact(link("web", "x0"), {"kind": "dummy", "up": True, "master": "bond0", "_port_of": "bond"})
    env = Env(bond)
    master = env.assign("web", "bond0")
    old = Fact(new.ref, {"kind": "dummy", "up": True, "master": None})
    requests = [
        request() if callable(request) else request
        for request in LINK.encode(Op(UPDATE, new.ref, new, old, ("master",)), env)
    ]
    index = env.index("web", "x0")
    primary = info("bond", [("IFLA_BOND_PRIMARY", index)])
    assert [plain(request.body) for request in requests] == [  # type: ignore[union-attr]
        pyroute2_body(index, [], up=False),
        pyroute2_body(index, [("IFLA_MASTER", master)]),
        pyroute2_body(index, [], up=True),
        pyroute2_body(master, primary),
    ]
