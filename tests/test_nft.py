"""The nftables table as plain data: what rules become, what is sent, and how differences are named."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topo.changes import CREATE, DELETE, UPDATE, Conntrack, Flow, Nft, Op
from topo.errors import InputError, UnsupportedError
from topo.kernel import nftables
from topo.kinds.nft import (
    NFT,
    Dnat,
    FirewallChain,
    FirewallRule,
    Interface,
    Isolate,
    Masquerade,
    Match,
    Publish,
    Rules,
    Snat,
    differences,
    fact,
    needed_sysctls,
    needs_hairpin,
    parse,
    replacement,
    stale_flows,
    table,
)
from topo.kinds.nfttable import in_order
from topo.kinds.nftwords import show


def lines(rules: Rules, chain: str) -> list[str]:
    """The rules of a chain in words."""
    return [show(rule) for rule in table(rules)["chains"][chain]["rules"]]


def web(port: int = 8080, **more: Any) -> Publish:
    return Publish((port, port), (80, 80), **({"to4": "172.30.0.2", "via": "br0"} | more))


def test_the_first_masquerade_that_matches_decides() -> None:
    """Flannel's rules, in nft's words."""
    cluster, node = "10.244.0.0/16", "10.244.1.0/24"
    masquerade = (
        Masquerade(fwmark=(0x4000, 0x4000), keep=True),
        Masquerade((f"!{cluster}",), to=(node,), keep=True),
        Masquerade((cluster,), to=("!224.0.0.0/4", "!10.0.0.0/8"), random=True),
        Masquerade(("!fd00::/8",), Interface("eth0"), fwmark=(5, 0xFFFFFFFF)),
    )
    assert lines(Rules(masquerade=masquerade), "nat_postrouting") == [
        "meta mark & 0x4000 == 16384 return",
        f"ip saddr != {cluster} ip daddr {node} return",
        f"ip saddr {cluster} ip daddr != {{ 10.0.0.0/8, 224.0.0.0/4 }} masquerade fully-random",
        "meta mark 5 oifname eth0 ip6 saddr != fd00::/8 masquerade",
    ]


def test_outside_of_everything_is_nothing() -> None:
    rules = Rules(masquerade=(Masquerade(("!0.0.0.0/1", "!128.0.0.0/1", "!fd00::/8")),))
    assert lines(rules, "nat_postrouting") == ["ip6 saddr != fd00::/8 masquerade"]


def test_masquerade_reads_as_nft_would_write_it() -> None:
    rules = Rules(
        masquerade=(Masquerade(("172.30.0.0/16",), Interface("br0", True)), Masquerade(out=Interface("eth0")))
    )
    assert lines(rules, "nat_postrouting") == [
        "oifname != br0 ip saddr 172.30.0.0/16 masquerade",
        "oifname eth0 masquerade",
    ]
    assert set(table(rules)["chains"]) == {"nat_postrouting"}


def test_a_list_of_both_families_becomes_one_rule_for_each() -> None:
    rules = Rules(masquerade=(Masquerade(("10.0.0.0/8", "fd00::/8", "192.168.0.0/16")),))
    assert lines(rules, "nat_postrouting") == [
        "ip saddr { 10.0.0.0/8, 192.168.0.0/16 } masquerade",
        "ip6 saddr fd00::/8 masquerade",
    ]


def test_source_and_destination_of_different_families_match_nothing() -> None:
    rule = FirewallRule(Match(from_=("10.0.0.1",), to=("fd00::1",)), "drop")
    assert "forward" not in table(Rules(firewall=(FirewallChain("forward", rules=(rule,)),)))["chains"]


def test_every_address_of_a_family() -> None:
    rule = FirewallRule(Match(from_=("0.0.0.0/0", "::/0")), "drop")
    rules = Rules(firewall=(FirewallChain("input", rules=(rule,)),))
    assert lines(rules, "input") == ["meta nfproto ipv4 drop", "meta nfproto ipv6 drop"]


def test_snat_and_dnat_know_their_family() -> None:
    rules = Rules(
        snat=(Snat("192.0.2.9", (), Interface("eth0")), Snat("2001:db8::9", ("fd00::/8",))),
        dnat=(Dnat("10.0.0.2", 80, Match(protocol="tcp", dport=((8080, 8080),), out=Interface("eth0"))),),
    )
    assert lines(rules, "nat_postrouting") == [
        "meta nfproto ipv4 oifname eth0 snat ip to 192.0.2.9",
        "ip6 saddr fd00::/8 snat ip6 to 2001:db8::9",
    ]
    assert lines(rules, "nat_output") == ["meta nfproto ipv4 oifname eth0 tcp dport 8080 dnat ip to 10.0.0.2:80"]
    assert "nat_prerouting" not in table(rules)["chains"]


def test_ten_thousand_ports_are_one_rule() -> None:
    rules = Rules(publish=(Publish((10000, 19999), (20000, 29999), "172.30.0.2", "fd30::2", via="br0"),))
    attrs = table(rules)
    assert len(attrs["chains"]["publish"]["rules"]) == 3  # ::1 is left alone; IPv4; IPv6
    assert len(attrs["sets"]["publish_tcp4_addr"]["elements"]) == 10000
    assert attrs["sets"]["publish_tcp4_port"]["elements"]["19999"] == "29999"
    assert attrs["sets"]["publish_to6"]["elements"] == {"fd30::2": ""}


def test_the_more_special_key_is_looked_up_first() -> None:
    publishes = (
        web(),
        web(address="192.0.2.1"),
        web(in_=Interface("br0", True)),
        web(in_=Interface("eth0")),
        web(in_=Interface("eth0"), address="192.0.2.1"),
    )
    keys = [line.partition(" map ")[0] for line in lines(Rules(publish=publishes), "publish")]
    assert [key.rpartition(" to ")[2] for key in keys] == [
        "iifname . ip daddr . tcp dport",
        "ip daddr . tcp dport",
        "iifname . tcp dport",
        "tcp dport",
        "tcp dport",
    ]
    assert keys[3].startswith("iifname != br0") and keys[4].startswith("meta nfproto ipv4")


def test_the_same_port_twice() -> None:
    assert table(Rules(publish=(web(), web()))) == table(Rules(publish=(web(),)))
    assert table(Rules(publish=(web(), web(protocol="udp"), web(address="192.0.2.1", to4="10.0.0.9"))))
    with pytest.raises(
        InputError, match=r"tcp port 8080 is published twice: to 172\.30\.0\.2 port 80 and to 10\.0\.0\.9 port 80"
    ):
        table(Rules(publish=(web(), web(to4="10.0.0.9"))))


@pytest.mark.parametrize("name", ["@publish_to4", "*"])
def test_names_that_nft_would_read_otherwise(name: str) -> None:
    with pytest.raises(InputError, match="cannot match an interface"):
        table(Rules(masquerade=(Masquerade(out=Interface(name)),)))


def test_publishing_on_the_loopback_address_of_ipv6_is_refused() -> None:
    with pytest.raises(InputError, match="::1"):
        table(Rules(publish=(web(address="::1", to6="fd30::2"),)))


def test_the_chain_that_keeps_loopback_closed_comes_with_route_localnet() -> None:
    assert needed_sysctls(Rules(publish=(web(),))) == {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/br0/route_localnet": "1",
    }
    assert lines(Rules(publish=(web(),)), "raw_prerouting") == [
        "iifname != lo ip saddr 127.0.0.0/8 drop",
        "iifname != lo ip daddr 127.0.0.0/8 drop",
    ]
    six = Rules(publish=(web(to4=None, to6="fd30::2"),))
    assert needed_sysctls(six) == {"net/ipv6/conf/all/forwarding": "1"}
    assert "raw_prerouting" not in table(six)["chains"]
    assert needed_sysctls(Rules(firewall=(FirewallChain("input", "drop"),))) == {}
    assert needed_sysctls(Rules(masquerade=(Masquerade(),))) == {"net/ipv4/ip_forward": "1"}


def test_targets_whose_port_may_need_hairpin() -> None:
    rules = Rules(publish=(web(to6="fd30::2"), web(81, to4="10.9.9.9", via="")))
    assert needs_hairpin(rules) == {"172.30.0.2", "fd30::2"}


def test_published_ports_pass_a_forward_chain_that_drops_behind_the_users_own_rules() -> None:
    mine = FirewallRule(Match(from_=("10.6.6.6",)), "drop")
    assert lines(Rules(publish=(web(),), firewall=(FirewallChain("forward", "drop", (mine,)),)), "forward") == [
        "ip saddr 10.6.6.6 drop",
        "ct direction original ct status dnat ip daddr @publish_to4 accept",
        "ct direction reply ct status dnat ip saddr @publish_to4 accept",
    ]
    accepting = Rules(publish=(web(),), firewall=(FirewallChain("forward", "accept", (mine,)),))
    assert lines(accepting, "forward") == ["ip saddr 10.6.6.6 drop"]


def test_isolation_is_two_sets_however_many_bridges() -> None:
    attrs = table(Rules(isolate=(Isolate(tuple(f"br{n}" for n in range(100))),)))
    assert len(attrs["chains"]["forward"]["rules"]) == 1
    assert len(attrs["sets"]["isolate_same"]["elements"]) == 100


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(20, 32)), min_size=1, max_size=6))
def test_sets_of_prefixes_hold_just_the_addresses_that_were_asked_for(networks: list[tuple[int, int]]) -> None:
    texts = tuple(str(ipaddress.ip_network((value, length), strict=False)) for value, length in networks)
    (rule,) = table(Rules(masquerade=(Masquerade(texts),)))["chains"]["nat_postrouting"]["rules"]
    right = rule[0]["match"]["right"]
    covered: list[Any] = []
    for value in right["set"] if isinstance(right, dict) and "set" in right else [right]:
        if isinstance(value, str):
            covered.append(ipaddress.ip_network(value))
        elif "prefix" in value:
            covered.append(ipaddress.ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}"))
        else:
            covered += ipaddress.summarize_address_range(*map(ipaddress.ip_address, value["range"]))
    asked = [ipaddress.IPv4Network(text) for text in texts]
    assert list(ipaddress.collapse_addresses(covered)) == list(ipaddress.collapse_addresses(asked))


EMPTY: dict[str, Any] = {"sets": {}, "chains": {}, "other": []}
ports = st.integers(1, 9)
targets = st.sampled_from(["10.0.0.1", "10.0.0.2"])
publishing = st.dictionaries(ports, targets, max_size=9).map(
    lambda found: Rules(publish=tuple(web(port, to4=to) for port, to in found.items()))
)


def listed(attrs: dict[str, Any]) -> dict[str, Any]:
    """What nft lists after `replacement`, with handles and counts as it adds them."""
    entries: list[dict[str, Any]] = [{"metainfo": {"version": "1"}}]
    for command in replacement("inet", "topo-x", attrs):
        ((verb, entry),) = command.items()
        if verb == "add":
            ((what, body),) = entry.items()
            entries.append({what: {**body, "handle": 7}})
    return {"nftables": entries}


def applied(commands: list[dict[str, Any]], attrs: dict[str, Any]) -> dict[str, Any]:
    """The elements of `attrs` after element commands, by set."""
    held = {name: dict(entry["elements"]) for name, entry in attrs["sets"].items()}
    for command in commands:
        ((verb, what),) = command.items()
        body = what["element"]
        for element in body["elem"]:
            key, value = (str(element[0]), str(element[1])) if isinstance(element, list) else (str(element), "")
            if verb == "add":
                assert key not in held[body["name"]]
                held[body["name"]][key] = value
            else:
                assert held[body["name"]].pop(key) == value
    return held


@given(publishing)
def test_what_is_sent_parses_to_what_was_desired(rules: Rules) -> None:
    attrs = table(rules)
    assert parse(listed(attrs)) == attrs
    assert json.loads(json.dumps(attrs)) == attrs
    assert differences(attrs, attrs) == []


@given(publishing, publishing)
def test_an_update_sends_just_the_elements_that_differ(before: Rules, after: Rules) -> None:
    old, new = fact("x", "host", before), fact("x", "host", after)
    requests = NFT.encode(Op(UPDATE, new.ref, new, old), None)  # type: ignore[arg-type]
    (nft,) = [r for r in requests if isinstance(r, Nft)]
    if bool(before.publish) != bool(after.publish):
        assert nft.commands == replacement("inet", "topo-x", new.attrs)
    else:
        assert applied(nft.commands, old.attrs) == {n: s["elements"] for n, s in new.attrs["sets"].items()}
    assert bool(differences(new.attrs, old.attrs)) == (new.attrs != old.attrs)


def test_old_connections_of_ports_that_lead_elsewhere_are_forgotten() -> None:
    def attrs(*publishes: Publish) -> dict[str, Any]:
        return table(Rules(publish=publishes))

    before = attrs(web(), web(81), web(82, protocol="udp", address="192.0.2.1"))
    after = attrs(web(), web(81, to4="10.0.0.9"), web(83, protocol="udp"), web(84))
    assert list(stale_flows(after, before)) == [
        Flow(4, "tcp", "", 81, "172.30.0.2", 80),
        Flow(4, "udp", "192.0.2.1", 82, "172.30.0.2", 80),
        Flow(4, "udp", "", 83),
    ]
    assert list(stale_flows(after, after)) == []


def test_create_and_delete() -> None:
    new = fact("x", "r1", Rules(publish=(web(),)))
    create = NFT.encode(Op(CREATE, new.ref, new, None), None)  # type: ignore[arg-type]
    assert create == [Nft("r1", replacement("inet", "topo-x", new.attrs))]
    assert [next(iter(c)) for c in create[0].commands[:3]] == ["add", "delete", "add"]
    whole = {"table": {"family": "inet", "name": "topo-x"}}
    assert NFT.encode(Op(DELETE, new.ref, None, new), None) == [  # type: ignore[arg-type]
        Nft("r1", [{"add": whole}, {"delete": whole}]),
        Conntrack("r1", (Flow(4, "tcp", "", 8080, "172.30.0.2", 80),)),
    ]


def test_parsing_leaves_out_handles_counts_and_the_order_of_sets() -> None:
    rule = [
        {"match": {"op": "==", "left": {"meta": {"key": "iif"}}, "right": "0"}},
        {
            "match": {
                "op": "==",
                "left": {"payload": {"protocol": "tcp", "field": "dport"}},
                "right": {"set": [443, 22]},
            }
        },
        {"counter": {"packets": 3, "bytes": 180}},
        {"drop": None},
    ]
    counted = {"elem": {"val": "10.0.0.1", "counter": {"packets": 1, "bytes": 2}}}
    timed = {"elem": {"val": "10.0.0.2", "timeout": 9}}
    listing = [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "inet", "name": "t", "handle": 2, "flags": ["dormant"]}},
        {
            "set": {
                "family": "inet",
                "name": "s",
                "table": "t",
                "type": "ipv4_addr",
                "handle": 1,
                "elem": [counted, timed],
            }
        },
        {"set": {"family": "inet", "name": "e", "table": "t", "type": "ifname", "handle": 2, "flags": ["interval"]}},
        {"chain": {"family": "inet", "table": "t", "name": "c", "handle": 3}},
        {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 4, "expr": rule}},
        {"flowtable": {"family": "inet", "table": "t", "name": "f", "handle": 5}},
    ]
    found = parse({"nftables": listing})
    assert found["sets"]["s"]["elements"].keys() == {"10.0.0.1", json.dumps(timed)}
    assert found["sets"]["e"] == {"type": "ifname", "flags": ["interval"], "elements": {}}
    assert found["chains"]["c"]["rules"][0][0]["match"]["right"] == 0
    assert found["chains"]["c"]["rules"][0][1]["match"]["right"]["set"] == in_order([22, 443])
    assert found["chains"]["c"]["rules"][0][2] == {"counter": None}
    assert found["other"] == [{"table": {"flags": ["dormant"]}}, {"flowtable": {"name": "f"}}]


def test_differences_name_rules_and_elements() -> None:
    desired = table(
        Rules(publish=(web(), web(81)), masquerade=(Masquerade(("10.0.0.0/8",)), Masquerade(("10.1.0.0/16",))))
    )
    live = json.loads(json.dumps(desired))
    del live["sets"]["publish_tcp4_addr"]["elements"]["81"]
    live["sets"]["publish_tcp4_port"]["elements"]["8080"] = "443"
    live["chains"]["nat_prerouting"]["prio"] = -99
    live["chains"]["nat_postrouting"]["rules"].reverse()
    live["chains"]["publish"]["rules"].append([{"counter": None}, {"drop": None}])
    assert differences(desired, live) == [
        "+ element publish_tcp4_addr 81 : 172.30.0.2",
        "~ element publish_tcp4_port 8080 : 443 -> 80",
        "~ chain nat_postrouting: the rules stand in another order",
        "~ chain nat_prerouting prio -99 -> -100",
        "- rule publish: counter drop",
    ]
    assert differences(desired, EMPTY)[0] == "+ set publish_loop"


def test_a_missing_library_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_name: str) -> None:
        raise OSError("libnftables.so.1: cannot open shared object file")

    nftables._library.cache_clear()
    monkeypatch.setattr("topo.kernel.nftables.ctypes.CDLL", absent)
    with pytest.raises(UnsupportedError, match="install libnftables1"):
        nftables.Nftables()
    monkeypatch.undo()
    nftables._library.cache_clear()
