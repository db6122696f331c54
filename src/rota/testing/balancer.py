"""FakeBalancer: the Balancer port in memory, with faults to order; used by the tests of the engine and held to the
real one by tests/contract."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from rota.core.backend import Backend
from rota.core.domains import taken
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import (
    Address,
    Connections,
    Counters,
    Gap,
    LastLook,
    ObservedBalancer,
    ObservedServer,
    Open,
    Reloads,
    Row,
    ServerState,
)
from rota.core.tcp import Listener, contested


@dataclass
class FakeApp:
    hosts: frozenset[str] = frozenset()
    listeners: frozenset[Listener] = frozenset()
    backends: set[str] = field(default_factory=set)
    routes: dict[str, int] = field(default_factory=dict)
    maintenance: bool = False
    servers: dict[ReplicaId, ObservedServer] = field(default_factory=dict)
    addresses: dict[ReplicaId, Address] = field(default_factory=dict)
    written: set[ReplicaId] = field(default_factory=set)


class FakeBalancer:
    """``calls`` are all that were made, in order, failed ones too: ``("enable", "hello-1")``. ``apps`` may be read
    by a test, and changed by the methods that are not the port's. ``in_use`` are ports that other programs have."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.apps: dict[str, FakeApp] = {}
        self.gaps: list[Gap] = []
        self.pace = Reloads()
        self._rows: dict[str, Row] = {}
        self._faults: Counter[str] = Counter()
        self._messages: dict[str, str] = {}
        self._wakes: list[Callable[[str], None]] = []
        self._lives = 1
        self._answers = True
        self.in_use: set[int] = set()

    @property
    def process_name(self) -> str:
        return f"fake-{self._lives}"

    def fail(self, call: str, times: int = 1, message: str = "HAProxy refused") -> None:
        """The next ``times`` calls of that name raise StepFailed and change nothing."""
        self._faults[call] = times
        self._messages[call] = message

    def lose(self, at: float = 0.0, reason: str = "HAProxy was killed", before: LastLook | None = None) -> None:
        """HAProxy is gone until ``restore``."""
        self._answers = False
        self.gaps.append(Gap(at, None, reason, before))
        self._wake_all()

    def restore(self, at: float = 0.0) -> None:
        """HAProxy is back, as a new process with what the file has; what it counted before stays readable."""
        self._lives += 1
        self._answers = True
        self.gaps[-1] = replace(self.gaps[-1], until=at)
        for app in self.apps.values():
            app.servers = {name: _fresh(server) for name, server in app.servers.items() if name in app.written}
        self._wake_all()

    def set_server(
        self,
        replica: ReplicaId,
        *,
        up: bool | None = None,
        open: int | None = None,
        old_holders: int | None = None,
        check: str = "",
        idle: float | None = None,
        latency: float | None = None,
    ) -> None:
        """What checks say of a server, what is open at it and when it was last used, from now on."""
        app = self._with(replica)
        server = app.servers[replica]
        healthy = server.up if up is None else up
        app.servers[replica] = replace(
            server,
            up=healthy,
            open=server.open if open is None else open,
            old_holders=server.old_holders if old_holders is None else old_holders,
            check="" if healthy else check,
            idle=server.idle if idle is None else idle,
            latency=server.latency if latency is None else latency,
        )
        if healthy != server.up:
            self._wake_all()

    def count(self, replica: ReplicaId, counters: Counters) -> None:
        """Adds to a server's row and to its backend's, as requests that this server got would."""
        server = self._with(replica).servers[replica]
        app = server.backend.partition(".")[0]
        self._add(Row(self.process_name, f"{server.backend}/{replica}", app, replace(counters, failed=0), replica))
        self._add(Row(self.process_name, server.backend, app, counters))

    async def observe(self) -> Mapping[str, ObservedBalancer]:
        return {name: self._observed(name, app) for name, app in self.apps.items()}

    async def connections(self) -> Connections:
        servers = (server for app in self.apps.values() for server in app.servers.values())
        return Connections({server.replica: Open(requests=server.open) for server in servers if server.open})

    async def answering(self) -> str | None:
        return self.process_name if self._answers else None

    def reloads(self) -> Reloads:
        return self.pace

    def on_change(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    async def refusal(self, app: str, listeners: Collection[Listener]) -> str:
        known = self.apps.get(app, FakeApp()).listeners
        taken = sorted(one.place for one in listeners if one not in known and one.port in self.in_use)
        return f"another program listens on {', '.join(taken)}" if taken else ""

    async def prepare(self, backend: Backend, hosts: tuple[str, ...], listeners: tuple[Listener, ...] = ()) -> None:
        self._begin("prepare", backend.name)
        self._refuse_listeners(backend.app, await self.refusal(backend.app, listeners), listeners)
        others = {host for name, app in self.apps.items() if name != backend.app for host in app.hosts}
        found = taken(hosts, others)
        if found is not None:
            raise StepFailed(f"{found} already leads to another app")
        app = self.apps.setdefault(backend.app, FakeApp())
        if backend.name not in app.backends:
            self.pace = replace(self.pace, of=self.pace.of + 1)
        app.hosts = frozenset(hosts)
        app.listeners = frozenset(listeners)
        app.backends.add(backend.name)
        app.routes = app.routes or {backend.name: 100}

    async def route(self, app: str, shares: Mapping[str, int]) -> None:
        self._begin("route", app)
        known = self._app(app)
        if not set(shares) <= known.backends or not any(shares.values()):
            raise StepFailed(f"{app} cannot be routed there")
        known.routes = {name: share for name, share in shares.items() if share > 0}

    async def maintain(self, app: str, on: bool) -> None:
        self._begin("maintain", app)
        self._app(app).maintenance = on

    async def enable(
        self,
        replica: ReplicaId,
        app: str,
        backend: str,
        address: Address,
        weight: int = 100,
        ports: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self._begin("enable", replica)
        known = self._app(app)
        if backend not in known.backends:
            raise StepFailed(f"{app} has no backend {backend} yet")
        server = known.servers.get(replica, ObservedServer(replica, backend, ServerState.READY, True))
        known.servers[replica] = replace(server, state=ServerState.READY, up=True, weight=weight)
        known.addresses[replica] = address
        known.written.add(replica)

    async def weigh(self, replica: ReplicaId, weight: int) -> None:
        self._begin("weigh", replica)
        for app in self.apps.values():
            if replica in app.servers:
                app.servers[replica] = replace(app.servers[replica], weight=weight)

    async def drain(self, replica: ReplicaId) -> None:
        self._begin("drain", replica)
        self._set_state(replica, ServerState.DRAIN)

    async def disable(self, replica: ReplicaId) -> None:
        self._begin("disable", replica)
        self._set_state(replica, ServerState.MAINT)
        for app in self.apps.values():
            app.written.discard(replica)

    async def cut(self, replica: ReplicaId, leave: int = 0) -> None:
        self._begin("cut", replica)
        for app in self.apps.values():
            if replica in app.servers:
                self.set_server(replica, open=min(leave, app.servers[replica].open))

    async def remove(self, replica: ReplicaId) -> None:
        self._begin("remove", replica)
        for app in self.apps.values():
            server = app.servers.get(replica)
            if server is not None and server.state is not ServerState.MAINT:
                raise StepFailed(f"HAProxy does not let {replica} go: only servers in maintenance can be deleted")
            app.servers.pop(replica, None)
            app.written.discard(replica)
            self._rows.pop(f"{self.process_name}/{server.backend}/{replica}" if server else "", None)

    async def unroute(self, app: str) -> None:
        self._begin("unroute", app)
        self.apps.pop(app, None)
        self._rows = {key: row for key, row in self._rows.items() if row.app != app}

    def _refuse_listeners(self, name: str, in_use: str, listeners: Collection[Listener]) -> None:
        others = [one for other, app in self.apps.items() if other != name for one in app.listeners]
        taken = next(filter(None, (contested(ours, others) for ours in listeners)), in_use)
        if taken:
            raise StepFailed(taken if in_use else f"{taken} is another app's")

    def _begin(self, call: str, subject: str) -> None:
        self.calls.append((call, subject))
        if not self._answers:
            raise StepFailed("HAProxy does not answer")
        if self._faults[call] > 0:
            self._faults[call] -= 1
            raise StepFailed(self._messages[call])

    def _app(self, name: str) -> FakeApp:
        if name not in self.apps:
            raise StepFailed(f"HAProxy knows no app {name} yet")
        return self.apps[name]

    def _with(self, replica: ReplicaId) -> FakeApp:
        return next(app for app in self.apps.values() if replica in app.servers)

    def _set_state(self, replica: ReplicaId, state: ServerState) -> None:
        for app in self.apps.values():
            if replica in app.servers:
                up = app.servers[replica].up and state is not ServerState.MAINT
                app.servers[replica] = replace(app.servers[replica], state=state, up=up)

    def _add(self, row: Row) -> None:
        known = self._rows.get(row.key, replace(row, counters=Counters()))
        self._rows[row.key] = replace(known, counters=known.counters + row.counters)

    def _observed(self, name: str, app: FakeApp) -> ObservedBalancer:
        seen = ObservedBalancer(
            hosts=app.hosts,
            listeners=app.listeners,
            routes=dict(app.routes),
            maintenance=app.maintenance,
            gaps=tuple(self.gaps),
        )
        if not self._answers:
            return seen
        return replace(
            seen,
            process=self.process_name,
            servers=dict(app.servers),
            backends=frozenset(app.backends),
            rows=tuple(row for row in self._rows.values() if row.app == name),
        )

    def _wake_all(self) -> None:
        for wake in self._wakes:
            for app in self.apps:
                wake(app)


def _fresh(server: ObservedServer) -> ObservedServer:
    return ObservedServer(server.replica, server.backend, ServerState.READY, up=True, weight=server.weight)
