"""From what HAProxy's processes say to each app's ObservedBalancer: pure; made by balancer.observe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rota.adapters.balancer.haproxy.parts import pool_of, replica_of, service_of
from rota.adapters.balancer.haproxy.rows import Rows
from rota.adapters.balancer.haproxy.state import App, Server, State
from rota.adapters.balancer.haproxy.stats import BackendReading, Reading, ServerReading
from rota.adapters.balancer.haproxy.tcp import frontend_name
from rota.core.names import ReplicaId
from rota.core.observation import Counters, Gap, ObservedBalancer, ObservedServer, Row, ServerState


class View(Mapping[str, ObservedBalancer]):
    """What was read at one moment, of every app that the file has, and every one that HAProxy still has servers of;
    each is made when it is asked for. ``current`` is (process, rows); ``old`` are processes that live still, ``ended``
    the last rows of those that do not."""

    def __init__(
        self,
        state: State,
        current: tuple[str, Rows],
        old: Mapping[str, Rows],
        ended: Mapping[str, Rows],
        gaps: Callable[[str], tuple[Gap, ...]],
    ) -> None:
        self._state = state
        self._process, self._current = current
        self._old = old
        live = {**old, self._process: self._current}
        self._counted = {process: rows for process, rows in ended.items() if process not in live} | live
        self._gaps = gaps
        self._made: dict[str, ObservedBalancer] = {}

    def __getitem__(self, app: str) -> ObservedBalancer:
        if app not in self._made:
            if app not in self._state.apps and app not in self._current.apps:
                raise KeyError(app)
            self._made[app] = self._of(self._state.apps.get(app, App(app)))
        return self._made[app]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._state.apps, *sorted(self._current.apps)]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _of(self, app: App) -> ObservedBalancer:
        reading, frontends = self._current.of(app.name), self._current.frontends
        servers: dict[ReplicaId, list[ServerReading]] = {}
        for server in reading.servers.values():
            servers.setdefault(replica_of(server.name), []).append(server)
        held = [(rows.of(app.name).servers, rows.sends) for rows in self._old.values()]
        return ObservedBalancer(
            process=self._process,
            servers={name: self._replica(app.servers.get(name), name, parts, held) for name, parts in servers.items()},
            backends=frozenset(app.pools) & frozenset(reading.backends),
            hosts=frozenset(app.hosts),
            listeners=frozenset(one for one in app.listeners if frontend_name(one) in frontends),
            routes=dict(app.shares),
            maintenance=app.maintenance,
            rows=tuple(self._rows(app.name)),
            gaps=self._gaps(app.name),
        )

    def _replica(
        self, known: Server | None, name: ReplicaId, parts: Sequence[ServerReading], old: Sequence[_OldServers]
    ) -> ObservedServer:
        """All its servers as one. ``known`` is what the file has of it."""
        first = min(parts, key=lambda part: part.name)  # its own, unless that is missing
        held = [servers[part.name] for servers, _ in old for part in parts if part.name in servers]
        own_idle = (self._current.uptime if part.idle is None else part.idle for part in parts)
        return ObservedServer(
            replica=name,
            backend=pool_of(first.backend),
            state=_together(parts, known),
            up=all(part.up for part in parts),
            open=sum(part.open for part in (*parts, *held)),
            old_holders=sum(any(_may_get(part, process) for part in parts) for process in old),
            weight=first.weight,
            latency=first.latency / 1000,
            check=next((_said(part) for part in parts if not part.up), ""),
            idle=min([*own_idle, *(other.idle for other in held if other.idle is not None)]),
        )

    def _rows(self, app: str) -> Iterator[Row]:
        for process, rows in self._counted.items():
            yield from rows_of(process, rows.of(app), self._state.deleted.get(process, {}))


_OldServers = tuple[Mapping[str, ServerReading], frozenset[str] | None]
"""An app's servers in an old process, and the backends to which it may still send."""


def _may_get(server: ServerReading, old: _OldServers) -> bool:
    servers, sends = old
    return server.name in servers and (sends is None or server.backend in sends)


def _together(parts: Sequence[ServerReading], known: Server | None) -> ServerState:
    """A call that was broken off half-way leaves some of them behind: then it neither serves as it should, nor is it
    certain that nobody is sent to it."""
    states = {part.state for part in parts}
    whole = known is None or len(parts) > len(known.ports)
    if len(states) > 1 or (states == {ServerState.READY} and not whole):
        return ServerState.DRAIN
    return states.pop()


def _said(part: ServerReading) -> str:
    service = service_of(part.name)
    return f"port {service}: {part.check}" if service and part.check else part.check


def rows_of(process: str, reading: Reading, deleted: Mapping[str, int]) -> list[Row]:
    """One process's rows. ``deleted``: the 5xx that servers deleted since had answered, by backend."""
    errors = dict(deleted)
    for server in reading.servers.values():
        errors[server.backend] = errors.get(server.backend, 0) + server.errors
    of_backends = [_backend_row(process, row, errors.get(row.name, 0)) for row in reading.backends.values()]
    return [*of_backends, *(_server_row(process, server) for server in reading.servers.values())]


def unanswered(app: App, gaps: tuple[Gap, ...]) -> ObservedBalancer:
    """While HAProxy does not answer, what the file says holds."""
    return ObservedBalancer(
        hosts=frozenset(app.hosts),
        listeners=frozenset(app.listeners),
        routes=dict(app.shares),
        maintenance=app.maintenance,
        gaps=gaps,
    )


def app_of(backend: str) -> str:
    """The app that a backend belongs to, by its name."""
    return backend.partition(".")[0]


def _backend_row(process: str, row: BackendReading, of_servers: int) -> Row:
    counters = Counters(
        requests=row.requests,
        retried=row.retried,
        redispatched=row.redispatched,
        failed=max(0, row.errors - of_servers) + row.broken,  # an app's 5xx is at its server first: never below 0
        app_errors=of_servers,
        connections=row.connections,
    )
    return Row(process, row.name, app_of(row.name), counters)


def _server_row(process: str, server: ServerReading) -> Row:
    counters = Counters(
        requests=server.answered,
        retried=server.retried,
        redispatched=server.redispatched,
        app_errors=server.errors,
        connections=server.connections,
    )
    name = f"{server.backend}/{server.name}"
    return Row(process, name, app_of(server.backend), counters, replica_of(server.name))
