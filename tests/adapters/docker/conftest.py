"""A docker runtime for each test, all on one private engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from rota.testing.dock import Dock, dock
from rota.testing.docker import DockerEngine


@pytest_asyncio.fixture
async def box(docker_engine: DockerEngine) -> AsyncIterator[Dock]:
    async with dock(docker_engine) as made:
        yield made
