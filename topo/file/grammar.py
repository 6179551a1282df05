"""The grammar as the models tell it: what may stand at a place of a document."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from topo.kinds.later import stated


def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the names that they bear in a file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def members(annotation: Any, part: str | int) -> Iterator[Any]:
    """What stands at key or index `part` of a value of that type; unions are taken apart."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = fields(annotation).get(str(part))
        if field is not None:
            yield from alternatives(stated(field.annotation, field.metadata))
    elif get_origin(annotation) in (list, tuple) and isinstance(part, int):
        yield from alternatives(get_args(annotation)[0])
    elif get_origin(annotation) is dict and isinstance(part, str):
        yield from alternatives(get_args(annotation)[1])


def alternatives(annotation: Any) -> Iterator[Any]:
    """The members of a union, or the type itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        yield from alternatives(stated(inner, metadata))
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from alternatives(member)
    else:
        yield annotation
