"""What pydantic found wrong, in plain words and with positions."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from topo.errors import Diagnostic
from topo.file import grammar
from topo.file.model import Topology
from topo.file.positions import Place, Sources, at, follow, ordered
from topo.file.yaml import Loc, path_text

_SHOWN: Final = 40  # characters of a value

_EXPECTED: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def explained(error: ValidationError, sources: Sources) -> list[Diagnostic]:
    """A diagnostic for each thing that is wrong, sorted by position, without repetitions."""
    fields = _Fields(sources.root())
    found = dict.fromkeys(_diagnostic(details, sources, fields) for details in error.errors(include_url=False))
    return ordered(found, sources)


def _diagnostic(details: ErrorDetails, sources: Sources, fields: _Fields) -> Diagnostic:
    loc: Loc = details["loc"]
    kind = details["type"]
    at_key = kind == "extra_forbidden" or loc[-1:] == ("[key]",)
    if loc[-1:] == ("[key]",):
        loc = loc[:-1]
    place, went = follow(sources.root(), loc)
    if kind == "missing":
        hint = fields.description(went, str(loc[-1]))
        return at(place, f"{str(loc[-1])!r} is missing", path=path_text(went), hint=hint)
    if kind == "extra_forbidden":
        hint = fields.hint(went[:-1], str(loc[-1]))
        return at(place, f"{str(loc[-1])!r} is not known here", path=path_text(went), hint=hint, key=True)
    number = isinstance(details["input"], int | float)
    hint = "quote what is to be a text" if kind == "string_type" and number else ""
    return at(place, message(details), path=path_text(went), hint=hint or sources.told(place), key=at_key)


def message(details: ErrorDetails) -> str:
    """What is wrong, without its place."""
    kind, found, context = details["type"], described(details["input"]), details.get("ctx", {})
    if kind == "value_error":
        return str(context.get("reason") or context.get("error") or details["msg"])
    expected = _EXPECTED.get(kind)
    if expected is None and kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        expected = "at " + (f"least {context['ge']}" if "ge" in context else f"most {context['le']}")
    if kind == "literal_error":
        expected = str(context["expected"])
    if kind in ("too_short", "too_long"):
        limit = f"least {context['min_length']}" if kind == "too_short" else f"most {context['max_length']}"
        actual = context["actual_length"]
        return f"found {actual} {'entry' if actual == 1 else 'entries'}; at {limit} are expected"
    if kind == "string_pattern_mismatch":
        expected = f"what matches {context['pattern']}"
    if expected is None:
        return f"found {found}: {details['msg']}"
    return f"found {found}; {expected} is expected"


def described(value: Any) -> str:
    """What a file says, in a few words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


class _Fields:
    """What can stand in the mappings of a document, as the models say."""

    def __init__(self, root: Place) -> None:
        self.root = root
        self.models: dict[Loc, list[type[BaseModel]]] = {}

    def at(self, loc: Loc) -> list[type[BaseModel]]:
        """The models that the mapping at `loc` can be."""
        if loc not in self.models:
            self.models[loc] = _models(loc, self.root)
        return self.models[loc]

    def description(self, loc: Loc, name: str) -> str:
        """What the model says of a field of the mapping at `loc`."""
        found = (grammar.fields(model).get(name) for model in self.at(loc))
        return next((field.description for field in found if field and field.description), "")

    def hint(self, loc: Loc, key: str) -> str:
        """The key that may have been meant by an unknown one of the mapping at `loc`, or those there are."""
        return hint(key, tuple(sorted({name for model in self.at(loc) for name in grammar.fields(model)})))


@lru_cache(maxsize=1024)
def hint(key: str, fields: tuple[str, ...]) -> str:
    """The one of `fields` that `key` may have been meant to be, or all of them."""
    near = difflib.get_close_matches(key.lower(), fields, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"expected: {', '.join(fields)}" if fields else ""


def _models(loc: Loc, root: Place) -> list[type[BaseModel]]:
    """The models that the mapping at `loc` can be: those that fit what it holds, or all where none fits."""
    annotations: list[Any] = [Topology]
    for part in loc:
        annotations = [inner for annotation in annotations for inner in grammar.members(annotation, part)]
    models = [a for a in annotations if isinstance(a, type) and issubclass(a, BaseModel)]
    held = follow(root, loc)[0].held
    return [model for model in models if isinstance(held, dict) and _fits(model, held)] or models


def _fits(model: type[BaseModel], held: dict[str, Place]) -> bool:
    for name, field in grammar.fields(model).items():
        if field.is_required() and name not in held:
            return False
        if get_origin(field.annotation) is Literal and name in held:
            values = get_args(field.annotation)
            if len(values) == 1 and held[name].value != values[0]:
                return False
    return True
