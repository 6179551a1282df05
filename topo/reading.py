"""Topologies from files, and the facts that they ask for: the part of the API that needs neither root nor kernel.

Apart from `topo.api`, so that who only validates imports neither planning nor the kernel's layer.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from topo.errors import InputError
from topo.facts import Desired
from topo.file import loading
from topo.file.lowering import lower as _lower
from topo.file.model import Topology

__all__ = ["Topology", "load", "loads", "lower", "schema"]


P = ParamSpec("P")
T = TypeVar("T")


def uncollected(run: Callable[P, T]) -> Callable[P, T]:
    """`run` with the collector of reference cycles at rest: the many facts of a topology have none, and walking over
    them again and again takes a third of a large run. What it does not find is found after it."""

    @wraps(run)
    def resting(*args: P.args, **kwargs: P.kwargs) -> T:
        if not gc.isenabled():
            return run(*args, **kwargs)
        gc.disable()
        try:
            return run(*args, **kwargs)
        finally:
            gc.enable()

    return resting


@uncollected
def load(*paths: str | Path) -> Topology:
    """Read a topology from one or several files; `-` is stdin. Raises InputError with every error at once."""
    return loading.load(paths)


@uncollected
def loads(text: str, name: str = "<string>") -> Topology:
    """As `load`, of a text; `name` is what messages call it."""
    return loading.loads(text, name)


@uncollected
def lower(topology: Topology) -> Desired:
    """The desired facts of a topology. Raises InputError with every error at once, and its place in the file."""
    try:
        return _lower(topology)
    except InputError as error:
        raise loading.located(error, topology) from None


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of topology files."""
    from topo.file.schema import schema as make

    return make()
