"""What statistics cost the loop that they are made on."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from tests.engine.daemon import quick

from rota.core.begin import begin
from rota.core.names import ReplicaId
from rota.core.observation import ObservedBalancer
from rota.core.order import Deploy
from rota.engine.statistics import Statistics
from rota.ports.usage import Reading
from rota.testing.balancer import FakeBalancer
from rota.testing.clock import FakeClock

APPS = [f"app-{number}" for number in range(5)]


class Turns:
    """Counts the loop's turns, as something else that runs there."""

    def __init__(self) -> None:
        self.counted = 0

    async def count(self) -> None:
        while True:
            self.counted += 1
            await asyncio.sleep(0)


class Lazy(dict[str, ObservedBalancer]):
    """Makes an app's part when it is asked for, as HAProxy's does; ``made`` says in which turn that was."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.made: dict[str, set[int]] = {}
        self._turns = turns

    def get(self, app: str, default: Any = None) -> Any:
        self.made.setdefault(app, set()).add(self._turns.counted)
        return ObservedBalancer()


class LazyBalancer(FakeBalancer):
    def __init__(self, view: Lazy) -> None:
        super().__init__()
        self._view = view

    async def observe(self) -> Mapping[str, ObservedBalancer]:
        return self._view


class Nothing:
    async def usage(self, replicas: Collection[ReplicaId]) -> dict[ReplicaId, Reading]:
        return {}

    async def waited(self, replica: ReplicaId) -> float | None:
        return None


async def test_of_many_apps_each_is_made_in_a_turn_of_its_own() -> None:
    turns = Turns()
    view = Lazy(turns)
    states = [begin(None, Deploy(spec=quick(name=app)), app, 0.0, {}) for app in APPS]
    others = asyncio.create_task(turns.count())
    shown = await Statistics(Nothing(), LazyBalancer(view), FakeClock()).of([(state, None) for state in states])
    others.cancel()
    assert [one["app"] for one in shown] == APPS
    assert all(len(made) == 1 for made in view.made.values())
    assert len(set.union(*view.made.values())) == len(APPS)
