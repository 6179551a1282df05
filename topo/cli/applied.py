"""Commands about what is applied on this host: list, show, check."""

from __future__ import annotations

import click

from topo.cli.human import Human
from topo.cli.machine import Json
from topo.cli.options import name_argument, named_or_loaded, output_option, target_argument, verbose_option
from topo.errors import EXIT_DIFFERENCES, EXIT_OK


@click.command("list", short_help="List what is applied on this host.")
@output_option
def list_(out: Human | Json) -> int:
    """List the topologies that are applied on this host."""
    from topo import api

    out.listing(api.applied())
    return EXIT_OK


@click.command(short_help="Show an applied topology, and its drift.")
@name_argument
@verbose_option
@output_option
def show(name: str, verbose: bool, out: Human | Json) -> int:
    """Show a topology that is applied: its state, its namespaces, and how it has drifted."""
    from topo import api

    out.shown(api.show(name), verbose)
    return EXIT_OK


@click.command(short_help="Run the checks, from inside the namespaces.")
@target_argument
@output_option
def check(target: tuple[str, ...], out: Human | Json) -> int:
    """Run the `checks` of a topology, all at once, from inside its namespaces.

    Exit code 0: all passed; 1: one failed; above 1: trouble.
    """
    from topo import api

    what = named_or_loaded(target)
    results = api.check(what)
    out.checks(what if isinstance(what, str) else what.topology, results)
    return EXIT_OK if all(result.passed for result in results) else EXIT_DIFFERENCES


COMMANDS = (list_, show, check)
