"""What precisely differs in an attribute, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_MOST: Final = 5  # differences of one attribute that are told one by one


def differences(
    names: Iterable[str], desired: Mapping[str, Any], live: Mapping[str, Any], units: Mapping[str, str]
) -> Iterator[str]:
    """`mtu 1500 -> 9000` for each of the attributes; for a nested one what differs inside."""
    for name in names:
        old, new = live.get(name), desired.get(name)
        if name == "from" and isinstance(old, dict):
            yield f"from {_source(old)} -> {_source(new)}"
        elif _nested(old) and _nested(new):
            yield from _inside(name, old, new)
        else:
            unit = f" {units[name]}" if name in units else ""
            yield f"{name} {_word(old)} -> {_word(new)}{unit}"


def _source(source: Mapping[str, Any] | None) -> str:
    """Where a namespace comes from, in words; a bare number as the kernel writes it (namespaces(7))."""
    if not source:
        return "none"
    ((how, value),) = source.items()
    return f"net:[{value}]" if how == "inode" else f"{how} {value}"


def _nested(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list | tuple) and any(isinstance(inner, dict | list | tuple) for inner in value)
    )


def _word(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return ":".join(map(str, value)) if len(value) == 2 else " ".join(map(str, value))
    return str(value)


def _inside(name: str, old: Any, new: Any) -> Iterator[str]:
    from deepdiff import DeepDiff

    found = DeepDiff(old, new, view="tree", verbose_level=2)
    told = [_told(name, change) for report in found.values() for change in report]
    yield from sorted(told)[:_MOST]
    if len(told) > _MOST:
        yield f"and {len(told) - _MOST} more of {name}"


def _told(name: str, change: Any) -> str:
    path = " ".join([name, *map(str, change.path(output_format="list"))])
    old, new = repr(change.t1), repr(change.t2)
    if "not present" in old:
        return f"{path} {change.t2} is missing"
    if "not present" in new:
        return f"{path} {change.t1} is too much"
    return f"{path} {_word(change.t1)} -> {_word(change.t2)}"
