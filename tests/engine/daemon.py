"""An engine on fakes that outlive it: killed at a fault point and started again, as a daemon would be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from rota.core import steps as s
from rota.core.begin import begin
from rota.core.observation import RunState
from rota.core.order import Order
from rota.core.rollout import Rollout
from rota.core.spec import AppSpec
from rota.core.state import AppState
from rota.engine.supervisor import Supervisor
from rota.testing.balancer import FakeBalancer
from rota.testing.clock import FakeClock
from rota.testing.connections import FakeConnections
from rota.testing.dns import FakeDns
from rota.testing.runtime import FakeProber, FakeRuntime
from rota.testing.store import MemoryStore

PATIENCE = 20.0  # seconds, for machines that do something else too


class Killed(BaseException):
    """The daemon is gone: nothing of it may run on."""


class LoopClock(FakeClock):
    """Real time for the fakes that want a FakeClock."""

    def now(self) -> float:
        return time.monotonic() + 1_000_000.0

    def call_at(self, when: float, act: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(max(0.0, when - self.now()), act)


class Kill:
    """Ends the daemon the first time a point of a step is reached; a dead one gets no further."""

    def __init__(self, point: str) -> None:
        self.hit = asyncio.Event()
        self.seen: list[str] = []
        self._point = point

    def __call__(self, point: str, step: s.Step) -> None:
        name = f"{point}:{type(step).__name__}"
        if not self.hit.is_set():
            self.seen.append(name)
            if name != self._point:
                return
            self.hit.set()
        raise Killed(name)


class World:
    """What is left when a daemon ends, and the daemon that runs at the moment."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.runtime = FakeRuntime(self.clock)
        self.balancer = FakeBalancer()
        self.store = MemoryStore()
        self.dns: dict[str, FakeDns] = {}
        self.connections = FakeConnections()
        self.kill = Kill("never")
        self.supervisor: Supervisor | None = None
        self.notify: tuple[str, ...] = ()

    async def start(self, point: str = "never") -> Supervisor:
        self.kill = Kill(point)
        self.prober = FakeProber(self.runtime)  # of the runtime that a test may have put in
        self.supervisor = Supervisor(
            runtime=self.runtime,
            balancer=self.balancer,
            prober=self.prober,
            usage=self.runtime,
            connections=self.connections,
            logs=self.runtime,
            store=self.store,
            clock=self.clock,
            dns=self.dns,
            fault=self.kill,
            notify=self.notify,
        )
        await self.supervisor.start()
        return self.supervisor

    async def close(self) -> None:
        if self.supervisor is not None:
            await self.supervisor.close()
            self.supervisor = None

    async def order(self, order: Order) -> None:
        assert self.supervisor is not None
        known = self.supervisor.apps.get("web")
        if known is None:
            await self.supervisor.add(begin(None, order, "web", self.clock.now(), {}))
        else:
            await known.change(lambda state: begin(state, order, "web", self.clock.now(), {}))

    @property
    def state(self) -> AppState | None:
        assert self.supervisor is not None
        known = self.supervisor.apps.get("web")
        return known.state if known is not None else None

    @property
    def rollout(self) -> Rollout | None:
        return self.state.recorded.rollout if self.state is not None else None

    def running(self) -> list[Any]:
        return [run.seen for run in self.runtime._runs.values() if run.seen.state is RunState.RUNNING]

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_over(self) -> None:
        """The rollout has ended or waits for a person, and each slot has its one replica."""
        await self.until(lambda: self.state is None or self._is_over())

    def _is_over(self) -> bool:
        state, rollout = self.state, self.rollout
        assert state is not None
        if rollout is None or not (rollout.phase.ended or rollout.phase.value == "paused"):
            return False
        wanted = list(range(1, state.desired.replicas + 1)) if state.desired.active else []
        serving = [name for app in self.balancer.apps.values() for name in app.servers]
        slots = sorted(seen.slot for seen in self.running())
        return rollout.phase.value == "paused" or (slots == wanted and len(serving) == len(wanted))


def quick(mood: str = "good", **fields: Any) -> AppSpec:
    """A file whose replicas are ready, drained and given up within moments."""
    return AppSpec.model_validate(
        {
            "name": "web",
            "command": ["serve"],
            "replicas": 2,
            "env": [{"name": "MOOD", "value": mood}],
            "health_check": {"start_interval": 0.01},
            "boot_timeout": 10 if mood == "good" else 0.3,  # a busy machine is not to fail it
            "stop_grace_period": 0.05,
            "drain": {"timeout": 0.05},
            "restart": {"attempts": 3, "delay": 0.01, "max_delay": 0.05},
            "repair": {"unhealthy_grace": 0.02},
            **fields,
        }
    )
