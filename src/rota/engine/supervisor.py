"""The supervisor: all apps' reconcilers, their tasks, and who is woken by what; made by the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rota.core.errors import NotFound
from rota.core.state import AppState
from rota.engine.executor import Executor
from rota.engine.journal import Journal
from rota.engine.loops import keep
from rota.engine.observer import Observer
from rota.engine.reconciler import Fault, Reconciler, no_fault
from rota.ports.balancer import Balancer
from rota.ports.clock import Clock
from rota.ports.connections import Connections
from rota.ports.dns import Dns
from rota.ports.logs import Logs
from rota.ports.prober import Prober
from rota.ports.runtime import Runtime
from rota.ports.store import Store
from rota.ports.usage import Usage


class Supervisor:
    def __init__(
        self,
        *,
        runtime: Runtime,
        balancer: Balancer,
        prober: Prober,
        usage: Usage,
        connections: Connections,
        logs: Logs,
        store: Store,
        clock: Clock,
        dns: Mapping[str, Dns] | None = None,
        fault: Fault = no_fault,
        notify: Sequence[str] = (),
    ) -> None:
        self.journal = Journal(store, notify)
        self._store = store
        self._clock = clock
        self._fault = fault
        self._observer = Observer(runtime, balancer, dns or {}, prober, usage, logs, clock, connections, self.wake)
        self._executor = Executor(runtime, balancer, dns or {})
        self._apps: dict[str, Reconciler] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        runtime.on_change(self.wake)
        balancer.on_change(self.wake)
        for view in (dns or {}).values():
            view.on_change(self.wake)

    @property
    def apps(self) -> Mapping[str, Reconciler]:
        return self._apps

    def app(self, name: str) -> Reconciler:
        """Raises NotFound."""
        if name not in self._apps:
            raise NotFound(f"there is no app {name!r}; rota ls lists them")
        return self._apps[name]

    async def start(self) -> None:
        """Takes up every app where it was left; those that were stopped with the server run again."""
        for state in await self._store.load():
            reconciler = self._adopt(state)
            await reconciler.change(_resumed)
            self._begin(reconciler)

    async def add(self, state: AppState) -> Reconciler:
        """A new app: durable before its loop begins."""
        reconciler = self._adopt(state)
        await reconciler.change(lambda _: state)
        self._begin(reconciler)
        return reconciler

    def wake(self, app: str) -> None:
        if app in self._apps:
            self._apps[app].wake()

    async def close(self) -> None:
        """Ends the loops; replicas and balancer go on."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for reconciler in self._apps.values():
            await reconciler.close()
        await self._observer.close()

    async def suspend(self) -> None:
        """Stops every replica, handed off in order, to run again when the server does."""
        while awake := [one for one in self._apps.values() if not one.state.desired.suspended]:
            for reconciler in awake:
                await reconciler.change(_suspended)
        for reconciler in list(self._apps.values()):
            await reconciler.until_empty()

    def _adopt(self, state: AppState) -> Reconciler:
        return Reconciler(state, self._observer, self._executor, self.journal, self._clock, self._fault)

    def _begin(self, reconciler: Reconciler) -> None:
        name = reconciler.state.name
        self._apps[name] = reconciler
        self._tasks[name] = asyncio.create_task(self._run(name, reconciler))

    async def _run(self, name: str, reconciler: Reconciler) -> None:
        await keep(name, reconciler.run)
        self._apps.pop(name, None)
        self._tasks.pop(name, None)


def _suspended(state: AppState) -> AppState:
    return replace(state, desired=replace(state.desired, suspended=True))


def _resumed(state: AppState) -> AppState:
    return replace(state, desired=replace(state.desired, suspended=False))
