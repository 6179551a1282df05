"""Coverage-guided fuzzing (atheris, libFuzzer): `python tests/faults/fuzz.py TARGET CORPUS... [-max_total_time=60]`.

A target takes bytes, and raises where topo does what it never may: anything but its own errors, control characters in
what is said, a name that leads out of its directory. Time and memory are libFuzzer's to watch.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import atheris

with atheris.instrument_imports(include=["topo"]):
    from topo.cli import options
    from topo.engine import confirm, record
    from topo.errors import InputError, TopoError
    from topo.facts import HOST, Desired
    from topo.file import loading
    from topo.file.lowering import lower
    from topo.file.model import Topology
    from topo.kernel import netns
    from topo.kinds import nft
    from topo.kinds.registry import KINDS
    from topo.wire import attributes

_WORK: Final = Path(tempfile.mkdtemp(prefix="topo-fuzz-", dir="/dev/shm"))
_FILE: Final = _WORK / "lab.yaml"
_NFT_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def _said(error: TopoError) -> None:
    """What a terminal would get."""
    if isinstance(error, InputError):
        for diagnostic in error.diagnostics:
            assert all(c.isprintable() or c == "\n" for c in str(diagnostic)), repr(str(diagnostic))


def _sound(desired: Desired) -> None:
    """No fact leads out of where topo may write; what is nftables' is names of its own, and data."""
    for ref, fact in desired.facts.items():
        if ref.ns != HOST:
            path = netns.path(ref.ns)
            assert posixpath.normpath(path) == path and posixpath.dirname(path) == netns.DIRECTORY, path
        if ref.kind == "sysctl":
            path = f"/proc/sys/{ref.key[0]}"
            assert posixpath.normpath(path) == path and path.startswith("/proc/sys/net/"), path
        if ref.kind == "link":
            assert len(ref.key[0].encode()) < 16 and not re.search(r"[\s/:]", ref.key[0]), ref
        if ref.kind == "nft":
            _names_only(nft.replacement(ref.key[0], ref.key[1], fact.attrs))


def _names_only(commands: list[dict[str, Any]]) -> None:
    """Tables, chains, sets and maps bear names that need no quoting in any grammar of nft's."""
    for command in commands:
        for body in command.values():
            for kind, thing in body.items():
                if isinstance(thing, dict) and "name" in thing and kind in ("table", "chain", "set", "map"):
                    assert _NFT_NAME.fullmatch(thing["name"]), thing["name"]


def _lowered(topology: Topology) -> None:
    try:
        _sound(lower(topology))
    except InputError as error:
        _said(loading.located(error, topology))


def loader(data: bytes) -> None:
    """A file, as a whole."""
    _FILE.write_bytes(data)
    try:
        topology = loading.load([str(_FILE)])
    except TopoError as error:
        _said(error)
    else:
        _lowered(topology)


def models(data: bytes) -> None:
    """A document that is JSON already: the models and the lowering, whatever YAML would have said."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        topology = Topology.model_validate(document)
    except ValueError:  # pydantic's
        return
    _lowered(topology)


class _View:
    ns, mark = "web", 0x71234567

    def ifname(self, index: int) -> str | None:
        return f"eth{index}"


def codec(data: bytes) -> None:
    """A message of the kernel's, to every decoder: facts, or none."""
    if len(data) < 2:
        return
    kind, body = 16 + data[0] % 100, data[1:]
    with suppress(RecursionError):
        attributes(body)
    for one in KINDS.values():
        list(one.decode(kind, body, 0, len(body), _View()))


def records(data: bytes) -> None:
    """A record, and a note of what is to be confirmed, that anybody may have written."""
    (record.DIRECTORY / "lab.json").write_bytes(data)
    (record.DIRECTORY / ".lab.confirm").write_bytes(data)
    with suppress(record.DamagedError):
        found = record.load("lab")
        if found is not None:
            from topo.engine.known import Lowered, stated

            desired = stated(found, Lowered())
            if desired:
                _sound(desired)
    confirm.load("lab")


def plans(data: bytes) -> None:
    """A plan that was saved, and changed since."""
    try:
        options._plan(data.decode(errors="replace"))
    except TopoError as error:
        _said(error)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target for target in (loader, models, codec, records, plans)
}


def main() -> None:
    name, *rest = sys.argv[1:]
    record.DIRECTORY = _WORK / "run"  # type: ignore[misc]
    record.DIRECTORY.mkdir(mode=0o700)
    record.boot = lambda: "boot"
    os.umask(0o077)
    atheris.Setup([sys.argv[0], *rest], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
