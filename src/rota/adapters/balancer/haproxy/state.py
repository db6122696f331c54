"""What HAProxy is to serve, as rota keeps it: one line an app inside haproxy.cfg, so that the file and what is known
of it can never differ. Changed by the adapter's calls, read back when the daemon starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rota.core.backend import Backend
from rota.core.domains import check_host, taken
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Address
from rota.core.tcp import Listener, contested

_APP = "# rota app "
_DELETED = "# rota deleted "
_LET_GO = "# rota let go "


@dataclass(frozen=True)
class Pool:
    """A backend; ``host`` is what its checks ask for, ``used`` whether it ever had a server or a share."""

    name: str
    backend: Backend
    host: str
    used: bool = False


@dataclass(frozen=True)
class Server:
    """``pin`` is the cookie that leads a user back to it, "" while that is not known or its pool has none. ``ports``:
    at the replica, by the port that a TCP service listens on."""

    replica: ReplicaId
    backend: str
    address: Address
    pin: str = ""
    weight: int = 100
    ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class App:
    """``hosts`` are its sites (core.domains)."""

    name: str
    hosts: tuple[str, ...] = ()
    pools: Mapping[str, Pool] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)
    servers: Mapping[ReplicaId, Server] = field(default_factory=dict)
    maintenance: bool = False
    listeners: tuple[Listener, ...] = ()

    def prepared(self, backend: Backend, hosts: tuple[str, ...], listeners: tuple[Listener, ...] = ()) -> App:
        pools = dict(self.pools)
        pools.setdefault(backend.name, Pool(backend.name, backend, check_host(hosts)))
        prepared = replace(self, hosts=hosts, listeners=listeners, pools=pools)
        return prepared if self.shares else prepared.routed({backend.name: 100})

    def routed(self, shares: Mapping[str, int]) -> App:
        kept = {name: share for name, share in shares.items() if share > 0}
        return replace(self._using(*kept), shares=kept)

    def with_server(self, server: Server) -> App:
        return replace(self._using(server.backend), servers={**self.servers, server.replica: server})

    def pinned(self, replica: ReplicaId, pin: str) -> App:
        return replace(self, servers={**self.servers, replica: replace(self.servers[replica], pin=pin)})

    def weighed(self, replica: ReplicaId, weight: int) -> App:
        return replace(self, servers={**self.servers, replica: replace(self.servers[replica], weight=weight)})

    @property
    def pins(self) -> Mapping[str, str]:
        """Which backend a cookie leads to, as long as there is more than one that it could: never to one of another
        colour than those that requests go to, which a blue-green rollout keeps out of service."""
        if len({server.backend for server in self.servers.values()} | set(self.shares)) < 2:
            return {}
        open_to_users = {self.pools[name].backend.colour for name in self.shares if name in self.pools}
        pinned = (server for server in self.servers.values() if server.pin and server.backend in self.pools)
        return {s.pin: s.backend for s in pinned if self.pools[s.backend].backend.colour in open_to_users}

    def without_server(self, replica: ReplicaId) -> App:
        return replace(self, servers={name: kept for name, kept in self.servers.items() if name != replica})

    def without_unused(self) -> App:
        """Drops the pools that had servers or a share once and have neither now."""
        busy = {server.backend for server in self.servers.values()} | set(self.shares)
        return replace(self, pools={name: p for name, p in self.pools.items() if name in busy or not p.used})

    def _using(self, *backends: str) -> App:
        pools = {name: replace(p, used=True) if name in backends else p for name, p in self.pools.items()}
        return replace(self, pools=pools)


@dataclass(frozen=True)
class State:
    """``deleted`` keeps, for each HAProxy process and backend, the 5xx that servers deleted since had answered: the
    backend's own counter still holds them, and only so can HAProxy's own 5xx be told from the apps'. ``let_go``: see
    core.observation.Connections."""

    apps: Mapping[str, App] = field(default_factory=dict)
    deleted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    let_go: Mapping[str, int] = field(default_factory=dict)

    def with_app(self, app: App) -> State:
        return replace(self, apps={**self.apps, app.name: app})

    def without_app(self, name: str) -> State:
        return replace(
            self,
            apps={key: app for key, app in self.apps.items() if key != name},
            let_go={key: count for key, count in self.let_go.items() if key != name},
        )

    def refuse_taken(self, name: str, hosts: Sequence[str], listeners: Sequence[Listener]) -> None:
        """Raises StepFailed for what another app than ``name`` has."""
        for app in self.apps.values():
            if app.name == name:
                continue
            found = next(filter(None, (contested(ours, app.listeners) for ours in listeners)), taken(hosts, app.hosts))
            if found is not None:
                raise StepFailed(f"{found} already leads to {app.name}")

    def listening(self, where: Callable[[Listener], bool]) -> State:
        """Without the listeners of which that does not hold."""
        apps = dict(self.apps)
        for name, app in self.apps.items():
            kept = tuple(filter(where, app.listeners))
            apps[name] = app if kept == app.listeners else replace(app, listeners=kept)
        return replace(self, apps=apps)

    def without_unused(self) -> State:
        return replace(self, apps={name: app.without_unused() for name, app in self.apps.items()})

    def with_deleted(self, process: str, backend: str, errors: int) -> State:
        of_process = dict(self.deleted.get(process, {}))
        of_process[backend] = of_process.get(backend, 0) + errors
        return replace(self, deleted={**self.deleted, process: of_process})

    def with_let_go(self, ended: Mapping[str, int]) -> State:
        """Adds to what was ended with its old process, by app."""
        return replace(self, let_go={**self.let_go, **{a: self.let_go.get(a, 0) + n for a, n in ended.items()}})

    def owner(self, replica: ReplicaId) -> App | None:
        return next((app for app in self.apps.values() if replica in app.servers), None)

    def notes(self) -> list[str]:
        """What is kept beside the apps, as comment lines of haproxy.cfg."""
        return [
            _DELETED + json.dumps(self.deleted, sort_keys=True),
            _LET_GO + json.dumps(self.let_go, sort_keys=True),
        ]


def line_of(app: App) -> str:
    """An app as a comment line of haproxy.cfg."""
    return _APP + json.dumps(_written(app), sort_keys=True)


def read_state(text: str) -> State:
    """The state that a haproxy.cfg was written from; raises ValueError when it is not rota's or was damaged."""
    apps: dict[str, App] = {}
    deleted: dict[str, dict[str, int]] = {}
    let_go: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith(_APP):
            app = _app(json.loads(line[len(_APP) :]))
            apps[app.name] = app
        elif line.startswith(_DELETED):
            deleted = json.loads(line[len(_DELETED) :])
        elif line.startswith(_LET_GO):
            let_go = json.loads(line[len(_LET_GO) :])
    return State(apps, deleted, let_go)


