"""Ranges in names: `h[1-100]`, `h[01-10]`, `r[1-2]p[1-4]`."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Final

from topo.patterns import late

LIMIT: Final = 65_536
"""The most that one range may expand to."""

_PART: Final = late(r"\[([^\[\]]*)\]")
_NESTED: Final = late(r"\[[^\]]*\[")
_SPAN: Final = late(r"([0-9]{1,9})-([0-9]{1,9})")


def is_range(text: str) -> bool:
    """Whether `text` is a range, a well formed one or not: no name may hold a bracket otherwise."""
    return "[" in text or "]" in text


def count(text: str) -> int:
    """How many names `text` stands for. Raises ValueError as `expand` does, but for the limit."""
    return prod(last - first + 1 for first, last, _ in _parts(text)[1])


def expand(text: str) -> list[str]:
    """The names that `text` stands for, the rightmost range running fastest; `[text]` where it is no range.

    `h[01-10]` keeps its zeros. Raises ValueError for a range that is malformed, runs backwards, or
    is one of more than LIMIT names.
    """
    if not is_range(text):
        return [text]
    literals, spans = _parts(text)
    total = prod(last - first + 1 for first, last, _ in spans)
    if total > LIMIT:
        raise ValueError(f"{text!r} stands for {total:,} names; {LIMIT:,} is the most")
    columns: list[list[str]] = [[literals[0]]]
    for (first, last, width), literal in zip(spans, literals[1:], strict=True):
        columns.append([f"{number:0{width}}{literal}" for number in range(first, last + 1)])
    return ["".join(pieces) for pieces in product(*columns)]


def _parts(text: str) -> tuple[list[str], list[tuple[int, int, int]]]:
    """The literal pieces of `text`, and between them its ranges as (first, last, digits to pad to)."""
    pieces = _PART.split(text)
    literals, inner = pieces[0::2], pieces[1::2]
    if _NESTED.search(text):
        raise ValueError(f"{text!r} has a '[' within a range; ranges cannot be nested")
    if any("[" in literal for literal in literals):
        raise ValueError(f"{text!r} has a '[' that is not closed")
    if any("]" in literal for literal in literals):
        raise ValueError(f"{text!r} has a ']' without its '['")
    return literals, [_span(text, span) for span in inner]


def _span(text: str, span: str) -> tuple[int, int, int]:
    if not span:
        raise ValueError(f"{text!r} has an empty range; write it as [1-10]")
    match = _SPAN.fullmatch(span)
    if match is None:
        raise ValueError(f"{text!r} has the range [{span}], which is not two numbers as in [1-10]")
    low, high = match.groups()
    first, last = int(low), int(high)
    if first > last:
        raise ValueError(f"{text!r} has the range [{span}], which runs backwards; write [{high}-{low}]")
    padded = any(len(number) > 1 and number[0] == "0" for number in (low, high))
    if padded and len(low) != len(high):
        width = max(len(low), len(high))
        hint = f"[{first:0{width}}-{last:0{width}}]"
        raise ValueError(f"{text!r} has the range [{span}], whose leading zeros do not fit; write {hint}")
    return first, last, len(low) if padded else 0
