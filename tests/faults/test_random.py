"""Random topologies and random edits: from any to any other apply converges, and is idempotent; and back; and away."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Final

import pytest
import test_properties as properties
from fake import FakeKernel
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sandbox.host import Host

from faults.drawn import GIVEN, Document, documents, edits
from faults.figures import FIGURES
from faults.killed import MORE, SEED, Bench
from faults.labs import Lab
from faults.running import ok
from faults.test_refused import LESS
from faults.world import Seen, World, like
from topo.facts import FOREIGN, HOST, Desired, Fact, Facts, Ref, link
from topo.file.lowering import lower
from topo.file.model import Topology
from topo.planning.resolve import resolve

FAKE: Final = 20_000 if MORE else 50 if LESS else 300
REAL: Final = int(os.environ.get("TOPO_FAULTS_EXAMPLES", "600" if MORE else "5" if LESS else "30"))
EMPTY: Final = "topology: drawn\n"

pytestmark = pytest.mark.timeout(7200 if MORE else 900)


def drawn(number: int, *phases: Phase) -> settings:
    """The same examples every time, for one seed."""
    return settings(
        max_examples=number,
        database=None,
        phases=[Phase.generate, *phases],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


def told(steps: list[str]) -> list[str]:
    """Of a run's steps those that change something in the kernel."""
    telling = ("tell ", "nft", "unshare ", "mount ", "umount ", "ioctl ")
    return [step for step in steps if step.startswith(telling) or "/proc/sys/" in step]


def alike(seen: Seen) -> Seen:
    """As `like`, but for what the kernel does with a link's past: the queue that it gets when it first comes up, and the
    entries for a bridge's and its ports' own addresses, which go with the first of several that have the same.
    """
    found = like(seen)
    for sections in found.values():
        down = {entry["ifname"] for entry in sections.get("links", ()) if "UP" not in entry["flags"]}
        for entry in sections.get("links", ()):
            if entry["ifname"] in down and entry["qdisc"] in ("noop", "noqueue"):
                entry["qdisc"] = "noop"
        own = ("permanent", True)
        if "fdb" in sections:
            sections["fdb"] = [e for e in sections["fdb"] if (e.get("state"), "master" in e) != own]
        if down:
            sections["qdiscs"] = [q for q in sections["qdiscs"] if q["dev"] not in down or q["kind"] != "noqueue"]
    return found


class Examples:
    """Runs on the real kernel; each example ends where it began."""

    def __init__(self, host: Host) -> None:
        self.world = World(host, Lab("drawn", EMPTY, EMPTY, GIVEN))
        self.bench = Bench(self.world, states=())

    def there_and_back(self, a: Document, b: Document) -> None:
        self.world.first.write_text(json.dumps(a))
        self.world.second.write_text(json.dumps(b))
        self.bench.problems.clear()
        self.bench.at = "none"
        try:
            for state in ("first", "second", "first"):
                self._apply(state)
            self.bench.to("none")
            self.bench.expect("none", "destroyed")
        except AssertionError as error:
            self.bench.wrong(str(error))
        if self.bench.problems:
            self.bench.force()
        assert not self.bench.problems, "\n".join([*self.bench.problems, json.dumps(a), json.dumps(b)])

    def _apply(self, state: str) -> None:
        again = state in self.bench.seen
        self.bench.to(state)
        file = self.world.first if state == "first" else self.world.second
        assert not (left := told(ok("apply", file).steps)), f"{state}: a second apply sends {left}"
        if again:
            self.world.host.settle()
            if differences := self.world.differs(self.bench.seen[state], alike):
                self.bench.wrong(f"not as {state} was:\n    " + "\n    ".join(differences))
        else:
            self.bench.seen[state] = self.world.settled()


def test_from_any_to_any_other_and_back(host: Host) -> None:
    examples = Examples(host)

    @seed(SEED)
    @drawn(REAL)
    @given(documents(), st.data())
    def example(a: Document, data: Any) -> None:
        b = data.draw(st.one_of(documents(), edits(a)))
        examples.bench.seen = {"none": examples.world.before}
        examples.there_and_back(a, b)
        FIGURES.count("random topologies and edits, there and back", "the real kernel")

    example()
    examples.world.clear()


# On the kernel that is made of facts


def nics() -> list[Fact]:
    """What `GIVEN` makes."""
    common = {"kind": "veth", "up": True, "master": None, "txqueuelen": 1000, "alias": "", "mtu": 1500}
    found = [Fact(Ref("sysctl", HOST, ("net/ipv4/ip_forward",)), {"value": "0"}, FOREIGN)]
    for n, name in enumerate(("nic0", "nic1")):
        for end, peer, mac in ((name, f"{name}-peer", "bb"), (f"{name}-peer", name, "cc")):
            mac = f"02:00:00:00:{mac}:0{n}"
            found.append(Fact(link(HOST, end), {**common, "mac": mac, "peer": (HOST, peer)}, FOREIGN))
    return found


def test_documents_on_the_fake_kernel(host: Host) -> None:
    """The same, faster."""

    def go(kernel: FakeKernel, document: Document, previous: Desired | None, kept: Facts) -> tuple[Desired, Facts]:
        wanted = lower(Topology.model_validate(document))
        wanted = resolve(wanted, kernel.read(wanted, previous), kept)
        return wanted, properties.converge(kernel, wanted, previous, kept)

    @seed(SEED)
    @drawn(FAKE, Phase.shrink)
    @given(documents(), st.data())
    def example(a: Document, data: Any) -> None:
        b = data.draw(st.one_of(documents(), edits(a)))
        kernel = FakeKernel(nics())
        before = properties.state(kernel, macs=True)
        first, kept = go(kernel, a, None, {})
        reached = properties.state(kernel, macs=False)
        second, kept = go(kernel, b, first, kept)
        third, kept = go(kernel, a, second, kept)
        assert properties.state(kernel, macs=False) == reached
        properties.converge(kernel, Desired("drawn", {}), third, kept)
        assert properties.state(kernel, macs=True) == before
        FIGURES.count("random topologies and edits, there and back", "the fake one")

    example()


PROPERTIES: Final[dict[str, tuple[Callable[..., None], tuple[st.SearchStrategy[Any], ...]]]] = {
    "idempotence": (properties.test_what_is_applied_differs_no_more, (properties.topologies(),)),
    "there and back": (properties.test_from_any_topology_to_any_other_and_back, (properties.topologies(),) * 2),
    "destroyed": (properties.test_destroying_leaves_what_was_there, (properties.topologies(),) * 2),
    "undone": (properties.test_a_failure_at_any_op_is_undone, (*(properties.topologies(),) * 2, st.data())),
    "in order": (properties.test_the_order_respects_every_requirement, (properties.topologies(),) * 2),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties_by_thousands(host: Host, name: str) -> None:
    """Those of tests/test_properties.py, which draws facts instead of documents: among them what no file can say."""
    test, strategies = PROPERTIES[name]
    inner: Callable[..., None] = test.hypothesis.inner_test  # type: ignore[attr-defined]

    def example(found: tuple[Any, ...]) -> None:
        inner(*found)
        FIGURES.count("properties of planning", name)

    seed(SEED)(drawn(FAKE, Phase.shrink)(given(st.tuples(*strategies))(example)))()
