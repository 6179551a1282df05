"""What published ports cost those who come through them: connections and packets per second.

A client, a gateway that publishes ports, a server behind it. Four gateways stand side by side: one port, ten thousand
ports (both topo's), ten thousand ports by one rule with a range, which looks up nothing, and ten thousand iptables rules
as Docker writes them. They are measured in turn, again and again.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

from . import netlink as nl
from .measuring import background, launched

if TYPE_CHECKING:
    from .gate import Verdict

MANY: Final = 10_000
FIRST: Final = 10_000
PACKETS, ROUNDS = 60_000, 25
CONNECTIONS, TURNS = 100, 800  # short turns, so that what else the machine does hits all alike
_FLOWS: Final = 32
_SOURCES: Final = range(10_000, 58_000)  # source ports: 480 turns go by before conntrack meets a connection again
_PORT: Final = 80
VARIANTS: Final = {
    "one": "one port, topo",
    "many": "10,000 ports, topo",
    "range": "10,000 ports, one rule with a range, no map",
    "rules": "10,000 ports, iptables rules as Docker's",
}


class Rates(NamedTuple):
    """Of each turn: connections per second, by the clock and by the client's CPU time, in which the kernel brings them
    through the gateway to the server. Of each round: packets per second."""

    connections: list[float]
    by_cpu: list[float]
    packets: list[float]


def _text(variant: str) -> str:
    ports = {"one": 1, "many": MANY}.get(variant, 0)
    lines = [
        f"topology: {variant}",
        "namespaces:",
        f"  {variant}-out: {{}}",
        f"  {variant}-web: {{}}",
        f"  {variant}-gw:",
    ]
    lines += ["    forwarding: true", "    nat:", "      publish:"] if ports else ["    forwarding: true"]
    for port in range(FIRST, FIRST + ports):
        entry = f"port: {port}, to: '{variant}-web:{_PORT}'"
        lines += [f"        - {{{entry}}}", f"        - {{{entry}, protocol: udp}}"]
    lines.append("links:")
    for end, ip, other, its in (("out", "10.1.0.2", "up", "10.1.0.1"), ("web", "10.0.0.2", "lan", "10.0.0.1")):
        lines.append(
            f"  - [{{interface: '{variant}-{end}:eth0', addresses: {ip}/24, gateway: {its}}}, "
            f"{{interface: '{variant}-gw:{other}', addresses: {its}/24}}]"
        )
    return "\n".join(lines) + "\n"


def _rules() -> str:
    """For iptables-restore: what Docker writes for published ports (its filter rules and its proxy left out)."""
    lines = ["*nat", ":PREROUTING ACCEPT", ":OUTPUT ACCEPT", ":POSTROUTING ACCEPT", ":DOCKER -"]
    lines += ["-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER"]
    lines += ["-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER"]
    lines += ["-A POSTROUTING -s 10.0.0.0/24 ! -o lan -j MASQUERADE"]
    rule = "-A DOCKER ! -i lan -p {} -m {} --dport {} -j DNAT --to-destination 10.0.0.2:80"
    lines += [rule.format(p, p, port) for port in range(FIRST, FIRST + MANY) for p in ("tcp", "udp")]
    return "\n".join([*lines, "COMMIT", ""])


def _range() -> str:
    """For nft: what topo makes, with a range instead of the map."""
    lines = ["table inet range {", "chain publish {"]
    lines += [f"{p} dport {FIRST}-{FIRST + MANY - 1} dnat ip to 10.0.0.2:{_PORT}" for p in ("tcp", "udp")]
    for hook in ("prerouting", "output"):
        lines += ["}", f"chain {hook} {{", f"type nat hook {hook} priority -100"]
        lines.append("meta nfproto ipv4 fib daddr type local jump publish")
    return "\n".join([*lines, "}", "}", ""])


def measure(rounds: int = ROUNDS) -> dict[str, Rates]:
    """Builds the gateways, measures, takes them away. In a sandbox."""
    from topo import api

    found = {variant: Rates([], [], []) for variant in VARIANTS}
    for variant in VARIANTS:
        api.apply(api.loads(_text(variant)))
    for gateway, command, text in (
        ("rules-gw", ["iptables-restore"], _rules()),
        ("range-gw", ["nft", "-f", "-"], _range()),
    ):
        within = ["ip", "netns", "exec", gateway, *command]
        subprocess.run(within, input=text.encode(), check=True, capture_output=True)
    time.sleep(2)
    with ExitStack() as serving:
        for variant in VARIANTS:
            serving.enter_context(_server(variant))
        for variant, rates in launched("bench.dataplane", "connect", "", 0).items():
            found[variant].connections.extend(rates[0])
            found[variant].by_cpu.extend(rates[1])
    order = list(found.items())
    for _ in range(rounds):
        order = order[::-1]  # who comes first meets a machine in another state
        for variant, rates in order:
            with _server(variant):
                rates.packets.append(launched("bench.dataplane", "send", variant, _ports(variant)))
    for variant in VARIANTS:
        api.destroy(variant)
    nl.finished()
    return found


@contextmanager
def _server(variant: str) -> Iterator[None]:
    process = background("bench.dataplane", "serve", variant, 0)
    assert process.stdout
    process.stdout.readline()  # it listens
    yield
    process.kill()
    process.wait()
    process.stdout.close()


def table(found: dict[str, Rates]) -> str:
    lines = ["| published ports | connections/s | of one port | packets/s | of one port |", "|---|--:|--:|--:|--:|"]
    for variant, title in VARIANTS.items():
        connections, packets = ratios(found, variant)
        mine = found[variant]
        lines.append(
            f"| {title} | {median(mine.connections):,.0f} | {connections:.2f} "
            f"| {median(mine.packets):,.0f} | {packets:.2f} |"
        )
    return "\n".join(lines)


def ratios(found: dict[str, Rates], variant: str) -> tuple[float, float]:
    """To one port: connections by CPU time, each turn to its neighbour; packets by the medians of all rounds."""
    mine, one = found[variant], found["one"]
    turns = zip(mine.by_cpu, one.by_cpu, strict=True)
    return median(its / of for its, of in turns), median(mine.packets) / median(one.packets)


def _ports(variant: str) -> int:
    return 1 if variant == "one" else MANY


def verdicts(found: dict[str, Rates]) -> list[Verdict]:
    from .gate import Verdict

    connections, packets = ratios(found, "many")
    return [
        Verdict("connections/s, 10,000 ports / one", 0.95, 0.85, connections, least=True),
        Verdict("packets/s, 10,000 ports / one", 0.95, 0.85, packets, least=True),
    ]


# In processes of their own


def serve() -> None:
    """Take TCP connections and close them; let UDP packets in."""
    packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    packets.bind(("", _PORT))
    listening = socket.create_server(("", _PORT), backlog=4096)
    print("listening", flush=True)
    while True:
        listening.accept()[0].close()


def connect() -> dict[str, tuple[list[float], list[float]]]:
    """Connections per second and per CPU second, through each gateway in turn."""
    choice = random.Random(1)
    sources = choice.sample(_SOURCES, len(_SOURCES))
    found: dict[str, tuple[list[float], list[float]]] = {variant: ([], []) for variant in VARIANTS}
    order = list(VARIANTS)
    for turn in range(TURNS):
        order = (order[1:] + order[:1])[:: 1 if turn % 2 else -1]
        start = turn * CONNECTIONS % len(sources)
        for variant in order:
            _enter(f"{variant}-out")
            chosen = choice.choices(range(FIRST, FIRST + _ports(variant)), k=CONNECTIONS)
            cpu, wall = time.process_time(), time.perf_counter()
            _connected(chosen, sources[start : start + CONNECTIONS])
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            found[variant][0].append(CONNECTIONS / wall)
            found[variant][1].append(CONNECTIONS / cpu)
    return found


def _connected(ports: list[int], sources: list[int]) -> None:
    """Connections to these ports, each reset at once, so that none is left waiting.

    Source ports are chosen beforehand. The kernel would take them one after the other towards one port, but anywhere
    towards many: that costs a client twice what the gateway's maps do, and tells nothing of these.
    """
    reset = struct.pack("ii", 1, 0)
    for port, source in zip(ports, sources, strict=True):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            sock.bind(("", source))
            sock.connect(("10.1.0.1", port))


def send(ports: int, server: str) -> float:
    """Packets per second that reach the server, 64 bytes each, over a few flows to random ports."""
    choice, data = random.Random(2), bytes(64)
    flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(_FLOWS)]
    for flow in flows:
        flow.connect(("10.1.0.1", choice.randrange(FIRST, FIRST + ports)))
        flow.send(data)  # each flow is known to conntrack from then on
    before, begun = _received(server), time.perf_counter()
    for _ in range(PACKETS // _FLOWS):
        for flow in flows:
            flow.send(data)
    took = time.perf_counter() - begun
    return (_received(server) - before) / took


def _received(server: str) -> int:
    """Packets that have come to the server's namespace; this thread stays there."""
    _enter(server)
    line = next(line for line in Path("/proc/thread-self/net/dev").read_text().splitlines() if "eth0:" in line)
    return int(line.partition(":")[2].split()[1])


def _enter(name: str) -> None:
    fd = os.open(nl.DIRECTORY + name, os.O_RDONLY | os.O_CLOEXEC)
    nl.setns(fd)
    os.close(fd)


def main(action: str, variant: str, ports: str) -> None:
    server = f"{variant}-web"
    if action != "connect":
        _enter(server if action == "serve" else f"{variant}-out")
    if action == "serve":
        serve()
    print(json.dumps(connect() if action == "connect" else send(int(ports), server)))


if __name__ == "__main__":
    main(*sys.argv[1:])
