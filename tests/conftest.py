"""What all tests share. Tests marked `live` run in a sandbox that the whole run moves into (tests/sandbox)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sandbox.enter import HOW_TO, INSIDE, CannotEnterError, enter
from sandbox.forked import Forked
from sandbox.host import Host
from sandbox.leaks import PRISTINE, Pristine

LIVE = Path(__file__).parent / "live"
INTEROP = Path(__file__).parent / "interop"
FAULTS = Path(__file__).parent / "faults"

# No deadline: these machines are shared and slow. In CI the same examples every time.
settings.register_profile("topo", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("topo")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if INTEROP in item.path.parents:
            item.add_marker("interop")
            item.add_marker(pytest.mark.xdist_group("interop"))  # one after the other: each starts its daemons anew
        if FAULTS in item.path.parents:
            item.add_marker("faults")
        if {LIVE, INTEROP, FAULTS}.intersection(item.path.parents):
            item.add_marker("live")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Where live tests were selected: go on in the sandbox. Where that cannot be, those tests fail and say why."""
    if session.config.option.collectonly or not any(item.get_closest_marker("live") for item in session.items):
        return
    session.config.get_terminal_writer().flush()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if INSIDE not in os.environ:
            enter()
    except CannotEnterError as error:
        session.config.stash[_why] = str(error)
    else:
        Host.forked = Forked()
        session.config.add_cleanup(Host.forked.close)
        session.config.stash[PRISTINE] = Pristine()


_why = pytest.StashKey[str]()


@contextlib.contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # also where a process of the test's has the descriptor still
        os.close(fd)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest-timeout: who waits here is not late
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Sandboxes share the processors' backlogs (net.core.netdev_max_backlog): a test that fills them runs alone.

    Beside one whose thousand hosts say hello to each other (IPv6's DAD), other tests lose packets.
    """
    with contextlib.ExitStack() as stack:
        if item.get_closest_marker("live"):
            how = fcntl.LOCK_EX if item.get_closest_marker("crowd") else fcntl.LOCK_SH
            with _locked(LIVE.parent, fcntl.LOCK_EX):  # in the order of coming: a crowd is not passed by
                stack.enter_context(_locked(LIVE, how))
        return (yield)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A live test leaves the sandbox as it was: no namespace, link, table, mount, process or record, sysctls back."""
    if request.node.get_closest_marker("live") is None:
        yield
        return
    pristine = request.config.stash.get(PRISTINE, None)
    if pristine is None:
        pytest.fail(request.config.stash.get(_why, HOW_TO), pytrace=False)
    yield
    left = pristine.left()
    if left:
        pristine.sweep()
    for section, (lost, added) in left.items():
        assert (lost, added) == ([], []), f"the test left other {section} than it found: lost {lost}, added {added}"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """The sandbox's host: see tests/sandbox/host.py."""
    host = Host(tmp_path)
    yield host
    host.close()
