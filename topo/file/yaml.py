"""YAML into plain data, fast: a builder over the events of ruamel.yaml's C parser.

Scalars follow the core schema of YAML 1.2, so that `on`, `yes` and MAC addresses are strings. Keys are
strings always: a namespace may be called `1`. Tags, but for `!!str`, are refused, aliases and
nesting are bounded, and a merge key (`<<`) puts the keys of another mapping in its place.
No positions are kept: whoever needs them asks `topo.file.positions`, which reads the text again.

The C parser is libyaml 0.1.7, of YAML 1.1, which takes neither `[web:eth0, br0]` nor `{to: ::/0}`. YAML
1.2 has a colon as text where no space follows it. So such colons reach the parser as another
character, of the same width, and are put back in what comes out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from typing import Any, Final, NamedTuple

from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from topo.errors import Diagnostic, InputError, shown
from topo.file import runs
from topo.file.runs import Folded, Rows
from topo.patterns import late

try:
    CParser: Any = import_module("_ruamel_yaml").CParser
except ImportError:  # the C part is another distribution, ruamel.yaml.clib
    CParser = None

MAX_DEPTH: Final = 64
MAX_ALIASED: Final = 100_000
"""The most nodes that aliases may stand for, all together."""

_BREAK: Final = late("\r\n|[\n\r\x85\u2028\u2029]")  # the line breaks that the parser counts
_FORBIDDEN: Final = late(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdd1-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_ASCII: Final = late("[^\t\n\r\x20-\x7e]")  # the same of ASCII: compiled in a tenth of the time
_COLON: Final = runs.MARK
_TEXT_COLON: Final = late(r"(?<![\"']):(?=[^\s,\[\]{}])")  # {"a":1}: behind a quote it is an indicator
_VERSION: Final = late(r"^%(?=YAML 1\.[0-9]+\s)")
_SPECIAL: Final = frozenset("+-.0123456789~nNtTfF")  # how a plain scalar begins that may not be a string
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_LONGEST: Final = 400  # characters of a number
_INT: Final = late(r"[-+]?[0-9]+")
_BASED: Final = late(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = late(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_STR: Final = ("!", "tag:yaml.org,2002:str")
_SHOWN_COLUMNS: Final = 200
_KEY: Final = late(r"[A-Za-z0-9+/]{43}=")  # 32 bytes in base64


Loc = tuple[str | int, ...]


class Anchor(NamedTuple):
    """What `&name` stands for: the value, how many nodes it has, and how deep they nest."""

    value: Any
    nodes: int
    height: int


def path_text(loc: Loc) -> str:
    """The path of a place: ('links', 3, 'ends', 0) is `links[3].ends[0]`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc]
    return shown("".join(parts).removeprefix("."))


class Source:
    """One file that was read: its name as the user gave it, and its text."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text

    @cached_property
    def lines(self) -> list[str]:
        return _BREAK.split(self.text)

    def diagnostic(self, message: str, line: int, column: int, *, path: str = "", hint: str = "") -> Diagnostic:
        """A diagnostic for a place, which counts from 1, with its line unless that is too long to be shown."""
        if line > len(self.lines):  # where libyaml sees the end of a file that does not end in a line break
            line, column = len(self.lines), len(self.lines[-1]) + 1
        source = self.lines[line - 1][:_SHOWN_COLUMNS] if column < _SHOWN_COLUMNS else ""
        if "private_key" in source or "preshared_key" in source:  # a key itself, where a file is to be named
            source = _KEY.sub(lambda found: "*" * len(found[0]), source)
        return Diagnostic(message, shown(self.name), line, column, path, source if source.strip() else "", hint)


def build(source: Source) -> Any:
    """The one document of a text as plain data.

    Raises InputError with line and column for whatever is not YAML or is refused here.
    """
    _check_characters(source)
    if folded := runs.folded(source.text, plain):
        builder = _Builder(source, folded)
        with suppress(YAMLError, _Unbearable):
            document = builder.document()
            if not builder.problems and builder.unfolded == len(folded.runs):
                return document
    builder = _Builder(source)
    try:
        document = builder.document()
    except YAMLError as error:
        builder.problems.append(_explained(error, source))
    except _Unbearable:
        pass
    if builder.problems:
        raise InputError(builder.problems)
    return document


def events(text: str) -> Callable[[], Any]:
    """A function that gives the next event of `text` at each call."""
    if CParser is not None:
        text = _VERSION.sub("#", _TEXT_COLON.sub(_COLON, text))
        get: Callable[[], Any] = CParser(text).get_event
        return get
    from ruamel.yaml import YAML

    stream: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
    return stream.__next__


def scalar(event: Any) -> Any:
    """The value of a scalar's event."""
    text: str = event.value
    if _COLON in text:
        text = text.replace(_COLON, ":")
    return plain(text) if event.implicit[0] and event.ctag is None else text


