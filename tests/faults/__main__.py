"""`python -m tests.faults`: the whole tier, two runs of pytest side by side, and the figures into docs/reliability.md.

`--each` tries each step of each lab, and takes an hour or two; `--more` also in each way, with thousands of random topologies and
an hour of drift, and takes many; `--less` is for who is at work on the tier. Other arguments are pytest's, and
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

FORMS: Final = {"--more": "Everything", "--each": "Every step of every lab", "--less": "Less"}
PAGE: Final = ROOT / "docs" / "reliability.md"
PARTS: Final = (
    (
        "faults/test_killed", "faults/test_hostile", "faults/test_provoked", "faults/test_random", "faults/test_answers",
        "faults/test_many", "faults/test_long",
    ),
    ("faults/test_refused", "faults/test_record", "faults/test_privilege", "interop/test_disturbed"),
)  # fmt: skip
"""About as long as one another."""


def main(arguments: list[str]) -> int:
    form = next((word for word in arguments if word in FORMS), "")
    rest = [word for word in arguments if word not in FORMS]
    environment = dict(os.environ) | ({f"TOPO_FAULTS_{form[2:].upper()}": "1"} if form else {})
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / f"{number}.json" for number in range(len(PARTS))]
        codes = _run(rest, environment, paths)
        if not any(codes) and not rest and form != "--less":
            total = figures.Figures()
            total.load(paths)
            minutes = (time.monotonic() - started) / 60
            size = FORMS.get(form, "The short form")
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
