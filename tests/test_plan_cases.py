"""Cases as data: `cases/plan/<case>/` holds a topology, what is live before, and the plan that is expected.

`live.yaml` has what was `applied` before (a topology), what is there from others (`foreign`, a list of facts),
what someone did since (`changed`: "kind name" -> attributes; `removed`: a list of "kind name"; `added`: a list of
facts), and `adopt`. `plan.txt` has the plan as a person sees it, or the error; then the stages.

A new case is a new directory. `UPDATE_CASES=1 pytest tests/test_plan_cases.py` writes the files `plan.txt`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from fake import FakeKernel
from ruamel.yaml import YAML

from topo.errors import TopoError
from topo.facts import HOST, STATIC, Desired, Fact, Facts, Ref
from topo.file.loading import load, loads
from topo.file.lowering import lower
from topo.planning.diff import diff
from topo.planning.graph import stages
from topo.planning.plan import Plan, lines
from topo.planning.resolve import resolve
from topo.planning.restore import originals

CASES = sorted(path.parent for path in Path(__file__).parent.glob("cases/plan/*/topology.yaml"))


def read(path: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load(path.read_text()) or {}) if path.exists() else {}


def tuples(value: Any) -> Any:
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def facts(data: Iterable[dict[str, Any]]) -> list[Fact]:
    return [
        Fact(
            Ref(entry["kind"], entry.get("ns", HOST), tuples(entry["key"])),
            {name: tuples(value) for name, value in entry.get("attrs", {}).items()},
            entry.get("origin", STATIC),
        )
        for entry in data
    ]


def dumped(document: Any) -> str:
    from io import StringIO

    stream = StringIO()
    YAML(typ="safe", pure=True).dump(document, stream)
    return stream.getvalue()


def live(case: Path) -> tuple[FakeKernel, Desired | None, Facts, bool]:
    """The kernel as the case has it, what was applied, the record's originals, and whether to adopt."""
    data = read(case / "live.yaml")
    kernel = FakeKernel(facts(data.get("foreign", ())))
    previous, restore = None, {}
    if "applied" in data:
        previous = lower(loads(dumped(data["applied"])))
        before = kernel.read(previous)
        previous = resolve(previous, before)
        changes = diff(previous, before)
        outcome = kernel.execute(stages(changes, previous, before), previous)
        assert not outcome.failed, outcome.failed
        restore = originals(changes, before, previous)
    names = {f"{ref.kind} {ref}": ref for ref in kernel.facts}
    for name, attrs in data.get("changed", {}).items():
        fact = kernel.facts[names[name]]
        kernel.facts[fact.ref] = fact._replace(attrs={**fact.attrs, **{n: tuples(v) for n, v in attrs.items()}})
    for name in data.get("removed", ()):
        del kernel.facts[names[name]]
    kernel.facts.update({fact.ref: fact for fact in facts(data.get("added", ()))})
    return kernel, previous, restore, bool(data.get("adopt"))


def planned(case: Path) -> str:
    kernel, previous, restore, adopt = live(case)
    desired = lower(load([case / "topology.yaml"]))
    before = kernel.read(desired, previous)
    try:
        desired = resolve(desired, before, restore)
        changes = diff(desired, before, previous, adopt, restore)
        todo = stages(changes, desired, before)
    except TopoError as error:
        return f"{type(error).__name__}: {error}\n"
    text = lines(Plan(desired.name, changes, desired))
    for number, stage in enumerate(todo, 1):
        text += [f"stage {number}"] + [
            f"  {op.verb} {op.ref.kind} {op.ref} {' '.join(op.attrs)}".rstrip() for op in stage
        ]
    outcome = kernel.execute(todo, desired)
    assert not outcome.failed, outcome.failed
    left = diff(desired, kernel.read(desired, previous), desired, adopt, restore)
    assert not left, left
    return "\n".join(text) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_plan(case: Path) -> None:
    found, expected = planned(case), case / "plan.txt"
    if os.environ.get("UPDATE_CASES"):
        expected.write_text(found)
    assert found == expected.read_text()


def test_there_are_cases() -> None:
    assert len(CASES) >= 15
