"""The bounds of gate.py, on the real kernel."""

from __future__ import annotations

import pytest

from .gate import BOUNDS, SIZE, Verdict, quiet, verdicts
from .running import Bench, table

pytestmark = [pytest.mark.bench, pytest.mark.live, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def found() -> dict[str, Verdict]:
    clock = quiet()
    results = Bench(SIZE, 3, ("floor", "api")).run()
    print(f"\n{table(results)}")
    return {verdict.action: verdict for verdict in verdicts(results, clock)}


@pytest.mark.parametrize("action", [bound.action for bound in BOUNDS if bound.action.startswith("api")])
def test_within_the_bound(found: dict[str, Verdict], action: str) -> None:
    assert found[action].good, str(found[action])
