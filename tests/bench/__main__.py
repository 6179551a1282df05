"""`python -m tests.bench`: measure, print tables, and say whether the bounds are held (exit 1 where not)."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

CONTENDERS = ("floor", "ip", "api", "cli")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[100, 1000], help="namespaces in the star (100 1000)")
    parser.add_argument("-r", "--repetitions", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="the floor is always measured"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    arguments = parser.parse_args()
    if not all(2 <= size <= 1000 for size in arguments.sizes) or arguments.repetitions < 1:
        parser.error("2 to 1000 namespaces (a bridge takes 1,023 ports), one repetition or more")
    return arguments


def main() -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/, as pytest has it
    from sandbox.enter import enter

    from bench.gate import SIZE, quiet, verdicts
    from bench.running import Bench, table

    arguments = _arguments()
    contenders = tuple(name for name in CONTENDERS if name == "floor" or name in arguments.only)
    enter()
    print(f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} CPUs, load {_load()}")
    samples, code, clock = {}, 0, quiet()
    for size in arguments.sizes:
        results = Bench(size, arguments.repetitions, contenders).run()
        samples[size] = results
        print(f"\n{size} namespaces, medians of {arguments.repetitions} (in brackets: until the kernel was done)\n")
        print(table(results), flush=True)
        for verdict in verdicts(results, clock):
            if size == SIZE:
                print(f"\n{verdict}", end="")
                code |= not verdict.good
        print()
    print(f"load {_load()}")
    if arguments.json:
        arguments.json.write_text(json.dumps(samples, indent=1))
    return code


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


sys.exit(main())
