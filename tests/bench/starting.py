"""What the start of the process costs, for a lab of two namespaces, beside a Python that imports what it cannot do without."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from . import netlink
from .measuring import Sample, Samples, command_line, python

LAB: Final = (
    "topology: bench-two\nnamespaces: {a: {}, b: {}}\nlinks: [{ends: ['a:eth0', 'b:eth0'], subnet: 10.0.0.0/30}]\n"
)
IMPORTS: Final = "import pydantic, ruamel.yaml\nclass Model(pydantic.BaseModel):\n    name: str\nModel(name='a')"
ROWS: Final = {
    "bare": "python, nothing imported",
    "imports": "python, pydantic with one model, ruamel.yaml",
    "help": "topo --help",
    "completion": "completion in the shell",
    "validate": "topo validate",
    "diff": "topo diff, nothing differs",
    "noop": "topo apply, nothing to do",
}


def measure(repetitions: int) -> dict[str, Samples]:
    with tempfile.TemporaryDirectory() as directory:
        lab = Path(directory, "two.yaml")
        lab.write_text(LAB)
        actions: dict[str, Callable[[], Sample]] = {
            "bare": lambda: python("-c", "pass"),
            "imports": lambda: python("-c", IMPORTS),
            "help": lambda: command_line(["--help"]),
            "completion": lambda: python(
                "-m", "topo", _TOPO_COMPLETE="bash_complete", COMP_WORDS="topo app", COMP_CWORD="1"
            ),
            "validate": lambda: command_line(["validate", lab]),
            "diff": lambda: command_line(["diff", lab]),
            "noop": lambda: command_line(["apply", lab]),
        }
        command_line(["apply", lab])
        found: dict[str, Samples] = {name: Samples() for name in actions}
        for _ in range(repetitions):
            for name, action in actions.items():
                found[name].append(action())
        command_line(["destroy", "bench-two"])
        netlink.finished()
    return found


def table(found: dict[str, Samples]) -> str:
    lines = [
        "| two namespaces, whole process | wall, ms | CPU, ms | of the imports' | peak, MiB |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, title in ROWS.items():
        mine = found[name]
        ratio = f"{mine.cpu() / found['imports'].cpu():.2f}"
        lines.append(
            f"| {title} | {mine.wall() * 1e3:.0f} | {mine.cpu() * 1e3:.0f} | {ratio} | {mine.memory() / 1024:.0f} |"
        )
    return "\n".join(lines)
