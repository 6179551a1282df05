"""Reading topology files: text, includes and merging, validation; every error at once, with its position."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from topo.errors import Diagnostic, InputError, shown
from topo.file import positions, yaml
from topo.file.model import Topology
from topo.file.positions import Sources, Variable
from topo.file.yaml import Loc, Source

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_INCLUDES: Final = 64
"""How deep files may include each other."""
STDIN: Final = "-"
_STDIN_NAME: Final = "<stdin>"
_OTHER_FILES: Final = ("include", "env_file")


def load(paths: Sequence[str | Path]) -> Topology:
    """The topology of one or several files; `-` is stdin. Each file is merged over those before it.

    Raises InputError with every error of all files, sorted by position.
    """
    return validated(load_document(paths))


def loads(text: str, name: str = _STDIN_NAME) -> Topology:
    """As `load`, of a text; `name` is what messages call it, and what `include` is relative to."""
    return validated(loads_document(text, name))


class Document(dict[str, Any]):
    """A merged document, without `include` and variables, that knows which files it came from."""

    __slots__ = ("sources",)

    def __init__(self, content: dict[str, Any], sources: Sources) -> None:
        super().__init__(content)
        self.sources = sources


def located(error: InputError, topology: Topology) -> InputError:
    """`error`, whose diagnostics name only a `path` of `topology`, with the positions in its files.

    Of a topology that was not loaded from files, the error itself.
    """
    document = topology._document
    return positions.located(error, document.sources) if isinstance(document, Document) else error


def load_document(paths: Sequence[str | Path]) -> Document:
    """The merged document of the files, as plain data; not validated."""
    if not paths:
        raise InputError("no topology file is named")
    reader = _Reader()
    for path in paths:
        reader.read(os.fspath(path), None, ())
    return reader.merged()


def loads_document(text: str, name: str = _STDIN_NAME) -> Document:
    """As `load_document`, of a text."""
    reader = _Reader()
    reader.add(Source(name, text), (os.path.realpath(name),), (name,))
    return reader.merged()


def validated(document: Document) -> Topology:
    """The document as a Topology. Raises InputError with the position of every error."""
    try:
        return Topology.model_validate(document)
    except ValidationError as error:
        from topo.file.explaining import explained

        raise InputError(explained(error, document.sources)) from None


def merged(base: Any, over: Any) -> Any:
    """Two documents as one: mappings deeply, lists one behind the other, and else `over` unless it is nothing."""
    if over is None:
        return base
    if isinstance(base, dict) and isinstance(over, dict):
        both = {name: merged(base[name], over[name]) for name in base.keys() & over.keys()}
        return {**base, **over, **both}
    if isinstance(base, list) and isinstance(over, list):
        return base + over
    return over


class _Reader:
    """Reads files and what they include, each once; collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Diagnostic] = []
        self.documents: list[dict[str, Any]] = []
        self.sources: list[Source] = []
        self.variables: dict[str, Variable] = {}
        self.seen: set[str] = set()
        self.size = 0

    def merged(self) -> Document:
        if self.problems:
            raise InputError(self.problems)
        document: dict[str, Any] = {}
        for over in self.documents:
            document = merged(document, {name: value for name, value in over.items() if name not in _OTHER_FILES})
        sources = Sources(self.sources)
        if "vars" in document or any(map(_has_variables, self.sources)):
            from topo.file import variables  # only here: most files have none

            document = variables.resolved(document, self.variables, sources)
        return Document(document, sources)

    def read(self, path: str, entry: _Entry | None, chain: tuple[str, ...], names: tuple[str, ...] = ()) -> None:
        """Read one file, unless it was read before; `entry` is the include that names it.

        `chain` holds the real paths of the files that lead here by their includes, `names` what the user calls them.
        """
        stdin = path == STDIN and entry is None
        real = path if stdin or "\0" in path else os.path.realpath(path)
        if real in chain:
            ring = " -> ".join((*names[chain.index(real) :], path))
            self.refuse(f"include goes round in a circle: {ring}", path, entry)
        elif len(chain) >= MAX_INCLUDES:
            self.refuse(f"files include each other more than {MAX_INCLUDES} deep", path, entry)
        elif real not in self.seen:
            self.seen.add(real)
            name = _STDIN_NAME if stdin else path
            try:
                text = self.text(real, path)
            except _Unreadable as error:
                self.refuse(str(error), name, entry)
            else:
                self.add(Source(name, text), (*chain, real), (*names, name))

    def refuse(self, message: str, path: str, entry: _Entry | None) -> None:
        """Say that a file cannot be read: at the include that names it, if one does."""
        if entry is None:
            self.problems.append(Diagnostic(message, shown(path)))
        else:
            self.problems.append(entry.diagnostic(message))

    def text(self, real: str, path: str) -> str:
        """The text of a file. Raises _Unreadable."""
        data = _bytes(path, MAX_BYTES, stdin=real == STDIN)
        self.size += len(data)
        if self.size > MAX_BYTES:
            raise _Unreadable(f"{path}: topology files of more than {MAX_BYTES >> 20} MiB are not read")
        return _decoded(data)

    def add(self, source: Source, chain: tuple[str, ...], names: tuple[str, ...]) -> None:
        """Take in one text, after what it includes."""
        try:
            document = yaml.build(source)
        except InputError as error:
            self.problems += error.diagnostics
            return
        if not isinstance(document, dict):
            self.problems.append(_not_a_mapping(document, source))
            return
        for entry in self.files("include", document, source):
            self.read(entry.file, entry, chain, names)
        for entry in self.files("env_file", document, source):
            self.environment(entry)
        self.documents.append(document)
        self.sources.append(source)

    def environment(self, entry: _Entry) -> None:
        """Take in the variables of one file; of one name the last stands."""
        from topo.file import variables

        try:
            data = _bytes(entry.file, variables.MAX_FILE)
            if len(data) > variables.MAX_FILE:
                raise _Unreadable(f"{entry.file}: more than {variables.MAX_FILE >> 10} KiB of variables are not read")
            self.variables |= variables.read(Source(entry.file, _decoded(data)))
        except _Unreadable as error:
            self.problems.append(entry.diagnostic(str(error)))
        except InputError as error:
            self.problems += error.diagnostics

    def files(self, key: str, document: dict[str, Any], source: Source) -> list[_Entry]:
        """What a document names under `include` or `env_file`."""
        named = document.get(key)
        if named is None:
            return []
        if isinstance(named, list):
            entries = [_Entry(path, source, (key, index)) for index, path in enumerate(named)]
        else:
            entries = [_Entry(named, source, (key,))]
        good = [entry for entry in entries if isinstance(entry.path, str) and entry.path]
        self.problems += [e.diagnostic("the path of a file is expected") for e in entries if e not in good]
        return good


