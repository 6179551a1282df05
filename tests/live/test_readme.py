"""What the pages show is what happens: their console blocks, run in the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest
import tour
from sandbox.host import Host


@pytest.mark.parametrize("page", ["README.md", "docs/file.md", "docs/walkthrough.md"])
def test_the_page_shows_what_happens(host: Host, tmp_path: Path, page: str) -> None:
    text = (tour.ROOT / page).read_text(encoding="utf-8")
    steps = tour.steps(text)
    assert steps, "the page has lost its console blocks"
    with tour.Shell(tmp_path, text) as shell:
        for step in steps:
            found = shell.run(step.command)
            line = text.count("\n", 0, step.start)
            assert tour.loose(found) == tour.loose(step.output), f"{page}:{line}: {step.command}\n{found}"
