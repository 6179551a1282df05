"""What import-linter's contracts (pyproject.toml) cannot say about imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOPO = Path(__file__).parents[1] / "topo"
HEAVY = {"pyroute2", "networkx", "deepdiff", "rich", "asyncio"}


def test_wire_takes_nothing_of_socket_but_addresses() -> None:
    tree = ast.parse((TOPO / "wire.py").read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_socket(node.value)}
    assert used <= {"inet_pton", "inet_ntop", "AF_INET", "AF_INET6"}


def _is_socket(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "socket"


@pytest.mark.parametrize("module", ["topo.cli.main", "topo.api", "topo.file.loading", "topo.file.lowering"])
def test_heavy_imports_are_lazy(module: str) -> None:
    """Nothing that takes 100 ms to import is imported before it is needed."""
    code = f"import sys, {module}; print(*(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOPO.parent, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_what_a_file_does_not_use_is_not_imported() -> None:
    text = "topology: lab\nnamespaces: {a: {}, b: {}}\nlinks: [['a:eth0', 'b:eth0']]\n"
    code = f"import sys, topo; topo.lower(topo.loads({text!r})); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOPO.parent, check=True)
    found = {name.removeprefix("topo.") for name in done.stdout.split() if name.startswith("topo.")}
    assert {"file.model.topology", "file.model.links"} <= found
    assert {name for name in found if name.startswith("file.model.")} == {
        f"file.model.{name}" for name in ("links", "sections", "topology", "values")
    }
    assert not found & {"api", "kernel", "engine", "planning", "kinds.spec", "kinds.shaping", "kinds.nft"}


def test_help_needs_no_model() -> None:
    code = "import sys, topo.cli.main; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOPO.parent, check=True)
    assert done.stdout.strip() == "False"
