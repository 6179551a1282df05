"""Where `python -m tests.faults` wants them, the figures of this run go to a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faults.figures import FIGURES


@pytest.fixture(scope="session", autouse=True)
def _at_once(request: pytest.FixtureRequest) -> None:
    """A failure is told as it comes: the tier is long."""
    terminal = request.config.pluginmanager.getplugin("terminalreporter")

    class Told:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed and terminal is not None:
                terminal.write_line(f"\n{report.nodeid}\n{str(report.longrepr)[-4000:]}")

    request.config.pluginmanager.register(Told())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    path = os.environ.get("TOPO_FAULTS_FIGURES")
    if path and FIGURES.tried:
        FIGURES.save(Path(path))
