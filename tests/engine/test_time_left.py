"""How long a rollout still takes is reckoned once for all who watch."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.engine.daemon import World, quick

from rota.core import order as o
from rota.engine import time_left
from rota.engine.measuring import Measuring
from rota.engine.time_left import TimeLeft
from rota.testing.runtime import Faults


async def test_who_watches_while_it_is_reckoned_starts_no_second_reckoning(monkeypatch: pytest.MonkeyPatch) -> None:
    world, reckoned, may_end = World(), list[str](), threading.Event()

    def reckon(*given: object) -> float:
        reckoned.append("begun")
        may_end.wait(20)
        return 60.0

    monkeypatch.setattr(time_left, "seconds_left", reckon)
    world.runtime.faults = lambda order: Faults(listens_after=None)
    supervisor = await world.start()
    try:
        await world.order(o.Deploy(spec=quick("deaf", boot_timeout=60)))
        app = supervisor.apps["web"]
        await world.until(lambda: app.observation is not None)
        left = TimeLeft(Measuring(world.store, supervisor, world.runtime, world.runtime), world.clock)
        first = asyncio.create_task(left.of(app))
        await world.until(lambda: reckoned)
        assert await left.of(app) is None
        assert await left.of(app) is None
        may_end.set()
        assert await first == pytest.approx(60, abs=20)
        assert await left.of(app) is not None
        assert len(reckoned) == 1
    finally:
        may_end.set()
        await world.close()
