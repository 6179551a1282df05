"""Build a User-Mode Linux kernel from Debian's source packages, with every networking feature that topo's tests need.

`SERIES-full` of Linux SERIES (6.1, 6.12, 7.2 ...) goes to the cache, outside of the repository, or `SERIES-tt`, whose time can
travel (`time-travel`) and which has one processor only; it takes some ten minutes on two cores, once. apt brings the sources: as configured, else from Debian's newer suites at the mirror that apt uses anyway.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .machine import CACHE, HERE

LIMIT: Final = 3600.0
"""Seconds that a build may take in all."""

_TOOLS: Final = ("build-essential", "bc", "flex", "bison", "xz-utils", "libelf-dev")
_SUITES: Final = ("trixie", "trixie-backports", "sid")
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SECURITY: Final = "security"
_FIRST: Final = (
    "tests.kernels: there is no kernel {name} yet: building it into {place}, from Debian's sources, once; it takes 10 minutes "
    "on two quiet cores (here are {cores}). TOPO_UML=DIRECTORY gives one: a directory with {name}/linux in it"
)
_TRAVELLING: Final = (
    ("CONFIG_SMP=y", "CONFIG_SMP=n"),
    ("CONFIG_UML_TIME_TRAVEL_SUPPORT=n", "CONFIG_UML_TIME_TRAVEL_SUPPORT=y"),
)
"""Time can travel with one processor only."""


class BuildError(Exception):
    """It could not be built; the message says where it went wrong."""


class _Steps:
    """Runs commands against one clock."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def run(self, *command: str, where: Path | None = None) -> str:
        try:
            done = subprocess.run(
                command,
                cwd=where,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=max(1.0, self.end - time.monotonic()),
            )
        except subprocess.TimeoutExpired:
            raise BuildError(f"{' '.join(command)}: the time is up") from None
        except FileNotFoundError:
            raise BuildError(f"{command[0]} is not installed") from None
        if done.returncode:
            raise BuildError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}")
        return done.stdout

    def shell(self, script: str, *arguments: str, where: Path) -> str:
        return self.run("bash", "-euo", "pipefail", "-c", script, "sh", *arguments, where=where)


def build(name: str, seconds: float = LIMIT) -> Path:
    """The kernel `name` (SERIES-full), built into the cache. Raises BuildError."""
    match = re.fullmatch(r"(\d+\.\d+)-(full|tt)", name)
    if match is None:
        raise BuildError(f"{name!r} is no kernel that can be built: 7.2-full, 7.2-tt or 6.12-full is")
    place, steps = CACHE / name, _Steps(seconds)
    print(_FIRST.format(name=name, place=place, cores=os.cpu_count()), file=sys.stderr, flush=True)
    _install(steps)
    with tempfile.TemporaryDirectory(prefix="topo-kernel-") as work:
        source = _source(steps, match[1], Path(work))
        _configure(steps, source, travels=match[2] == "tt")
        steps.run("make", "ARCH=um", "-s", f"-j{os.cpu_count()}", "linux", where=source)
        place.mkdir(parents=True, exist_ok=True)
        steps.run("strip", "-o", str(place / "linux.new"), "linux", where=source)
        shutil.copy(source / ".config", place / "config")
    os.replace(place / "linux.new", place / "linux")
    return place / "linux"


def _install(steps: _Steps) -> None:
    if shutil.which("apt-get") is None:
        raise BuildError("the sources come from Debian's packages, and there is no apt-get here; set TOPO_UML")
    lacking = [
        tool for tool in _TOOLS if subprocess.run(["dpkg", "-s", tool], capture_output=True, check=False).returncode
    ]
    if lacking:
        sudo = () if os.geteuid() == 0 else ("sudo",)
        steps.run(*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qqy", *lacking)


def _source(steps: _Steps, series: str, work: Path) -> Path:
    """The unpacked sources."""
    package = f"linux-source-{series}"
    try:
        steps.run("apt-get", "download", "-qq", package, where=work)
    except BuildError:
        options = _newer_suites(steps)
        steps.run("apt-get", *options, "update", "-qq")
        steps.run("apt-get", *options, "download", "-qq", package, where=work)
    (deb,) = work.glob("*.deb")
    unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -xO "./usr/src/$2.tar.xz" | tar -xJ'
    steps.shell(unpack, deb.name, package, where=work)
    return work / package


def _newer_suites(steps: _Steps) -> Sequence[str]:
    """Options with which apt reads Debian's newer suites, beside its own lists, which stay as they are."""
    sites = steps.run("apt-get", "indextargets", "--format", "$(SITE)").split()
    site = next((site for site in sites if _SECURITY not in site), None)
    if site is None:
        raise BuildError("apt has no sources that newer suites could be had from")
    lists = CACHE / "apt"
    (lists / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    lines = "".join(f"deb [signed-by={_KEYRING}] {site} {suite} main\n" for suite in _SUITES)
    (lists / "sources.list").write_text(lines)
    settings = {"SourceList": f"{lists}/sources.list", "SourceParts": "/dev/null"}
    return [
        *(word for name, value in settings.items() for word in ("-o", f"Dir::Etc::{name}={value}")),
        *("-o", f"Dir::State::Lists={lists}/lists", "-o", f"Dir::Cache={lists}", "-o", "APT::Sandbox::User=root"),
    ]


def _configure(steps: _Steps, source: Path, travels: bool) -> None:
    text = (HERE / "full.config").read_text()
    for was, becomes in _TRAVELLING if travels else ():
        text = text.replace(was, becomes)
    (source / "topo.config").write_text(text)
    steps.run("make", "ARCH=um", "-s", "defconfig", where=source)
    steps.run("scripts/kconfig/merge_config.sh", "-m", "-Q", ".config", "topo.config", where=source)
    steps.run("make", "ARCH=um", "-s", "olddefconfig", where=source)
    have = set((source / ".config").read_text().splitlines())
    asked = [line for line in text.splitlines() if line.endswith("=y")]
    if lacking := " ".join(line[:-2] for line in asked if line not in have):
        print(f"tests.kernels: this series has no {lacking}", file=sys.stderr, flush=True)
