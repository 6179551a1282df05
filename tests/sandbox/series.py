"""The series of the running kernel, and what a kernel may lack whatever it is built with."""

from __future__ import annotations

import os
from typing import Final

LINUX: Final = tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2])
SINCE: Final = {
    "other tcx": (6, 6),
    "link netkit": (6, 7),
    "routing rules by DSCP": (6, 12),
    "routing rules by flow label": (6, 14),
    "routing rules by some bits of a port or DSCP": (6, 15),
}
"""The group and name that `topo doctor` gives it -> the series that has it."""


def too_old(feature: str) -> bool:
    """Whether the running kernel is older than the feature."""
    return SINCE[feature] > LINUX
