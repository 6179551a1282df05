"""What a run of this tier tried, and what was left: counted while it goes, and written to docs/reliability.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

BEGIN: Final = "<!-- figures: written by nox -s faults -->\n"
END: Final = "<!-- end of figures -->\n"
ORDER: Final = (
    "killed at a step", "killed at a moment", "killed, and the record lost or damaged",
    "a request refused", "a question refused", "all refused from a request on", "a dump interrupted",
    "others at work between two steps", "a table is full", "no descriptors left", "no room for the record",
    "applies of one topology at once", "apply against destroy", "two topologies on one bridge at once",
    "while ip and nft change the kernel", "while Docker changes the kernel", "attached to a namespace that comes and goes", "a lock that is held",
    "requests to the fake kernel and the real one", "random topologies and edits, there and back", "properties of planning", "random drift, repaired",
    "among many links and routes of others", "many namespaces on several bridges",
    "fuzzed", "deep or large files", "hostile names", "symbolic links where topo writes",
    "CAP_NET_ADMIN and CAP_SYS_ADMIN alone", "capabilities missing", "in a user namespace",
)  # fmt: skip


class Figures:
    """`tried`: how often, by what and where. `left`: how many of these left something, or went wrong otherwise."""

    def __init__(self) -> None:
        self.tried: Counter[tuple[str, str]] = Counter()
        self.left: Counter[tuple[str, str]] = Counter()

    def count(self, what: str, where: str, left: int = 0, number: int = 1) -> None:
        """`left`: how many in all, up to now, of the test that counts here."""
        assert what in ORDER, f"{what!r} has no place in the table"
        self.tried[what, where] += number
        self.left[what, where] = left

    def save(self, path: Path) -> None:
        path.write_text(json.dumps([[*key, number, self.left[key]] for key, number in self.tried.items()]))

    def load(self, paths: Iterable[Path]) -> None:
        for path in paths:
            for what, where, number, left in json.loads(path.read_text()):
                self.tried[what, where] += number
                self.left[what, where] += left

    def table(self) -> str:
        """A row for each thing that was tried: how often, where, and what was left."""
        rows = ["| what | tried | left | where |", "|---|--:|--:|---|"]
        for what in sorted({what for what, _ in self.tried}, key=ORDER.index):
            places = [(where, number) for (one, where), number in self.tried.items() if one == what]
            where = ", ".join(f"{where} {number:,}" for where, number in places)
            left = sum(number for (one, _), number in self.left.items() if one == what)
            rows.append(f"| {what} | {sum(number for _, number in places):,} | {left:,} | {where} |")
        return "\n".join(rows) + "\n"


def write(page: Path, text: str) -> None:
    """Put `text` between the marks of a page."""
    head, _, rest = page.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


FIGURES: Final = Figures()