class _Unreadable(Exception):
    """A file cannot be read; the message says why."""


class _Entry:
    """One entry of `include`: the path as written, and where it is written."""

    __slots__ = ("loc", "path", "source")

    def __init__(self, path: Any, source: Source, loc: Loc) -> None:
        self.path, self.source, self.loc = path, source, loc

    @property
    def file(self) -> str:
        """The path, relative to the file that names it."""
        return os.path.join(os.path.dirname(self.source.name), self.path)

    def diagnostic(self, message: str) -> Diagnostic:
        place = positions.follow(positions.places(self.source), self.loc)[0]
        return positions.at(place, message, path=yaml.path_text(self.loc))


def _bytes(path: str, most: int, *, stdin: bool = False) -> bytes:
    """What a file, or stdin, holds: as much as `most`, and one more where there is more. Raises _Unreadable."""
    try:
        if stdin:
            return sys.stdin.buffer.read(most + 1)
        with open(path, "rb") as file:
            return file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _Unreadable(f"cannot read {path}: {reason}") from None


def _has_variables(source: Source) -> bool:
    """Whether there can be a variable in a text: `${`, or an escape that may stand for it."""
    return "${" in source.text or "\\" in source.text


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _Unreadable("the file is in UTF-16; UTF-8 is expected")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte {data[error.start]:#04x} in line {line}"
        raise _Unreadable(f"the file is binary, or not in UTF-8: {found}") from None


def _not_a_mapping(document: Any, source: Source) -> Diagnostic:
    found = "a list" if isinstance(document, list) else "nothing" if document is None else "a single value"
    message = f"{found} is here; a mapping is expected, such as `topology: my-lab`"
    return positions.at(positions.places(source), message)
