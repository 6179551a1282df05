"""Commands about changing: apply, diff, plan, destroy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from topo.cli.human import Human
from topo.cli.machine import Json
from topo.cli.options import (
    STDIN,
    adopt_option,
    confirm_option,
    files_argument,
    keep_option,
    named_or_loaded,
    output_option,
    target_argument,
    topology,
    topology_or_plan,
    verbose_option,
)
from topo.cli.progress import Progress
from topo.errors import EXIT_DIFFERENCES, EXIT_OK, InputError

if TYPE_CHECKING:
    from topo.planning.plan import Plan, SavedPlan


@click.command(short_help="Make it so.")
@files_argument
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@adopt_option
@keep_option
@confirm_option
@verbose_option
@output_option
def apply(
    files: tuple[str, ...],
    dry_run: bool,
    adopt: bool,
    keep: bool,
    within: float | None,
    verbose: bool,
    out: Human | Json,
) -> int:
    """Make it so: change the kernel until it is as FILE says.

    Several files are one topology; `-` is standard input. A plan that `topo plan` wrote is applied as it
    stands, and refused when the live state has moved on since. All or nothing: a failure undoes the run.
    """
    from topo import api

    if within is not None and keep:
        raise click.UsageError("--keep leaves what --confirm takes back: state one of them")
    what = topology_or_plan(files)
    if dry_run:
        out.plan(_saved(what) if isinstance(what, api.SavedPlan) else api.plan(what, adopt=adopt), verbose)
        return EXIT_OK
    with Progress() as progress:
        report = api.apply(what, adopt=adopt, keep=keep, confirm=within, progress=progress)
    out.applied(report, verbose)
    return EXIT_OK


def _saved(plan: SavedPlan) -> Plan:
    """A saved plan as one that can be shown."""
    from topo import api
    from topo.facts import Desired

    desired = Desired(plan.topology, {}, document=plan.document)
    return api.Plan(plan.topology, plan.changes, desired, plan.warnings)


@click.command(short_help="Show what apply would do.")
@files_argument
@adopt_option
@verbose_option
@output_option
def diff(files: tuple[str, ...], adopt: bool, verbose: bool, out: Human | Json) -> int:
    """Show what apply would do, and change nothing.

    Exit code 0: no differences; 1: differences; above 1: trouble.
    """
    from topo import api

    found = api.plan(topology(files), adopt=adopt)
    out.plan(found, verbose)
    return EXIT_DIFFERENCES if found.changes else EXIT_OK


@click.command(short_help="Save what apply would do.")
@files_argument
@click.option("-o", "--out", "path", metavar="PLAN", required=True, help="The file to write; `-` is standard output.")
@adopt_option
@verbose_option
@output_option
def plan(files: tuple[str, ...], path: str, adopt: bool, verbose: bool, out: Human | Json) -> int:
    """Save what apply would do, for `topo apply PLAN` to do exactly that, later, or not at all."""
    from topo import api

    found = api.plan(topology(files), adopt=adopt)
    text = Json.text(Json.plan_document(found))
    if path == STDIN:
        click.echo(text)
        return EXIT_OK
    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    out.plan(found, verbose)
    out.note(f"saved: topo apply {path}")
    return EXIT_OK


@click.command(short_help="Remove what topo made, put back what it changed.")
@target_argument
@keep_option
@verbose_option
@output_option
def destroy(target: tuple[str, ...], keep: bool, verbose: bool, out: Human | Json) -> int:
    """Remove everything that topo made for a topology, and put back what it changed.

    Takes the topology's name, or its file. What is not there is no error.
    """
    from topo import api

    what = named_or_loaded(target)
    with Progress() as progress:
        report = api.destroy(what, keep=keep, progress=progress)
    out.destroyed(report, verbose)
    return EXIT_OK


COMMANDS = (apply, diff, plan, destroy)
