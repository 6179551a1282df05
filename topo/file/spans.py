"""Numbers and ranges of them, as a file writes them: 80, "8000-8010"."""

from __future__ import annotations

from typing import Any, Final

from topo.patterns import late

_SPAN: Final = late(r"([0-9]{1,8})(?:-([0-9]{1,8}))?")


def span(value: Any, what: str, low: int, high: int, example: str) -> tuple[int, int]:
    """First and last of a number or a range of numbers, `low` to `high`. Raises ValueError."""
    if type(value) is int:
        first = last = value
    else:
        match = _SPAN.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{value!r} is no {what}: write {example} for a range")
        first = int(match[1])
        last = int(match[2] or first)
    if not low <= first <= high or not low <= last <= high:
        raise ValueError(f"{value} is no {what}: {low} to {high}")
    if last < first:
        raise ValueError(f"the range of {what}s {value} runs backwards")
    return first, last
