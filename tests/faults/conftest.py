"""Where `python -m tests.faults` wants them, the figures of this run go to a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faults.figures import FIGURES


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    path = os.environ.get("TOPO_FAULTS_FIGURES")
    if path and FIGURES.tried:
        FIGURES.save(Path(path))
