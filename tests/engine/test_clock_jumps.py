"""A wall clock that is set by an hour: no wait is cut short, none lasts an hour, in one daemon or over two."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.daemon import LoopClock, World, quick

from rota.adapters.clock import SystemClock
from rota.core import order as o
from rota.core.names import ReplicaId
from rota.core.rollout import Phase
from rota.core.spec import RolloutOptions

DELAY = 0.3
HOUR = 3600.0


class RealClock(LoopClock):
    """The daemon's own, which each daemon opens anew."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self.open()

    def open(self) -> None:
        self._system = SystemClock(self._directory)

    def now(self) -> float:
        return self._system.now()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World()
    made.clock = RealClock(tmp_path)
    made.runtime.clock = made.clock
    try:
        await made.start()
        await made.order(o.Deploy(spec=quick()))
        await made.until_over()
        yield made
    finally:
        await made.close()


async def taken_at(world: World) -> dict[str, float]:
    """When each replica of the newest rollout was put into rotation, and each slot was taken up, by what was told."""
    assert world.rollout is not None
    events = await world.store.events(rollout=world.rollout.id)
    return {f"{event.step} {event.reason}": event.at for event in events if event.step in ("TakeSlot", "FinishSlot")}


@pytest.mark.feature("R4")
@pytest.mark.parametrize("by", [HOUR, -HOUR])
@pytest.mark.parametrize("daemons", [1, 2])
async def test_a_rollout_keeps_its_delay_and_repair_its_waits(
    world: World, monkeypatch: pytest.MonkeyPatch, by: float, daemons: int
) -> None:
    await world.order(o.Restart(policy=RolloutOptions(delay=DELAY)))
    await world.until(lambda: world.rollout is not None and any(world.rollout.taken))
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + by)
    if daemons == 2:
        await world.close()
        assert isinstance(world.clock, RealClock)
        world.clock.open()
        await world.start()
    await world.until_over()
    assert world.rollout is not None
    assert world.rollout.phase is Phase.SUCCEEDED
    at = await taken_at(world)
    assert at["TakeSlot slot 2 is next"] - at["TakeSlot slot 1 is next"] >= DELAY
    world.runtime.crash(ReplicaId(world.running()[0].id))
    await world.until_over()
    assert world.clock.now() - at["TakeSlot slot 1 is next"] < HOUR / 2
