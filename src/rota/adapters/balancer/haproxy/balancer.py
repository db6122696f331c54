"""The Balancer port on HAProxy: every call changes the file first and the running process over its socket then; the
engine's executor calls it, the composition root starts and closes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from rota.adapters.balancer.haproxy.backends import server_words
from rota.adapters.balancer.haproxy.connections import Connections
from rota.adapters.balancer.haproxy.disk import Disk
from rota.adapters.balancer.haproxy.launcher import Launcher
from rota.adapters.balancer.haproxy.livemaps import LiveMaps
from rota.adapters.balancer.haproxy.oldworkers import OldWorkers
from rota.adapters.balancer.haproxy.reloads import Ended, Reloads
from rota.adapters.balancer.haproxy.settings import Settings, can_bind
from rota.adapters.balancer.haproxy.shared import Shared
from rota.adapters.balancer.haproxy.socket import NotAnswering
from rota.adapters.balancer.haproxy.state import App, Server, State
from rota.adapters.balancer.haproxy.stats import Entry, Reading, with_codes
from rota.adapters.balancer.haproxy.view import View, app_of, gaps_of
from rota.adapters.balancer.haproxy.watch import Watch
from rota.adapters.balancer.haproxy.words import word
from rota.adapters.balancer.haproxy.worker import Haproxy, process_id
from rota.core import observation
from rota.core.backend import Backend
from rota.core.domains import taken
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Address, Gap, ObservedBalancer, ServerState

_START_DEADLINE = 5.0
_REMOVE_DEADLINE = 5.0
_POLL = 0.01
_STATE_SAID = ("no need to change", "IP changed", "port changed")
_GONE = ("No such server", "No such backend", "Can't find")


class HaproxyBalancer:
    """``binary`` is the program's path. ``start`` comes before any other call."""

    def __init__(self, settings: Settings, binary: str, launcher: Launcher) -> None:
        self._settings = settings
        self._argv = settings.argv()
        self._launcher = launcher
        self._haproxy = Haproxy(settings)
        self._old = OldWorkers(settings)
        self._connections = Connections(self._haproxy, self._old)
        self._disk = Disk(settings, binary)
        self._maps = LiveMaps(self._haproxy)
        self._state = State()
        self._known_gaps: tuple[Gap, ...] = ()
        self._lock = asyncio.Lock()
        self._looks = Shared(self._look)
        self._ended = Ended(self._wake_all)
        self._reloads = Reloads(self._haproxy, settings.reload_interval, self._carry_out_reload, self._let_go)
        self._wakes: list[Callable[[str], None]] = []
        self._watch = Watch(self._haproxy, self._wake_all, self._wake, self._saw_old)
        self._old_workers = True  # until the master has said that there are none; then not before the next reload
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Takes over the HAProxy that runs, or has one started, and makes it agree with the file. Raises StepFailed."""
        async with self._lock:
            self._state = await self._disk.read()
            await self._disk.check(self._state)
            running = await self._haproxy.version() if await self.answering() is not None else ""
            renewed = await self._disk.choose_program(running)
            outdated = bool(running) and (renewed or await self._disk.differs(self._state))
            await self._disk.write(self._state)
            self._launcher.on_exit(self._watch.lost)
            await self._launcher.ensure(self._argv)
            await self._until_started()
            await self._agree(reload=outdated)
        self._watcher = asyncio.create_task(self._watch.run())

    async def close(self) -> None:
        """Ends the adapter's own tasks; HAProxy goes on."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._ended.close()
        await self._disk.close()

    def on_change(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    async def observe(self) -> Mapping[str, ObservedBalancer]:
        """One look serves all apps that ask before it begins."""
        return await self._looks.next()

    async def connections(self) -> observation.Connections:
        counted = await self._connections.counted()
        old = (await self._haproxy.workers()).old
        return observation.Connections(counted, len(old), self._state.let_go)

    async def answering(self) -> str | None:
        try:
            return process_id(await self._haproxy.pid())
        except NotAnswering:
            return None

    async def prepare(self, backend: Backend, hosts: tuple[str, ...]) -> None:
        async with self._lock:
            self._refuse_taken(backend.app, hosts)
            app = self._state.apps.get(backend.app, App(backend.app)).prepared(backend, hosts)
            state = self._state.with_app(app)
            there = backend.name in await self._haproxy.backends() and self._knows(backend)
            if not there:
                await self._disk.check(state)
            await (self._change(state) if there else self._write(state))
        if not there:
            await self._reloads.reload()

    async def route(self, app: str, shares: Mapping[str, int]) -> None:
        async with self._lock:
            known = self._app(app)
            missing = sorted(set(shares) - set(known.pools))
            if missing or not any(shares.values()):
                raise StepFailed(f"{app} cannot be routed to {', '.join(missing) or 'nothing'}")
            await self._change(self._state.with_app(known.routed(shares)))

    async def maintain(self, app: str, on: bool) -> None:
        async with self._lock:
            await self._change(self._state.with_app(replace(self._app(app), maintenance=on)))

    async def enable(self, replica: ReplicaId, app: str, backend: str, address: Address, weight: int = 100) -> None:
        async with self._lock:
            known = self._app(app)
            if backend not in known.pools:
                raise StepFailed(f"{app} has no backend {backend} yet")
            server = known.servers.get(replica)
            if server is None or (server.backend, server.address) != (backend, address):
                server = Server(replica, backend, address)
            server = replace(server, weight=weight)
            await self._change(self._state.with_app(known.with_server(server)))
            await self._put(known, server, await self._haproxy.entries(word(backend)))
            if known.pools[backend].backend.cookie is not None:
                await self._pin(replica, await self._haproxy.cookie(backend, replica))

    async def weigh(self, replica: ReplicaId, weight: int) -> None:
        async with self._lock:
            app = self._state.owner(replica)
            if app is not None:
                await self._write(self._state.with_app(app.weighed(replica, weight)))
                await self._haproxy.tell(f"set server {await self._path(replica)} weight {weight}", accept=_GONE)

    async def drain(self, replica: ReplicaId) -> None:
        async with self._lock:
            await self._set_state(await self._path(replica), "drain")

    async def disable(self, replica: ReplicaId) -> None:
        async with self._lock:
            path = await self._path(replica)
            try:
                await self._pin(replica, "")  # first, so that no cookie leads to a backend with nobody else in it
                await self._set_state(path, "maint")
            finally:
                await self._forget(replica)
            # A HAProxy that was started again between the two read the file that still had the server.
            await self._set_state(path, "maint")

    async def cut(self, replica: ReplicaId, leave: int = 0) -> None:
        async with self._lock:
            path = await self._path(replica)
            if path is not None and not leave:
                await self._haproxy.tell(f"shutdown sessions server {path}", accept=_GONE)
            if path is not None:
                await self._connections.cut(path, leave)

    async def remove(self, replica: ReplicaId) -> None:
        async with self._lock:
            reading = await self._haproxy.read()
            server = reading.servers.get(replica)
            if server is None:
                await self._forget(replica)
                return
            if server.state is not ServerState.MAINT:
                raise StepFailed(f"HAProxy does not let {replica} go: it is {server.state.value}, not in maintenance")
            await self._note_deleted(replica, reading)
        await self._delete(replica, server.backend)

    async def unroute(self, app: str) -> None:
        async with self._lock:
            if app in self._state.apps:
                await self._change(self._state.without_app(app), maps_first=True)
            entries = (await self._haproxy.entries()).items()
            left = {name: entry.backend for name, entry in entries if app_of(entry.backend) == app}
            for name, backend in left.items():
                path = f"{word(backend)}/{word(name)}"
                await self._haproxy.tell(f"set server {path} state maint", accept=_GONE)
                await self._haproxy.tell(f"shutdown sessions server {path}", accept=_GONE)
        for name, backend in left.items():
            await self._delete(ReplicaId(name), backend)

    async def pids(self) -> frozenset[int]:
        """Its processes that may hold connections, old ones too; none while it does not answer."""
        workers = await self._haproxy.living()
        return frozenset(pid for pid in (workers.current, *workers.old) if pid is not None)

    async def _look(self, begin: Callable[[], None]) -> Mapping[str, ObservedBalancer]:
        async with self._lock:  # not in the middle of a reload, when two workers answer
            begin()
            return await self._observe(await self._gaps())

    async def _gaps(self) -> tuple[Gap, ...]:
        with contextlib.suppress(StepFailed):  # HAProxy serves on without its parent; what is known of gaps stands
            self._known_gaps = gaps_of(await self._launcher.runs())
        return self._known_gaps

    async def _observe(self, gaps: tuple[Gap, ...]) -> Mapping[str, ObservedBalancer]:
        try:
            reading = await self._haproxy.read()
            old = await self._read_old() if self._old_workers else {}
        except NotAnswering:
            return {name: _unanswered(app, gaps) for name, app in self._state.apps.items()}
        process = process_id(reading.pid)
        if process is None:  # killed since it answered
            return {name: _unanswered(app, gaps) for name, app in self._state.apps.items()}
        reading = with_codes(reading, self._ended.rows.get(process))
        self._ended.note(process, reading)
        return View((process, reading), frozenset(reading.backends), old, self._ended.rows, gaps).of_apps(self._state)

    def _app(self, name: str) -> App:
        if name not in self._state.apps:
            raise StepFailed(f"HAProxy knows no app {name} yet")
        return self._state.apps[name]

    def _knows(self, backend: Backend) -> bool:
        app = self._state.apps.get(backend.app)
        return app is not None and backend.name in app.pools

    def _refuse_taken(self, name: str, hosts: tuple[str, ...]) -> None:
        for app in self._state.apps.values():
            found = taken(hosts, app.hosts) if app.name != name else None
            if found is not None:
                raise StepFailed(f"{found} already leads to {app.name}")

    async def _write(self, state: State) -> None:
        """The files alone: no map differs by it, or HAProxy is to read them at its next reload."""
        held = self._maps.take()
        self._maps.keep(held, await self._disk.write(state))
        self._state = state

    async def _change(self, state: State, *, maps_first: bool = False) -> None:
        held = self._maps.take()
        maps = await self._disk.write(state, maps_first=maps_first)
        self._state = state
        await self._maps.send(held, maps)

    async def _pin(self, replica: ReplicaId, pin: str) -> None:
        app = self._state.owner(replica)
        if app is not None and app.servers[replica].pin != pin:
            await self._change(self._state.with_app(app.pinned(replica, pin)))

    async def _forget(self, replica: ReplicaId) -> None:
        app = self._state.owner(replica)
        if app is not None:
            await self._change(self._state.with_app(app.without_server(replica)))

    async def _note_deleted(self, replica: ReplicaId, reading: Reading) -> None:
        server, process = reading.servers[replica], process_id(reading.pid)
        if server.errors and process is not None:
            await self._write(self._state.with_deleted(process, server.backend, server.errors))

    async def _put(self, app: App, server: Server, entries: Mapping[str, Entry]) -> None:
        path = f"{word(server.backend)}/{word(server.replica)}"
        present = entries.get(server.replica)
        sticky = app.pools[server.backend].backend.cookie is not None
        # Without it a server that is added gets no value, and its users an empty cookie (2.6, measured).
        cookies = f";enable dynamic-cookie backend {word(server.backend)}" if sticky else ""
        address = (server.address.host, server.address.port)
        if present is None:
            words = server_words(app.pools[server.backend], server)
            enable = f"enable health {path};enable server {path}"
            await self._haproxy.tell(f"add server {path} {words};{enable}{cookies}", accept=["New server registered"])
        elif (present.state, present.address, present.weight) != (ServerState.READY, address, server.weight):
            host, port = address
            move = f"set server {path} addr {host} port {port};set server {path} weight {server.weight}"
            await self._haproxy.tell(f"{move};set server {path} state ready{cookies}", accept=_STATE_SAID)

    async def _set_state(self, path: str | None, state: str) -> None:
        if path is not None:
            await self._haproxy.tell(f"set server {path} state {state}", accept=_GONE)

    async def _path(self, replica: ReplicaId) -> str | None:
        """``backend/server`` by the file, else as the current worker has it; None when neither does."""
        owner = self._state.owner(replica)
        if owner is not None:
            return f"{word(owner.servers[replica].backend)}/{word(replica)}"
        entry = (await self._haproxy.entries()).get(replica)
        return None if entry is None else f"{word(entry.backend)}/{word(replica)}"

    async def _delete(self, replica: ReplicaId, backend: str) -> None:
        command = f"del server {word(backend)}/{word(replica)}"
        refused = ""
        try:
            async with asyncio.timeout(_REMOVE_DEADLINE):
                while True:
                    refused = (await self._haproxy.tell(command, accept=("",))).strip()
                    if refused.startswith(("Server deleted", *_GONE)):
                        return
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise StepFailed(f"HAProxy does not let {replica} go: {refused}") from error

    async def _until_started(self) -> None:
        try:
            await self._haproxy.until_answers(_START_DEADLINE)
        except StepFailed as error:
            taken = [bind for bind in self._settings.binds if not can_bind(bind)]
            reason = f"another program listens on {', '.join(taken)}; choose another address" if taken else str(error)
            raise StepFailed(f"HAProxy does not start: {reason}") from error

    async def _agree(self, reload: bool) -> None:
        """Brings a HAProxy found running to what the file says: a call may have been broken off half-way."""
        pools = {name for app in self._state.apps.values() for name in app.pools}
        if reload or not pools <= await self._haproxy.backends():
            await self._reload_now()
        await self._change(self._state)
        entries = await self._haproxy.entries()
        for app in self._state.apps.values():
            for server in app.servers.values():
                if server.replica not in entries:
                    await self._put(app, server, entries)

    async def _let_go(self, pid: int) -> None:
        await self._connections.let_go(pid, self._note_let_go)

    async def _note_let_go(self, ended: Mapping[str, int]) -> None:
        async with self._lock:
            await self._write(self._state.with_let_go({app_of(backend): count for backend, count in ended.items()}))

    async def _carry_out_reload(self, begin: Callable[[], None]) -> None:
        async with self._lock:
            begin()
            await self._reload_now()

    async def _reload_now(self) -> None:
        state = await self._without_past(self._state.without_unused())
        await self._disk.check(state)
        self._maps.take()
        maps = await self._disk.write(state)
        before = await self._haproxy.read()
        self._old_workers = True
        witness = await self._haproxy.reload()
        self._maps.started_on(maps)
        self._state = state
        self._ended.follow(witness, before.pid)
        await self._old.pass_on(before.pid)  # before a server goes, which it could still send to; each look tries again
        for server in before.servers.values():
            path = f"{word(server.backend)}/{word(server.name)}"
            if server.state is ServerState.DRAIN:
                await self._haproxy.tell(f"set server {path} state drain", accept=_GONE)
            elif not server.up and server.state is ServerState.READY:
                await self._haproxy.tell(f"set server {path} health down", accept=_GONE)

    async def _without_past(self, state: State) -> State:
        """Forgets what was noted of processes that are no more and whose last rows are not kept either."""
        workers = await self._haproxy.workers()
        pids = [pid for pid in (workers.current, *workers.old) if pid is not None]
        known = {process_id(pid) for pid in pids} | set(self._ended.rows)
        return replace(state, deleted={name: kept for name, kept in state.deleted.items() if name in known})

    async def _read_old(self) -> dict[str, Reading]:
        readings = {}
        workers = await self._haproxy.workers()
        self._old_workers = workers.current is None or bool(workers.old)
        self._old.forget(workers.old)
        for pid in workers.old:
            process, reading = process_id(pid), await self._old.read(pid)
            if process is not None and reading is not None:
                self._ended.note(process, reading)
                readings[process] = reading
        return readings

    def _wake_all(self) -> None:
        for app in self._state.apps:
            self._wake(app)

    def _wake(self, app: str) -> None:
        for wake in self._wakes:
            wake(app)

    def _saw_old(self, old: tuple[int, ...]) -> None:
        self._old_workers = self._old_workers or bool(old)


def _unanswered(app: App, gaps: tuple[Gap, ...]) -> ObservedBalancer:
    return ObservedBalancer(hosts=frozenset(app.hosts), routes=dict(app.shares), maintenance=app.maintenance, gaps=gaps)
