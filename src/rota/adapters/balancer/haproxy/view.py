"""From readings of HAProxy's processes to each app's ObservedBalancer: pure; called by balancer.observe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rota.adapters.balancer.haproxy.parts import pool_of, replica_of, service_of
from rota.adapters.balancer.haproxy.state import App, Server, State
from rota.adapters.balancer.haproxy.stats import BackendReading, Reading, ServerReading
from rota.adapters.balancer.haproxy.tcp import frontend_name
from rota.core.names import ReplicaId
from rota.core.observation import Counters, Gap, ObservedBalancer, ObservedServer, Row, ServerState


@dataclass(frozen=True)
class View:
    """What was read at one moment. ``current`` is (process, reading); ``old`` are processes that live still,
    ``ended`` the last readings of those that do not."""

    current: tuple[str, Reading]
    backends: frozenset[str]
    old: Mapping[str, Reading] = field(default_factory=dict)
    ended: Mapping[str, Reading] = field(default_factory=dict)
    gaps: Callable[[str], tuple[Gap, ...]] = lambda app: ()

    def of_apps(self, state: State) -> dict[str, ObservedBalancer]:
        """Every app that the file has, and every one that HAProxy still has servers of."""
        servers: dict[str, dict[ReplicaId, list[ServerReading]]] = {name: {} for name in state.apps}
        for server in self.current[1].servers.values():
            servers.setdefault(app_of(server.backend), {}).setdefault(replica_of(server.name), []).append(server)
        rows = self._rows(state)
        return {
            name: self._of(state.apps.get(name, App(name)), own, tuple(rows.get(name, ())))
            for name, own in servers.items()
        }

    def _of(
        self, app: App, servers: Mapping[ReplicaId, Sequence[ServerReading]], rows: tuple[Row, ...]
    ) -> ObservedBalancer:
        frontends = self.current[1].frontends
        return ObservedBalancer(
            process=self.current[0],
            servers={name: self._replica(app.servers.get(name), name, parts) for name, parts in servers.items()},
            backends=frozenset(app.pools) & self.backends,
            hosts=frozenset(app.hosts),
            listeners=frozenset(one for one in app.listeners if frontend_name(one) in frontends),
            routes=dict(app.shares),
            maintenance=app.maintenance,
            rows=rows,
            gaps=self.gaps(app.name),
        )

    def _replica(self, known: Server | None, name: ReplicaId, parts: Sequence[ServerReading]) -> ObservedServer:
        """All its servers as one. ``known`` is what the file has of it."""
        first = min(parts, key=lambda part: part.name)  # its own, unless that is missing
        held = [old.servers[part.name] for old in self.old.values() for part in parts if part.name in old.servers]
        own_idle = (self.current[1].uptime if part.idle is None else part.idle for part in parts)
        return ObservedServer(
            replica=name,
            backend=pool_of(first.backend),
            state=_together(parts, known),
            up=all(part.up for part in parts),
            open=sum(part.open for part in (*parts, *held)),
            old_holders=sum(any(self._may_get(part, old) for part in parts) for old in self.old.values()),
            weight=first.weight,
            latency=first.latency / 1000,
            check=next((_said(part) for part in parts if not part.up), ""),
            idle=min([*own_idle, *(other.idle for other in held if other.idle is not None)]),
        )

    @staticmethod
    def _may_get(server: ServerReading, old: Reading) -> bool:
        return server.name in old.servers and (old.sends is None or server.backend in old.sends)

    def _rows(self, state: State) -> dict[str, list[Row]]:
        rows: dict[str, list[Row]] = {}
        live = {**self.old, self.current[0]: self.current[1]}
        ended = {process: reading for process, reading in self.ended.items() if process not in live}
        for process, reading in (ended | live).items():
            for row in rows_of(process, reading, state.deleted.get(process, {})):
                rows.setdefault(row.app, []).append(row)
        return rows


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
