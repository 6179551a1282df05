"""The JSON Schema of a topology file, from the models: for editors, and for who checks files without topo."""

from __future__ import annotations

from typing import Any, Final

from topo.file.model import Section, Topology

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_WITHIN: Final = ("properties", "$defs")  # hold schemas by name
_NULL: Final = {"type": "null"}
VARIABLE: Final = r"\$\{"
"""Pattern of a text with a variable in it, which may stand where another type is asked for."""


def schema() -> dict[str, Any]:
    """The schema as plain data (JSON Schema 2020-12)."""
    found: dict[str, Any] = _tidied(Topology.model_json_schema())
    for section in (found, found["$defs"]["Namespace"]):
        for name, part in section["properties"].items():
            if name in Section.model_fields and name not in ("forwarding",):
                section["properties"][name] = _or_nothing(part)
    for name in ("namespaces", "links", "checks"):
        found["properties"][name] = _or_nothing(found["properties"][name])
    found = {name: part if name == "vars" else _or_variable(part) for name, part in found.items()}
    return {"$schema": DIALECT, "title": "topo topology", **found}


def _or_variable(node: Any) -> Any:
    """Where a number, a truth value or a text of some form is asked for, a text with a variable in it will do."""
    if isinstance(node, list):
        texts = any(part == {"type": "string"} for part in node)
        return node if texts else [_or_variable(part) for part in node]
    if not isinstance(node, dict):
        return node
    found = {key: _or_variable(value) for key, value in node.items()}
    if found.get("type") in ("integer", "number", "boolean") and found.keys().isdisjoint(("const", "enum")):
        found |= {"type": [found["type"], "string"], "pattern": VARIABLE}
    elif found.get("type") == "string" and "pattern" in found:
        found["pattern"] += f"|{VARIABLE}"
    return found


def _or_nothing(part: dict[str, Any]) -> dict[str, Any]:
    """A section may be empty: `routes:` with nothing behind it."""
    if isinstance(part.get("type"), str):
        return {**part, "type": [part["type"], "null"]}
    rest = {key: value for key, value in part.items() if key != "description"}
    return {"description": part["description"], "anyOf": [rest, _NULL]}


def _tidied(node: Any) -> Any:
    """Without titles (they repeat the names), without null as a choice where leaving out says the same."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key in _WITHIN:
            found[key] = {
                name: _property(part) if key == "properties" else _tidied(part) for name, part in value.items()
            }
        elif key != "title" and not (key == "default" and value in (None, [], {})):
            found[key] = _tidied(value)
    return found


def _property(part: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _tidied(part)
    choices = found.get("anyOf")
    if choices is not None and _NULL in choices:
        rest = [choice for choice in choices if choice != _NULL]
        del found["anyOf"]
        found = {**(rest[0] if len(rest) == 1 else {"anyOf": rest}), **found}
    return found
