"""`python -m tests.kernels [OPTIONS] -- COMMAND...`: run a command under another kernel, with its exit code for ours.

The kernel comes from TOPO_UML (a file, or a directory with `linux` or `linux.xz` in it or in a directory of that name),
from ../shared/recipes/uml/ beside the checkout, from the cache, or is built: see build.py.
"""

from __future__ import annotations

import argparse
import signal
import sys

from . import build, machine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__)
    parser.add_argument("-k", "--kernel", default=machine.DEFAULT, help="its name: 7.2-full, 6.12-full ...")
    parser.add_argument("-m", "--memory", default="2G", help="the machine's memory; half of it is for files")
    parser.add_argument("-c", "--processors", type=int, default=1, help="how many processors it has")
    parser.add_argument("-t", "--seconds", type=float, help="the time that it may take")
    parser.add_argument("-e", "--environment", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-a", "--argument", action="append", default=[], help="one more for the kernel's command line")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the kernel's own words")
    parser.add_argument("--no-build", action="store_true", help="fail where the kernel would have to be built")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the machine ends with us
    try:
        kernel = machine.find(asked.kernel) or (None if asked.no_build else build.build(asked.kernel))
    except (machine.NoKernelError, build.BuildError) as error:
        parser.exit(machine.NO_CODE, f"tests.kernels: {error}\n")
    if kernel is None:
        parser.exit(
            machine.NO_CODE, f"tests.kernels: there is no kernel {asked.kernel}; set TOPO_UML, or let it be built\n"
        )
    settings = machine.Machine(
        kernel, asked.memory, asked.processors, asked.seconds, tuple(asked.argument), asked.verbose
    )
    return machine.run(settings, asked.command, dict(text.split("=", 1) for text in asked.environment))


sys.exit(main())