def _written(app: App) -> dict[str, Any]:
    """By hand for the servers, of which there may be hundreds: asdict copies everything."""
    servers = {name: _written_server(server) for name, server in app.servers.items()}
    pools = {name: asdict(pool) for name, pool in app.pools.items()}
    written: dict[str, Any] = {
        "name": app.name,
        "hosts": app.hosts,
        "pools": pools,
        "shares": app.shares,
        "servers": servers,
    }
    if app.listeners:
        written["listeners"] = [asdict(listener) for listener in app.listeners]
    return written | ({"maintenance": True} if app.maintenance else {})


def _written_server(server: Server) -> dict[str, Any]:
    address = {"host": server.address.host, "port": server.address.port}
    written = {"backend": server.backend, "address": address, "pin": server.pin, "weight": server.weight}
    return written | ({"ports": server.ports} if server.ports else {})


def _backend(kept: Mapping[str, Any]) -> Backend:
    pages = tuple((int(status), str(text)) for status, text in kept.get("pages", ()))
    tcp = tuple((int(port), str(version), float(idle)) for port, version, idle in kept.get("tcp", ()))
    return Backend(**{**kept, "pages": pages, "tcp": tcp})


def _server(name: str, kept: Mapping[str, Any]) -> Server:
    ports = tuple((int(service), int(port)) for service, port in kept.get("ports", ()))
    address, pin = Address(**kept["address"]), kept.get("pin", "")
    return Server(ReplicaId(name), kept["backend"], address, pin, kept.get("weight", 100), ports)


def _listener(kept: Mapping[str, Any]) -> Listener:
    return Listener(**{**kept, "names": tuple(kept["names"])})


def _app(kept: Mapping[str, Any]) -> App:
    try:
        pools = {n: Pool(n, _backend(p["backend"]), p["host"], p["used"]) for n, p in kept["pools"].items()}
        servers = {ReplicaId(name): _server(name, server) for name, server in kept["servers"].items()}
        listeners = tuple(map(_listener, kept.get("listeners", ())))
        closed = bool(kept.get("maintenance", False))
        return App(kept["name"], tuple(kept["hosts"]), pools, dict(kept["shares"]), servers, closed, listeners)
    except (KeyError, TypeError) as error:
        raise ValueError(f"a line of the state cannot be read: {error!r}") from error
