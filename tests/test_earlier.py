"""What another version of a file asks for, found without lowering it: the same as lowering it finds."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from topo.engine.known import Lowered
from topo.errors import TopoError
from topo.facts import Desired
from topo.file.earlier import other_version
from topo.file.lowering import lower
from topo.file.model import Topology

SETTINGS = {
    "mtu": st.sampled_from([1400, 9000]),
    "txqueuelen": st.sampled_from([0, 5000]),
    "comment": st.sampled_from(["one", "two"]),
    "shaping": st.sampled_from([{"rate": "10mbit"}, {"rate": "20mbit"}]),
}
MACS = {"mac": st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02"])}


def _some(settings: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=settings)


def _interface(text: str, settings: dict[str, Any]) -> Any:
    return {"interface": text, **settings} if settings else text


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Versions of one file."""
    alone, ranged = draw(_some(SETTINGS | MACS)), draw(_some(SETTINGS))
    bridge = {"bridge": "br0", **draw(_some(SETTINGS))} if draw(st.booleans()) else "br0"
    named = {"bridge": "a:br1", "name": "p[1-2]", **draw(_some(SETTINGS)), "hairpin": draw(st.booleans())}
    links: list[Any] = [
        [_interface("a:eth0", alone), "br0"],
        {"ends": [_interface("h[1-3]:eth0", ranged), bridge], **draw(_some(SETTINGS))},
        {"ends": ["br0", "a:br1"], **draw(_some(SETTINGS))},
        {"ends": [named, _interface("h[1-2]:eth1", draw(_some(SETTINGS)))], **draw(_some(SETTINGS))},
        {"ends": [_interface("second:up0", draw(_some(SETTINGS))), _interface("up1", {})], "subnet": "10.9.0.0/30"},
    ]
    hard = draw(st.sampled_from([None, None, None, "more", "address", "sysctl", "defaults"]))
    document: dict[str, Any] = {
        "topology": "lab",
        "defaults": {"mtu": 1400 if hard == "defaults" else 1300, "txqueuelen": 50},
        "bridges": {"br0": {"subnet": "10.0.0.0/24"}},
        "namespaces": {
            "a": {"bridges": {"br1": {}}, "sysctls": {"net.ipv4.conf.eth0.rp_filter": 0}},
            "h[1-3]": {},
            "second": {"from": {"share": "a"}},
        },
        "links": links,
    }
    if hard == "more":
        links.append(["h3:eth1", "br0"])
    elif hard == "address":
        links[0][0] = {"interface": "a:eth0", **alone, "addresses": ["10.0.0.7/24"]}
    elif hard == "sysctl":
        links[0][0] = {"interface": "a:eth0", **alone, "sysctls": {"ipv4.rp_filter": 0}}
    return document


def _lowered(document: dict[str, Any]) -> Desired:
    return lower(Topology.model_validate(copy.deepcopy(document)))


