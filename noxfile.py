"""The project's chores: `nox -l` lists them, `nox -s tests` runs one.

Every session can also run in the virtual environment at hand, without installing: `nox --no-venv -s lint`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "layers", "tests-3.11"]

PYTHONS = ["3.11", "3.12", "3.13"]
SCHEMA = Path("schemas/topology.schema.json")


def ready(session: nox.Session) -> None:
    """Install the project with what tests need, unless the session runs in an environment that is there already."""
    if session.venv_backend != "none":
        session.install("-e", ".[test]")


def as_root(session: nox.Session, *command: str) -> None:
    """Run `command` as root: the kernel's part of the tests needs it."""
    prefix = () if os.geteuid() == 0 else ("sudo", "-E")
    session.run(*prefix, *command, external=True)


def python(session: nox.Session) -> str:
    """The interpreter of the session's environment; sudo would not find it by name."""
    return sys.executable if session.venv_backend == "none" else str(Path(session.bin) / "python")


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff's rules and format."""
    ready(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy in strict mode."""
    ready(session)
    session.run("mypy")


@nox.session
def layers(session: nox.Session) -> None:
    """Which module may import which: docs/architecture.md, held by import-linter."""
    ready(session)
    session.run("lint-imports", "--no-logo")


@nox.session
def schema(session: nox.Session) -> None:
    """Write schemas/topology.schema.json anew from the models."""
    ready(session)
    text = session.run("python", "-m", "topo", "schema", silent=True)
    assert isinstance(text, str)
    SCHEMA.write_text(text)


@nox.session
def reference(session: nox.Session) -> None:
    """Write docs/reference/ anew from the models."""
    ready(session)
    session.run("python", "tests/reference.py")


@nox.session
def tour(session: nox.Session) -> None:
    """Run the console blocks of README and docs in the sandbox, and write their real output into them."""
    ready(session)
    as_root(session, python(session), "tests/tour.py", "README.md", "docs/file.md", "docs/walkthrough.md")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Every test but the long ones; the live tier is among them and needs root."""
    ready(session)
    as_root(session, python(session), "-m", "pytest", *session.posargs)


@nox.session
def live(session: nox.Session) -> None:
    """Only the tests on the real kernel."""
    ready(session)
    only = "live and not bench and not interop and not faults and not full"
    as_root(session, python(session), "-m", "pytest", "-m", only, *session.posargs)


@nox.session
def interop(session: nox.Session) -> None:
    """Only the tests beside other software: Docker, Podman, CNI. tests/run installs what they need."""
    ready(session)
    as_root(session, python(session), "-m", "pytest", "-m", "interop", *session.posargs)


@nox.session
def kernels(session: nox.Session) -> None:
    """The live tier, and what a kernel may lack, under a full kernel (tests/kernels); needs no root. `-- -k vlan` for less."""
    ready(session)
    session.run(python(session), "-m", "tests.kernels.tier", "--", *session.posargs)


@nox.session
def table(session: nox.Session) -> None:
    """Ask this machine's kernel and others (`-- 7.2-full 6.12-full`) what they have, and write it into docs/kernels.md."""
    ready(session)
    session.run(python(session), "-m", "tests.kernels.table", *(session.posargs or ["7.2-full"]))


@nox.session
def slow(session: nox.Session) -> None:
    """Only what takes minutes: the underlay taken over and given back ten times, with others on the line."""
    ready(session)
    as_root(session, python(session), "-m", "pytest", "-m", "slow and not bench", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Killed, refused, disturbed, fed with hostile files (docs/reliability.md); `-- --each`, `-- --more` try more, for hours."""
    if session.venv_backend != "none":
        session.install("-e", ".[test,fuzz]")
    as_root(session, python(session), "-m", "tests.faults", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The measurements (docs/performance.md), and the test of what is held; `-- --all` for more, `-- star:100` for less."""
    ready(session)
    as_root(session, python(session), "-m", "tests.bench", *session.posargs)
    as_root(session, python(session), "-m", "pytest", "-m", "bench")


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel; install the wheel into an environment of its own and run it from there."""
    session.install("build")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    fresh = Path(session.create_tmp()) / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    session.run("python", "-m", "venv", str(fresh))
    wheels = [str(wheel) for wheel in Path("dist").glob("*.whl")]
    session.run(str(fresh / "bin/python"), "-m", "pip", "install", *wheels, external=True)
    with session.chdir(fresh):
        session.run("bin/topo", "--help", external=True)
        session.run("bin/topo", "--version", external=True)
