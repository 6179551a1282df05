"""Where things stand in the files: asked for only when something is wrong, found by reading the text again.

A path names a place in the merged document: `links[3].ends[0]`, `namespaces.h[1-100].routes[0]`. Keys
stand in it as they are, dots and brackets included: it is read along the document itself, so
that what is a key there need not be told from what is an index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from topo.errors import Diagnostic, InputError, shown
from topo.file import yaml
from topo.file.yaml import Loc, Source
from topo.patterns import late

_VARIABLE: Final = late(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
FIRST_AT: Final = ", first at "
"""Ends a message about a conflict, with the path of the other place behind it; that gets its position too."""


class Place:
    """A node of a document: what it holds, and where it and its key stand (from 1)."""

    __slots__ = ("column", "flow", "held", "key", "line", "source", "value")

    def __init__(self, source: Source, event: Any) -> None:
        self.source = source
        self.line, self.column = event.start_mark.line + 1, event.start_mark.column + 1
        self.held: dict[str, Place] | list[Place] | None = None
        self.key: tuple[int, int] | None = None
        self.flow = getattr(event, "flow_style", True)
        self.value = yaml.scalar(event) if event.__class__ is ScalarEvent else None

    @property
    def empty(self) -> bool:
        return self.held is None and self.value is None

    def pointed(self, at_key: bool = False) -> tuple[int, int]:
        """Line and column to point at: the value, or its key where that says more."""
        if self.key is not None and (at_key or self.empty or isinstance(self.held, dict) or not self.flow):
            return self.key
        return self.line, self.column


def places(source: Source) -> Place:
    """The places of a text that `yaml.build` has taken."""
    next_event = yaml.events(source.text)
    next_event(), next_event()  # starts of stream and document
    return _place(next_event(), next_event, source, {})


def _place(event: Any, next_event: Any, source: Source, anchors: dict[str, Place]) -> Place:
    if event.__class__ is AliasEvent:
        return _copy(anchors[event.anchor])
    place = Place(source, event)
    if event.__class__ is SequenceStartEvent:
        place.held = items = []
        while (inner := next_event()).__class__ is not SequenceEndEvent:
            items.append(_place(inner, next_event, source, anchors))
    elif event.__class__ is MappingStartEvent:
        place.held = _mapping(next_event, source, anchors)
    if event.anchor:
        anchors[event.anchor] = place
    return place


def _mapping(next_event: Any, source: Source, anchors: dict[str, Place]) -> dict[str, Place]:
    held: dict[str, Place] = {}
    while (key := next_event()).__class__ is not MappingEndEvent:
        if key.anchor:
            anchors[key.anchor] = Place(source, key)
        value = _place(next_event(), next_event, source, anchors)
        if yaml.is_merge(key):
            for other in value.held if isinstance(value.held, list) else [value]:
                assert isinstance(other.held, dict)
                held = {**other.held, **held}
        else:
            value.key = (key.start_mark.line + 1, key.start_mark.column + 1)
            held[yaml.key_text(key)] = value
    return held


def _copy(place: Place) -> Place:
    """The place of an alias: it points at what it stands for, but has a key of its own."""
    copy = Place.__new__(Place)
    for name in Place.__slots__:
        setattr(copy, name, getattr(place, name))
    copy.key = None
    return copy


def merged(base: Place, over: Place) -> Place:
    """The places of what `loading.merged` makes of two documents."""
    if over.empty:
        return base
    if isinstance(base.held, dict) and isinstance(over.held, dict):
        place = _copy(over)
        place.key = over.key
        both = {name: merged(base.held[name], over.held[name]) for name in base.held.keys() & over.held.keys()}
        place.held = {**base.held, **over.held, **both}
        return place
    if isinstance(base.held, list) and isinstance(over.held, list):
        place = _copy(over)
        place.key = over.key
        place.held = base.held + over.held
        return place
    return over


class Variable(NamedTuple):
    """What a variable stands for, and where that is said."""

    text: str
    where: str


class Sources:
    """The files of a document in the order in which they were merged, and the variables that were put in."""

    def __init__(self, files: Sequence[Source]) -> None:
        self.files = tuple(files)
        self.variables: Mapping[str, Variable] = {}
        self._root: Place | None = None

    def told(self, place: Place) -> str:
        """What the variables of the scalar at a place stand for, in words; empty where it has none."""
        if not isinstance(place.value, str) or "${" not in place.value:
            return ""
        known = ((name, self.variables.get(name)) for name in dict.fromkeys(_VARIABLE.findall(place.value)))
        return ", ".join(f"{name} is {found.text!r} by {found.where}" for name, found in known if found)

    def root(self) -> Place:
        if self._root is None:
            roots = [places(source) for source in self.files]
            root = roots[0]
            for over in roots[1:]:
                root = merged(root, over)
            self._root = root
        return self._root


def follow(place: Place, loc: Loc) -> tuple[Place, Loc]:
    """The innermost place on the way of `loc`, and the part of `loc` that leads there.

    What is no node of the document is passed over: the `ends` of a link that is written as a list
    stays in the path; what pydantic adds of its own does not.
    """
    went: list[str | int] = []
    for index, part in enumerate(loc):
        inner = _held(place, part)
        if inner is not None:
            place = inner
        elif not (isinstance(part, str) and isinstance(place.held, list) and index + 1 < len(loc)):
            continue
        went.append(part)
    return place, tuple(went)


def _held(place: Place, part: str | int) -> Place | None:
    if isinstance(place.held, dict):
        return place.held.get(str(part))
    if isinstance(place.held, list) and isinstance(part, int) and part < len(place.held):
        return place.held[part]
    return None


def find(place: Place, path: str) -> Place:
    """The innermost place that `path` leads to, as far as it leads to any."""
    return _find(place, f".{path}", 0)[2]


def _find(place: Place, path: str, depth: int) -> tuple[bool, int, Place]:
    """Whether the path leads all the way, how far down, and the place."""
    best = (not path, depth, place)
    if isinstance(place.held, dict) and path[:1] == ".":
        name = path[1:]
        for end in _ends(name):
            inner = place.held.get(name[:end])
            if inner is not None:
                best = max(best, _find(inner, name[end:], depth + 1), key=lambda found: found[:2])
    elif isinstance(place.held, list) and (index := _INDEX.match(path)) and int(index[1]) < len(place.held):
        return _find(place.held[int(index[1])], path[index.end() :], depth + 1)
    return best


_INDEX: Final = late(r"(?:\.[a-z]+)?\[(0|[1-9][0-9]{0,8})\]")  # links[3].ends[0], the link being a list itself


def _ends(name: str) -> list[int]:
    """Where the first key of a path may end, the longest first."""
    return [len(name)] + [i for i in range(len(name) - 1, -1, -1) if name[i] in ".["]


def at(place: Place, message: str, *, path: str = "", hint: str = "", key: bool = False) -> Diagnostic:
    """A diagnostic that points at `place`, or at its key."""
    line, column = place.pointed(key)
    return place.source.diagnostic(message, line, column, path=path, hint=hint)


def located(error: InputError, sources: Sources) -> InputError:
    """`error` with file, line, column and source line for each diagnostic that has only its `path`.

    Sorted by position, without repetitions.
    """
    found = dict.fromkeys(_placed(diagnostic, sources) for diagnostic in error.diagnostics)
    return type(error)(ordered(found, sources))


def ordered(diagnostics: Iterable[Diagnostic], sources: Sources) -> list[Diagnostic]:
    """Diagnostics as a reader goes through the files."""
    files = {shown(source.name): index for index, source in enumerate(sources.files)}
    return sorted(diagnostics, key=lambda d: (files.get(d.file, -1), d.line, d.column))


def _placed(diagnostic: Diagnostic, sources: Sources) -> Diagnostic:
    if diagnostic.line:
        return diagnostic
    found = find(sources.root(), diagnostic.path)
    there = at(found, "")
    message, first, path = diagnostic.message.partition(FIRST_AT)
    if first:
        place = find(sources.root(), path)
        line, column = place.pointed()
        message += f"{first}{path} ({shown(place.source.name)}:{line}:{column})"
    return diagnostic._replace(
        message=message,
        path=shown(diagnostic.path),
        file=there.file,
        line=there.line,
        column=there.column,
        source=there.source,
        hint=diagnostic.hint or sources.told(found),
    )
