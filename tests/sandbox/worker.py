"""A Python that starts inside the sandbox: what pytest-xdist is told to start for each worker (tests/run).

A worker cannot move into the sandbox later, as a single run does (tests/conftest.py): the threads that speak with
pytest-xdist would not come along over the fork.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from sandbox.enter import INSIDE, CannotEnterError, enter

with contextlib.suppress(CannotEnterError):  # the live tests fail then, and say why
    enter()
    os.environ[INSIDE] = "1"
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
