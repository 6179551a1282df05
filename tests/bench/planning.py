"""A plan without a kernel: what is desired against a live state that was recorded. `python -m bench.planning OBJECTS`.

The state is that of the lab with the file as it was; the file then is another one, so that a third of the objects are
as they should be, and others are to be made, changed and deleted.
"""

from __future__ import annotations

import gc
import json
import sys
from typing import Any, Final

from .measuring import Sample, Samples, clocked, process

_EACH: Final = 5  # objects of one namespace of the star: itself, both ends of its link, an address, a route


def _text(first: int, last: int, mtu: int | None) -> str:
    """A star of bridges with 1,000 ports each: the namespaces `first` to `last`."""
    hubs = [(i, min(i + 999, last)) for i in range(first, last + 1, 1000)]
    end = "interface: 'h[{}-{}]:eth0'" + (f", mtu: {mtu}" if mtu else "")
    bridges = "".join(f"  b{n // 1000}: {{subnet: 10.{n // 1000}.0.0/16}}\n" for n, _ in hubs)
    links = "".join(f"  - [{{{end.format(n, m)}}}, b{n // 1000}]\n" for n, m in hubs)
    return f"topology: plan\nbridges:\n{bridges}namespaces: {{'h[{first}-{last}]': {{}}}}\nlinks:\n{links}"


def _recorded(topo: Any, text: str) -> Any:
    """The live state that the file would have led to, as a kernel tells of it."""
    from topo.facts import FOREIGN, OWN, TAGGED, Fact, Live

    origins = {"route": TAGGED, "address": TAGGED, "sysctl": FOREIGN}
    desired = topo.lower(topo.loads(text))
    facts = {ref: Fact(ref, dict(f.attrs), origins.get(ref.kind, OWN)) for ref, f in desired.facts.items()}
    return desired, Live(facts)


def plan(objects: int) -> tuple[Sample, dict[str, int]]:
    """From the text of the file to the stages of the plan; and how many objects are created, updated, deleted."""
    from topo import api
    from topo.planning.diff import diff
    from topo.planning.graph import stages
    from topo.planning.plan import Plan
    from topo.planning.resolve import resolve

    size = objects // _EACH
    third = size // 3
    old, live = _recorded(api, _text(1000, 1000 + size, None))
    text = _text(1000 + third, 1000 + size + third, None)
    # A third of the links has another MTU.
    text = text.replace("links:\n  - [{interface", "links:\n  - [{mtu: 1400, interface", max(third // 1000, 1))
    found: list[Any] = []

    def run() -> None:
        desired = resolve(api.lower(api.loads(text)), live, {})
        changes = diff(desired, live, old)
        made = Plan("plan", changes, desired, ())
        found.append((made, stages(made.changes, desired, live)))

    sample = clocked(run)
    made = found[0][0]
    counts = {action: sum(c.action == action for c in made.changes) for action in {c.action for c in made.changes}}
    return sample, {**counts, "live": len(live.facts), "desired": len(made.desired.facts)}


def measure(objects: int, repetitions: int = 3) -> Samples:
    """Each time in a fresh process, without collecting garbage, as the command line has it."""
    return Samples(process("bench.planning", objects) for _ in range(repetitions))


def main(objects: str) -> None:
    gc.disable()
    sample, counts = plan(int(objects))
    assert counts["live"] >= int(objects) * 0.99 and min(counts.values()) > int(objects) / 20, counts
    print(json.dumps(sample))


if __name__ == "__main__":
    main(*sys.argv[1:])
