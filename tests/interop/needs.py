"""Programs that the interop tests need. What is not there is a failure with the cure, never a skip."""

from __future__ import annotations

import os
import shutil

import pytest

PLACES = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/podman:/usr/lib/cni"


def program(name: str, package: str) -> str:
    """The path of a program; a distribution's own is taken before any other. Fails where there is none."""
    found = shutil.which(name, path=f"{PLACES}:{os.environ.get('PATH', '')}")
    if found is None:
        pytest.fail(f"{name} is not here: apt-get install {package} (./tests/run installs all that is needed)", False)
    return found
