"""Podman's containers by its state on disk (topo/kernel/podman.py), with processes that play conmon and a container."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from topo.kernel import podman

WEB, OTHER = "8e5061e6b14d" + "0" * 52, "8e50ffffffff" + "0" * 52


@pytest.fixture
def conmon() -> Iterator[tuple[int, int]]:
    """The pids of a process and of its child."""
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        yield parent.pid, child
        os.kill(child, 15)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state with two containers; the directory of the first one's pids."""
    graphroot, runroot = tmp_path / "graph", tmp_path / "run"
    settings = tmp_path / "storage.conf"
    settings.write_text(f'[storage]\ngraphroot = "{graphroot}"\nrunroot = "{runroot}"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(settings))
    listed = graphroot / "overlay-containers" / "containers.json"
    listed.parent.mkdir(parents=True)
    listed.write_text(json.dumps([{"id": WEB, "names": ["web"]}, {"id": OTHER, "names": ["8e5061"]}, {"id": "f" * 64}]))
    pids = runroot / "overlay-containers" / WEB / "userdata"
    pids.mkdir(parents=True)
    return pids


def write(directory: Path, conmon: int, pid: int) -> None:
    (directory / "conmon.pid").write_text(str(conmon))
    (directory / "pidfile").write_text(str(pid))


def test_by_name_and_by_id(state: Path, conmon: tuple[int, int]) -> None:
    write(state, *conmon)
    assert podman.find("web") == conmon[1]
    assert podman.find(WEB) == conmon[1]
    assert podman.find("8e5061e6") == conmon[1]
    assert podman.find("8e5061") == 0, "a name goes before an id; this one is not running"
    assert podman.find("nothing") is None
    with pytest.raises(ValueError, match="2 containers have ids that begin with 8e50"):
        podman.find("8e50")


def test_transient_containers_are_listed_elsewhere(state: Path) -> None:
    (state.parents[1] / "volatile-containers.json").write_text(json.dumps([{"id": "1" * 64, "names": ["brief"]}]))
    assert podman.find("brief") == 0


def test_stopped(state: Path, conmon: tuple[int, int]) -> None:
    """The files of pids stay behind; a process that got the pid later is not the container."""
    assert podman.find("web") == 0, "never started"
    write(state, conmon[0], os.getpid())
    assert podman.find("web") == 0, "not conmon's child"
    write(state, conmon[0], 0x7FFFFFF)
    assert podman.find("web") == 0, "no such process"
    (state / "pidfile").write_text("")
    assert podman.find("web") == 0, "being written"


def test_broken_state(state: Path) -> None:
    listed = state.parents[3] / "graph" / "overlay-containers" / "containers.json"
    listed.write_text("{")
    with pytest.raises(ValueError, match="Expecting property name"):
        podman.find("web")
