"""Classes of an htb: whose packets go where, what a class gets, and what becomes of them as the file changes."""

from __future__ import annotations

import re

from sandbox.host import Host

LAB = """
topology: lab
namespaces: {a: {}, b: {}}
links:
  - - interface: "a:eth0"
      addresses: [10.0.0.1/24, "fd00::1/64"]
      addrgenmode: none
      shaping:
        kind: htb
        rate: 80mbit
        default: 30
        classes:
          - {id: 10, rate: 1mbit, ceil: 2mbit, match: [{dscp: 46}]}
          - {id: 20, rate: 8mbit, prio: 1, match: [{protocol: tcp, dport: 80}, {from: fd00::/64, protocol: icmpv6}]}
          - {id: 30, rate: 4mbit, prio: 2}
    - {interface: "b:eth0", addresses: [10.0.0.2/24, "fd00::2/64"]}
"""


def sent(host: Host) -> dict[str, int]:
    """Packets that each class has sent."""
    text = host.run("tc -s class show dev eth0", "a")
    return {
        minor: int(count)
        for minor, count in re.findall(r"class htb 1:(\w+) parent .*\n Sent \d+ bytes (\d+) pkt", text)
    }


def more(host: Host, command: str) -> set[str]:
    """The classes of which most packets are that this command sends; ARP, which no word matches, is of the default."""
    before = sent(host)
    host.run(command, "a")
    return {minor for minor, count in sent(host).items() if count - before[minor] > 9}


def test_whose_packets_go_where(host: Host) -> None:
    before = host.settled()
    path = host.file(LAB)
    host.ok("apply", path)
    host.serve("b", 80, "b")
    assert more(host, "ping -c 20 -i 0.002 10.0.0.2") == {"1e"}
    assert more(host, "ping -c 20 -i 0.002 -Q 0xb8 10.0.0.2") == {"a"}
    assert more(host, "ping -6 -c 20 -i 0.002 fd00::2") == {"14"}
    first = sent(host)
    assert host.fetch("a", "http://10.0.0.2/").startswith("b")
    assert sent(host)["14"] - first["14"] > 3
    host.ok("diff", path)
    host.ok("destroy", "lab")
    host.same(before)


def test_a_ceiling_holds(host: Host) -> None:
    """A megabit is sent through a class of 2 Mbit/s, with 16 KiB at once: that takes 430 ms."""
    host.ok("apply", host.file(LAB))
    text = host.run("ping -q -c 84 -i 0.002 -s 1452 -Q 0xb8 -W 2 10.0.0.2", "a")
    took = re.search(r"time (\d+)ms", text)
    assert took and int(took[1]) > 350, f"{text}: unhindered it takes 170 ms"
    host.ok("destroy", "lab")


def test_edits_and_drift(host: Host) -> None:
    path = host.file(LAB)
    host.ok("apply", path)
    for command, words in (
        ("tc filter del dev eth0 parent 1: pref 1", "shaping_filter"),
        ("tc class change dev eth0 parent 1:1 classid 1:14 htb rate 1mbit", "shaping_class"),
        ("tc class add dev eth0 parent 1:1 classid 1:99 htb rate 1mbit", "shaping_class"),
        ("tc filter add dev eth0 parent 1: pref 9 protocol ip u32 match u16 7 0xff at 2 flowid 1:14", "something else"),
        ("tc qdisc del dev eth0 root", "shaping "),
    ):
        host.run(command.replace("1: pref", "1:0 pref"), "a")
        said = host.topo("diff", path)
        assert (said.code, words in said.out) == (1, True), f"{command}: {said.out}"
        host.ok("apply", path)
        host.ok("diff", path)
    whole = host.snapshot("a")
    index = host.link("a", "eth0")["ifindex"]
    fewer = host.file(
        LAB.replace("          - {id: 10, rate: 1mbit, ceil: 2mbit, match: [{dscp: 46}]}\n", ""), "fewer.yaml"
    )
    host.ok("apply", fewer)
    assert sorted(sent(host)) == ["14", "1e"]
    none = host.file(LAB[: LAB.index("        default")] + LAB[LAB.index('    - {interface: "b:') :], "none.yaml")
    host.ok("apply", none)
    assert sent(host) == {}
    host.ok("apply", path)
    host.ok("impair", "lab:a:eth0", "rate=1mbit")
    assert "tbf" in host.run("tc qdisc show dev eth0", "a")
    host.ok("diff", path)
    host.ok("impair", "lab:a:eth0", "--clear")
    assert host.snapshot("a") == whole
    assert host.link("a", "eth0")["ifindex"] == index
    host.ok("destroy", "lab")


def test_classes_of_others_are_theirs(host: Host) -> None:
    """They could not be put back."""
    lab = host.file("topology: lab\ninterfaces: {nic0: {kind: existing, shaping: {kind: htb, rate: 8mbit}}}\n")
    host.run("ip link add nic0 type veth peer name nic0-peer")
    host.run("tc qdisc add dev nic0 root handle 1: htb default 0x10")
    host.run("tc class add dev nic0 parent 1: classid 1:10 htb rate 1mbit")
    before = host.settled()
    refused = host.topo("apply", lab)
    assert (refused.code, "a queue of kind htb" in refused.err) == (2, True), refused.err
    host.same(before)
    host.ok("apply", "--adopt", lab)
    host.ok("apply", lab)
    host.ok("destroy", "lab")
    host.run("ip link del nic0")
