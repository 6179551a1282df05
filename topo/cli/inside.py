"""Commands that run something inside a namespace: exec, shell."""

from __future__ import annotations

import os
import sys

import click

from topo.errors import InputError

_SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def _execute(target: str, command: tuple[str, ...]) -> None:
    from topo import api

    name, colon, ns = target.partition(":")
    if not colon or not name or not ns:
        raise InputError(f"{target}: which namespace? expected NAME:NS, as in web-lab:web")
    path = api.enter(name, ns)  # for the host's too: it says whether there is such a topology
    from topo.facts import HOST
    from topo.kernel.enter import execute

    if command[0] == "--" and len(command) > 1:  # click hands it on
        command = command[1:]
    sys.stdout.flush()
    execute(None if ns == HOST else path, command, {"TOPO_NAMESPACE": target})


@click.command("exec", short_help="Run a command in a namespace.", context_settings=_SETTINGS)
@click.argument("target", metavar="NAME:NS")
@click.argument("command", metavar="[--] COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(target: str, command: tuple[str, ...]) -> None:
    """Run COMMAND inside namespace NS of topology NAME, as `ip netns exec` would.

    The exit code is the command's own; 127 where there is no such command.
    """
    _execute(target, command)


@click.command(short_help="Start a shell in a namespace.")
@click.argument("target", metavar="NAME:NS")
def shell(target: str) -> None:
    """Start a shell ($SHELL) inside namespace NS of topology NAME. Its TOPO_NAMESPACE says where it is."""
    _execute(target, (os.environ.get("SHELL") or "/bin/sh",))


COMMANDS = (exec_, shell)
