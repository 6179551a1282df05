"""The view for people: plans and results on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from topo.errors import InputError, TopoError, shown

if TYPE_CHECKING:
    from topo.api import Applied, CheckResult, Diagnosis, Finding, Report, Shown
    from topo.facts import Fact
    from topo.file.model import Topology
    from topo.planning.plan import Plan

MOST_LINES: Final = 40  # of a plan, without --verbose
MOST_COLUMNS: Final = 240  # of one of them


def _coloured(stream: object) -> bool:
    """Colour on a terminal only, and never against the user's wish (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(getattr(stream, "isatty", lambda: False)())


_NOTES: Final = ("  impaired: ", "  warning: ")  # how planning.plan.lines begins them
_COLOURS: Final = {"+": "green", "-": "red", "~": "yellow", "-/+": "magenta"}


class Human:
    """Prints words. Whatever comes from a file or the kernel is escaped before it reaches a terminal."""

    def _out(self, text: str = "", **style: bool | str) -> None:
        _echo(text, err=False, **style)

    def note(self, text: str) -> None:
        """Something said in passing."""
        _echo(f"topo: {text}", err=True)

    def plan(self, plan: Plan, verbose: bool = False) -> None:
        from topo.planning.plan import lines

        head, *rows = lines(plan)
        self._out(shown(head), bold=True)
        self._rows(rows, verbose)

    def _rows(self, rows: Sequence[str], verbose: bool) -> None:
        """The lines of a plan; its notes are shown however long it is."""
        notes = [row for row in rows if row.startswith(_NOTES)]
        rows = _aligned([shown(row) for row in rows if not row.startswith(_NOTES)])
        for row in rows if verbose else rows[:MOST_LINES]:
            text = row if verbose or len(row) <= MOST_COLUMNS else row[: MOST_COLUMNS - 4] + " ..."
            self._out(text, fg=_COLOURS.get(row.split(maxsplit=1)[0], ""))
        if not verbose and len(rows) > MOST_LINES:
            self._out(f"  ... and {len(rows) - MOST_LINES:,} more; --verbose shows all", dim=True)
        for row in notes:
            self._out(shown(row), fg="yellow")

    def applied(self, report: Report, verbose: bool = False) -> None:
        """What is new is only counted; what was there before is named."""
        done = self._report(report, verbose, lambda row: row[2] != "+")
        if done:
            self._out(f"{report.plan.topology}: applied: {_done(done)} in {report.seconds:.2f} s", bold=True)
        else:
            self._out(f"{report.plan.topology}: nothing to do ({report.seconds:.2f} s)")
        if report.reverts_in is not None:
            name = report.plan.topology
            self._out(f"{name}: unconfirmed, reverts in {report.reverts_in:g} s; to keep it: topo confirm {name}")

    def confirmed(self, name: str, changed: bool) -> None:
        self._out(f"{name}: confirmed" if changed else f"{name}: nothing to confirm")

    def reverted(self, report: Report, verbose: bool = False) -> None:
        done = self._report(report, verbose, lambda row: row[2] != "+")
        how = f"{_done(done)} in {report.seconds:.2f} s" if done else "nothing to do"
        self._out(f"{report.plan.topology}: reverted: {how}", bold=True)

    def destroyed(self, report: Report, verbose: bool = False) -> None:
        """That things are deleted is the point: they are only counted."""
        done = self._report(report, verbose, lambda row: False)
        if done:
            back = done["create"] + done["update"] + done["replace"]
            words = f"{done['delete']:,} deleted" + (f", {back:,} put back" if back else "")
            self._out(f"{report.plan.topology}: destroyed: {words} in {report.seconds:.2f} s", bold=True)
        else:
            self._out(f"{report.plan.topology}: nothing is there, nothing to do ({report.seconds:.2f} s)")

    def impaired(self, report: Report) -> None:
        """What was changed needs no sign of its own: what is there now says it."""
        plan = report.plan
        done = f"in {report.seconds:.2f} s" if plan.changes else "nothing to do"
        number = len(plan.impaired)
        what = f"{number:,} {_plural(number, 'interface')} impaired" if number else "no interface is impaired"
        self._out(f"{plan.topology}: {what}, {done}", bold=bool(plan.changes))
        self._impairments(plan.impaired.values())

    def impairments(self, name: str, facts: Sequence[Fact]) -> None:
        if not facts:
            self.note(f"{name}: no interface is impaired")
        self._impairments(facts)

    def _impairments(self, facts: Iterable[Fact]) -> None:
        from topo.planning.plan import impairment

        for fact in facts:
            self._out(shown(impairment(fact)), fg="yellow")

    def _report(self, report: Report, verbose: bool, worth: Callable[[str], bool]) -> dict[str, int]:
        """Shows the lines of a run that are `worth` it; its counts, empty where nothing was done."""
        from topo.planning.plan import lines

        rows = lines(report.plan)[1:]
        self._rows([row for row in rows if verbose or row.startswith(_NOTES) or worth(row)], verbose)
        return report.plan.counts() if report.plan.changes else {}

    def valid(self, topology: Topology) -> None:
        self._out(f"{topology.topology}: valid")

    def drawing(self, name: str, language: str, text: str) -> None:
        self._out(text.rstrip("\n"))

    def listing(self, items: Iterable[Applied]) -> None:
        rows = [
            (item.name, _state(item), f"{item.namespaces:,}", f"{item.links:,}", _when(item.applied_at))
            for item in items
        ]
        if not rows:
            self.note("no topology is applied on this host")
            return
        self._table(("NAME", "STATE", "NAMESPACES", "LINKS", "APPLIED"), rows, right=(2, 3))

    def _table(self, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: tuple[int, ...] = ()) -> None:
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        for number, row in enumerate((head, *rows)):
            cells = [
                cell.rjust(w) if i in right else cell.ljust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            ]
            self._out(shown("  ".join(cells).rstrip()), bold=number == 0)

    def shown(self, found: Shown, verbose: bool = False) -> None:
        item = found.applied
        count = (
            f"{item.namespaces:,} {_plural(item.namespaces, 'namespace')}, {item.links:,} {_plural(item.links, 'link')}"
        )
        self._out(f"{item.name}: {_state(item)}, {_when(item.applied_at)}, {count}", bold=True)
        if item.word and item.reverts_in is None:
            self._out(f"  {shown(item.word)}", fg="yellow")
        paths = list(found.namespaces.items())
        width = max((len(ns) for ns, _ in paths), default=0)
        for ns, path in paths[: None if verbose else MOST_LINES]:
            self._out(shown(f"  {ns.ljust(width)}  {path}"))
        if not verbose and len(paths) > MOST_LINES:
            self._out(f"  ... and {len(paths) - MOST_LINES:,} more; --verbose shows all", dim=True)
        if not found.plan.changes:
            self._out("no drift: everything is as it was applied", fg="green")
            self._impairments(found.plan.impaired.values())
            return
        self._out("drift; to put it right:", fg="yellow")
        self.plan(found.plan, verbose)

    def checks(self, name: str, results: Sequence[CheckResult]) -> None:
        if not results:
            self.note(f"{name} has no checks")
            return
        width = max(len(result.check.text) for result in results)
        for check, passed, outcome, detail, seconds in results:
            mark = "ok  " if passed else "FAIL"
            wanted = "" if passed else f", expected {check.expect}"
            words = f"{mark}  {check.text.ljust(width)}  {outcome}: {detail}{wanted} ({seconds:.2f} s)"
            self._out(shown(words), fg="green" if passed else "red")
        failed = sum(not result.passed for result in results)
        number = len(results)
        verdict = "failed" if failed else "passed"
        share = f"{failed:,} of {number:,}" if failed else f"{number:,}"
        self._out(f"{name}: {share} {_plural(number, 'check')} {verdict}", bold=True)

    def diagnosis(self, name: str, found: Diagnosis, verbose: bool = False) -> None:
        """By groups: first what is there, in one line without `verbose`; then what is not, each with its cure."""
        release = shown(f"{os.uname().sysname} {os.uname().release}")
        self._out(f"{release}: what {name} needs" if name else release, bold=True)
        for group in dict.fromkeys(finding.group for finding in found.findings):
            self._out(group)
            for words, colour in _findings([finding for finding in found.findings if finding.group == group], verbose):
                self._out(shown(words), fg=colour)
        for diagnostic in found.diagnostics:
            self._out(str(diagnostic))
        what = name or "what every topology needs"
        verdict = f"{what} has all that it needs here" if name else f"{what} is there"
        self._out(verdict if found.sufficient else f"{what}: not all is there", bold=True)

    def error(self, error: TopoError) -> None:
        if isinstance(error, InputError) and any(d.file for d in error.diagnostics):
            for diagnostic in error.diagnostics:
                _echo(str(diagnostic), err=True)
            number = len(error.diagnostics)
            _echo(f"topo: {number:,} {_plural(number, 'error')}; nothing was touched", err=True, fg="red")
            return
        first, *rest = str(error).splitlines() or [type(error).__name__]
        _echo(f"topo: {shown(first)}", err=True, fg="red")
        for line in rest:
            _echo(f"      {shown(line)}", err=True)

    def usage_error(self, error: click.ClickException) -> None:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
            return
        context = error.ctx if isinstance(error, click.UsageError) else None
        if context is not None:
            _echo(context.get_usage(), err=True)
        _echo(f"topo: {shown(error.format_message())}", err=True, fg="red")

    def interrupted(self, code: int, words: str) -> None:
        _echo("\n" * sys.stderr.isatty() + f"topo: {words}", err=True)  # the terminal has echoed ^C

    def bug(self, error: Exception) -> None:
        _echo(f"topo: internal error: {shown(f'{type(error).__name__}: {error}')}", err=True, fg="red")
        _echo("topo: this is a mistake in topo: please report it with what TOPO_DEBUG=1 adds to this output", err=True)


