"""The command that says that a change may stay, or takes it back."""

from __future__ import annotations

import click

from topo.cli.human import Human
from topo.cli.machine import Json
from topo.cli.options import name_argument, output_option, verbose_option
from topo.cli.progress import Progress
from topo.errors import EXIT_OK


@click.command(short_help="Keep what was applied with --confirm.")
@name_argument
@click.option("--revert", is_flag=True, help="Go back now, instead of waiting for it.")
@verbose_option
@output_option
def confirm(name: str, revert: bool, verbose: bool, out: Human | Json) -> int:
    """Keep what `topo apply --confirm` applied: it no longer goes back by itself.

    Exit code 3: it is too late, it was reverted. Where there is nothing to confirm, it says so and exits 0.
    """
    from topo import api

    if not revert:
        out.confirmed(name, api.confirm(name))
        return EXIT_OK
    with Progress() as progress:
        report = api.revert(name, progress=progress)
    out.reverted(report, verbose)
    return EXIT_OK


COMMANDS = (confirm,)
