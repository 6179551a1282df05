"""What netem does to packets, in each direction apart, under a kernel that has it (nox -s kernels)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from sandbox.host import Host

pytestmark = pytest.mark.full

LAB = """
topology: lab
namespaces: {{a: {{}}, b: {{}}}}
links:
  - - {{interface: a:eth0, addresses: 10.1.0.1/24, shaping: {}}}
    - {{interface: b:eth0, addresses: 10.1.0.2/24, shaping: {}}}
"""
NOTHING = "{kind: netem}"


@pytest.fixture(autouse=True)
def cleared(host: Host) -> Iterator[None]:
    """Of netem nothing may stay behind either."""
    yield
    host.ok("destroy", host.directory / "lab.yaml")


def shaped(host: Host, there: str, back: str = NOTHING) -> None:
    """What is lost or late is no neighbour either: that one is known."""
    path = host.file(LAB.format(there, back))
    host.ok("apply", path)
    host.ok("diff", path)  # which is 1 where anything differs
    for ns, address, other in (("a", "10.1.0.2", "b"), ("b", "10.1.0.1", "a")):
        mac = host.link(other, "eth0")["address"]
        host.run(f"ip neigh replace {address} lladdr {mac} nud permanent dev eth0", ns)


def ping(host: Host, count: int, *options: str) -> str:
    process = host.start("ping", "-n", f"-c{count}", *options, "10.1.0.2", ns="a")
    return process.communicate(timeout=60)[0]


def times(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"time=([\d.]+) ms", text)]


def answers(text: str) -> int:
    found = re.search(r"(\d+) received", text)
    assert found, text
    return int(found[1])


def test_delay_of_either_direction(host: Host) -> None:
    """Both add up to what ping sees; changing one changes the qdisc that is there."""
    shaped(host, "{delay: 100ms}", "{delay: 50ms}")
    index = host.ifindex("a", "eth0")
    found = times(ping(host, 5, "-i0.2"))
    assert len(found) == 5
    assert 150 <= min(found) < 190, found
    shaped(host, "{delay: 20ms}", "{delay: 50ms}")
    found = times(ping(host, 5, "-i0.2"))
    assert 70 <= min(found) < 110, found
    assert host.ifindex("a", "eth0") == index


def test_jitter(host: Host) -> None:
    shaped(host, "{delay: 100ms, jitter: 50ms}")
    found = times(ping(host, 40, "-i0.2"))
    assert min(found) >= 50
    assert max(found) - min(found) > 30, found


def test_distribution(host: Host) -> None:
    """Of a normal one some third is farther off than a deviation; of the even one none; the kernel would keep the table."""
    spread = {}
    for words in ("", ", distribution: normal", ", distribution: pareto", ""):
        shaped(host, f"{{delay: 100ms, jitter: 10ms{words}}}")
        found = times(ping(host, 200, "-i0.2"))
        assert len(found) == 200
        spread[words] = [sum(time < 89.5 for time in found), sum(time > 111.5 for time in found)]
    assert spread[""] == [0, 0]
    below, above = spread[", distribution: normal"]
    assert 10 <= below <= 60 and 10 <= above <= 60, spread
    below, above = spread[", distribution: pareto"]
    assert below == 0 and 5 <= above <= 50, spread


@pytest.mark.parametrize(
    ("words", "least", "most"),
    [
        ("{loss: 30%}", 40, 97),
        ("{loss: 100%}", 0, 0),
        ("{loss: {gemodel: [100%, 0%, 100%]}}", 0, 1),
        ("{loss: {state: [0%]}}", 100, 100),
    ],
)
def test_loss(host: Host, words: str, least: int, most: int) -> None:
    """30% of 100: 70 come, give or take 5; within six times that."""
    shaped(host, words)
    assert least <= answers(ping(host, 100, "-i0.005", "-W1")) <= most


def test_duplicates(host: Host) -> None:
    shaped(host, NOTHING, "{duplicate: 100%}")
    assert "+9 duplicates" in ping(host, 10, "-i0.01")  # ping ends with the tenth answer itself


def test_reordering(host: Host) -> None:
    shaped(host, "{delay: 100ms, reorder: 30%}")
    order = [int(found) for found in re.findall(r"icmp_seq=(\d+)", ping(host, 60, "-i0.01"))]
    assert len(order) == 60
    assert order != sorted(order)


def test_corruption(host: Host) -> None:
    """Every packet has a wrong bit: most of them are no echo requests any more."""
    shaped(host, "{corrupt: 100%}")
    assert answers(ping(host, 50, "-i0.005", "-W1")) < 40


def test_rate(host: Host) -> None:
    shaped(host, NOTHING, "{rate: 2mbit}")
    host.serve("b", 80, "b")
    assert 0.9 < host.seconds_to_fetch("a", "http://10.1.0.2", 250_000) < 3  # 2 Mbit at 2 Mbit/s


def test_others_netem_is_put_right_and_back(host: Host) -> None:
    """What topo has no words for (ECN, slots) is drift like any other; what was there before comes back."""
    shaped(host, "{delay: 10ms}")
    host.run("tc qdisc change dev eth0 root netem delay 10ms loss 1% ecn slot 2ms", "a")
    path = host.directory / "lab.yaml"
    assert host.topo("diff", path).code == 1
    host.ok("apply", path)
    (line,) = host.run("tc qdisc show dev eth0", "a").splitlines()
    assert "delay 10ms" in line
    assert not re.search("loss|ecn|slot", line), line
    host.ok("apply", host.file(LAB.format("{rate: 1mbit}", NOTHING)))
    assert "qdisc tbf" in host.run("tc qdisc show dev eth0", "a")
