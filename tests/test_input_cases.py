"""Bad files and exactly what is said of each: cases/input/<case>/{topology.yaml, errors.txt}.

A new case is a directory. `TOPO_WRITE_CASES=1 pytest tests/test_input_cases.py` writes the errors.txt that
are missing or differ, to be read before they are kept.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from topo.errors import InputError
from topo.file.loading import load, located
from topo.file.lowering import lower

CASES = sorted(path.parent for path in (Path(__file__).parent / "cases" / "input").glob("*/topology.yaml"))
WRITE = os.environ.get("TOPO_WRITE_CASES") == "1"


def refused(file: str) -> InputError | None:
    """What a user is told of a file; None where nothing is wrong."""
    try:
        topology = load([file])
    except InputError as error:
        return error
    try:
        lower(topology)
    except InputError as error:
        return located(error, topology)
    return None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_says_what_is_wrong(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    error = refused("topology.yaml")
    assert error is not None
    expected = case / "errors.txt"
    if WRITE:
        expected.write_text(f"{error}\n")
    assert f"{error}\n" == expected.read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_error_has_its_place(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Independently of the wording: a line and a column that exist, and no control characters."""
    monkeypatch.chdir(case)
    error = refused("topology.yaml")
    assert error is not None and error.diagnostics
    for diagnostic in error.diagnostics:
        text = str(diagnostic)
        assert all(c.isprintable() or c == "\n" for c in text)
        if not diagnostic.line:  # unreadable as text: there is nothing to point at
            assert case.name in ("not-utf-8", "utf-16")
            continue
        lines = Path(diagnostic.file).read_bytes().split(b"\n")
        assert 1 <= diagnostic.line <= len(lines)
        assert 1 <= diagnostic.column <= len(lines[diagnostic.line - 1]) + 1


def test_there_are_enough() -> None:
    assert len(CASES) >= 60