@given(documents(), documents())
def test_it_is_what_lowering_finds(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    desired = _lowered(mine)
    before = {ref: dict(fact.attrs) for ref, fact in desired.facts.items()}
    found, expected = other_version(desired, theirs), _lowered(theirs)
    assert {ref: fact.attrs for ref, fact in desired.facts.items()} == before, "it changed what it was given"
    if found is not None:
        assert found.facts == expected.facts
        assert found._replace(facts={}, paths={}) == expected._replace(facts={}, paths={})


PEERS: list[Any] = [
    "192.0.2.9",
    {"address": "192.0.2.8"},
    *(
        {"address": f"192.0.2.{i}", "mac": f"02:00:00:00:00:0{i}", "ip": f"10.0.{i}.1", "subnets": [f"10.0.{i}.0/24"]}
        for i in range(1, 5)
    ),
    {"address": "192.0.2.5", "mac": "02:00:00:00:00:01", "vni": 7, "port": 4000},
    {"address": "192.0.2.6", "mac": "02:00:00:00:00:06", "ip": "10.0.6.1", "subnets": ["0.0.0.0/0", "10.0.1.0/24"]},
    {"address": "2001:db8::1"},
    {"address": "2001:db8::2", "mac": "02:00:00:00:00:07", "ip": "fd00::7", "subnets": ["fd07::/64"]},
]
PORTS: list[Any] = [
    *({"port": port, "to": f"a:{to}"} for port, to in ((80, 1), (81, 1), (82, 2), (82, 3))),
    *({"port": port, "to": "a"} for port in (80, 90)),
    {"port": 80, "to": "a:1", "protocol": "udp"},
    {"port": 83, "to": "b:1"},
    {"port": 84, "to": "[fd00::1]:5"},
    {"port": 85, "to": "[fd00::1]:6"},
    {"port": 80, "to": "a:1", "address": "10.9.0.1"},
    {"port": 80, "to": "a:1", "in": "lan"},
    {"port": "80-82", "to": "a:1-3"},
    {"port": 86, "to": "a:86-86"},
    {"ports": [87, 88], "to": "a:9"},
]


@st.composite
def lists(draw: st.DrawFn) -> dict[str, Any]:
    """Versions of one file that differ in entries of long lists, and at times in more."""
    some = partial(st.lists, min_size=1, max_size=6)
    six = [peer for peer in PEERS if "2001" in str(peer)]
    four = [peer for peer in PEERS if peer not in six]
    peers = st.one_of(
        *(
            some(st.sampled_from(of), unique_by=lambda e: str(e.get("mac", e) if isinstance(e, dict) else e))
            for of in (four, four, six)
        )
    )
    ports = some(st.sampled_from(PORTS), unique_by=lambda entry: (str(entry.get("port")), len(entry)))
    usual = st.sampled_from([True, True, True, True, False])
    document: dict[str, Any] = {
        "topology": "lab",
        "vxlans": {"hx": {"id": 9, "peers": draw(peers)}},
        "namespaces": {
            "n[1-2]": {"vxlans": {"vx0": {"id": 1 if draw(usual) else 2, "peers": draw(peers)}}},
            "a": {},
            "b": {},
            "gw": {"nat": {"publish": draw(ports)}},
        },
        "links": [
            [{"interface": "gw:lan", "addresses": "10.9.0.1/24"}, {"interface": "a:e", "addresses": "10.9.0.2/24"}],
            [{"interface": "gw:wan", "addresses": "fd09::1/64"}, {"interface": "b:e", "addresses": "fd09::2/64"}],
        ],
    }
    if not draw(usual):
        document["namespaces"]["gw"]["nat"]["masquerade"] = [{"out": "wan"}]
    if not draw(usual):
        document["namespaces"]["n[1-2]"]["bridges"] = {"br0": {"subnet": "10.8.0.0/24"}}
        document["links"].append(["n[1-2]:e", "br0"])
        document["bridges"] = {"br0": {"subnet": "10.7.0.0/24"}}
    return document


@given(lists(), lists(), st.lists(st.booleans(), min_size=3, max_size=3))
def test_of_lists_it_is_what_lowering_finds(mine: dict[str, Any], theirs: dict[str, Any], same: list[bool]) -> None:
    """`same`: which of the lists are the same after all, but for one entry."""
    theirs = copy.deepcopy(theirs)
    ways = (
        (("vxlans", "hx"), "peers"),
        (("namespaces", "n[1-2]", "vxlans", "vx0"), "peers"),
        (("namespaces", "gw", "nat"), "publish"),
    )
    for keep, (way, name) in zip(same, ways, strict=True):
        one, other = mine, theirs
        for key in way:
            one, other = one[key], other[key]
        if keep and other[name][0] not in one[name]:
            other[name] = [*one[name][:-1], other[name][0]]
    try:
        desired, expected = _lowered(mine), _lowered(theirs)
    except (TopoError, ValueError):
        assume(False)
    before = copy.deepcopy(desired.facts)
    found = other_version(desired, theirs)
    assert desired.facts == before, "it changed what it was given"
    event("told" if found is not None else "lowered")
    if found is not None:
        assert found.facts == expected.facts
        assert found._replace(facts={}, paths={}) == expected._replace(facts={}, paths={})


def _long(number: int) -> dict[str, Any]:
    peers = [{"address": f"192.0.2.{i}", "mac": f"02:00:00:00:00:{i:02x}", "ip": f"10.0.{i}.1", "subnets": f"10.0.{i}.0/24"}
             for i in range(2, number)]  # fmt: skip
    end = {"interface": "gw:lan", "addresses": "10.9.0.1/24"}
    return {
        "topology": "lab",
        "namespaces": {
            "n": {"vxlans": {"vx0": {"id": 1, "local": "192.0.2.1", "peers": peers}}},
            "web": {},
            "gw": {"nat": {"publish": [{"port": port, "to": f"web:{port}"} for port in range(1, number)]}},
        },
        "links": [[end, {"interface": "web:e", "addresses": "10.9.0.2/24"}]],
    }


@pytest.mark.parametrize("at", [0, 7, -1])
@pytest.mark.parametrize("what", ["changed", "gone", "more"])
@pytest.mark.parametrize("where", ["peers", "publish"])
def test_entries_of_long_lists_are_told_without_lowering(where: str, what: str, at: int) -> None:
    mine, theirs = _long(30), _long(30)
    spaces = theirs["namespaces"]
    entries = spaces["n"]["vxlans"]["vx0"]["peers"] if where == "peers" else spaces["gw"]["nat"]["publish"]
    if what == "gone":
        del entries[at]
    else:
        new = {"port": 99, "to": "web:7"}
        if where == "peers":
            new = {"address": "192.0.2.99", "mac": "02:00:00:00:00:99", "ip": "10.0.99.1", "subnets": "10.0.99.0/24"}
        place = at % len(entries)
        entries[place : place + (what == "changed")] = [new]
    for one, other in ((mine, theirs), (theirs, mine)):
        found = other_version(_lowered(one), other)
        assert found is not None and found.facts == _lowered(other).facts


STAR: dict[str, Any] = {
    "topology": "lab",
    "bridges": {"br0": {"subnet": "10.0.0.0/24"}},
    "namespaces": {"h[1-9]": {}},
    "links": [["h1:eth0", "br0"], ["h[2-9]:eth0", "br0"]],
}


@pytest.mark.parametrize(
    "links",
    [
        [[{"interface": "h1:eth0", "mtu": 1400}, "br0"], ["h[2-9]:eth0", "br0"]],
        [{"ends": ["h1:eth0", "br0"], "mtu": 1400, "shaping": {"rate": "1mbit"}}, ["h[2-9]:eth0", "br0"]],
        [["h1:eth0", "br0"], {"ends": ["h[2-9]:eth0", "br0"], "txqueuelen": 99, "comment": "x"}],
    ],
)  # fmt: skip
def test_settings_of_links_are_told_without_lowering(links: list[Any]) -> None:
    desired = _lowered(STAR | {"links": links})
    found = other_version(desired, STAR)
    assert found is not None and found.facts == _lowered(STAR).facts
    back = other_version(_lowered(STAR), STAR | {"links": links})
    assert back is not None and back.facts == desired.facts


@pytest.mark.parametrize(
    "other",
    [
        STAR | {"links": [["h1:eth0", "br0"], ["h[2-8]:eth0", "br0"]]},
        STAR | {"links": [["h1:eth1", "br0"], STAR["links"][1]]},
        STAR | {"links": STAR["links"][:1]},
        STAR | {"links": [["h1:eth0", "br0"], {"ends": ["h[2-9]:eth0", "br0"], "up": False}]},
        STAR | {"namespaces": {"h[1-9]": {"forwarding": True}}},
        STAR | {"links": [[{"interface": "h1:eth0", "gateway": False}, "br0"], STAR["links"][1]]},
        STAR | {"links": [["h1:eth0", {"bridge": "br0", "hairpin": True}], STAR["links"][1]]},
    ],
)  # fmt: skip
def test_anything_else_is_lowered(other: dict[str, Any]) -> None:
    assert other_version(_lowered(STAR), other) is None


def test_equal_facts_are_held_once() -> None:
    desired, other = _lowered(STAR), STAR | {"namespaces": {"h[1-9]": {"forwarding": True}}}
    found = Lowered(desired)(other)
    assert found.facts == _lowered(other).facts
    mine = {ref: fact for ref, fact in found.facts.items() if ref.kind != "sysctl" or ref.ns == "host"}
    assert mine and all(fact is desired.facts[ref] for ref, fact in mine.items())
