"""How long things take here, for a forecast: what an app's own events show, for the rest those of the server's other
apps. Asked by planner and time_left."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from rota.core.durations import Durations, Measured, measured
from rota.core.events import Event
from rota.core.observation import Reloads
from rota.core.state import AppState
from rota.engine.supervisor import Supervisor
from rota.ports.store import Store

EVENTS_READ = 2000  # the newest: some dozens of replicas' lives


class Measuring:
    def __init__(self, store: Store, supervisor: Supervisor) -> None:
        self._store = store
        self._supervisor = supervisor

    async def of(self, state: AppState, reloads: Reloads) -> Durations:
        own = measured(await self._events(state.name), state.releases)
        elsewhere = self._of_others(state.name, await self._events(None))
        return own.durations(reloads, elsewhere.as_guess())

    async def _events(self, app: str | None) -> tuple[Event, ...]:
        return await self._store.events(app=app, after=-1, limit=EVENTS_READ)

    def _of_others(self, app: str, events: Iterable[Event]) -> Measured:
        found = Measured()
        for name, of_app in groupby(sorted(events, key=lambda event: event.app), key=lambda event: event.app):
            known = self._supervisor.apps.get(name)
            if known is not None and name != app:
                found += measured(of_app, known.state.releases)
        return found
