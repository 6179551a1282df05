"""What would be loaded as a module, known from modprobe's own lists."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from topo.kernel.modules import Modules

ALIASES = "# comment\nalias rtnl-link-dummy dummy\nalias rtnl-link-vlan 8021q\nalias net-pf-16-proto-16 x y\n"
FILES = "kernel/drivers/net/dummy.ko.xz:\nkernel/net/8021q/8021q.ko: kernel/net/802/mrp.ko\nkernel/net/sched/sch-netem.ko.zst:\n"
DUMMY, VLAN, NETEM, BOND = (
    ("rtnl-link-dummy",),
    ("rtnl-link-vlan",),
    ("net-sch-netem", "sch_netem"),
    ("rtnl-link-bond",),
)


def modules(tmp_path: Path, loaded: str | None, listed: bool = True) -> Modules:
    where = tmp_path / "modules" / os.uname().release
    if listed:
        where.mkdir(parents=True)
        (where / "modules.alias").write_text(ALIASES)
        (where / "modules.dep").write_text(FILES)
    if loaded is not None:
        (tmp_path / "loaded").write_text(loaded)
    return Modules.read(str(tmp_path / "modules"), str(tmp_path / "loaded"))


@pytest.mark.parametrize(
    ("names", "expected"), [(DUMMY, "dummy"), (VLAN, "8021q"), (NETEM, "sch_netem"), (BOND, ""), ((), "")]
)
def test_by_alias_and_by_name(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    assert modules(tmp_path, "").unloaded(names) == expected


@pytest.mark.parametrize("names", [DUMMY, VLAN, NETEM])
def test_what_is_loaded_would_not_be(tmp_path: Path, names: tuple[str, ...]) -> None:
    here = "8021q 45056 0 - Live 0x0\ndummy 16384 0 - Live 0x0\nsch_netem 16384 0 - Live 0x0\n"
    assert modules(tmp_path, here).unloaded(names) == ""


def test_a_kernel_without_modules_loads_none(tmp_path: Path) -> None:
    assert modules(tmp_path, None).unloaded(DUMMY) == ""


def test_in_a_container_the_lists_are_not_to_be_seen(tmp_path: Path) -> None:
    seen = modules(tmp_path, "sch_netem 16384 0 - Live 0x0\ndummy 16384 0 - Live 0x0\n", listed=False)
    assert seen.unloaded(BOND) is None
    assert seen.unloaded(()) == seen.unloaded(DUMMY) == ""
    assert seen.unloaded(NETEM) == ""
