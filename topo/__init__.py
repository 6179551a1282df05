"""topo: declarative network topologies for Linux.

import topo
lab = topo.load("lab.yaml")
print(topo.plan(lab).changes)
topo.apply(lab)
topo.destroy("lab")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topo.api import (
        Applied,
        CheckResult,
        Diagnosis,
        Finding,
        Plan,
        Report,
        SavedPlan,
        Shown,
        Topology,
        applied,
        apply,
        check,
        confirm,
        destroy,
        doctor,
        enter,
        load,
        loads,
        lower,
        plan,
        revert,
        schema,
        show,
    )
    from topo.errors import (
        ApplyError,
        CycleError,
        Diagnostic,
        InputError,
        KernelError,
        LockError,
        OwnershipError,
        PlanError,
        RevertedError,
        StaleError,
        TopoError,
        UnconfirmedError,
        UnsupportedError,
        VerifyError,
    )

__version__ = "0.1.0"

__all__ = [
    "Applied", "ApplyError", "CheckResult", "CycleError", "Diagnosis", "Diagnostic", "Finding", "InputError", "KernelError",
    "LockError", "OwnershipError", "Plan", "PlanError", "Report", "RevertedError", "SavedPlan", "Shown", "StaleError",
    "TopoError", "Topology", "UnconfirmedError", "UnsupportedError", "VerifyError",
    "applied", "apply", "check", "confirm", "destroy", "doctor", "enter", "load", "loads", "lower", "plan", "revert",
    "schema", "show",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The API is imported when it is first used: `topo --help` needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module 'topo' has no attribute {name!r}")
    home = "topo.errors" if name.endswith("Error") or name == "Diagnostic" else "topo.api"
    if name in ("Topology", "load", "loads", "lower", "schema"):
        home = "topo.reading"
    return getattr(import_module(home), name)
