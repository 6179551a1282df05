"""The command `topo`: its group, and what becomes of every error."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import NoReturn

import click

from topo.cli import applied, confirming, converge, doctor, files, impairing, inside
from topo.cli.options import view
from topo.errors import EXIT_INPUT, EXIT_OK, EXIT_UNDONE, KernelError, TopoError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE

EPILOG = """\b
Exit codes:
  0  done, or nothing to do
  1  differences (diff), or a check that failed
  2  the file or the call is wrong; nothing was touched
  3  failed, and undone
  4  failed, and not all could be undone
  5  not permitted, or the kernel lacks something"""


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_version, release

    try:
        number = version("topo-reconciler")
    except PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"topo {number} (Python {python_version()}, Linux {release()})")
    context.exit()


class _InOrder(click.Group):
    """Lists commands as they were added: the order in which people need them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EPILOG
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Network topologies for Linux, declared in YAML: namespaces, links, bridges, VXLAN, routes, NAT.

    \b
    topo apply lab.yaml     make it so
    topo diff lab.yaml      what would change
    topo destroy lab.yaml   remove it again
    """


for _command in (
    *converge.COMMANDS,
    *confirming.COMMANDS,
    files.validate,
    *applied.COMMANDS,
    *inside.COMMANDS,
    *impairing.COMMANDS,
    doctor.doctor,
    files.graph,
    files.schema,
):
    cli.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; whatever goes wrong is said, never raised."""
    out = view(_output(arguments))
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
        return code
    except click.ClickException as error:
        out.usage_error(error)
        return EXIT_INPUT
    except (KeyboardInterrupt, click.Abort) as error:
        out.interrupted(INTERRUPTED, str(error) or "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return BROKEN_PIPE
    except TopoError as error:
        out.error(error)
        return error.exit_code
    except OSError as error:  # no descriptor is left, say: whatever needs one may be the first to find out
        refused = KernelError(error.errno or 0, doing=str(error.filename or "topo"))
        out.error(refused)
        return refused.exit_code
    except Exception as error:  # noqa: BLE001 - the last resort: a user never sees a traceback
        if os.environ.get("TOPO_DEBUG"):
            import traceback

            traceback.print_exc()
        out.bug(error)
        return EXIT_UNDONE


def _invoke(arguments: Sequence[str]) -> int:
    """What `cli.main` does, but for its own treatment of errors: it exits 1 where nobody reads on, which is diff's word."""
    if "_TOPO_COMPLETE" in os.environ:
        with suppress(SystemExit):
            cli.main(prog_name="topo")  # answers the shell
        return EXIT_OK
    try:
        with cli.make_context("topo", list(arguments)) as context:
            result = cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return result if isinstance(result, int) else EXIT_OK


def _output(arguments: Sequence[str]) -> str:
    """What `--output` says, found before parsing, so that errors of parsing come out in that form too."""
    words = list(arguments)
    if "--" in words:
        words = words[: words.index("--")]
    if words[:1] in (["exec"], ["shell"]):  # what follows belongs to somebody else's command
        return "human"
    if words[:1] == ["doctor"]:  # of `plan` -o is something else
        words = ["--output" if word == "-o" else word for word in words]
    wanted = "--output=json" in words or ("--output", "json") in pairwise(words)
    return "json" if wanted else "human"


def main() -> NoReturn:
    """Run the command line of this process, and end it."""
    code = run(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    os._exit(code)  # Python would first free object by object what ends with the process: 20 ms and more
