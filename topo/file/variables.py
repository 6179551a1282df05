"""Variables: `${NAME}` in the values of a document, from its `vars` and from files that `env_file` names.

They are put in after YAML was read and files were merged, so that a value can be no more than a part of one scalar:
never a key, never structure, never another variable. What becomes of the whole is text; where the grammar takes a
number or a truth value, it is read as YAML reads one. docs/adr/0008-variables.md says why.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal, get_args, get_origin

from topo.errors import Diagnostic, InputError, shown
from topo.file import grammar, positions, yaml
from topo.file.model import Topology
from topo.file.positions import Sources, Variable
from topo.file.yaml import Loc, Source, path_text
from topo.patterns import late

MAX_FILE: Final = 64 * 1024
"""The most bytes of a file that `env_file` names."""
MAX_TEXT: Final = 64 * 1024 * 1024
"""The most characters that all variables put in together."""

_LINE: Final = late(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_REFERENCE: Final = late(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")


def read(source: Source) -> dict[str, Variable]:
    """The variables of a file of NAME=VALUE lines, as a shell or `docker run --env-file` has them.

    Blank lines and those that begin with # are passed over, quotes around a value are taken off, and nothing in it is
    expanded. Raises InputError with every line that is none of these.
    """
    found: dict[str, Variable] = {}
    problems: list[Diagnostic] = []
    for number, line in enumerate(source.text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            problems.append(source.diagnostic("NAME=VALUE is expected", number, 1))
            continue
        text = match[2].strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
            text = text[1:-1]
        if not text.isprintable():
            message = f"the value of {match[1]} has a control character in it"
            problems.append(source.diagnostic(message, number, match.start(2) + 1))
        found[match[1]] = Variable(text, f"{shown(source.name)}:{number}")
    if problems:
        raise InputError(problems)
    return found


def resolved(document: Mapping[str, Any], files: Mapping[str, Variable], sources: Sources) -> dict[str, Any]:
    """The document without `vars`, and with a value for each variable in it. Raises InputError.

    `files` holds what `env_file` brought; `vars` comes before it.
    """
    work = _Work(sources)
    work.values = {**files, **work.stated(document.get("vars"))}
    sources.variables = work.values
    content = {key: value for key, value in document.items() if key != "vars"}
    found = {key: work.value(value, (key,)) for key, value in content.items()}
    if work.problems:
        raise InputError(positions.ordered(dict.fromkeys(work.problems), sources))
    return found


class _Work:
    """One document on its way."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.values: dict[str, Variable] = {}
        self.problems: list[Diagnostic] = []
        self.size = 0

    def problem(self, loc: Loc, message: str, hint: str = "", *, key: bool = False) -> None:
        place, _ = positions.follow(self.sources.root(), loc)
        self.problems.append(positions.at(place, message, path=path_text(loc), hint=hint, key=key))

    def stated(self, entries: Any) -> dict[str, Variable]:
        """What `vars` holds."""
        if entries is None:
            return {}
        if not isinstance(entries, dict):
            self.problem(("vars",), "a mapping is expected, NAME: value")
            return {}
        found = {}
        for name, value in entries.items():
            loc = ("vars", name)
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                self.problem(loc, f"{name!r} is no name of a variable: A-Z a-z 0-9 _, no digit first", key=True)
            elif not isinstance(value, str | int | float):
                self.problem(loc, "a text, a number or true/false is expected")
            elif isinstance(value, str) and "${" in value:
                self.problem(loc, "a variable takes no other variables")
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found[name] = Variable(text, "`vars`")
        return found

    def value(self, value: Any, loc: Loc) -> Any:
        """A value with its variables filled in; itself where there are none."""
        if isinstance(value, str):
            return self.scalar(value, loc) if "${" in value else value
        if isinstance(value, list):
            return [self.value(item, (*loc, index)) for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        for key in value:
            if "${" in key:
                self.problem((*loc, key), "a variable can stand in a value, not in a name", key=True)
        return {key: self.value(item, (*loc, key)) for key, item in value.items()}

    def scalar(self, text: str, loc: Loc) -> Any:
        """A text with its variables filled in, as a number or truth value where the grammar takes one."""

        def put(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            if match[1] is None:
                self.problem(loc, "a variable is written ${NAME}", "write $${ for the text itself")
            elif match[1] not in self.values:
                self.problem(loc, f"there is no variable {match[1]!r}", self.cure(match[1]))
            else:
                self.size += len(self.values[match[1]].text)
                return self.values[match[1]].text if self.size <= MAX_TEXT else ""
            return ""

        before = self.size
        found = _REFERENCE.sub(put, text)
        if before <= MAX_TEXT < self.size:
            self.problem(loc, f"the variables stand for too much: more than {MAX_TEXT >> 20} MiB together")
        taken = _types(tuple(0 if isinstance(part, int) else part for part in loc))
        typed = yaml.plain(found) if taken else found
        return typed if type(typed) in taken or (type(typed) is int and float in taken) else found

    def cure(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.values, n=1, cutoff=0.6)
        if near:
            return f"did you mean {near[0]!r}?"
        return f"state it, `vars: {{{name}: ...}}`, or name a file that holds it under `env_file`"


@lru_cache(maxsize=1024)
def _types(loc: Loc) -> frozenset[type]:
    """The plain types that the grammar takes at a place; empty where it knows no such place."""
    annotations: list[Any] = [Topology]
    for part in loc:
        if isinstance(part, int):  # a link may be a list itself: [A, B] for {ends: [A, B]}
            annotations += [inner for annotation in annotations for inner in grammar.members(annotation, "ends")]
        annotations = [inner for annotation in annotations for inner in grammar.members(annotation, part)]
    found: set[type] = set()
    for annotation in annotations:
        if get_origin(annotation) is Literal:
            found |= {type(value) for value in get_args(annotation)}
        elif annotation in (str, int, float, bool):
            found.add(annotation)
    return frozenset(found)
