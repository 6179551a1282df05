"""Types of fields that cost nothing where a file does not use them.

pydantic makes the validator of a model together with those of all that its fields can hold, in a millisecond or two for
each class, and a file uses few of them. A field whose type is marked here is validated by a function, and the class
that stands for it is imported, and its validator made, when the first value comes. Errors and the JSON Schema are the
same: what a validator raises gets its place from pydantic, and the schema is asked of the class itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema
from pydantic_core.core_schema import definitions_schema, no_info_plain_validator_function

_CONFIG: Final = ConfigDict(strict=True)
_KEY: Final = "topo"  # of a core schema's metadata: the type that is told to readers


def _is_model(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, BaseModel)


def _core_schema(type_: Any) -> CoreSchema:
    return TypeAdapter(type_, config=None if _is_model(type_) else _CONFIG).core_schema


class Either:
    """Makes `check` decide alone; the annotated type, or `written`, is for readers and for the schema."""

    def __init__(self, check: Callable[[Any], Any], written: Any = None) -> None:
        self.check, self.written = check, written

    def told(self, source: Any) -> Any:
        return source if self.written is None else self.written

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_plain_validator_function(self.check, metadata={_KEY: source})

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner = _core_schema(self.told(schema["metadata"][_KEY]))
        return handler(definitions_schema(inner, []))  # a schema around it: only within one are models given names


class Later(Either):
    """The type that `find` gives, when the first value comes; `check` decides in its place, where it is given."""

    def __init__(self, find: Callable[[], Any], check: Callable[[Any], Any] | None = None) -> None:
        super().__init__(check or self._first)
        self.find = find
        self.validate: Callable[[Any], Any] | None = None

    def told(self, source: Any = None) -> Any:
        return self.find()

    def _first(self, value: Any) -> Any:
        if self.validate is None:
            self.validate = _validator(self.find())
        return self.validate(value)


def _validator(type_: Any) -> Callable[[Any], Any]:
    found: Callable[[Any], Any]
    found = type_.model_validate if _is_model(type_) else TypeAdapter(type_, config=_CONFIG).validate_python
    return found


def later(module: str, name: str) -> Any:
    """The annotation that stands for a type of another module, which type checkers are told by TYPE_CHECKING."""
    return Annotated[Any, Later(lambda: getattr(import_module(module), name))]


def stated(annotation: Any, metadata: Iterable[Any]) -> Any:
    """The type that an annotation with this metadata stands for."""
    return next((marker.find() for marker in metadata if isinstance(marker, Later)), annotation)
