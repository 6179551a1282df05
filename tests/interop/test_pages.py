"""What the pages of docs/seeds show is what happens beside a real Docker.

`TOPO_TOUR=write python -m pytest -m interop tests/interop/test_pages.py` writes what happens into the pages.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tour

from interop.docker import Docker


@pytest.mark.parametrize("page", ["bridge-mode", "null-mode", "container-mode"])
def test_the_page_shows_what_happens(docker: Docker, tmp_path: Path, page: str) -> None:
    path = tour.ROOT / "docs" / "seeds" / f"{page}.md"
    text = path.read_text(encoding="utf-8")
    steps = tour.steps(text)
    assert steps, "the page has lost its console blocks"
    with tour.Shell(tmp_path, text) as shell:
        (tmp_path / "bin" / "docker").symlink_to(docker.client)
        outputs = [shell.run(step.command) for step in steps]
    if os.environ.get("TOPO_TOUR") == "write":
        path.write_text(tour.rewritten(text, outputs), encoding="utf-8")
        return
    for step, found in zip(steps, outputs, strict=True):
        line = text.count("\n", 0, step.start)
        assert tour.loose(found) == tour.loose(step.output), f"{page}:{line}: {step.command}\n{found}"
