"""Nexthop objects: what a change of one does to the routes that have it, and whose ids are left alone."""

from __future__ import annotations

from sandbox.host import Host

LAB = """
topology: lab
namespaces:
  r:
    nexthops:
      - { id: 1001, via: 10.1.0.2 }
      - { id: 1002, via: 10.2.0.2 }
      - { id: 1000, group: [1001, { id: 1002, weight: 3 }] }
    routes: [{ to: 203.0.113.0/24, nhid: 1000 }]
    sysctls: { net.ipv4.fib_multipath_hash_policy: 1 }
  one: { routes: [{ to: default, via: 10.1.0.1 }] }
  two: { routes: [{ to: default, via: 10.2.0.1 }] }
links:
  - [{ interface: "r:one", addresses: 10.1.0.1/24 }, { interface: "one:r", addresses: [10.1.0.2/24, 203.0.113.9/32] }]
  - [{ interface: "r:two", addresses: 10.2.0.1/24 }, { interface: "two:r", addresses: [10.2.0.2/24, 203.0.113.9/32] }]
"""


def ids(host: Host) -> dict[int, str]:
    """What leads where in r: gateway, or members."""
    found = host.ip_json("r", "-d", "nexthop")
    return {n["id"]: n.get("gateway") or "/".join(str(m["id"]) for m in n.get("group", ())) for n in found}


def another(host: Host) -> list[str]:
    """The routes of some daemon: they go with their nexthop, which tells whether that was replaced."""
    return [route["dst"] for route in host.routes("r", "proto", "99")]


def test_in_place_or_replaced(host: Host) -> None:
    path = host.file(LAB)
    host.ok("apply", path)
    assert ids(host) == {1001: "10.1.0.2", 1002: "10.2.0.2", 1000: "1001/1002"}
    host.serve("one", 8000, "one")
    host.serve("two", 8000, "two")
    answers: set[str] = set()
    for _ in range(100):  # by the hash of addresses and ports, one in four goes the way of the lesser weight
        answers.add(host.fetch("r", "http://203.0.113.9:8000/").split()[0])
        if len(answers) == 2:
            break
    assert answers == {"one", "two"}
    host.run("ip route add 198.51.100.0/24 nhid 1000 proto 99", "r")
    changed = LAB.replace("via: 10.1.0.2", "via: 10.1.0.3").replace("weight: 3", "weight: 2")
    host.ok("apply", host.file(changed, "changed.yaml"))
    assert ids(host)[1001] == "10.1.0.3"
    assert another(host) == ["198.51.100.0/24"], "in place: its routes stay"
    group = "group: [1001, { id: 1002, weight: 3 }]"
    resilient = host.file(LAB.replace(group, "group: [1001, 1002], type: resilient, buckets: 16"), "resilient.yaml")
    assert "takes 2 routes with it" in host.topo("diff", resilient).out
    host.ok("apply", resilient)
    assert another(host) == [], "replaced: the kernel takes the routes of everybody"
    assert [route["nhid"] for route in host.routes("r", "203.0.113.0/24")] == [1000]
    single = host.file(
        LAB.replace(group, "via: 10.2.0.2").replace("      - { id: 1001, via: 10.1.0.2 }\n", ""), "single.yaml"
    )
    host.ok("apply", single)
    assert ids(host) == {1002: "10.2.0.2", 1000: "10.2.0.2"}
    host.ok("destroy", path)


def test_of_a_link_that_was_down(host: Host) -> None:
    """The kernel drops nexthops with their link, and takes them out of their groups."""
    path = host.file(LAB)
    host.ok("apply", path)
    before = host.snapshot("r")
    host.run("ip link set one down", "r")
    assert ids(host) == {1002: "10.2.0.2", 1000: "1002"}
    host.ok("apply", path)
    assert ids(host) == {1001: "10.1.0.2", 1002: "10.2.0.2", 1000: "1001/1002"}
    assert host.snapshot("r")["routes"] == before["routes"]
    host.ok("destroy", path)


def test_those_of_daemons_stay(host: Host) -> None:
    """zebra's nexthops (protocol 11) and its routes, beside topo's; by hand (none) they are drift."""
    path = host.file(LAB)
    host.ok("apply", path)
    for command in (
        "nexthop add id 7 via 10.1.0.2 dev one protocol zebra",
        "nexthop add id 8 via 10.2.0.2 dev two protocol zebra",
        "nexthop add id 9 group 7/8 protocol zebra",
        "route add 198.51.100.0/24 nhid 9 proto bgp metric 20",
        "nexthop add id 66 via 10.1.0.66 dev one",
    ):
        host.run(f"ip {command}", "r")
    theirs = {number: where for number, where in ids(host).items() if number < 10}
    assert "nexthop" in host.topo("diff", path).out
    host.ok("apply", host.file(LAB.replace("via: 10.1.0.2 }", "via: 10.1.0.4 }"), "changed.yaml"))
    assert ids(host) == {**theirs, 1001: "10.1.0.4", 1002: "10.2.0.2", 1000: "1001/1002"}
    assert [route["nhid"] for route in host.routes("r", "proto", "bgp")] == [9]
    taken = host.topo("apply", host.file(LAB.replace("1001", "7"), "taken.yaml"))
    assert taken.code == 2
    assert "set by another program (protocol 11)" in taken.text
    assert {number: where for number, where in ids(host).items() if number < 10} == theirs
    host.ok("destroy", path)