def plain(text: str) -> Any:
    """The value of a text that stands there without quotes."""
    if (text and text[0] not in _SPECIAL) or len(text) > _LONGEST:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def key_text(event: Any) -> str:
    """The name that a key's event, a scalar, bears."""
    text: str = event.value
    return text.replace(_COLON, ":") if _COLON in text else text


def is_merge(key: Any) -> bool:
    """Whether a key's event is the merge key `<<`."""
    return bool(key.value == "<<" and key.implicit[0])


class _Unbearable(Exception):
    """What the rest of a file cannot be read after; its diagnostic is among the problems already."""


class _Builder:
    def __init__(self, source: Source, folded: Folded | None = None) -> None:
        self.source = source
        self.next = events(folded.text if folded else source.text)
        self.runs = folded.runs if folded else []
        self.unfolded = 0
        self.problems: list[Diagnostic] = []
        self.anchors: dict[str, Anchor | None] = {}  # None while its node is being built
        self.nodes = 0
        self.aliased = 0
        self.path: list[str | int] = []
        self.deepest = 0

    def document(self) -> Any:
        self.next()  # stream start
        if self.next().__class__ is StreamEndEvent:
            self.problems.append(self.source.diagnostic("the file is empty", 1, 1))
            return None
        value = self.node(self.next(), 1)
        assert self.next().__class__ is DocumentEndEvent
        after = self.next()
        if after.__class__ is not StreamEndEvent:
            self.problem("a second document starts here; a file holds one", after)
        return value

    def problem(self, message: str, event: Any, hint: str = "") -> None:
        mark, path = event.start_mark, path_text(tuple(self.path))
        self.problems.append(self.source.diagnostic(message, mark.line + 1, mark.column + 1, path=path, hint=hint))

    def node(self, event: Any, depth: int) -> Any:
        if event.__class__ is AliasEvent:
            return self.alias(event, depth)
        anchor, before, deepest = event.anchor, self.nodes, self.deepest
        self.nodes += 1
        if event.ctag is not None:
            self.check_tag(event)
        if event.__class__ is ScalarEvent:
            value = scalar(event)
            if anchor:
                self.anchors[anchor] = Anchor(value, 1, 0)
            return value
        if depth > MAX_DEPTH:
            del self.path[1:]
            self.problem(f"nested too deeply: {MAX_DEPTH} levels are the most", event)
            raise _Unbearable
        if anchor:
            self.anchors[anchor] = None
            self.deepest = depth
        elif depth > deepest:
            self.deepest = depth
        value = self.mapping(depth) if event.__class__ is MappingStartEvent else self.sequence(depth)
        if anchor:
            self.anchors[anchor] = Anchor(value, self.nodes - before, self.deepest - depth + 1)
            self.deepest = max(self.deepest, deepest)
        return value

    def sequence(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while (event := self.next()).__class__ is not SequenceEndEvent:
            if self.runs and event.__class__ is ScalarEvent and event.value[-1:] == _COLON:
                items += self.run(event)
                continue
            self.path.append(len(items))
            items.append(self.node(event, depth + 1))
            self.path.pop()
        return items

    def run(self, event: Any) -> Rows:
        """The items that the scalar of a run stands for. Raises _Unbearable where it is not what it seems."""
        number = event.value[:-1]
        if not event.implicit[0] or not number.isdecimal() or int(number) != self.unfolded:
            raise _Unbearable
        self.unfolded += 1
        return self.runs[self.unfolded - 1]

    def mapping(self, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        marks: dict[str, Any] = {}  # of the keys that stand here; those that a merge key brings may be overridden
        while (key := self.next()).__class__ is not MappingEndEvent:
            if key.__class__ is not ScalarEvent:
                self.problem("a key must be a name", key, hint=f"this is {_KEYS[key.__class__.__name__]}")
                self.node(key, depth + 1)
                self.node(self.next(), depth + 1)
                continue
            if key.anchor or key.ctag is not None:
                self.node(key, depth)
            name = key_text(key)
            event = self.next()
            self.path.append(name)
            value = self.node(event, depth + 1)
            if name == "<<" and is_merge(key):
                self.inherit(result, value, event)
            elif name in marks:
                first = f"{shown(self.source.name)}:{marks[name].line + 1}:{marks[name].column + 1}"
                self.problem(f"the key {name!r} is here twice, first at {first}", key)
            else:
                result[name] = value
                marks[name] = key.start_mark
            self.path.pop()
        return result

    def inherit(self, result: dict[str, Any], value: Any, event: Any) -> None:
        """Put in the keys of the mappings that a merge key names, those already there excepted."""
        others = value if isinstance(value, list) else [value]
        for other in others:
            if not isinstance(other, dict):
                self.problem("the merge key '<<' takes a mapping or a list of mappings", event)
                return
            for name, inner in other.items():
                result.setdefault(name, inner)

    def alias(self, event: Any, depth: int) -> Any:
        name = event.anchor
        if name not in self.anchors:
            self.problem(f"there is no anchor &{name} before this", event)
            return None
        anchor = self.anchors[name]
        if anchor is None:
            self.problem(f"the anchor &{name} contains itself", event)
            return None
        self.nodes += anchor.nodes
        self.aliased += anchor.nodes
        if self.aliased > MAX_ALIASED:
            self.problem(f"the aliases stand for too much: more than {MAX_ALIASED:,} nodes together", event)
            raise _Unbearable
        deepest = depth + anchor.height - 1
        if deepest > MAX_DEPTH:
            self.problem(f"nested too deeply by aliases: {MAX_DEPTH} levels are the most", event)
            raise _Unbearable
        self.deepest = max(self.deepest, deepest)
        return anchor.value

    def check_tag(self, event: Any) -> None:
        tag = str(event.ctag)
        if event.__class__ is ScalarEvent and tag in _STR:
            return
        short = tag.replace(_COLON, ":").replace("tag:yaml.org,2002:", "!!")
        hint = "quote a text that begins with '!'" if short[1:2] != "!" else "leave it out"
        self.problem(f"the tag {short} is not supported", event, hint=hint)


_KEYS: Final = {"AliasEvent": "an alias", "MappingStartEvent": "a mapping", "SequenceStartEvent": "a list"}


def _check_characters(source: Source) -> None:
    match = (_ASCII if source.text.isascii() else _FORBIDDEN).search(source.text)
    if match is None:
        return
    lines = _BREAK.split(source.text[: match.start()])
    message = f"the character U+{ord(match[0]):04X} cannot stand in YAML"
    if "\0" in source.text:
        message = "the file is binary, not text"
    raise InputError([source.diagnostic(message, len(lines), len(lines[-1]) + 1)])


_PROBLEMS: Final = {
    "mapping values are not allowed in this context": "a ': ' cannot stand here; quote the text or indent it",
    "did not find expected node content": "a value is missing here",
    "did not find expected key": "expected a key; check the indentation and the brackets",
    "did not find expected '-' indicator": "expected a '-' as in the list above; check the indentation",
    "did not find expected ',' or ']'": "expected ',' or ']'",
    "did not find expected ',' or '}'": "expected ',' or '}'",
    "did not find expected <document start>": "expected the end of the file",
    "could not find expected ':'": "expected ':' after a key",
    "found unexpected ':'": "a ':' cannot stand here within [ ] or { }; quote the text",
    "found unexpected end of stream": "the file ends within a quoted text",
    "found unknown escape character": "an unknown escape; within double quotes write \\\\ for a backslash",
}
_CONTEXTS: Final = {
    "while parsing a flow sequence": "within the '[' of line {}",
    "while parsing a flow mapping": "within the '{{' of line {}",
    "while parsing a block mapping": "within the mapping that begins in line {}",
    "while parsing a block collection": "within the list that begins in line {}",
    "while scanning a quoted scalar": "the quote opens in line {}",
}
_SIGILS: Final = {
    "while scanning an alias": "an alias",
    "while scanning an anchor": "an anchor",
    "while scanning a tag": "a tag",
    "while parsing a tag": "a tag",
}


def _explained(error: YAMLError, source: Source) -> Diagnostic:
    """The parser's complaint in plain words."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return Diagnostic(f"not YAML: {error}", shown(source.name))
    mark, start = error.problem_mark, error.context_mark
    problem, context = error.problem or "", error.context or ""
    if context in _SIGILS and start is not None:
        mark = start
        sigil = source.text[mark.index : mark.index + 1]
        message, hint = f"{sigil!r} begins {_SIGILS[context]} in YAML; quote the text", ""
    else:
        message = _complaint(problem, source.text, mark.index)
        hint = _CONTEXTS.get(context, "").format(start.line + 1) if start and start.line != mark.line else ""
        if not hint and mark.index >= len(source.text):
            hint = "the file ends here"
    return source.diagnostic(message, mark.line + 1, mark.column + 1, hint=hint)


def _complaint(problem: str, text: str, index: int) -> str:
    found, before = text[index : index + 1], text[index - 1 : index] if index else ""
    if "tab character" in problem or found == "\t":
        return "a tab; YAML is indented with spaces"
    if "cannot start any token" in problem:
        return f"nothing can start with {found!r}; quote the text"
    if found == "{" and before == "$":
        return 'within [ ] or { } a text with a variable is quoted, as in "${NAME}"'
    if found == "[" and before.isalnum():
        return "a '[' within a name; quote names with ranges here, as in 'h[1-10]:eth0'"
    return _PROBLEMS.get(problem, problem.replace(_COLON, ":"))
