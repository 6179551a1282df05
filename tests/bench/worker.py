"""One action on the star, measured in this process: `python -m bench.worker ACTION SIZE`. Prints its Sample as JSON.

The API is measured as in a process that runs already: everything is imported, and a small lab was made and removed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from . import floor
from .lab import Star
from .measuring import Sample, clocked

WARM = "topology: bench-warm\nbridges: {w0: {subnet: 10.9.0.0/24}}\nnamespaces: {'w[1-3]': {}}\nlinks: [['w[1-3]:e', w0]]\n"
CHANGED_MTU = 1400


def floor_make(star: Star) -> Sample:
    return clocked(floor.Making(star).run)


def floor_read(star: Star) -> Sample:
    """The second time, as the API is measured in a process that has read before."""
    floor.read()
    return clocked(floor.read)


def floor_delete(star: Star) -> Sample:
    return clocked(floor.delete, floor.finished)


def ip_make(star: Star) -> Sample:
    def run() -> None:
        for batch in batches:
            _feed(["ip", "-batch", "-"], batch)
        for name, batch in insides:
            _feed(["ip", "-n", name, "-batch", "-"], batch)

    batches = star.batches()
    insides = [(name, star.inside(index)) for index, name in enumerate(star.namespaces())]
    return clocked(run)


def ip_delete(star: Star) -> Sample:
    batch = "\n".join(f"netns delete {name}" for name in star.namespaces())

    def run() -> None:
        _feed(["ip", "-batch", "-"], batch)
        subprocess.run(["ip", "link", "delete", "br0"], check=True)

    return clocked(run, floor.finished)


def _feed(command: list[str], text: str) -> None:
    subprocess.run(command, input=text.encode(), check=True)


def api_apply(star: Star) -> Sample:
    """From the text of the file on; where nothing is to do, a no-op."""
    topo = _warm()
    return clocked(lambda: topo.apply(topo.loads(star.text())))


def api_change(star: Star) -> Sample:
    topo = _warm()
    return clocked(lambda: topo.apply(topo.loads(star.text(CHANGED_MTU))))


def api_diff(star: Star) -> Sample:
    topo = _warm()
    found: list[Any] = []
    sample = clocked(lambda: found.append(topo.plan(topo.loads(star.text()))))
    assert not found[0].changes
    return sample


def api_destroy(star: Star) -> Sample:
    topo = _warm()
    return clocked(lambda: topo.destroy(star.name), floor.finished)


def _warm() -> Any:
    """The API, its module, as a process has it that has used it before."""
    from topo import api

    small = api.loads(WARM)
    api.apply(small)
    api.plan(small)
    api.destroy(small)
    floor.finished()
    return api


ACTIONS: dict[str, Callable[[Star], Sample]] = {
    action.__name__: action
    for action in (
        floor_make, floor_read, floor_delete, ip_make, ip_delete,
        api_apply, api_change, api_diff, api_destroy,
    )
}  # fmt: skip


def main(action: str, size: str) -> None:
    print(json.dumps(ACTIONS[action](Star(int(size)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
