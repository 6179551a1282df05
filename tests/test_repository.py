"""What the repository promises about its own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from topo.file.loading import load, load_document
from topo.file.lowering import lower
from topo.file.schema import schema

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "schemas/topology.schema.json"
SAMPLES = sorted((ROOT / "samples").glob("*.yaml"))


def test_schema_is_current() -> None:
    assert json.loads(SCHEMA.read_text()) == schema(), "nox -s schema writes it anew"


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_every_field_is_described() -> None:
    """An editor explains what it completes."""
    document = schema()
    bare = [f"{name}.{field}" for name, field, found in _fields(document) if not _described(found, document)]
    assert bare == []


def _fields(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    models = {document.get("title", "Topology"): document, **document.get("$defs", {})}
    return [
        (name, field, found) for name, model in models.items() for field, found in model.get("properties", {}).items()
    ]


def _described(found: dict[str, Any], document: dict[str, Any]) -> bool:
    if "$ref" in found and "description" not in found:
        found = document["$defs"][found["$ref"].rpartition("/")[2]]
    return bool(found.get("description"))


@pytest.mark.parametrize("path", SAMPLES, ids=[path.stem for path in SAMPLES])
def test_sample(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=../schemas/topology.schema.json\n# "), (
        "schema, then what it is"
    )
    document = dict(load_document([path]))
    jsonschema.Draft202012Validator(schema()).validate(document)
    topology = load([path])
    assert topology.topology == path.stem
    desired = lower(topology)
    assert desired.checks, "a sample says what must work"


def test_schema_refuses_what_loading_refuses() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    assert not validator.is_valid({"topology": "x", "brigdes": {}})
    assert not validator.is_valid({"bridges": {}})
    assert not validator.is_valid({"topology": "x", "bridges": {"br0": {"mtu": "many"}}})


def test_continuous_integration_is_the_readme_test_command() -> None:
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("exec ./tests/run")
    assert "./tests/run" in (ROOT / "README.md").read_text()
