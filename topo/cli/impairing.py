"""The command about bad lines: impair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from topo.cli.human import Human
from topo.cli.machine import Json
from topo.cli.options import names, output_option
from topo.errors import EXIT_OK, InputError, TopoError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def _targets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """NAME, then NAME:NS:INTERFACE of what is applied."""
    from click.shell_completion import CompletionItem

    from topo import api

    name, colon, _ = incomplete.partition(":")
    if not colon:
        return names(context, parameter, incomplete)
    try:
        stated = api.show(name).desired.facts
    except TopoError:
        return []
    found = (f"{name}:{ref.ns}:{ref.key[0]}" for ref in stated if ref.kind == "link")
    return [CompletionItem(word) for word in found if word.startswith(incomplete)]


@click.command(short_help="Make a line bad, and good again, without editing the file.")
@click.argument("target", metavar="NAME[:NS[:INTERFACE]]", shell_complete=_targets)
@click.argument("words", metavar="[WORD=VALUE...]", nargs=-1)
@click.option("--clear", is_flag=True, help="What the file states is back, for all that TARGET names.")
@output_option
def impair(target: str, words: tuple[str, ...], clear: bool, out: Human | Json) -> int:
    """Lay shaping over what the file states for one interface: a bad line, or a slow one.

    \b
    topo impair lab:web:eth0 delay=50ms jitter=5ms loss=1%
    topo impair lab:web:eth0 kind=tbf rate=10mbit
    topo impair lab:web:eth0 --clear
    topo impair lab --clear
    topo impair lab

    The words are those of `shaping` in a file, and take the place of what is stated there, and of what was
    said before, as a whole. Nothing else is changed. It holds until it is cleared, or the topology or the interface
    goes: `topo apply` keeps it, and `topo diff` tells it from drift. Without words: what is impaired.
    """
    from topo import api

    name, ns, interface = _parts(target)
    if words and clear:
        raise click.UsageError("--clear takes no words")
    if clear:
        out.impaired(api.clear(name, ns, interface))
    elif words:
        if ns is None or interface is None:
            raise InputError(f"{target}: which interface? expected NAME:NS:INTERFACE, as in lab:web:eth0")
        out.impaired(api.impair(name, ns, interface, dict(map(_word, words))))
    else:
        found = api.impaired(name).items()
        out.impairments(name, [fact for ref, fact in found if ns in (None, ref.ns) and interface in (None, ref.key[0])])
    return EXIT_OK


def _parts(target: str) -> tuple[str, str | None, str | None]:
    name, _, rest = target.partition(":")
    ns, _, interface = rest.partition(":")
    return name, ns or None, interface or None


def _word(text: str) -> tuple[str, str]:
    word, equals, value = text.partition("=")
    if not equals or not word or not value:
        raise InputError(f"{text}: expected WORD=VALUE, as in delay=50ms")
    return word, value


COMMANDS = (impair,)
