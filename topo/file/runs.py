"""Long lists of mappings that are all written alike, one in a line, without the parser: a peer or a route for each of
thousands takes libyaml and its events ten times as long.

    - {address: 10.1.0.1, mac: '0a:00:00:00:00:01', subnets: [10.64.0.0/24]}

A run of such lines is taken out of the text before it is parsed, and one scalar, that no file can hold, is put in its
place. Only where all of these come back, as items of a block sequence, and nothing is wrong with the rest, did the lines
stand where they mean what they seem to mean. Otherwise the text is parsed as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from topo.patterns import late

MARK: Final = "\ufdd0"
"""A noncharacter, which no text may hold; behind the number of a run, at the end of a plain scalar."""

_LEAST: Final = 64  # lines that are worth it
_MISSES: Final = 64  # lines that look like the first of a run and are not, before no more are sought
_ITEM: Final = late(r"^ *- \{[A-Za-z_]", re.MULTILINE)
_KEY: Final = late(r"([A-Za-z_][A-Za-z0-9_]*): ")
# No quotes, escapes, commas or brackets, and a colon only within: what is left is text, a number or a word.
_PLAIN: Final = r"[A-Za-z0-9/][A-Za-z0-9._/:-]*+(?<!:)"  # what may follow is none of these: nothing is given back
_QUOTED: Final = r"[A-Za-z0-9._/: -]*+"
_VALUE: Final = late(rf"(?P<plain>{_PLAIN})|'(?P<quoted>{_QUOTED})'|\[(?P<listed>{_PLAIN})\]")
_MORE: Final = ", "
# What `yaml.plain` may make anything but the same text of.
_TYPED: Final = late(r"^(?:[0-9]*\.?[0-9]*(?:[eE][0-9-]*)?|0[ox][0-9a-fA-F]+|[nNtTfF][A-Za-z]+)$", re.MULTILINE)

Rows = list[dict[str, Any]]


class Folded(NamedTuple):
    """A text whose runs are scalars, and what these stand for."""

    text: str
    runs: list[Rows]


class _Form(NamedTuple):
    """How the lines of a run are written: the pattern of one, and the name and form of each value in it."""

    line: str
    bare: str  # the same without groups
    fields: tuple[tuple[str, str], ...]


def folded(text: str, plain: Callable[[str], Any]) -> Folded | None:
    """The text with its runs folded; None where it has none. `plain`: the value of a plain scalar."""
    if text.count("- {") < _LEAST or "&" in text:  # what has an anchor is counted, node by node
        return None
    parts: list[str] = []
    runs: list[Rows] = []
    done = at = misses = 0
    while misses < _MISSES and (found := _ITEM.search(text, at)):
        form = _form(text, found.start())
        run = re.compile(f"(?:{form.bare})++").match(text, found.start()) if form else None
        if form is None or run is None or text.count("\n", *run.span()) < _LEAST:
            misses += 1
            at = run.end() if run else found.end()
            continue
        indent = run[0][: run[0].index("-")]
        parts += [text[done : run.start()], f"{indent}- {len(runs)}{MARK}\n"]
        runs.append(list(_rows(form, re.findall(form.line, run[0]), plain)))
        done = at = run.end()
    return Folded("".join([*parts, text[done:]]), runs) if runs else None


def _form(text: str, start: int) -> _Form | None:
    """The form of the line that begins here; None where it is not as simple as that."""
    at = text.index("{", start) + 1
    pattern, fields = [re.escape(text[start:at])], []
    without = list(pattern)
    while key := _KEY.match(text, at):
        value = _VALUE.match(text, key.end())
        if value is None or value.lastgroup is None:
            return None
        fields.append((key[1], value.lastgroup))
        before, form, behind = _FORMS[value.lastgroup]
        pattern.append(f"{key[0]}{before}({form}){behind}")
        without.append(f"{key[0]}{before}(?:{form}){behind}")
        at = value.end()
        if text.startswith("}\n", at):
            names = {name for name, _ in fields}
            line, bare = ("".join([*parts, r"\}\n"]) for parts in (pattern, without))
            return _Form(line, bare, tuple(fields)) if len(names) == len(fields) else None
        if not text.startswith(_MORE, at):
            return None
        pattern.append(_MORE)
        without.append(_MORE)
        at += len(_MORE)
    return None


_FORMS: Final = {"plain": ("", _PLAIN, ""), "quoted": ("'", _QUOTED, "'"), "listed": (r"\[", _PLAIN, r"\]")}


def _rows(form: _Form, found: list[Any], plain: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    columns: list[list[Any]] = (
        [found] if len(form.fields) == 1 else [list(column) for column in zip(*found, strict=True)]
    )
    for i, (_, how) in enumerate(form.fields):
        if how != "quoted" and _TYPED.search("\n".join(columns[i])):
            columns[i] = [plain(text) for text in columns[i]]
        if how == "listed":
            columns[i] = [[value] for value in columns[i]]
    names = [name for name, _ in form.fields]
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
