"""The command doctor: what the kernel, the host and the user's privileges allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from topo.cli.human import Human
from topo.cli.machine import Json
from topo.cli.options import short_output_option, topology, verbose_option
from topo.errors import EXIT_NOT_PERMITTED, EXIT_OK

if TYPE_CHECKING:
    from topo.file.model import Topology


@click.command(short_help="Say what the kernel and your privileges allow.")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())
@verbose_option
@short_output_option
def doctor(files: tuple[str, ...], verbose: bool, out: Human | Json) -> int:
    """Say what the running kernel, this host and your privileges allow, and what would cure what they do not.

    With FILE only what that topology needs. Changes nothing, and needs no root. Exit code 0: all of that is
    there (without FILE: what every topology needs); 5: it is not.
    """
    from topo import api

    found: Topology | None = topology(files) if files else None
    diagnosis = api.doctor(found)
    out.diagnosis(found.topology if found else "", diagnosis, verbose)
    return EXIT_OK if diagnosis.sufficient else EXIT_NOT_PERMITTED
