"""What another version of a file asks for, found without lowering it: the same as lowering it finds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topo.engine.known import Lowered
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
