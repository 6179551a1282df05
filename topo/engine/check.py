"""Checks: what must be reachable and what must not, tried from inside the namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from topo.facts import Check, Desired
from topo.kernel.privileges import require
from topo.kernel.probe import probe


class CheckResult(NamedTuple):
    """One check and what came of it.

    `outcome`: reachable, blocked, or error (it could not be run); `seconds` is how long it took to tell.
    """

    check: Check
    passed: bool
    outcome: str
    detail: str
    seconds: float


def run(desired: Desired, paths: Mapping[str, str]) -> list[CheckResult]:
    """Run every check of `desired` at once, in the order of the file.

    `paths`: namespace -> the path of its file; a check whose namespace is missing or gone fails with `error`.
    Raises UnsupportedError without the privilege to enter namespaces.
    """
    require("checking from inside namespaces")
    answers = probe(desired.checks, paths)
    return [
        CheckResult(check, answer.outcome == check.expect, *answer)
        for check, answer in zip(desired.checks, answers, strict=True)
    ]
