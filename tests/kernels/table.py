"""`python -m tests.kernels.table [KERNEL...]`: ask `topo doctor` on this machine's kernel and under each KERNEL (7.2-full ...), and
write what it says into docs/kernels.json, beside what it said on others, and into the table of docs/kernels.md.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT / "docs/kernels.json"
PAGE: Final = ROOT / "docs/kernels.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
_GROUPS: Final = {
    "link": "kind",
    "bridge": "bridges",
    "qdisc": "shaping",
    "nftables": "nftables",
    "routing": "routing",
    "other": "",
}
_SIGNS: Final = {"yes": "yes", "module": "module", "no": "-", "unknown": "?"}

Told = dict[str, dict[str, str]]
"""Kernel -> "group name" -> state."""


def ask(kernel: str | None) -> tuple[str, dict[str, dict[str, Any]]]:
    """The series of a kernel, and its findings by group and name; None: of the running one."""
    under = [sys.executable, "-m", "tests.kernels", "-k", kernel, "--"] if kernel else []
    command = [*under, sys.executable, "-m", "topo", "doctor", "-o", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    document = json.loads(done.stdout)
    found = {f"{f['group']} {f['name']}": f for f in document["findings"] if f["group"] in _GROUPS}
    match = re.match(r"\d+\.\d+", document["kernel"])
    assert match is not None
    return match[0], found


def main(kernels: list[str]) -> None:
    data: dict[str, Any] = json.loads(DATA.read_text()) if DATA.exists() else {"options": {}, "kernels": {}}
    for kernel in (None, *kernels):
        series, found = ask(kernel)
        name = f"{series}, all built in" if kernel else f"{series}, of this machine"
        data["kernels"][name] = {key: finding["state"] for key, finding in found.items()}
        data["options"] |= {key: finding["option"] for key, finding in found.items()}
    DATA.write_text(json.dumps(data, indent=1) + "\n")
    head, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(head + BEGIN + "\n" + table(data) + rest[rest.index(END) :])


def table(data: dict[str, Any]) -> str:
    """In Markdown: a row for each thing, a column for each kernel, in the order of their numbers."""
    columns = sorted(data["kernels"], key=lambda name: [int(part) for part in re.findall(r"\d+", name)[:2]])
    lines = [f"| | kernel option | {' | '.join(columns)} |", "|---|---|" + "---|" * len(columns)]
    for key, option in data["options"].items():
        group, _, name = key.partition(" ")
        states = [_SIGNS[data["kernels"][column].get(key, "unknown")] for column in columns]
        lines.append(f"| {f'{_GROUPS[group]} `{name}`'.strip()} | {option} | {' | '.join(states)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    os.chdir(ROOT)
    main(sys.argv[1:])
