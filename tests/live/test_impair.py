"""Shaping that is laid over what the file states, and goes again (topo impair); tc is the witness."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from sandbox.host import Host
from sandbox.leaks import RECORD

LAB = """
topology: lab
namespaces: {a: {}, b: {}}
links:
  - - {interface: a:eth0, addresses: 10.1.0.1/24, shaping: {rate: 10mbit, burst: 32kb}}
    - {interface: b:eth0, addresses: 10.1.0.2/24}
"""
ONE_LESS = LAB.replace("b:eth0", "b:eth1")


def qdisc(host: Host, ns: str, ifname: str = "eth0") -> dict[str, Any]:
    """The root qdisc, without its handle."""
    found: dict[str, Any] = json.loads(host.run(f"tc -j qdisc show dev {ifname} root", ns))[0]
    return {key: value for key, value in found.items() if key not in ("handle", "refcnt")}


def told(host: Host, *arguments: Any) -> list[str]:
    """The interfaces that a command's document calls impaired."""
    document = host.topo(*arguments, "--output", "json").json()
    return [":".join((fact["ref"][1], *fact["ref"][2])) for fact in document["impaired"]]


def test_on_and_off_again(host: Host) -> None:
    """One takes the place of the other, the file's is back in the end, and nothing else is touched."""
    path = host.file(LAB)
    host.ok("apply", path)
    before = {ns: qdisc(host, ns) for ns in "ab"}
    host.run("ip address add 10.9.9.9/24 dev eth0", "a")  # drift is the affair of apply
    host.ok("impair", "lab:a:eth0", "kind=tbf", "rate=1mbit")
    assert qdisc(host, "a")["options"]["rate"] == 125_000
    host.ok("impair", "lab:a:eth0", "kind=htb", "rate=2mbit")
    assert qdisc(host, "a")["kind"] == "htb"
    host.ok("impair", "lab:b:eth0", "rate=3mbit", "latency=20ms")
    assert qdisc(host, "b")["options"]["rate"] == 375_000
    assert told(host, "impair", "lab") == ["a:eth0", "b:eth0"]
    assert told(host, "impair", "lab:b") == ["b:eth0"]
    host.ok("impair", "lab:a", "--clear")
    assert qdisc(host, "a") == before["a"]
    assert qdisc(host, "b") != before["b"]
    host.ok("impair", "lab", "--clear")
    assert qdisc(host, "b") == before["b"]
    assert "nothing to do" not in host.topo("diff", path).out
    assert "10.9.9.9/24" in host.addresses("a", "eth0")
    host.ok("destroy", path)


def test_apply_keeps_it_and_diff_tells_it_from_drift(host: Host) -> None:
    path = host.file(LAB)
    host.ok("apply", path)
    host.ok("impair", "lab:b:eth0", "rate=1mbit")
    found = host.topo("diff", path)
    assert (found.code, found.out) == (0, "lab: nothing to do\n  impaired: b:eth0 tbf rate 1000000bit\n")
    assert "impaired: b:eth0" in host.topo("show", "lab").out
    host.run("tc qdisc del dev eth0 root", "b")
    assert host.topo("diff", path).code == 1
    host.ok("apply", path)
    assert qdisc(host, "b")["options"]["rate"] == 125_000
    edited = host.file(LAB.replace("10.1.0.1/24", "10.1.0.9/24"))
    host.ok("apply", edited)
    assert qdisc(host, "b")["options"]["rate"] == 125_000
    assert told(host, "show", "lab") == told(host, "diff", edited) == ["b:eth0"]
    host.ok("destroy", path)


def test_it_goes_with_its_interface_and_with_the_topology(host: Host) -> None:
    path = host.file(LAB)
    host.ok("apply", path)
    host.ok("impair", "lab:b:eth0", "rate=1mbit")
    host.ok("apply", host.file(ONE_LESS))
    assert told(host, "impair", "lab") == []
    host.ok("apply", host.file(LAB))
    assert qdisc(host, "b")["kind"] == "noqueue"
    host.ok("impair", "lab:b:eth0", "rate=1mbit")
    host.ok("destroy", "lab")
    host.ok("apply", path)
    assert qdisc(host, "b")["kind"] == "noqueue"
    host.ok("destroy", path)


