"""`python -m tests.bench`: measure, print tables, and say which bounds are reached. As root."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .gate import Verdict

CONTENDERS: Final = ("floor", "ip", "api", "cli")
EXTRAS: Final = ("start", "plan", "data")
LABS: Final = ("star", "line", "clos", "nat", "overlay")
# Lab, size, repetitions: tolerable, and all.
SOME: Final = (
    ("star", 2, 3), ("star", 100, 3), ("star", 1000, 3), ("line", 100, 2), ("clos", 100, 2),
    ("nat", 1000, 3), ("overlay", 1000, 3),
)  # fmt: skip
ALL: Final = (
    *(("star", size, times) for size, times in ((2, 5), (100, 5), (1000, 3), (5000, 1))),
    *(("line", size, times) for size, times in ((2, 3), (100, 3), (1000, 2), (5000, 1))),
    *(("clos", size, times) for size, times in ((10, 3), (100, 3), (1000, 2), (5000, 1))),
    *((kind, size, 3) for kind in ("nat", "overlay") for size in (10, 1000, 10_000)),
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="star:1000, clos:100, ...; start, plan, data")
    parser.add_argument("--all", action="store_true", help="every lab in every size: an hour")
    parser.add_argument("-r", "--repetitions", type=int, help="of each (1 to 5, by size)")
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="the floor is always measured"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    arguments = parser.parse_args()
    known = {f"{kind}:{size}": (kind, size, times) for kind, size, times in (*ALL, *SOME)}
    arguments.labs, arguments.extras = [], []
    for word in arguments.what:
        if word in EXTRAS:
            arguments.extras.append(word)
        elif word in known:
            arguments.labs.append(known[word])
        else:
            parser.error(f"{word}: it is one of {', '.join((*known, *EXTRAS))}")
    if not arguments.what:
        arguments.labs, arguments.extras = (ALL if arguments.all else SOME), EXTRAS
    return arguments


def main() -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/, as pytest has it
    from sandbox.enter import enter

    from bench.gate import quiet

    arguments = _arguments()
    enter()
    print(f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} CPUs, load {_load()}")
    clock = quiet()
    samples: dict[str, Any] = {}
    _labs(arguments, samples, clock)
    for extra in arguments.extras:
        {"start": _start, "plan": _plan, "data": _data}[extra](samples)
    print(f"\nload {_load()}")
    if arguments.json:
        arguments.json.write_text(json.dumps(samples, indent=1))
    return 0


def _labs(arguments: argparse.Namespace, samples: dict[str, Any], clock: bool) -> None:
    from bench.gate import growth, verdicts
    from bench.running import Bench, table

    contenders = tuple(name for name in CONTENDERS if name == "floor" or name in arguments.only)
    found = {}
    for kind, size, times in arguments.labs:
        bench = Bench(kind, size, arguments.repetitions or times, contenders)
        results = bench.run()
        found[kind, size] = bench.lab, results
        samples[f"{kind}:{size}"] = results
        print(f"\n### {kind}: {size:,} {bench.lab.unit}, medians of {bench.repetitions}\n\n{table(results)}\n")
        judged = size >= 1000
        _say(verdicts(bench.lab, results, clock) if judged else [])
        if judged and (kind, 1000) in found and size == 5000:
            _say(growth(found[kind, 1000], (bench.lab, results)))


def _start(samples: dict[str, Any]) -> None:
    from bench import gate, starting

    found = starting.measure(9)
    samples["start"] = found
    print(f"\n{starting.table(found)}\n")
    _say(gate.starting(found))


def _plan(samples: dict[str, Any]) -> None:
    from bench import gate, planning

    half, whole = planning.measure(25_000), planning.measure(50_000)
    samples["plan"] = [half, whole]
    print(f"\nplan of 25,000 objects {half.cpu():.2f} s CPU, of 50,000 {whole.cpu():.2f} s\n")
    _say(gate.planning(half.cpu(), whole.cpu()))


def _data(samples: dict[str, Any]) -> None:
    from bench import dataplane

    found = dataplane.measure()
    samples["data"] = found
    print(f"\n{dataplane.table(found)}\n")
    _say(dataplane.verdicts(found))


def _say(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        print(f"- {verdict}", flush=True)


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
