"""What the interop tests share. They run in the sandbox, as the live ones do (tests/conftest.py marks them)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interop.beside import beside
from interop.docker import Docker
from interop.podman import Podman


@pytest.fixture(scope="module")
def dockerd(request: pytest.FixtureRequest) -> Iterator[Docker]:
    """Docker, with the options that the module states as DOCKERD."""
    daemon = Docker(*getattr(request.module, "DOCKERD", ()))
    with beside(request.config, daemon):
        yield daemon


@pytest.fixture
def docker(dockerd: Docker) -> Iterator[Docker]:
    """Docker, up; containers and networks go with the test. Its interface is at the head of tests/interop/docker.py."""
    yield dockerd
    dockerd.clean()


@pytest.fixture(scope="module")
def podman_there(request: pytest.FixtureRequest) -> Iterator[Podman]:
    daemon = Podman()
    with beside(request.config, daemon):
        yield daemon


@pytest.fixture
def podman(podman_there: Podman) -> Iterator[Podman]:
    """Podman; containers and networks go with the test. See tests/interop/podman.py."""
    yield podman_there
    podman_there.clean()
