"""The bounds of gate.py, on the real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .gate import BOUNDS, SIZE, verdicts
from .running import Bench, Results, table

pytestmark = [pytest.mark.bench, pytest.mark.live, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def results() -> Iterator[Results]:
    found = Bench(SIZE, 3, ("floor", "api")).run()
    print(f"\n{table(found)}")
    yield found


@pytest.mark.parametrize("action", [bound.action for bound in BOUNDS])
def test_within_the_bound(results: Results, action: str) -> None:
    (verdict,) = (verdict for verdict in verdicts(results) if verdict.action == action)
    assert verdict.good, str(verdict)
