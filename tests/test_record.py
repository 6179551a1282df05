"""The record: what is written is read again, and what stands in it is not written anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from topo.engine import record as records
from topo.engine.known import Lowered
from topo.engine.record import Record, Written

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(), some, max_size=3),
    max_leaves=8,
)
_documents = st.none() | st.dictionaries(st.text() | st.sampled_from(["applied", "pending"]), _values, max_size=4)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "DIRECTORY", tmp_path / "topo")
    return tmp_path / "topo"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_documents, _documents, st.booleans())
def test_what_is_written_is_read(applied: Any, pending: Any, written: bool) -> None:
    record = Record("lab", 7, applied, pending, False, {}, {"web": 9})
    if written and applied is not None:
        record = records.update(record, applied=Written(applied))
    records.save(record)
    path = records.DIRECTORY / "lab.json"
    found = records.load("lab")
    assert found is not None
    assert records.update(found, time=0.0) == record
    # As it was written before each document had a line of its own; and as a person may write it.
    for indent in (None, 1):
        path.write_text(json.dumps(json.loads(path.read_text()), indent=indent))
        assert records.load("lab") == found
    records.save(found)
    again = records.load("lab")
    assert again is not None
    assert records.update(again, time=0.0) == record


def test_a_document_that_stands_there_is_written_as_it_stands(directory: Path) -> None:
    records.save(Record("lab", 7, {"topology": "lab"}, None))
    path = directory / "lab.json"
    path.write_text(path.read_text().replace('{"topology":"lab"}', '{"topology": "lab"}'))
    found = records.load("lab")
    assert found is not None
    records.save(found)
    assert '"applied":{"topology": "lab"}' in path.read_text()


def test_a_record_is_read_each_time_it_is_asked_for(directory: Path) -> None:
    lowered = Lowered()
    assert lowered.record("lab") is None
    records.save(Record("lab", 7, {"topology": "lab"}, None))
    first = lowered.record("lab")
    assert first is not None and first is lowered.record("lab")
    records.save(Record("lab", 8, {"topology": "lab"}, None))
    second = lowered.record("lab")
    assert second is not None and second.home == 8
    records.remove("lab")
    assert lowered.record("lab") is None
