"""The record: what cannot be read back from the kernel. One JSON file per topology in /run/topo.

It is written and synced before the kernel is touched, and replaced whole (write, fsync, rename). It lives as
long as the kernel's own state does: /run is emptied at boot, and a record of another boot counts as none.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from topo.errors import KernelError, UnsupportedError
from topo.facts import Fact, Ref
from topo.planning.plan import fact_from_json, fact_to_json

DIRECTORY: Final = Path("/run/topo")
FORMAT: Final = 1
_DOUBTFUL: Final = "belongs to someone else, or others may write there"
_ROOTLESS: Final = "in a user namespace, mount a /run of its own first: mount -t tmpfs none /run"
_LARGEST: Final = 256 * 1024 * 1024
_DOCUMENTS: Final = ("applied", "pending")


class Record(NamedTuple):
    """What is known of one topology on this host.

    `applied`: the document of the last apply that succeeded, None before the first. `pending`: that of a run that
    is under way, or was killed. `restore`: foreign things as they were before topo first changed them.
    `namespaces`: names that topo made, or attached, with their inodes. `impaired`: shaping laid over what is stated
    (engine.impair). `home`: the inode of the network namespace
    that topo ran in.
    """

    topology: str
    home: int
    applied: dict[str, Any] | None = None
    pending: dict[str, Any] | None = None
    destroying: bool = False
    restore: Mapping[Ref, Fact] = MappingProxyType({})
    namespaces: Mapping[str, int] = MappingProxyType({})
    impaired: Mapping[Ref, Fact] = MappingProxyType({})
    time: float = 0.0

    @property
    def interrupted(self) -> bool:
        """Whether a run of it was begun and not finished."""
        return self.pending is not None or self.destroying


class Written(dict[str, Any]):
    """A document, and how it stands in the record: what is there already is not written in JSON again. Not to be changed."""

    __slots__ = ("text",)

    def __init__(self, document: Mapping[str, Any], text: bytes = b"") -> None:
        super().__init__(document)
        self.text = text or _json(document)


class DamagedError(Exception):
    """A record that cannot be read; the text says why."""


def names() -> list[str]:
    """The topologies that have a record. Raises UnsupportedError where this user may not look."""
    try:
        return sorted(
            name.removesuffix(".json") for name in os.listdir(DIRECTORY) if re.fullmatch(r"[^.].*\.json", name)
        )
    except FileNotFoundError:
        return []
    except PermissionError:
        raise UnsupportedError(f"{DIRECTORY} can be read by root only: run it as root (sudo topo ...)") from None


def load(name: str) -> Record | None:
    """The record of a topology; None where there is none, or it is of another boot.

    Raises DamagedError where it cannot be used: then the marks in the kernel are all that is known; KernelError.
    """
    text = content(name)
    return None if text is None else understood(name, text)


def content(name: str) -> bytes | None:
    """The text of the record of a topology; None where there is none. Raises as `load`."""
    return read(DIRECTORY / f"{name}.json")


def understood(name: str, text: bytes) -> Record | None:
    """What a record says; None where it is of another boot. Raises DamagedError."""
    try:
        data = _parsed(text)
        if data["format"] != FORMAT:
            raise DamagedError(f"{DIRECTORY / name}.json is of format {data['format']}; this topo knows {FORMAT}")
        if data["boot"] != boot():
            return None
        return _from_json(name, data)
    except DamagedError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{DIRECTORY / name}.json is damaged: {error!r}") from None


def read(path: Path) -> bytes | None:
    """A file of /run/topo; None where there is none. Raises KernelError, UnsupportedError, and DamagedError for a link."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(fd, "rb") as file:
            return file.read(_LARGEST)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise UnsupportedError(f"{DIRECTORY} can be read by root only: run it as root (sudo topo ...)") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise DamagedError(f"{path}: {error.strerror}") from None
        raise KernelError(error.errno or 0, doing=f"reading {path}") from None


def _parsed(text: bytes) -> Any:
    """The data of a record. Of one that is as `save` writes it, each document with its text."""
    lines = text.split(b"\n")  # no text in JSON has one
    starts = [f'"{name}":'.encode() for name in _DOCUMENTS]
    if len(lines) != 3 or not all(map(bytes.startswith, lines[1:], starts)):
        return _from_text(text)
    data = _from_text(lines[0][:-1] + b"}")
    for name, line, start in zip(_DOCUMENTS, lines[1:], starts, strict=True):
        own = line[len(start) : -1]
        document = _from_text(own)
        data[name] = Written(document, own) if isinstance(document, dict) else document
    return data


