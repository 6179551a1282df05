"""A kernel of our own in a process: User-Mode Linux over the host's file system, which it cannot write to.

What the command writes goes to a tmpfs and is gone with the machine, as are its network and its processes. No root, no
/dev/kvm and no network of the host's is needed; to boot takes about a second.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "topo" / "kernels"
NEIGHBOUR: Final = ROOT.parent / "shared" / "recipes" / "uml"
"""Where a machine that is set up for this keeps kernels ready, beside the checkout."""

DEFAULT: Final = "7.2-full"
NO_CODE: Final = 125
_OPTIONS: Final = (
    "root=/dev/root rootfstype=hostfs rootflags=/ ro con=null con0=null,fd:2 con1=null,fd:{out} quiet loglevel=1 "
    "seccomp=auto fb_tunnels=none dummy.numdummies=0 bonding.max_bonds=0 ifb.numifbs=0"
)
_KEPT: Final = ("PATH", "LANG", "CI", "HOME", "PYTHONDONTWRITEBYTECODE")


class NoKernelError(Exception):
    """There is no such kernel here."""


class Machine(NamedTuple):
    """How a machine is started."""

    kernel: Path
    memory: str = "2G"
    processors: int = 1
    seconds: float | None = None
    arguments: Sequence[str] = ()  # more for the kernel's command line
    verbose: bool = False


def find(name: str = DEFAULT) -> Path | None:
    """The kernel `name`, ready to run: a file or directory of `TOPO_UML`, of the place beside the checkout, or one that
    was built before; None where there is none. Raises NoKernelError where TOPO_UML is set and leads to none."""
    stated = os.environ.get("TOPO_UML")
    if stated:
        found = _within(Path(stated), name)
        if found is None:
            raise NoKernelError(
                f"TOPO_UML={stated}: there is no {name}/linux or {name}/linux.xz, linux or linux.xz there"
            )
        return _ready(found)
    found = _within(NEIGHBOUR / name, name) or _within(CACHE / name, name)
    return _ready(found) if found else None


def _within(place: Path, name: str) -> Path | None:
    """A kernel that lies at `place`, or in it, or in the directory `name` in it."""
    files = (place, *(directory / file for directory in (place / name, place) for file in ("linux", "linux.xz")))
    return next((file for file in files if file.is_file()), None)


def _ready(file: Path) -> Path:
    """The kernel itself, unpacked into the cache where it is packed."""
    if file.suffix != ".xz":
        return file.absolute()
    packed = file.read_bytes()
    kernel = CACHE / "unpacked" / hashlib.sha256(packed).hexdigest()[:16] / "linux"
    if not kernel.exists():
        kernel.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kernel.parent, delete=False) as new:
            new.write(lzma.decompress(packed))
        os.chmod(new.name, 0o755)
        os.replace(new.name, kernel)
    return kernel


def run(machine: Machine, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `command` in the current directory as root of a machine; its exit code, or NO_CODE and the kernel's last words.

    The command's output goes where ours goes.
    """
    with tempfile.TemporaryDirectory(prefix="topo-uml-") as directory:
        place = Path(directory)
        shutil.copy(HERE / "init", place / "init")
        (place / "command").write_text(_script(command, environment))
        boot = place / "boot"
        with boot.open("wb") as words:
            late = _start(machine, place, words)
        if machine.verbose:
            sys.stderr.write(boot.read_text(errors="replace"))
        code = place / "code"
        if code.is_file() and (text := code.read_text().strip()):
            return int(text)
        last = "".join(boot.read_text(errors="replace").splitlines(keepends=True)[-20:])
        why = f"not done within {machine.seconds:g} s" if late else "it ended without an exit code"
        sys.stderr.write(f"{last}\ntests/kernels: {machine.kernel}: {why}\n")
        return NO_CODE


def _start(machine: Machine, place: Path, words: object) -> bool:
    """Start it and wait for its end; whether its time was up."""
    out = os.dup(1)
    options = _OPTIONS.format(out=out).split()
    asked = [f"mem={machine.memory}", f"ncpus={machine.processors}", f"init={place}/init", *machine.arguments]
    # A machine of one processor and the processes in it take turns: on one of ours they do so twice as fast.
    one = ("taskset", "-c", str(random.choice([*os.sched_getaffinity(0)]))) if machine.processors == 1 else ()
    process = subprocess.Popen(
        [*one, str(machine.kernel), *options, *asked],
        stdin=subprocess.DEVNULL,
        stdout=words,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
        pass_fds=[out],
        start_new_session=True,
    )
    os.close(out)
    try:
        process.wait(machine.seconds)
    except subprocess.TimeoutExpired:
        return True
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
    return False


def _script(command: Sequence[str], environment: Mapping[str, str]) -> str:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ} | dict(environment)
    lines = [f"cd {shlex.quote(os.getcwd())}", *(f"export {n}={shlex.quote(v)}" for n, v in kept.items())]
    return "\n".join([*lines, f"exec {shlex.join(command)}"]) + "\n"
