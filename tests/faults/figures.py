"""What a run of this tier tried, and what was left: counted while it goes, written to docs/reliability.md by `write`."""

from __future__ import annotations

from collections import Counter


class Figures:
    """`tried`: how often, by what and where; `left`: how many of these left something or went wrong."""

    def __init__(self) -> None:
        self.tried: Counter[tuple[str, str]] = Counter()
        self.left: dict[tuple[str, str], int] = {}

    def count(self, what: str, where: str, left: int = 0, number: int = 1) -> None:
        self.tried[what, where] += number
        self.left[what, where] = left


FIGURES = Figures()
