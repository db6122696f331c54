"""A rig a test, for each version of HAProxy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rota.testing.haproxy import Rig, running_rig


@pytest.fixture(params=["system", "bundled"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with running_rig(request.param) as rig:
        yield rig
