"""Rates, sizes and times in the units of tc(8), read from what a user writes."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

from topo.patterns import late

_NUMBER: Final = late(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*|%)\s*", re.IGNORECASE | re.ASCII)
_LONGEST: Final = 64  # digits beyond that are no measure of anything

_RATES: Final = {  # bits per second
    f"{prefix}{unit}": scale * bits
    for prefix, scale in {
        **{p: 1000**n for n, p in enumerate(("", "k", "m", "g", "t"))},
        **{p: 1024**n for n, p in enumerate(("ki", "mi", "gi", "ti"), 1)},
    }.items()
    for unit, bits in {"bit": 1, "bps": 8}.items()
}
_SIZES: Final = {  # bytes; k is 1024, as in tc
    "b": Fraction(1),
    **{f"{p}{b}": Fraction(1024**n) for n, p in enumerate("kmg", 1) for b in ("", "b")},
    **{f"{p}bit": Fraction(1024**n, 8) for n, p in enumerate("kmg", 1)},
}
_TIMES: Final = {  # microseconds
    **dict.fromkeys(("s", "sec", "secs"), Fraction(1_000_000)),
    **dict.fromkeys(("ms", "msec", "msecs"), Fraction(1000)),
    **dict.fromkeys(("us", "usec", "usecs"), Fraction(1)),
}


def _parse(value: object, units: dict[str, Fraction] | dict[str, int], bare: str, what: str) -> Fraction:
    text = str(value)
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST and not isinstance(value, bool) else None
    unit = (match[2].lower() or bare) if match else ""
    if match is None or unit not in units:
        raise ValueError(f"{text[:_LONGEST]!r} is no {what}")
    return Fraction(match[1]) * units[unit]


def parse_rate(value: object) -> int:
    """Bytes per second of '10mbit', '1.5gbit', '2mibit' or '500kbps' (bytes); a bare number is bits per second.

    Raises ValueError for anything else, and for less than one byte per second.
    """
    rate = int(_parse(value, _RATES, "bit", "rate: write 10mbit, 1gbit or 500kbit") / 8)
    if not 0 < rate < 1 << 63:
        raise ValueError(f"a rate of {value} is out of range")
    return rate


def parse_size(value: object) -> int:
    """Bytes of '32kb', '15k', '1mb' or '1500b' (k is 1024, as in tc); a bare number is bytes.

    Raises ValueError for anything else, and for 4 GiB and more (the kernel's fields have 32 bits).
    """
    size = int(_parse(value, _SIZES, "b", "size: write 32kb, 1mb or a number of bytes"))
    if not 0 < size < 1 << 32:
        raise ValueError(f"a size of {value} is out of range")
    return size


def parse_duration(value: object, bare: str = "us") -> int:
    """Microseconds of '50ms', '100us' or '2s'; a bare number is in `bare`, which in tc is microseconds.

    Raises ValueError for anything else.
    """
    return int(_parse(value, _TIMES, bare, "time: write 50ms, 100us or 2s"))


def parse_percent(value: object) -> float:
    """Percents of '1%', '0.5%' or a bare number, which is percents too, as in tc. Raises ValueError for anything else."""
    share = float(_parse(value, {"%": 1}, "%", "share: write 1% or 0.5%"))
    if share > 100:
        raise ValueError(f"a share of {value} is more than 100%")
    return share


def _schema(description: str, example: str, **number: int) -> WithJsonSchema:
    pattern = r"^\s*(\d+(\.\d+)?|\.\d+)\s*([A-Za-z]*|%)\s*$"
    text = {"type": "string", "pattern": pattern, "examples": [example]}
    return WithJsonSchema(
        {"description": description, "anyOf": [text, {"type": "number", **(number or {"exclusiveMinimum": 0})}]}
    )


Rate = Annotated[int, BeforeValidator(parse_rate), _schema("a rate in tc's units; a number is bits/s", "10mbit")]
Size = Annotated[int, BeforeValidator(parse_size), _schema("a size in tc's units; a number is bytes", "32kb")]
Duration = Annotated[
    int, BeforeValidator(parse_duration), _schema("a time in tc's units; a number is microseconds", "50ms")
]
Percent = Annotated[
    float,
    BeforeValidator(parse_percent),
    _schema("a share in percent, with or without the sign", "1%", minimum=0, maximum=100),
]
