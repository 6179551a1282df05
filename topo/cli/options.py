"""Arguments and options that commands share, and what they stand for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from topo.cli.human import Human
from topo.cli.machine import Json
from topo.errors import InputError, TopoError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from topo.file.model import Topology
    from topo.planning.plan import SavedPlan

F = TypeVar("F", bound=Callable[..., Any])

STDIN = "-"
LONGEST_TO_CONFIRM = 86400.0  # seconds


def view(output: str) -> Human | Json:
    """The one that prints: words for people, or one JSON document."""
    return Json() if output == "json" else Human()


def _view_option(context: click.Context, parameter: click.Parameter, value: str) -> Human | Json:
    return view(value)


def _output_option(*names: str) -> Callable[[F], F]:
    return click.option(
        *names,
        "out",
        type=click.Choice(["human", "json"]),
        default="human",
        callback=_view_option,
        help="Words for people, or one JSON document (docs/cli.md).",
    )


output_option = _output_option("--output")
short_output_option = _output_option("-o", "--output")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="List every change, however many there are.")
adopt_option = click.option("--adopt", is_flag=True, help="Take over what has a name that this topology wants.")
keep_option = click.option("--keep", is_flag=True, help="When it fails, leave what was done for inspection.")


def _duration(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from topo.file.model.values import seconds

    if value is None:
        return None
    try:
        found = seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not 1 <= found <= LONGEST_TO_CONFIRM:
        raise click.BadParameter(f"{value!r} is not between 1 second and a day")
    return found


confirm_option = click.option(
    "--confirm",
    "within",
    metavar="DURATION",
    callback=_duration,
    help="Go back by itself, unless `topo confirm NAME` comes within this time: 30s, 5m.",
)


def names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Topologies that are applied here, for the shell to complete."""
    from click.shell_completion import CompletionItem

    from topo import api

    try:
        return [CompletionItem(item.name) for item in api.applied() if item.name.startswith(incomplete)]
    except TopoError:
        return []


def _files_and_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [*names(context, parameter, incomplete), CompletionItem(incomplete, type="file")]


files_argument = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
name_argument = click.argument("name", metavar="NAME", shell_complete=names)
target_argument = click.argument(
    "target", metavar="FILE|NAME...", nargs=-1, required=True, shell_complete=_files_and_names
)


def _stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"<stdin>: this is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from None


def topology(files: tuple[str, ...]) -> Topology:
    """The topology of these files; `-` is standard input."""
    from topo import reading

    return reading.load(*files)


def topology_or_plan(files: tuple[str, ...]) -> Topology | SavedPlan:
    """As `topology`; one file that `topo plan` wrote is that plan."""
    from topo import reading

    if len(files) > 1:
        return topology(files)
    if files == (STDIN,):
        text = _stdin()
        return _plan(text) or reading.loads(text, "<stdin>")
    try:
        with open(files[0], encoding="utf-8") as stream:
            text = stream.read() if stream.read(1) == "{" else ""
    except (OSError, ValueError):  # the loader says best what is wrong with a file
        text = ""
    return _plan("{" + text) or topology(files)


def _plan(text: str) -> SavedPlan | None:
    """The plan that `text` holds; None where it is anything else. Raises InputError for a damaged plan."""
    if not text.lstrip().startswith("{") or '"kind"' not in text:
        return None
    import json

    from topo.planning.plan import from_json

    try:
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("kind") != "plan":
            return None
        return from_json(document)
    except ValueError:
        return None
    except RecursionError:
        raise InputError("this plan is damaged: it is nested too deeply") from None


def named_or_loaded(target: tuple[str, ...]) -> Topology | str:
    """A topology's name, or the topology of files. A name has neither dot nor slash: a file may be ./so."""
    names = [word for word in target if word != STDIN and not set("./") & set(word)]
    if names and len(target) > 1:
        raise InputError(f"{names[0]}: one topology at a time; several arguments are files (./{names[0]} would be one)")
    return names[0] if names else topology(target)
