"""How links make their own IPv6 addresses: told before they come up, and heeded when a router advertises itself."""

from __future__ import annotations

import subprocess
import sys

from sandbox.host import Host, until

LAB = """
topology: lab
bridges:
  br0: {addrgenmode: none}
namespaces:
  a: {}
  b: {interfaces: {tap0: {kind: tap, addrgenmode: none}}}
links:
  - [{interface: "a:eth0", addrgenmode: none}, {interface: "b:eth0", token: "::7"}]
  - [{interface: "b:eth1", addrgenmode: none}, {bridge: br0, name: p0, addrgenmode: none}]
"""

ADVERTISE = """
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, "fd77::")
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ("ff02::1", 0))
"""
"""Router advertisement of fd77::/64 (RFC 4861, 4.2 and 4.6.2)."""


def _link_local(host: Host, ns: str, ifname: str) -> list[str]:
    (shown,) = host.ip_json(ns, "-6", "addr", "show", "dev", ifname) or [{"addr_info": []}]
    return [entry["local"] for entry in shown["addr_info"] if entry["scope"] == "link"]


def test_none_from_the_start(host: Host) -> None:
    before = host.settled()
    path = host.file(LAB)
    host.ok("apply", path)
    assert until(lambda: _link_local(host, "b", "eth0")), "the way of the kernel"
    for ns, ifname in (("a", "eth0"), ("b", "eth1"), ("b", "tap0"), ("host", "br0"), ("host", "p0")):
        assert _link_local(host, ns, ifname) == [], ifname
        assert "UP" in host.link(ns, ifname)["flags"]
    host.run("ip link set eth1 addrgenmode random", "b")
    assert "addrgenmode random -> none" in host.topo("diff", path).out
    host.ok("apply", path)
    host.ok(
        "apply", host.file(LAB.replace(', {interface: "b:eth0", token: "::7"}', ", b:eth0").replace("none", "eui64"))
    )
    assert "::7" not in host.run("ip token", "b")
    host.ok("destroy", "lab")
    host.same(before)


def test_token_of_what_a_router_advertises(host: Host) -> None:
    before = host.settled()
    path = host.file(
        "topology: lab\nnamespaces: {a: {}, b: {}}\nlinks:\n  - [a:eth0, {interface: 'b:eth0', token: '::7'}]\n"
    )
    host.ok("apply", path)
    command = ["nsenter", "--net=/run/netns/a", sys.executable, "-c", ADVERTISE]

    def heard() -> bool:
        return "fd77::7/64" in host.run("ip -6 -o addr show dev eth0", "b")

    def told() -> bool:
        subprocess.run(command, check=False)  # as soon as the router has its link-local address
        return heard()

    assert until(told, 10), host.run("ip -6 addr", "b")
    host.ok("apply", path)
    assert heard(), "what the kernel makes is its own"
    host.ok("destroy", "lab")
    host.same(before)