def _from_json(name: str, data: dict[str, Any]) -> Record:
    if data["topology"] != name:
        raise DamagedError(f"{DIRECTORY / name}.json is that of topology {data['topology']!r}")
    return Record(
        topology=name,
        home=int(data["home"]),
        applied=_document(data["applied"]),
        pending=_document(data["pending"]),
        destroying=bool(data["destroying"]),
        restore=_facts(data["restore"]),
        namespaces={str(ns): int(inode) for ns, inode in data["namespaces"].items()},
        impaired=_facts(data.get("impaired", ())),  # a record of an earlier version has none
        time=float(data["time"]),
    )


def _facts(items: Iterable[Any]) -> dict[Ref, Fact]:
    return {fact.ref: fact for item in items if (fact := fact_from_json(item))}


def _document(value: Any) -> dict[str, Any] | None:
    return value if value is None or isinstance(value, Written) else dict(value)


def save(record: Record) -> None:
    """Write the record so that a crash leaves either the old one or this one. Raises KernelError."""
    data = {
        "format": FORMAT,
        "topology": record.topology,
        "boot": boot(),
        "home": record.home,
        "time": time.time(),
        "destroying": record.destroying,
        "namespaces": dict(record.namespaces),
        "restore": [fact_to_json(fact) for fact in record.restore.values()],
        "impaired": [fact_to_json(fact) for fact in record.impaired.values()],
    }
    documents = (
        b',\n"%s":%s' % (name.encode(), document.text if isinstance(document, Written) else _json(document))
        for name, document in zip(_DOCUMENTS, (record.applied, record.pending), strict=True)
    )
    _write(DIRECTORY / f"{record.topology}.json", b"".join([_json(data)[:-1], *documents, b"}"]))


def _json(data: Any) -> bytes:
    """`data` as JSON without a line break: three times as fast as json's, which knows lone surrogates besides."""
    try:
        return to_json(data)
    except ValueError:
        return json.dumps(data, separators=(",", ":")).encode()


def _from_text(text: bytes) -> Any:
    """Raises ValueError, RecursionError."""
    try:
        return from_json(text, cache_strings="keys")
    except ValueError:
        return json.loads(text)


def write(final: Path, data: dict[str, Any]) -> None:
    """Write a file of /run/topo, whole or not at all, and sync it. Raises KernelError, UnsupportedError."""
    _write(final, _json(data))


def _write(final: Path, text: bytes) -> None:
    prepare()
    draft = _draft(final)
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.rename(draft, final)
        _sync_directory()
    except OSError as error:
        raise KernelError(error.errno or 0, doing=f"writing {final}") from None


def update(record: Record, **changed: Any) -> Record:
    """`record` with some of its fields changed."""
    return record._replace(**changed)


def remove(name: str) -> None:
    """Forget a topology; and the directory, where it was the last."""
    discard(DIRECTORY / f"{name}.json")


def discard(final: Path) -> None:
    """Remove what `write` wrote, or was writing when it was killed. Raises KernelError."""
    for path in (final, _draft(final)):
        _unlink(path)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise KernelError(error.errno or 0, doing=f"removing {path}") from None


def tidy_draft(name: str) -> None:
    """Remove what a run was writing when it was killed."""
    _unlink(_draft(DIRECTORY / f"{name}.json"))


def _draft(final: Path) -> Path:
    return final.with_name(f".{final.name.lstrip('.')}.new")


def prepare() -> None:
    """Make /run/topo, for root's eyes only. Raises UnsupportedError where that cannot be, or it is someone else's."""
    try:
        DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(DIRECTORY)
    except OSError as error:
        raise UnsupportedError(f"{DIRECTORY}: {error.strerror}; {_ROOTLESS}") from None
    if _doubtful(found):
        raise UnsupportedError(f"{DIRECTORY} {_DOUBTFUL}; {_ROOTLESS}")


def _doubtful(found: os.stat_result) -> bool:
    return found.st_uid != os.geteuid() or bool(found.st_mode & 0o022)


def obstacle() -> str:
    """Why no record could be written, and the cure; empty where one could. Makes nothing."""
    there = os.path.lexists(DIRECTORY)
    if there and _doubtful(os.lstat(DIRECTORY)):
        return f"{DIRECTORY} {_DOUBTFUL}; {_ROOTLESS}"
    place = DIRECTORY if there else DIRECTORY.parent
    return "" if os.access(place, os.W_OK | os.X_OK, effective_ids=True) else f"{place} is not writable; {_ROOTLESS}"


def tidy() -> None:
    """Remove /run/topo where nothing is in it."""
    with suppress(OSError):
        DIRECTORY.rmdir()


def _sync_directory() -> None:
    fd = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def boot() -> str:
    """The boot that this is: a file of another one tells of a kernel that is gone."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
