"""The Balancer port on HAProxy: every call changes the file first and the running process over its socket then; the
engine's executor calls it, the composition root starts and closes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from rota.adapters.balancer.haproxy.adoption import Adoption
from rota.adapters.balancer.haproxy.book import Book
from rota.adapters.balancer.haproxy.connections import Connections
from rota.adapters.balancer.haproxy.disk import Disk
from rota.adapters.balancer.haproxy.launcher import Launcher
from rota.adapters.balancer.haproxy.oldworkers import OldWorkers
from rota.adapters.balancer.haproxy.outages import Outages
from rota.adapters.balancer.haproxy.parts import app_of_replica, path_of, replica_of
from rota.adapters.balancer.haproxy.reloads import Ended, Reloads
from rota.adapters.balancer.haproxy.rows import Rows
from rota.adapters.balancer.haproxy.servers import Servers
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.shared import Shared
from rota.adapters.balancer.haproxy.socket import NotAnswering
from rota.adapters.balancer.haproxy.state import App, Server, State
from rota.adapters.balancer.haproxy.stats import ServerReading
from rota.adapters.balancer.haproxy.tcp import frontend_names, not_bindable
from rota.adapters.balancer.haproxy.view import View, app_of, unanswered
from rota.adapters.balancer.haproxy.watch import Watch
from rota.adapters.balancer.haproxy.worker import Haproxy, process_id
from rota.core import observation
from rota.core.backend import Backend
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Address, ObservedBalancer, ServerState
from rota.core.tcp import Listener
from rota.ports.clock import Clock


class HaproxyBalancer:
    """``binary`` is the program's path. ``start`` comes before any other call."""

    def __init__(self, settings: Settings, binary: str, launcher: Launcher, clock: Clock) -> None:
        self._launcher = launcher
        self._haproxy = Haproxy(settings)
        self._servers = Servers(self._haproxy)
        self._old = OldWorkers(settings)
        self._connections = Connections(self._haproxy, self._old)
        self._disk = Disk(settings, binary)
        self._book = Book(self._disk, self._haproxy)
        self._adoption = Adoption(settings, launcher, self._haproxy, self._disk, self._book, self._servers)
        self._outages = Outages(launcher)
        self._clock = clock
        self._lock = asyncio.Lock()
        self._looks = Shared(self._look)
        self._one_by_one = asyncio.Lock()
        self._ended = Ended(self._wake_all)
        interval = settings.reload_interval
        self._reloads = Reloads(self._haproxy, interval, clock, self._carry_out_reload, self._let_go)
        self._wakes: list[Callable[[str], None]] = []
        self._watch = Watch(self._haproxy, self._wake_all, self._wake, self._saw_old, self._absent)
        self._old_workers = True  # until the master has said that there are none; then not before the next reload
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Takes over the HAProxy that runs, or has one started, and makes it agree with the file. Raises StepFailed."""
        async with self._lock:
            self._launcher.on_exit(self._watch.lost)
            await self._adoption.start(self._reload_now)
        self._watcher = asyncio.create_task(self._watch.run())

    async def close(self) -> None:
        """Ends the adapter's own tasks; HAProxy goes on."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._ended.close()
        await self._disk.close()

    def reloads(self) -> observation.Reloads:
        return self._reloads.seen

    def on_change(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    async def observe(self) -> Mapping[str, ObservedBalancer]:
        """One look serves all apps that ask before it begins; they go on one by one, as a thousand in the same turn of
        the loop would hold up all else."""
        found = await self._looks.next()
        async with self._one_by_one:
            await asyncio.sleep(0)
        return found

    async def connections(self) -> observation.Connections:
        counted = await self._connections.counted()
        old = (await self._haproxy.workers()).old
        return observation.Connections(counted, len(old), self._book.state.let_go)

    async def answering(self) -> str | None:
        try:
            return process_id(await self._haproxy.pid())
        except NotAnswering:
            return None

    async def refusal(self, app: str, listeners: Collection[Listener]) -> str:
        try:
            return not_bindable(listeners, await self._haproxy.frontends())
        except NotAnswering:
            return ""

    async def prepare(self, backend: Backend, hosts: tuple[str, ...], listeners: tuple[Listener, ...] = ()) -> None:
        async with self._lock:
            self._book.state.refuse_taken(backend.app, hosts, listeners)
            app = self._book.state.apps.get(backend.app, App(backend.app)).prepared(backend, hosts, listeners)
            state, frontends = self._book.state.with_app(app), await self._haproxy.frontends()
            there = backend.name in await self._haproxy.backends() and self._knows(backend)
            there = there and frontends == frontend_names(state)
            if not there:
                refusal = not_bindable(listeners, frontends)
                if refusal:
                    raise StepFailed(refusal)
                await self._disk.check(state)
            await (self._book.change(state) if there else self._book.write(state))
        if not there:
            await self._reloads.reload()
            if not set(listeners) <= set(self._book.app(backend.app).listeners):
                raise StepFailed("another program has taken a port meanwhile")

    async def route(self, app: str, shares: Mapping[str, int]) -> None:
        async with self._lock:
            known = self._book.app(app)
            missing = sorted(set(shares) - set(known.pools))
            if missing or not any(shares.values()):
                raise StepFailed(f"{app} cannot be routed to {', '.join(missing) or 'nothing'}")
            await self._book.change(self._book.state.with_app(known.routed(shares)))

    async def maintain(self, app: str, on: bool) -> None:
        async with self._lock:
            await self._book.change(self._book.state.with_app(replace(self._book.app(app), maintenance=on)))

    async def enable(
        self,
        replica: ReplicaId,
        app: str,
        backend: str,
        address: Address,
        weight: int = 100,
        ports: tuple[tuple[int, int], ...] = (),
    ) -> None:
        async with self._lock:
            known = self._book.app(app)
            if backend not in known.pools:
                raise StepFailed(f"{app} has no backend {backend} yet")
            server = known.servers.get(replica)
            if server is None or (server.backend, server.address, server.ports) != (backend, address, ports):
                server = Server(replica, backend, address, ports=ports)
            server = replace(server, weight=weight)
            await self._book.change(self._book.state.with_app(known.with_server(server)))
            await self._servers.put(known.pools[backend], server)
            if known.pools[backend].backend.cookie is not None:
                await self._book.pin(replica, await self._haproxy.cookie(backend, replica))

    async def weigh(self, replica: ReplicaId, weight: int) -> None:
        async with self._lock:
            app = self._book.state.owner(replica)
            if app is not None:
                await self._book.write(self._book.state.with_app(app.weighed(replica, weight)))
                await self._servers.weigh(await self._paths(replica), weight)

    async def drain(self, replica: ReplicaId) -> None:
        async with self._lock:
            await self._servers.set_state(await self._paths(replica), "drain")

    async def disable(self, replica: ReplicaId) -> None:
        async with self._lock:
            paths = await self._paths(replica)
            try:
                await self._book.pin(replica, "")  # first, so that no cookie leads to a backend with nobody else in it
                await self._servers.set_state(paths, "maint")
            finally:
                await self._book.forget(replica)
            # A HAProxy that was started again between the two read the file that still had the server.
            await self._servers.set_state(paths, "maint")

    async def cut(self, replica: ReplicaId, leave: int = 0) -> None:
        async with self._lock:
            paths = await self._paths(replica)
            if not leave:
                await self._servers.shut(paths)
            if paths:
                await self._connections.cut(paths, leave)

    async def remove(self, replica: ReplicaId) -> None:
        async with self._lock:
            rows = await self._haproxy.read()
            seen = rows.of(app_of_replica(replica)).servers.values()
            own = [server for server in seen if replica_of(server.name) == replica]
            for server in own:
                if server.state is not ServerState.MAINT:
                    why = f"it is {server.state.value}, not in maintenance"
                    raise StepFailed(f"HAProxy does not let {replica} go: {why}")
            await self._note_deleted(own, process_id(rows.pid))
            if not own:
                await self._book.forget(replica)
        for server in own:
            await self._servers.delete(path_of(server.backend, server.name))

    async def unroute(self, app: str) -> None:
        async with self._lock:
            if app in self._book.state.apps:
                await self._book.change(self._book.state.without_app(app), maps_first=True)
            entries = (await self._haproxy.entries()).items()
            left = [path_of(entry.backend, name) for name, entry in entries if app_of(entry.backend) == app]
            await self._servers.set_state(left, "maint")
            await self._servers.shut(left)
            listens = await self._haproxy.frontends() != frontend_names(self._book.state)
        for path in left:
            await self._servers.delete(path)
        if listens:
            await self._reloads.reload()

    async def pids(self) -> frozenset[int]:
        """Its processes that may hold connections, old ones too; none while it does not answer."""
        workers = await self._haproxy.living()
        return frozenset(pid for pid in (workers.current, *workers.old) if pid is not None)

    async def _look(self, begin: Callable[[], None]) -> Mapping[str, ObservedBalancer]:
        async with self._lock:  # not in the middle of a reload, when two workers answer
            begin()
            return await self._observe()

    async def _observe(self) -> Mapping[str, ObservedBalancer]:
        await self._outages.look()
        at = self._clock.now()
        try:
            rows = await self._haproxy.read()
            old = await self._read_old() if self._old_workers else {}
        except NotAnswering:
            return self._unanswered()
        process = process_id(rows.pid)
        if process is None:  # killed since it answered
            return self._unanswered()
        rows.remember(self._ended.rows.get(process))
        self._ended.note(process, rows)
        self._outages.read(at, (rows, *old.values()))
        return View(self._book.state, (process, rows), old, dict(self._ended.rows), self._outages.of)

    def _unanswered(self) -> Mapping[str, ObservedBalancer]:
        return {name: unanswered(app, self._outages.of(name)) for name, app in self._book.state.apps.items()}

    def _knows(self, backend: Backend) -> bool:
        app = self._book.state.apps.get(backend.app)
        return app is not None and backend.name in app.pools

    async def _note_deleted(self, servers: Collection[ServerReading], process: str | None) -> None:
        for server in servers:
            if server.errors and process is not None:
                await self._book.write(self._book.state.with_deleted(process, server.backend, server.errors))

    async def _paths(self, replica: ReplicaId) -> list[str]:
        return await self._servers.paths(self._book.state, replica)

    async def _absent(self) -> None:
        async with self._lock:
            if await self.answering() is None:
                with contextlib.suppress(StepFailed):  # a file that cannot be written; the next second tries again
                    await self._adoption.gave_way(())

    async def _let_go(self, pid: int) -> None:
        await self._connections.let_go(pid, self._note_let_go)

    async def _note_let_go(self, ended: Mapping[str, int]) -> None:
        async with self._lock:
            await self._book.write(
                self._book.state.with_let_go({app_of(backend): count for backend, count in ended.items()})
            )

    async def _carry_out_reload(self, begin: Callable[[], None]) -> None:
        async with self._lock:
            begin()
            await self._reload_now()

    async def _reload_now(self) -> None:
        await self._adoption.gave_way(await self._haproxy.frontends())
        state = await self._without_past(self._book.state.without_unused())
        await self._disk.check(state)
        maps = await self._book.lay_out(state)
        before, pid = await self._haproxy.entries(), await self._haproxy.pid()
        self._old_workers = True
        try:
            witness = await self._haproxy.reload()
        except StepFailed:
            await self._adoption.listen_as_before()
            raise
        self._book.started_on(state, maps)
        self._ended.follow(witness, pid)
        await self._old.pass_on(pid)  # before a server goes, which it could still send to; each look tries again
        await self._servers.carry_over(before)
        await self._book.clear()

    async def _without_past(self, state: State) -> State:
        """Forgets what was noted of processes that are no more and whose last rows are not kept either."""
        workers = await self._haproxy.workers()
        pids = [pid for pid in (workers.current, *workers.old) if pid is not None]
        known = {process_id(pid) for pid in pids} | set(self._ended.rows)
        return replace(state, deleted={name: kept for name, kept in state.deleted.items() if name in known})

    async def _read_old(self) -> dict[str, Rows]:
        workers = await self._haproxy.workers()
        self._old_workers = workers.current is None or bool(workers.old)
        found = await self._old.read_all(workers.old)
        for process, rows in found.items():
            self._ended.note(process, rows)
        return found

    def _wake_all(self) -> None:
        for app in self._book.state.apps:
            self._wake(app)

    def _wake(self, app: str) -> None:
        for wake in self._wakes:
            wake(app)

    def _saw_old(self, old: tuple[int, ...]) -> None:
        self._old_workers = self._old_workers or bool(old)
