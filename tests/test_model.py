"""The grammar: what is taken, what is refused and where, and the schema that editors read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from topo.file.lowering import lower
from topo.file.model import Bridge, BridgeEnd, Link, Namespace, Nat, Topology
from topo.file.model.interfaces import ENTRIES, LATER_KINDS
from topo.file.model.policy import fwmark
from topo.file.model.values import endpoint, ports, prefix, seconds
from topo.file.schema import schema
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.shaping_spec import Shaping

ROOT = Path(__file__).parent.parent


def errors(**sections: Any) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        Topology.model_validate({"topology": "lab", **sections})
    return [(error["loc"], error["msg"].removeprefix("Value error, ")) for error in caught.value.errors()]


def the_error(**sections: Any) -> tuple[tuple[int | str, ...], str]:
    found = errors(**sections)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("sections", "loc", "word"),
    [
        ({"links": [["a:x", "b:y"], ["a:z", 7]]}, ("links", 1, "ends", 1), "an end is"),
        ({"bridges": {"br0": {"vlan": {"pvid": 7}}}}, ("bridges", "br0", "vlan"), "vlan_filtering: true"),
        (
            {"links": [["a:x", {"bridge": "br0", "vlan": {"tagged": [7], "untagged": "6-8"}}]]},
            ("links", 0, "ends", 1, "vlan", "untagged"),
            "VLAN 7 is both",
        ),
        *(
            ({"links": [["a:x", {"bridge": "b", "vlan": {"tagged": one}}]]}, ("links", 0, "ends", 1, "vlan", "tagged"), word)
            for one, word in (("x", "no VLAN"), (True, "no VLAN"), ("9-7", "backwards"), ([4095], "1 to 4094"), ([0], "no VLAN"))
        ),
        ({"links": [["a:x", {"bridge": "br0", "mtu": 1}]]}, ("links", 0, "ends", 1, "mtu"), "68"),
        ({"links": [["a:x", {"bridge": "b", "interface": "c"}]]}, ("links", 0, "ends", 1, "bridge"), "not both"),
        *(
            ({"links": [["a:x", {"interface": "b:x", "token": token}]]}, ("links", 0, "ends", 1, "token"), "last 64 bits")
            for token in ("10.0.0.1", "fd00::1")
        ),
        *(
            ({"links": [["a:x", {"interface": "b:x", "shaping": {"kind": "htb", "rate": "9mbit", **classes}}]]},
             ("links", 0, "ends", 1, "shaping", *loc), word)
            for classes, loc, word in (
                ({"default": 7}, (), "one of `classes`"),
                ({"classes": [{"id": 7, "rate": "1mbit"}], "default": 8}, (), "one of `classes`"),
                ({"classes": [{"id": 7, "rate": "1mbit"}] * 2, "default": 7}, (), "two classes have the id 7"),
                ({"classes": [{"id": 7, "rate": "2mbit", "ceil": "1mbit"}], "default": 7}, (), "ceil is below rate"),
                ({"classes": [{"id": 7, "rate": "2mbit", "ceil": "10mbit"}], "default": 7}, (), "all together"),
                ({"classes": [{"id": 1, "rate": "2mbit"}], "default": 1}, ("classes", 0, "id"), "2"),
                ({"classes": [{"id": 7, "rate": "2mbit", "match": [{}]}], "default": 7}, ("classes", 0, "match", 0), "missing"),
                ({"classes": [{"id": 7, "rate": "2mbit", "match": [{"dport": 7}]}], "default": 7},
                 ("classes", 0, "match", 0), "`protocol`"),
                ({"classes": [{"id": 7, "rate": "2mbit", "match": [{"from": "10.0.0.0/8", "to": "fd00::/8"}]}], "default": 7},
                 ("classes", 0, "match", 0), "no packet"),
                ({"classes": [{"id": 7, "rate": "2mbit", "match": [{"from": "10.0.0.1/8"}]}], "default": 7},
                 ("classes", 0, "match", 0, "from"), "host bits"),
            )
        ),
        ({"links": [["a:x"]]}, ("links", 0, "ends"), "at least 2"),
        ({"links": [7]}, ("links", 0), "a link is"),
        ({"links": [{"ends": ["a:x", "b:x"], "prefix": 30}]}, ("links", 0, "prefix"), "subnet"),
        ({"bridges": {"br0": {"vlan_default_pvid": 4095}}}, ("bridges", "br0", "vlan_default_pvid"), "4094"),
        ({"bridges": {"br0": {"mtu": True}}}, ("bridges", "br0", "mtu"), "integer"),
        ({"bridges": {"br0": {"mtu": "1500"}}}, ("bridges", "br0", "mtu"), "integer"),
        ({"bridges": {"br0": {"stp": 1}}}, ("bridges", "br0", "stp"), "boolean"),
        ({"bridges": {"br0": {"gateway": True}}}, ("bridges", "br0", "gateway"), "false"),
        ({"bridges": {"br0": {"group_fwd_mask": 1}}}, ("bridges", "br0", "group_fwd_mask"), "cannot be forwarded"),
        ({"bridges": {"br0": {"external": True, "mtu": 1500}}}, ("bridges", "br0", "mtu"), "external"),
        ({"bridges": {"x" * 16: {}}}, ("bridges", "x" * 16, "[key]"), "15 bytes"),
        ({"interfaces": {"v": {"kind": "batadv"}}}, ("interfaces", "v", "kind"), "'batadv' is not built in yet"),
        ({"interfaces": {"v": {"kind": "veth"}}}, ("interfaces", "v", "kind"), "`links`"),
        ({"interfaces": {"v": {}}}, ("interfaces", "v"), "which kind"),
        ({"interfaces": {"g": {"kind": "gre", "mac": "02:00:00:00:00:01"}}}, ("interfaces", "g", "mac"), "without Ethernet"),
        ({"interfaces": {"g": {"kind": "gre", "local": "fd00::1"}}}, ("interfaces", "g", "local"), "no IPv4 address"),
        ({"interfaces": {"v": {"kind": "vlan", "parent": "e", "id": 4095}}}, ("interfaces", "v", "id"), "4094"),
        ({"interfaces": {"b": {"kind": "bond", "primary": "p"}}}, ("interfaces", "b"), "no primary"),
        ({"interfaces": {"b": {"kind": "bond", "lacp_rate": "fast"}}}, ("interfaces", "b"), "LACP"),
        ({"interfaces": {"b": {"kind": "bond", "miimon": 100, "updelay": 150}}}, ("interfaces", "b"), "multiple"),
        ({"interfaces": {"b": {"kind": "bond", "miimon": 100, "arp_interval": 9}}}, ("interfaces", "b"), "ARP"),
        ({"interfaces": {"v": {"kind": "macvlan"}}}, ("interfaces", "v", "parent"), "required"),
        ({"vxlans": {"v": {"id": 1 << 24}}}, ("vxlans", "v", "id"), "16777215"),
        ({"vxlans": {"v": {"id": 1, "remote": "192.0.2.1"}}}, ("vxlans", "v", "remote"), "peers"),
        ({"vxlans": {"v": {"id": 1, "group": "192.0.2.1", "dev": "e"}}}, ("vxlans", "v", "group"), "multicast"),
        ({"vxlans": {"v": {}}}, ("vxlans", "v", "id"), "required"),
        ({"vxlans": {"v": {"id": 1, "vnis": 7}}}, ("vxlans", "v", "id"), "`vnis`"),
        ({"vxlans": {"v": {"vnis": []}}}, ("vxlans", "v", "vnis"), "at least 1"),
        ({"vxlans": {"v": {"vnis": ["7-5"]}}}, ("vxlans", "v", "vnis", 0, "vni"), "backwards"),
        ({"vxlans": {"v": {"vnis": [7, "5-9"]}}}, ("vxlans", "v", "vnis", 1), "VNI 7 is stated twice"),
        ({"vxlans": {"v": {"vnis": [{"vni": 7, "group": "239.1.1.1"}]}}}, ("vxlans", "v", "vnis", 0, "group"), "`dev`"),
        ({"vxlans": {"v": {"vnis": [{"vni": 7, "group": "10.0.0.1"}]}}}, ("vxlans", "v", "vnis", 0, "group"), "no multicast"),
        ({"vxlans": {"v": {"vnis": 7, "peers": ["192.0.2.1"]}}}, ("vxlans", "v", "peers", 0), "needs `vni`"),
        ({"vxlans": {"v": {"vnis": 7, "peers": [{"address": "192.0.2.1", "vni": 8}]}}},
         ("vxlans", "v", "peers", 0, "vni"), "no VNI 8"),
        *(
            ({"bridges": {"b": {"ports": [{"interface": "v", "vlan": {"tagged": [7, 8], "tunnels": tunnels}}]}}},
             ("bridges", "b", "ports", 0, "vlan", "tunnels"), word)
            for tunnels, word in (
                ([7], "a mapping"), ({9: 9}, "none that the port is in"), ({"7-8": 9}, "not as many"),
                ({7: 9, "7-8": "10-11"}, "stands for two VNIs"), ({7: 9, 8: 9}, "two VLANs stand for VNI 9"), ({7: 0}, "no VNI"),
            )
        ),
        *(
            ({"bridges": {"b": {"ports": [{"interface": "v", "vlan": {"tagged": [7, 8], "states": states}}]}}},
             ("bridges", "b", "ports", 0, "vlan", "states"), word)
            for states, word in (
                ([7], "a mapping"), ({9: "learning"}, "none that it is in"), ({7: "up"}, "no state of a VLAN"),
                ({7: "learning", "7-8": "blocking"}, "stated twice"),
            )
        ),
        ({"vxlans": {"v": {"external": True, "mtu": 1450}}}, ("vxlans", "v", "mtu"), "external"),
        ({"vxlans": {"v": {"external": True, "peers": [{"address": "192.0.2.1", "port": 8472}]}}},
         ("vxlans", "v", "peers", 0, "port"), "external"),
        ({"vxlans": {"v": {"id": 1, "peers": [{"address": "192.0.2.1", "ip": "10.0.0.1"}]}}},
         ("vxlans", "v", "peers", 0, "ip"), "mac"),
        ({"routes": [{"to": "10.0.0.1/8", "via": "10.0.0.1"}]}, ("routes", 0, "to"), "host bits"),
        ({"routes": [{"to": "fd00::/8", "via": "10.0.0.1"}]}, ("routes", 0, "via"), "IPv6"),
        ({"routes": [{"to": "default", "nexthops": []}]}, ("routes", 0, "nexthops"), "at least 1"),
        ({"routes": [{"to": "10.0.0.0/8", "dev": "e", "tos": 5}]}, ("routes", 0, "tos"), "multiple of 4"),
        ({"routes": [{"to": "fd00::/8", "dev": "e", "tos": 4}]}, ("routes", 0, "tos"), "IPv6 routes have no"),
        ({"routes": [{"to": "10.0.0.0/8", "dev": "e", "pref": "low"}]}, ("routes", 0, "pref"), "IPv4 routes have no"),
        ({"routes": [{"to": "10.0.0.0/8", "dev": "e", "realms": "5/0"}]}, ("routes", 0, "realms"), "is no realm"),
        ({"routes": [{"to": "10.0.0.0/8", "dev": "e", "realms": 65536}]}, ("routes", 0, "realms"), "is no realm"),
        ({"routes": [{"to": "10.0.0.0/8", "type": "throw", "realms": 5}]}, ("routes", 0, "realms"), "beside"),
        ({"routes": [{"to": "fd00::/8", "dev": "e", "realms": 5}]}, ("routes", 0, "realms"), "IPv6 routes have no"),
        ({"routes": [{"to": "10.0.0.0/8", "dev": "e", "rtt": "1us"}]}, ("routes", 0, "rtt"), "1 ms to 65 s"),
        ({"routes": [{"to": "10.0.0.0/8", "dev": "e", "table": "no such"}]}, ("routes", 0, "table"), "rt_tables"),
        ({"routes": [{"to": "10.0.0.0/8", "via": "10.0.0.1", "type": "local"}]}, ("routes", 0, "via"), "`dev` only"),
        ({"routes": [{"to": "10.0.0.0/8", "via": "10.0.0.1", "type": "throw"}]}, ("routes", 0, "via"), "nowhere"),
        ({"routes": [{"to": "10.0.0.0/8", "dev": "e", "encap": {}}]}, ("routes", 0, "encap"), "one of mpls"),
        ({"routes": [{"to": "10.0.0.0/8", "dev": "e", "encap": {"mpls": {"labels": [1 << 20]}}}]},
         ("routes", 0, "encap", "mpls", "labels", 0), "less than 1048576"),
        ({"routes": [{"to": "10.0.0.0/8", "dev": "e", "encap": {"ip": {"dst": "fd00::1"}}}]},
         ("routes", 0, "encap", "ip", "dst"), "not for `ip`"),
        ({"routes": [{"to": "10.0.0.0/8", "dev": "e", "encap": {"seg6": {"segs": ["10.0.0.1"]}}}]},
         ("routes", 0, "encap", "seg6", "segs", 0), "IPv6"),
        ({"routes": [{"to": "fd00::/8", "dev": "e", "encap": {"seg6local": {"action": "End.DX4", "nh6": "fd00::1"}}}]},
         ("routes", 0, "encap", "seg6local"), "takes either `nh4`"),
        ({"routes": [{"to": "fd00::/8", "type": "throw", "encap": {"seg6": {"segs": ["fd00::1"]}}}]},
         ("routes", 0, "encap"), "beside"),
        ({"routes": [{"to": "10.0.0.0/8", "nhid": 7, "dev": "e"}]}, ("routes", 0, "dev"), "the nexthop's"),
        ({"nexthops": [{"id": 7}]}, ("nexthops", 0), "either"),
        ({"nexthops": [{"id": 7, "via": "10.0.0.1", "blackhole": True}]}, ("nexthops", 0), "either"),
        ({"nexthops": [{"id": 7, "via": "10.0.0.1", "family": "inet6"}]}, ("nexthops", 0, "family"), "`via`"),
        ({"nexthops": [{"id": 7, "blackhole": True, "encap": {"mpls": {"labels": 9}}}]}, ("nexthops", 0, "encap"), "beside"),
        ({"nexthops": [{"id": 7, "group": [8], "buckets": 9}]}, ("nexthops", 0, "buckets"), "resilient"),
        ({"nexthops": [{"id": 7, "group": [8, 9], "type": "resilient", "buckets": 1}]}, ("nexthops", 0, "buckets"), "as many"),
        ({"nexthops": [{"id": 7, "group": [8, 8]}]}, ("nexthops", 0, "group"), "twice"),
        ({"nexthops": [{"id": 7, "group": [8], "type": "resilient"}]}, ("nexthops", 0, "buckets"), "required"),
        ({"rules": [{"goto": 5, "table": 7}]}, ("rules", 0), "either"),
        ({"rules": [{"tos": 4, "dscp": 1, "table": 7}]}, ("rules", 0, "dscp"), "the same bits"),
        ({"rules": [{"dscp": "8/0x7", "table": 7}]}, ("rules", 0, "dscp"), "outside of its mask"),
        ({"rules": [{"dscp": 64, "table": 7}]}, ("rules", 0, "dscp"), "6 bits"),
        ({"rules": [{"dport": "80-90/0xf0", "table": 7}]}, ("rules", 0, "dport"), "no port"),
        ({"rules": [{"flowlabel": 7, "family": "inet", "table": 7}]}, ("rules", 0, "flowlabel"), "only IPv6"),
        ({"rules": [{"flowlabel": 7, "from": "10.0.0.0/8", "table": 7}]}, ("rules", 0, "flowlabel"), "only IPv6"),
        ({"rules": [{"goto": 5, "realms": 7}]}, ("rules", 0, "realms"), "need a `table`"),
        ({"rules": [{"from": "fd00::/8", "table": 7, "realms": 7}]}, ("rules", 0, "realms"), "IPv4"),
        ({"rules": [{"goto": 5, "suppress_ifgroup": 7}]}, ("rules", 0, "suppress_ifgroup"), "needs a `table`"),
        ({"rules": [{"ipproto": "tcpp", "table": 7}]}, ("rules", 0, "ipproto"), "a number from 1 to 255"),
        ({"rules": [{"ipproto": "icmp", "dport": 7, "table": 7}]}, ("rules", 0, "dport"), "no ports"),
        ({"rules": [{"from": "10.0.0.0/8", "to": "fd00::/8", "table": 7}]}, ("rules", 0), "families"),
        ({"nat": {"publish": [{"port": 0, "to": "web:80"}]}}, ("nat", "publish", 0, "port"), "1 to 65535"),
        ({"nat": {"publish": [{"port": 1, "to": "web:x"}]}}, ("nat", "publish", 0, "to"), "port"),
        ({"checks": [{"from": "a", "tcp": "b"}]}, ("checks", 0, "tcp"), "port"),
        ({"checks": [{"from": "a", "ping": "b:80"}]}, ("checks", 0, "ping"), "no port"),
        ({"namespaces": {"a": {"from": {"pid": 1, "name": "b"}}}}, ("namespaces", "a", "from"), "exactly one"),
        ({"namespaces": {"a": {"links": []}}}, ("namespaces", "a", "links"), "not permitted"),
        ({"namespaces": {"host": {}}}, ("namespaces", "host", "[key]"), "outermost"),
        ({"sysctls": {"kernel.x": 1}}, ("sysctls", "kernel.x", "[key]"), "network namespace"),
        ({"topology": 2024}, ("topology",), "string"),
    ],
)  # fmt: skip
def test_one_error_at_its_place(sections: dict[str, Any], loc: tuple[int | str, ...], word: str) -> None:
    found_loc, message = the_error(**sections)
    assert found_loc == loc
    assert word in message


def test_every_error_at_once() -> None:
    found = errors(bridges={"br0": {"mtu": 1, "mac": "x"}}, links=[["a"], 7], routes=[{"to": "x"}])
    assert [loc[0] for loc, _ in found] == ["bridges", "bridges", "routes", "links", "links"]


def test_netem() -> None:
    loc, message = the_error(links=[["a:x", {"interface": "b:x", "shaping": {"reorder": "3%"}}]])
    assert loc == ("links", 0, "ends", 1, "shaping")
    assert "reorder needs delay" in message
    shaping = {"kind": "netem", "delay": 3000, "loss": {"state": [1.0]}, "rate": "8000000bit"}
    entry = Bridge(shaping=Shaping(delay="3ms", loss={"state": ["1%"]}, rate="8mbit"))
    document = Topology(topology="lab", bridges={"br0": entry}).document()
    assert document["bridges"]["br0"]["shaping"] == shaping
    assert Topology.model_validate(document).bridges["br0"].shaping == entry.shaping


def test_nothing_behind_a_section_is_nothing() -> None:
    topology = Topology.model_validate(
        {"topology": "lab", "namespaces": {"a": None, "b": {"routes": None}}, "bridges": {"br0": None}, "links": None}
    )
    assert topology.links == []
    assert topology.namespaces["a"] == Namespace()
    assert topology.bridges["br0"] == Bridge()


def test_kinds_come_from_the_registry() -> None:
    assert set(ENTRIES) == {name for name, kind in LINK_KINDS.items() if kind.spec is not None}
    assert not LATER_KINDS & set(LINK_KINDS)


def test_values_are_canonical() -> None:
    topology = Topology.model_validate(
        {
            "topology": "lab",
            "bridges": {"br0": {"addresses": "FD00:0::1/64", "mac": "02:AA:00:00:00:01"}},
            "routes": [{"to": "10.1.2.3", "via": "10.0.0.1"}],
        }
    )
    assert topology.bridges["br0"].addresses == ["fd00::1/64"]
    assert topology.bridges["br0"].mac == "02:aa:00:00:00:01"
    assert topology.routes[0].to == "10.1.2.3/32"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("web", ("web", None)),
        ("web:80", ("web", (80, 80))),
        ("web:8000-8010", ("web", (8000, 8010))),
        ("127.0.0.1:8080", ("127.0.0.1", (8080, 8080))),
        ("[::1]:80", ("::1", (80, 80))),
        ("[fd00:0::2]", ("fd00::2", None)),
        ("fd00:0::2", ("fd00::2", None)),
        ("host:22", ("host", (22, 22))),
        ("10.web", ("10.web", None)),
    ],
)
def test_targets(text: str, found: object) -> None:
    assert endpoint(text) == found


@pytest.mark.parametrize(
    "text", ["", "web:", "web:0", "1.2.3.400", "[::1", "[1.2.3.4]:80", "a:b:c", "web:90-80", "a b"]
)
def test_no_targets(text: str) -> None:
    with pytest.raises(ValueError):
        endpoint(text)


def test_scalars() -> None:
    assert (seconds(5), seconds("200ms"), seconds("2.5s")) == (5, 0.2, 2.5)
    assert (ports(80), ports("80"), ports("80-90")) == ((80, 80), (80, 80), (80, 90))
    assert (fwmark(1), fwmark("0x1/0xff")) == ((1, 0xFFFFFFFF), (1, 0xFF))
    assert prefix("0:0::/0") == "::/0"
    for check, wrong in ((seconds, True), (seconds, "soon"), (ports, True), (fwmark, True), (fwmark, "1/x")):
        with pytest.raises(ValueError):
            check(wrong)


def test_built_in_code() -> None:
    """No YAML is needed, and the document that the record keeps lowers to the same."""
    topology = Topology(
        topology="lab",
        bridges={"br0": Bridge(subnet=["10.0.0.0/24"], shaping=Shaping(rate="10mbit"))},
        namespaces={"a": Namespace(), "b": Namespace()},
        links=[Link(ends=["a:eth0", BridgeEnd(bridge="br0", name="to-a")]), Link(ends=["b:eth0", "br0"])],
        nat=Nat.model_validate({"masquerade": [{"from": "10.0.0.0/24", "out": "!br0"}]}),
    )
    again = Topology.model_validate(json.loads(json.dumps(topology.document())))
    assert lower(again).facts == lower(topology).facts
    assert topology.document()["bridges"]["br0"]["shaping"]["rate"] == "10000000bit"


def test_nothing_changes_afterwards() -> None:
    with pytest.raises(ValidationError):
        setattr(Topology(topology="lab"), "topology", "other")  # noqa: B010 - a type checker refuses it too


# -- the schema ----------------------------------------------------------------------------------------------------


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_every_field_is_described() -> None:
    def undescribed(node: Any, path: str) -> list[str]:
        found = []
        for name, part in node.get("properties", {}).items():
            found += [f"{path}.{name}"] if "description" not in part else []
        return found

    whole = schema()
    parts = {"": whole, **whole["$defs"]}
    assert [field for name, part in parts.items() for field in undescribed(part, name)] == []


@pytest.mark.parametrize("sample", sorted((ROOT / "samples").glob("*.yaml")), ids=lambda path: path.stem)
def test_schema_takes_what_topo_takes(sample: Path) -> None:
    from topo.file.loading import load_document

    jsonschema.Draft202012Validator(schema()).validate(dict(load_document([sample])))


@pytest.mark.parametrize(
    "sections",
    [
        {"bridge": {}},
        {"bridges": {"br0": {"adresses": []}}},
        {"bridges": {"br0": {"mtu": "1500"}}},
        {"links": [["a:x", "b:x", "c:x"]]},
        {"interfaces": {"x": {"kind": "batadv"}}},
        {"namespaces": {"a": {"links": []}}},
    ],
)
def test_schema_refuses_what_topo_refuses(sections: dict[str, Any]) -> None:
    assert errors(**sections)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate({"topology": "lab", **sections})
