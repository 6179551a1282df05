"""The view for programs: exactly one JSON document on standard output (docs/cli.md lists them)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from topo.errors import (
    EXIT_INPUT,
    EXIT_UNDONE,
    ApplyError,
    CycleError,
    Diagnostic,
    InputError,
    KernelError,
    OwnershipError,
    TopoError,
)

if TYPE_CHECKING:
    from topo.api import Applied, CheckResult, Diagnosis, Report, Shown
    from topo.facts import Fact, Ref
    from topo.file.model import Topology
    from topo.planning.plan import Plan

FORMAT: Final = 1


class Json:
    """Prints documents of the form {"format": 1, "kind": ..., ...}."""

    @staticmethod
    def text(document: dict[str, Any]) -> str:
        """On one line: plans of large topologies are large."""
        import json  # late: most commands speak to people

        return json.dumps(document, ensure_ascii=False)

    def _print(self, kind: str, **rest: Any) -> None:
        sys.stdout.write(self.text({"format": FORMAT, "kind": kind, **rest}) + "\n")

    @staticmethod
    def plan_document(plan: Plan) -> dict[str, Any]:
        return {"format": FORMAT, "kind": "plan", **plan.to_json()}

    def plan(self, plan: Plan, verbose: bool = False) -> None:
        sys.stdout.write(self.text(self.plan_document(plan)) + "\n")

    def note(self, text: str) -> None:
        """Words for people only."""

    def applied(self, report: Report, verbose: bool = False) -> None:
        self._report("applied", report)

    def confirmed(self, name: str, changed: bool) -> None:
        self._print("confirmation", topology=name, changed=changed)

    def reverted(self, report: Report, verbose: bool = False) -> None:
        self._report("reverted", report)

    def destroyed(self, report: Report, verbose: bool = False) -> None:
        self._report("destroyed", report)

    def impaired(self, report: Report) -> None:
        self._report("impaired", report)

    def impairments(self, name: str, facts: Sequence[Fact]) -> None:
        self._print("impairments", topology=name, impaired=_facts(facts))

    def _report(self, done: str, report: Report) -> None:
        plan = report.plan.to_json()
        self._print(
            "result",
            topology=report.plan.topology,
            result=done,
            changed=bool(report.plan.changes),
            seconds=round(report.seconds, 3),
            reverts_in=report.reverts_in,
            summary=report.plan.counts(),
            changes=plan["changes"],
            impaired=plan["impaired"],
            warnings=list(report.plan.warnings),
        )

    def valid(self, topology: Topology) -> None:
        self._print("validation", topology=topology.topology, valid=True)

    def drawing(self, name: str, language: str, text: str) -> None:
        self._print("graph", topology=name, language=language, text=text)

    def listing(self, items: Iterable[Applied]) -> None:
        self._print("list", topologies=[_applied(item) for item in items])

    def shown(self, found: Shown, verbose: bool = False) -> None:
        self._print(
            "topology",
            **_applied(found.applied),
            paths=dict(found.namespaces),
            drift=found.plan.to_json()["changes"],
            impaired=_facts(found.plan.impaired.values()),
        )

    def checks(self, name: str, results: Sequence[CheckResult]) -> None:
        checks = [
            {
                "from": check.source,
                "method": check.method,
                "address": check.address,
                "port": check.port,
                "expect": check.expect,
                "within": check.within,
                "text": check.text,
                "passed": passed,
                "outcome": outcome,
                "detail": detail,
                "seconds": round(seconds, 3),
            }
            for check, passed, outcome, detail, seconds in results
        ]
        self._print("checks", topology=name, passed=all(result.passed for result in results), checks=checks)

    def diagnosis(self, name: str, found: Diagnosis, verbose: bool = False) -> None:
        self._print(
            "diagnosis",
            kernel=os.uname().release,
            topology=name or None,
            sufficient=found.sufficient,
            findings=[finding._asdict() for finding in found.findings],
            diagnostics=list(map(_placed, found.diagnostics)),
        )

    def error(self, error: TopoError) -> None:
        self._print(
            "error", error=type(error).__name__, message=str(error), exit_code=error.exit_code, **_particulars(error)
        )

    def usage_error(self, error: click.ClickException) -> None:
        self._print("error", error="UsageError", message=error.format_message(), exit_code=EXIT_INPUT)

    def interrupted(self, code: int, words: str) -> None:
        self._print("error", error="Interrupted", message=words, exit_code=code)

    def bug(self, error: Exception) -> None:
        self._print("error", error="InternalError", message=f"{type(error).__name__}: {error}", exit_code=EXIT_UNDONE)


def _facts(facts: Iterable[Fact]) -> list[Any]:
    from topo.planning.plan import fact_to_json

    return [fact_to_json(fact) for fact in facts]


def _placed(diagnostic: Diagnostic) -> dict[str, Any]:
    return dict(diagnostic._asdict())


def _applied(item: Applied) -> dict[str, Any]:
    return dict(item._asdict())


def _ref(ref: Ref | None) -> list[Any] | None:
    """As a plan's JSON has it."""
    return None if ref is None else [ref.kind, ref.ns, list(ref.key)]


def _particulars(error: TopoError) -> dict[str, Any]:
    """What a program can use of an error beside its words."""
    match error:
        case InputError():
            return {"diagnostics": list(map(_placed, error.diagnostics))}
        case CycleError():
            return {"refs": [_ref(ref) for ref in error.refs]}
        case OwnershipError():
            return {"taken": [{"ref": _ref(ref), "by": by} for ref, by in error.taken]}
        case KernelError():
            return _kernel(error)
        case ApplyError():
            failed = [{"verb": op.verb, **_kernel(why, op.ref)} for op, why in error.failed]
            return {"undone": error.undone, "failed": failed, "left": [_ref(change.ref) for change in error.left]}
        case _:
            return {}


def _kernel(error: KernelError, ref: Ref | None = None) -> dict[str, Any]:
    return {"ref": _ref(error.ref or ref), "errno": error.errno, "extack": error.extack}
