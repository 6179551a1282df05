"""One action on one lab, measured in this process: `python -m bench.worker ACTION LAB SIZE`. Prints its Sample as JSON.

The API is measured as in a process that runs already: everything is imported, and a small lab was made and removed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

from . import floor, netlink
from .announced import Announced
from .entries import Nat, Overlay
from .lab import Lab
from .labs import Clos, Line, Star
from .measuring import Sample, clocked

LABS: Final[dict[str, type[Lab]]] = {lab.kind: lab for lab in (Star, Line, Clos, Nat, Overlay)}
WARM = "topology: bench-warm\nbridges: {w0: {subnet: 10.9.0.0/24}}\nnamespaces: {'w[1-3]': {}}\nlinks: [['w[1-3]:e', w0]]\n"


def floor_make(lab: Lab) -> Sample:
    return clocked(floor.Making(lab).run)


def floor_read(lab: Lab) -> Sample:
    """The second time, as the API is measured in a process that has read before."""
    floor.read(lab)
    return clocked(lambda: floor.read(lab))


def floor_delete(lab: Lab) -> Sample:
    return clocked(lambda: floor.delete(lab), netlink.finished)


def ip_make(lab: Lab) -> Sample:
    batches = lab.batches()
    return clocked(lambda: [batch.run() for batch in batches])


def one_make(lab: Lab) -> Sample:
    """A process for each command, as a shell script has it."""
    batches = lab.batches()
    return clocked(lambda: [batch.one_by_one() for batch in batches])


def ip_delete(lab: Lab) -> Sample:
    words = [f"link delete {name}" for name in lab.in_host] + [f"netns delete {name}" for name in lab.namespaces()]
    batch = "\n".join(words).encode()

    def run() -> None:
        subprocess.run(["ip", "-batch", "-"], input=batch, check=True)

    return clocked(run, netlink.finished)


def api_apply(lab: Lab) -> Sample:
    """From the text of the file on; where nothing is to do, a no-op."""
    return _api(lab, False, lambda topo, topology: topo.apply(topology))


def api_change(lab: Lab) -> Sample:
    with Announced(lab) as announced:
        sample = _api(lab, True, lambda topo, topology: topo.apply(topology))
        return sample._replace(sent=announced.count())


def api_diff(lab: Lab) -> Sample:
    def diff(topo: Any, topology: Any) -> None:
        assert not topo.plan(topology).changes

    return _api(lab, False, diff)


def api_destroy(lab: Lab) -> Sample:
    topo = _warm()
    return clocked(lambda: topo.destroy(lab.name), netlink.finished)


def _api(lab: Lab, changed: bool, action: Callable[[Any, Any], object]) -> Sample:
    """`action` on the API and the topology that was loaded; the loading is in the sample."""
    topo, text = _warm(), lab.text(changed)
    loaded: list[Any] = []
    loading = clocked(lambda: loaded.append(topo.loads(text)))
    sample = clocked(lambda: action(topo, loaded.pop()))
    return sample._replace(wall=loading.wall + sample.wall, cpu=loading.cpu + sample.cpu, loading=loading.cpu)


def _warm() -> Any:
    """The API, its module, as a process has it that has used it before."""
    from topo import api

    small = api.loads(WARM)
    api.apply(small)
    api.plan(small)
    api.destroy(small)
    netlink.finished()
    return api


ACTIONS: dict[str, Callable[[Lab], Sample]] = {
    action.__name__: action
    for action in (
        floor_make, floor_read, floor_delete, ip_make, ip_delete, one_make,
        api_apply, api_change, api_diff, api_destroy,
    )
}  # fmt: skip


def main(action: str, kind: str, size: str) -> None:
    print(json.dumps(ACTIONS[action](LABS[kind](int(size)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
