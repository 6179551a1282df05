"""A pytest plugin (`-p tests.kernels.unfit`) for the live tier under User-Mode Linux: which share of it this machine has, and which
tests cannot run where it runs, each for its stated reason. What is left out is told at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pytest

MIDWAY: Final = "in time travel who waits wakes when nobody else has anything to do: a run is never seen midway"
LOADED: Final = (
    "with time travel, traffic that is sent at a rate keeps the machine busy and leaves little for the run beside it"
)

UNTIMELY: Final = {
    "tests/live/test_confirm.py::test_apply_is_killed_midway": MIDWAY,
    "tests/live/test_seeds_underlay.py::test_a_session_goes_on": LOADED,
    "tests/live/test_seeds_underlay.py::test_a_bridge_without_other_ports": LOADED,
}
"""Tests that need a time that passes -> why: run by a machine whose time does."""

LARGE: Final = "a thousand namespaces take ten minutes there, and are no other code than a few"

NOT_HERE: Final = {
    "tests/live/test_samples.py::test_sample[star-1000]": LARGE,
    "tests/live/test_scale.py::test_a_thousand_namespaces": LARGE,
}
"""Tests that are not for User-Mode Linux at all -> why."""

YOUNG: Final = ("netkit",)
"""Kinds that not every series has. A test that has one in its name is left out by older ones."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kernels")
    group.addoption("--share", default="1/1", help="K/N: the Kth of N shares of the tests")
    group.addoption("--time", choices=["passes", "travels", "only-passes"], default="passes", help="what the tests get")


_LEFT: Final = pytest.StashKey[dict[str, list[str]]]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    time, (share, shares) = config.option.time, map(int, config.option.share.split("/"))
    left: dict[str, list[str]] = {}
    kept: list[pytest.Item] = []
    for item in items:
        untimely = reason(item.nodeid, UNTIMELY)
        why = young(item.name) or reason(item.nodeid, NOT_HERE) or (untimely if time == "travels" else "")
        if why:
            left.setdefault(why, []).append(item.nodeid)
        elif time != "only-passes" or untimely:
            kept.append(item)
    mine = {id(item) for item in kept[share - 1 :: shares]}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in mine])
    items[:] = [item for item in items if id(item) in mine]
    config.stash[_LEFT] = left if share == 1 else {}


def young(test: str) -> str:
    from sandbox.series import too_old  # late: pytest finds it when it has read its settings

    found = next((kind for kind in YOUNG if kind in test and too_old(f"link {kind}")), "")
    return f"{found} is younger than this kernel" if found else ""


def reason(test: str, among: dict[str, str]) -> str:
    return next((why for prefix, why in among.items() if test.startswith(prefix)), "")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for why, tests in config.stash.get(_LEFT, {}).items():
        terminalreporter.write_line(f"left out: {len(tests)} tests: {why}: {', '.join(names(tests))}")


def names(tests: Iterable[str]) -> list[str]:
    return sorted({test.rpartition("/")[2].partition("[")[0] for test in tests})
