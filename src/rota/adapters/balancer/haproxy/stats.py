"""HAProxy's answers as values: ``show stat``, ``show servers state``, ``show info`` and ``show proc``, read by
worker.py. Field names are those of HAProxy's management guide, sections 9.1 and 9.3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rota.core.observation import ServerState

_MAINT = 0x01 | 0x02 | 0x04  # srv_admin_state: forced, inherited, by configuration
_DRAIN = 0x08 | 0x10
_STOPPED = "0"  # srv_op_state


@dataclass(frozen=True)
class ServerReading:
    """One server. ``open`` counts requests and connections at it and queued for it; ``answered`` the answers that
    began, ``errors`` those of them with 5xx."""

    backend: str
    name: str
    state: ServerState
    up: bool
    open: int
    answered: int
    errors: int
    retried: int
    redispatched: int


@dataclass(frozen=True)
class BackendReading:
    """One backend's own row, counted at each request's end. ``errors`` are all 5xx, the apps' and HAProxy's own;
    ``broken`` the answers that a server broke off."""

    name: str
    requests: int
    retried: int
    redispatched: int
    errors: int
    broken: int


@dataclass(frozen=True)
class Reading:
    """All that one process of HAProxy said at one moment."""

    servers: Mapping[str, ServerReading] = field(default_factory=dict)
    backends: Mapping[str, BackendReading] = field(default_factory=dict)
    addresses: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    pid: int = 0


@dataclass(frozen=True)
class Workers:
    current: int | None
    old: tuple[int, ...]


def read_stat(text: str) -> tuple[dict[str, ServerReading], dict[str, BackendReading]]:
    """``show stat -1 6 -1``: the rows of servers and backends; a server's state is not told from it alone."""
    servers: dict[str, ServerReading] = {}
    backends: dict[str, BackendReading] = {}
    columns: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith("# pxname,"):
            columns = {name: place for place, name in enumerate(line[2:].split(","))}
            continue
        cells = line.split(",")
        if len(cells) < len(columns) or not columns:
            continue
        if cells[columns["svname"]] == "BACKEND":
            row = _backend(cells, columns)
            backends[row.name] = row
        else:
            server = _server(cells, columns)
            servers[server.name] = server
    return servers, backends


def read_states(text: str) -> dict[str, tuple[ServerState, bool, str, int]]:
    """``show servers state``: each server's administrative state, whether checks hold it up, and its address."""
    states = {}
    columns: dict[str, int] = {}
    for line in text.splitlines():
        cells = line.split()
        if line.startswith("# be_id"):
            columns = {name: place for place, name in enumerate(cells[1:])}
        elif columns and len(cells) == len(columns):
            admin = int(cells[columns["srv_admin_state"]])
            state = ServerState.MAINT if admin & _MAINT else ServerState.DRAIN if admin & _DRAIN else ServerState.READY
            up = cells[columns["srv_op_state"]] != _STOPPED
            address, port = cells[columns["srv_addr"]], int(cells[columns["srv_port"]])
            states[cells[columns["srv_name"]]] = (state, up, address, port)
    return states


def read_all(text: str) -> Reading:
    """``show stat -1 6 -1;show servers state;show info`` in one answer."""
    stat, _, rest = text.partition("\n# be_id")
    states, _, info = ("# be_id" + rest).partition("\nName: ")
    servers, backends = read_stat(stat)
    known = read_states(states)
    servers = {name: _in_state(server, known[name][:2]) for name, server in servers.items() if name in known}
    return Reading(servers, backends, {name: k[2:] for name, k in known.items()}, number(info, "Pid"))


def read_proc(text: str) -> Workers:
    """``show proc`` on the master socket."""
    part, current, old = "", None, []
    for line in text.splitlines():
        if line.startswith("#"):
            part = line[1:].strip()
        elif part.startswith("workers") and line.strip():
            current = int(line.split()[0])
        elif part.startswith("old workers") and line.strip():
            old.append(int(line.split()[0]))
    return Workers(current, tuple(old))


def sessions_of(text: str, backend: str, server: str) -> list[str]:
    """``show sess``: the ids of the sessions that a server has."""
    return [
        words[0].rstrip(":")
        for words in map(str.split, text.splitlines())
        if words and f"be={backend}" in words and f"srv={server}" in words
    ]


def number(info: str, key: str) -> int:
    """A number out of ``show info``; 0 when it is not there."""
    lines: Iterable[str] = info.splitlines()
    return next((int(line.split()[-1]) for line in lines if line.startswith(f"{key}: ")), 0)


def _server(cells: list[str], columns: Mapping[str, int]) -> ServerReading:
    def count(name: str) -> int:
        return int(cells[columns[name]] or 0)

    status = cells[columns["status"]]
    return ServerReading(
        backend=cells[columns["pxname"]],
        name=cells[columns["svname"]],
        state=ServerState.MAINT if status.startswith("MAINT") else ServerState.READY,
        up=status.startswith(("UP", "DRAIN", "no check")),
        open=count("scur") + count("qcur"),
        answered=count("req_tot"),
        errors=count("hrsp_5xx"),
        retried=count("wretr"),
        redispatched=count("wredis"),
    )


def _backend(cells: list[str], columns: Mapping[str, int]) -> BackendReading:
    def count(name: str) -> int:
        return int(cells[columns[name]] or 0)

    return BackendReading(
        name=cells[columns["pxname"]],
        requests=count("req_tot"),
        retried=count("wretr"),
        redispatched=count("wredis"),
        errors=count("hrsp_5xx"),
        broken=count("srv_abrt"),
    )


def _in_state(server: ServerReading, known: tuple[ServerState, bool]) -> ServerReading:
    state, up = known
    return ServerReading(
        server.backend,
        server.name,
        state,
        up and state is not ServerState.MAINT,
        server.open,
        server.answered,
        server.errors,
        server.retried,
        server.redispatched,
    )
