"""Commands about files: validate, graph, schema. They need no root and look at no kernel."""

from __future__ import annotations

import click

from topo.cli.human import Human
from topo.cli.machine import Json
from topo.cli.options import files_argument, output_option, topology
from topo.errors import EXIT_OK


@click.command(short_help="Say everything that is wrong with a file.")
@files_argument
@output_option
def validate(files: tuple[str, ...], out: Human | Json) -> int:
    """Say everything that is wrong with FILE at once. Needs no root, looks at no kernel."""
    from topo import reading

    found = topology(files)
    reading.lower(found)
    out.valid(found)
    return EXIT_OK


@click.command(short_help="Draw a topology as Mermaid or DOT.")
@files_argument
@click.option(
    "--format", "language", type=click.Choice(["mermaid", "dot"]), default="mermaid", help="Mermaid, or Graphviz's DOT."
)
@output_option
def graph(files: tuple[str, ...], language: str, out: Human | Json) -> int:
    """Draw the topology, as text for Mermaid or Graphviz."""
    from topo import reading
    from topo.planning.drawing import FORMATS

    desired = reading.lower(topology(files))
    out.drawing(desired.name, language, FORMATS[language](desired))
    return EXIT_OK


@click.command(short_help="Print the JSON Schema of topology files.")
def schema() -> int:
    """Print the JSON Schema of topology files, for editors."""
    import json

    from topo import reading

    click.echo(json.dumps(reading.schema(), indent=2, ensure_ascii=False))
    return EXIT_OK