def _findings(findings: Sequence[Finding], verbose: bool) -> Iterator[tuple[str, str]]:
    """The lines of one group, and their colours."""
    good = [finding for finding in findings if finding.state == "yes"]
    if good and not verbose:
        yield from ((f"  yes      {line}", "green") for line in _folded([finding.name for finding in good]))
    alike: dict[Finding, list[str]] = {}
    for finding in findings:
        if finding.state != "yes" or verbose:
            alike.setdefault(finding._replace(name=""), []).append(finding.name)
    for finding, names in alike.items():
        words = f"  {finding.state:7}  {', '.join(names)}" + (f": {finding.detail}" if finding.detail else "")
        colour = {"yes": "green", "no": "red" if finding.needed else "yellow", "unknown": "yellow"}
        yield words + (f" ({finding.cure})" if finding.cure else ""), colour.get(finding.state, "")


def _folded(names: Iterable[str]) -> Iterator[str]:
    import textwrap

    return iter(textwrap.wrap(", ".join(names), 90, break_long_words=False, break_on_hyphens=False))


def _echo(text: str, *, err: bool, **style: bool | str) -> None:
    stream = sys.stderr if err else sys.stdout
    coloured = _coloured(stream)
    wanted = {name: value for name, value in style.items() if value}
    click.echo(click.style(text, **wanted) if coloured and wanted else text, err=err, color=coloured)  # type: ignore[arg-type]


def _plural(number: int, word: str) -> str:
    return word if number == 1 else word + "s"


def _done(counts: Mapping[str, int]) -> str:
    changed = counts["update"] + counts["replace"]
    return f"{counts['create']:,} created, {changed:,} changed, {counts['delete']:,} deleted"


_BELOW = " " * 8  # what is told about the row above


def _aligned(rows: list[str]) -> list[str]:
    """Rows that were aligned among others, with no more space between their columns than they need."""
    if len(rows) > MOST_LINES:
        return rows
    width = max(map(len, rows), default=0)
    heads = [row for row in rows if not row.startswith(_BELOW)]
    blank = [all(row[i : i + 1] in ("", " ") for row in heads) for i in range(width)]
    keep = [i for i in range(width) if i < 2 or not all(blank[i - 2 : i + 1])]
    return [row if row.startswith(_BELOW) else "".join(row[i : i + 1] for i in keep) for row in rows]


def _state(item: Applied) -> str:
    """The state, and what will come of it by itself."""
    return item.state if item.reverts_in is None else f"{item.state}, {item.word}"


def _when(at: float) -> str:
    """A time on this host's clock, as `ls -l --time-style=long-iso` has it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "-"
