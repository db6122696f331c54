"""How long things take here, for a forecast: what an app's own events show, for the rest those of the server's other
apps. Asked by planner and time_left."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from rota.core.durations import Durations, open_now
from rota.core.errors import StepFailed
from rota.core.events import Event
from rota.core.measured import Measured, measured
from rota.core.names import ReplicaId
from rota.core.observation import ObservedBalancer
from rota.core.state import AppState
from rota.engine.supervisor import Supervisor
from rota.ports.machine import Machine
from rota.ports.store import Store
from rota.ports.usage import Usage

EVENTS_READ = 2000  # the newest: some dozens of replicas' lives


class Measuring:
    def __init__(self, store: Store, supervisor: Supervisor, usage: Usage, machine: Machine) -> None:
        self._store = store
        self._supervisor = supervisor
        self._usage = usage
        self._machine = machine

    async def of(self, state: AppState, balancer: ObservedBalancer) -> Durations:
        cpu, cores = await self._computed(state)
        own = measured(await self._events(state.name), state.releases, cores)
        alone = not self._supervisor.apps.keys() - {state.name}
        others = Measured() if alone else self._of_others(state.name, await self._events(None), cores)
        guess = others.as_guess().model_copy(update={"drain": open_now(balancer)})
        return own.durations(balancer.reloads, guess, cpu, cores)

    async def _events(self, app: str | None) -> tuple[Event, ...]:
        return await self._store.events(app=app, after=-1, limit=EVENTS_READ)

    def _of_others(self, app: str, events: Iterable[Event], cores: float) -> Measured:
        found = Measured()
        for name, of_app in groupby(sorted(events, key=lambda event: event.app), key=lambda event: event.app):
            known = self._supervisor.apps.get(name)
            if known is not None and name != app:
                found += measured(of_app, known.state.releases, cores)
        return found

    async def _computed(self, state: AppState) -> tuple[float, float]:
        """For how many seconds a boot computes, at most: as the least busy replica has since it began; and the cores.
        Of a runtime that does not answer nothing is known: boots then count as never having to share."""
        try:
            used = await self._usage.usage([ReplicaId(name) for name in state.recorded.replicas])
            cores = (await self._machine.size()).cpus
        except StepFailed:
            return 0.0, 1.0
        return min((reading.cpu_seconds for reading in used.values()), default=0.0), cores or 1.0
