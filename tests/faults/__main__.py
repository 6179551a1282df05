"""`python -m tests.faults`: the whole tier, two runs of pytest side by side, and the figures into docs/reliability.md.

`--more` takes hours and tries everything; `--less` is for who is at work on the tier. Other arguments are pytest's, and
nothing is written then.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from faults import figures

PAGE: Final = ROOT / "docs" / "reliability.md"
PARTS: Final = (
    ("faults/test_killed", "faults/test_hostile", "faults/test_provoked", "faults/test_random", "faults/test_answers"),
    (
        "faults/test_refused", "faults/test_record", "faults/test_many", "faults/test_privilege", "faults/test_long",
        "interop/test_disturbed",
    ),
)  # fmt: skip
"""About as long as one another."""


def main(arguments: list[str]) -> int:
    more, less = "--more" in arguments, "--less" in arguments
    rest = [word for word in arguments if word not in ("--more", "--less")]
    environment = dict(os.environ)
    environment |= {"TOPO_FAULTS_MORE": "1"} if more else {"TOPO_FAULTS_LESS": "1"} if less else {}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / f"{number}.json" for number in range(len(PARTS))]
        codes = _run(rest, environment, paths)
        if not any(codes) and not rest and not less:
            total = figures.Figures()
            total.load(paths)
            minutes = (time.monotonic() - started) / 60
            size = "The long form" if more else "The short form"
            system = f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
            figures.write(PAGE, f"{size}, {minutes:.0f} minutes, {system}:\n\n{total.table()}")
    return max(codes)


def _run(rest: list[str], environment: dict[str, str], paths: list[Path]) -> list[int]:
    processes = []
    for part, path in zip(PARTS, paths, strict=True):
        files = [str(ROOT / f"tests/{name}.py") for name in part]
        marks = ["-m", "faults or interop"]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *marks, *files, *rest]
        processes.append(subprocess.Popen(command, env=environment | {"TOPO_FAULTS_FIGURES": str(path)}, cwd=ROOT))
    return [process.wait() for process in processes]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