def test_on_a_device_that_was_there(host: Host) -> None:
    """What its owner had is back when it is cleared, and when the topology goes."""
    host.run("ip link add up0 type veth peer name up1")
    host.run("tc qdisc add dev up0 root handle 7: tbf rate 5mbit burst 16kb latency 40ms")
    before = qdisc(host, "host", "up0")
    path = host.file("topology: lab\ninterfaces: {up0: {kind: existing, up: true}}\n")
    try:
        host.ok("apply", path)
        for back in (("impair", "lab:host:up0", "--clear"), ("destroy", "lab")):
            done = host.topo("impair", "lab:host:up0", "rate=1mbit")
            assert done.code == 0, done.text
            assert qdisc(host, "host", "up0")["options"]["rate"] == 125_000
            host.ok(*back)
            assert qdisc(host, "host", "up0") == before
    finally:
        host.topo("destroy", "lab")
        host.run("ip link del up0")


def test_a_record_of_before_there_were_any(host: Host) -> None:
    path = host.file(LAB)
    host.ok("apply", path)
    record = RECORD / "lab.json"
    document = json.loads(record.read_text())
    assert document.pop("impaired") == []
    record.write_text(json.dumps(document))
    assert host.topo("diff", path).code == 0
    host.ok("impair", "lab:b:eth0", "rate=1mbit")
    assert told(host, "impair", "lab") == ["b:eth0"]
    host.ok("destroy", path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lab:a:eth1", "rate=1mbit"], "lab:a has no interface 'eth1'; it has eth0"),
        (["lab:c:eth0", "rate=1mbit"], "lab has no namespace 'c'; it has a, b"),
        (["lab:a:eth0", "rat=1mbit"], "rat is not known here; did you mean 'rate'?"),
        (["lab:a:eth0", "rate=quick"], "rate: 'quick' is no rate"),
        (["lab:a:eth0", "loss={gemodel: [1%"], "loss:1:"),
        (["lab:a:eth0", "jitter=5ms"], "jitter needs delay"),
        (["lab:a:eth0", "delay"], "expected WORD=VALUE, as in delay=50ms"),
        (["lab:a", "rate=1mbit"], "expected NAME:NS:INTERFACE"),
        (["lab:a:eth0", "rate=1mbit", "--clear"], "--clear takes no words"),
        (["lob:a:eth0", "rate=1mbit"], "lob is not applied here; there are: lab"),
    ],
)
def test_what_is_refused_touches_nothing(host: Host, words: list[str], said: str) -> None:
    path = host.file(LAB)
    host.ok("apply", path)
    before = host.everywhere()
    refused = host.topo("impair", *words)
    assert refused.code == 2
    assert said in refused.err
    assert host.everywhere() == before
    host.ok("destroy", path)


@pytest.mark.full
def test_a_line_is_bad_and_good_again(host: Host) -> None:
    """Delay is what ping sees, in one direction only, and the file's own comes back."""
    path = host.file(LAB.replace("{rate: 10mbit, burst: 32kb}", "{delay: 20ms}"))
    host.ok("apply", path)

    def fastest() -> float:
        found = re.findall(r"time=([\d.]+) ms", host.run("ping -c3 -i0.2 10.1.0.2", "a"))
        return min(map(float, found))

    assert 20 <= fastest() < 60
    host.ok("impair", "lab:b:eth0", "delay=100ms", "loss={gemodel: [0.1%, 50%]}")
    assert qdisc(host, "b")["options"]["loss-gemodel"]["p"] == 0.001
    assert 120 <= fastest() < 200
    host.ok("impair", "lab:b:eth0", "delay=50ms")
    assert 70 <= fastest() < 110
    host.ok("impair", "lab", "--clear")
    assert 20 <= fastest() < 60
    host.ok("destroy", path)
