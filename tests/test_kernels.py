"""What nox -s kernels leaves out and shares, and the table of docs/kernels.md; no kernel is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kernels import table, unfit

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("test", [*unfit.UNTIMELY, *unfit.NOT_HERE])
def test_what_is_left_out_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    name, _, case = name.partition("[")
    assert f"def {name}(" in (ROOT / path).read_text()
    assert not case or (ROOT / "samples" / f"{case[:-1]}.yaml").exists()


def collected(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "tests.kernels.unfit", "-m", "live"]
    done = subprocess.run(
        [*command, *arguments, "tests/live/test_confirm.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return [line for line in done.stdout.splitlines() if "::" in line and not line.startswith("left out")]


def test_shares_are_everything_once() -> None:
    everything = collected()
    travels, passes = collected("--time", "travels"), collected("--time", "only-passes")
    assert sorted([*travels, *passes]) == sorted(everything)
    assert passes and all("killed_midway" in test for test in passes)
    shares = [collected("--time", "travels", "--share", f"{number}/3") for number in (1, 2, 3)]
    assert sorted(test for share in shares for test in share) == sorted(travels)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_table_is_what_was_told() -> None:
    data = json.loads(table.DATA.read_text())
    text = table.PAGE.read_text()
    assert text.partition(table.BEGIN + "\n")[2].partition(table.END)[0] == table.table(data)
    assert len(data["kernels"]) >= 2


def test_a_kernel_that_is_not_there_is_not_built_in_silence(tmp_path: Path) -> None:
    """What would be built, for how long, and how to give one is said before anything is done; here there is no apt."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels", "-k", "5.0-full", "--", "true"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={
            **{k: v for k, v in os.environ.items() if k != "TOPO_UML"},
            "PATH": str(tmp_path),
            "XDG_CACHE_HOME": str(tmp_path),
        },
    )
    assert done.returncode == 125
    first = done.stderr.splitlines()[0]
    assert "there is no kernel 5.0-full yet" in first
    assert "minutes" in first and "TOPO_UML=" in first
    assert not list(tmp_path.rglob("linux"))
