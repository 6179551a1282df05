"""Names that lead elsewhere: what is known of the former namespaces is told by other names, and by none where they are gone."""

from __future__ import annotations

from topo.facts import FOREIGN, Desired, Fact, Ref, former, lasting, link, namespace
from topo.planning import rehome

ADDRESS = Ref("address", "web", ("eth0", "10.0.0.1/24"))
HOSTS = link("host", "br0")
NIC, BRIDGE = link("web", "nic0"), link("web", "br0")
STATED = Desired(
    "t",
    {ref: Fact(ref, {}) for ref in (namespace("web"), ADDRESS, HOSTS, BRIDGE)},
    external=frozenset({NIC}),
    take_over={BRIDGE: NIC},
)


def there(ref: Ref, ns: str) -> Ref:
    return ref._replace(ns=ns)


def test_a_former_name_is_of_its_name() -> None:
    assert lasting(former("web")) == lasting(former(former("web"))) == lasting("web") == "web"


def test_what_was_stated_is_where_it_was_made() -> None:
    old = former("web")
    found = rehome.stated(STATED, {"web": old})
    assert list(found.facts) == [namespace("web"), there(ADDRESS, old), HOSTS, there(BRIDGE, old)]
    assert all(ref == fact.ref for ref, fact in found.facts.items())
    assert found.external == {there(NIC, old)}
    assert found.take_over == {there(BRIDGE, old): there(NIC, old)}


def test_a_run_that_was_killed_may_have_made_it_in_both() -> None:
    old = former("web")
    found = rehome.stated(STATED, {"web": "web", old: old})
    assert {ADDRESS, there(ADDRESS, old)} < found.facts.keys()


def test_nothing_is_known_of_what_is_gone() -> None:
    assert list(rehome.stated(STATED, {"web": ""}).facts) == [namespace("web"), HOSTS]
    sysctl = Fact(Ref("sysctl", "web", ("net/ipv4/ip_forward",)), {"value": "0"}, FOREIGN)
    assert rehome.originals({sysctl.ref: sysctl}, {"web": ""}) == {}
    assert rehome.recorded({"web": 7, "db": 8}, {"web": ""}) == {"db": 8}


def test_two_that_changed_places() -> None:
    homes = {"web": "db", "db": "web"}
    one = Fact(Ref("sysctl", "web", ("net/ipv4/ip_forward",)), {"value": "0"}, FOREIGN)
    other = Fact(Ref("sysctl", "db", ("net/ipv4/ip_forward",)), {"value": "1"}, FOREIGN)
    found = rehome.originals({one.ref: one, other.ref: other}, homes)
    assert {ref.ns: fact.attrs["value"] for ref, fact in found.items()} == {"db": "0", "web": "1"}
    assert rehome.recorded({"web": 7, "db": 8}, homes) == {"db": 7, "web": 8}
