"""HAProxy's answers as values: ``show stat``, ``show servers state``, ``show info`` and ``show proc``, read by rows.py
and worker.py. Field names are those of HAProxy's management guide, sections 9.1 and 9.3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter

from rota.adapters.balancer.haproxy.succession import NEXT
from rota.core.observation import ServerState

ROWS = "show stat -1 6 -1"  # any proxy, backends (2) and servers (4), any server
FRONTENDS = "show stat -1 1 -1"
ALL_ROWS = "show stat -1 7 -1"

MAINT = 0x01 | 0x02 | 0x04  # srv_admin_state: forced, inherited, by configuration
DRAIN = 0x08 | 0x10
STOPPED = "0"  # srv_op_state
_NAMES, _COUNTS = ("pxname", "svname", "cookie"), ("scur", "qcur", "req_tot", "wretr", "wredis", "hrsp_5xx", "srv_abrt")
_COLUMNS = (*_NAMES, *_COUNTS, "stot", "econ", "mode", "lastsess", "check_status", "check_code", "rtime", "rate")
_CHECKS = {
    "L4TOUT": "no connection within the check's timeout",
    "L4CON": "connection refused",
    "L6TOUT": "no answer within the check's timeout",
    "L7TOUT": "no answer within the check's timeout",
    "L7RSP": "the answer is not what is expected",
    "SOCKERR": "the connection broke",
}
ANY_STATUS = "an HTTP status that is not 2xx or 3xx"
_NO_FAILURES = frozenset({"", "UNK", "INI", "L4OK", "L6OK", "L7OK", "L7OKC"})
_OF_BACKEND = slice(2, 7)
_FRONTEND = "FRONTEND"
PREFIX = "tcp:"
"""The names of TCP services' frontends begin so."""
_ENTRY_COLUMNS = ("be_name", "srv_name", "srv_admin_state", "srv_op_state", "srv_addr", "srv_port", "srv_uweight")


@dataclass(frozen=True)
class ServerReading:
    """One server. ``open`` counts requests and connections at it and queued for it; ``answered`` the answers that
    began, ``errors`` those of them with 5xx. ``check`` is what its last check saw, when that failed. ``idle``: for how
    many seconds at least this process has sent it nothing, None before the first time. ``cookie`` leads to it, ""
    without stickiness. ``latency``: milliseconds until its last answers began, on average."""

    backend: str
    name: str
    state: ServerState
    up: bool
    open: int
    answered: int
    retried: int
    redispatched: int
    errors: int
    check: str = ""
    idle: int | None = None
    cookie: str = ""
    weight: int = 100
    latency: int = 0
    connections: int = 0


@dataclass(frozen=True)
class BackendReading:
    """One backend's own row, counted at each request's end. ``errors`` are all 5xx, the apps' and HAProxy's own;
    ``broken`` the answers that a server broke off. Of a TCP service ``connections`` are all that came, counted at once,
    and ``broken`` those that no server took or that one broke off. ``open`` are those under way, queued ones included,
    ``came`` the requests and ``connected`` the connections of the last second."""

    name: str
    requests: int
    retried: int
    redispatched: int
    errors: int
    broken: int
    connections: int = 0
    open: int = 0
    came: int = 0
    connected: int = 0


@dataclass(frozen=True)
class Reading:
    """Some rows of one process, by their names."""

    servers: Mapping[str, ServerReading] = field(default_factory=dict)
    backends: Mapping[str, BackendReading] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One server as it is administered, without its counts; ``up`` is what its checks say."""

    backend: str
    state: ServerState
    up: bool
    address: tuple[str, int]
    weight: int = 100


@dataclass(frozen=True)
class Workers:
    """``old`` ones oldest first."""

    current: int | None
    old: tuple[int, ...]


def read_stat(lines: Iterable[str]) -> tuple[dict[str, ServerReading], dict[str, BackendReading]]:
    """``show stat``: the rows of servers and backends; a server's state is told by read_entries."""
    servers: dict[str, ServerReading] = {}
    backends: dict[str, BackendReading] = {}
    pick = None
    for line in lines:
        cells = line.split(",")
        if line.startswith("# pxname,"):
            cells[0] = "pxname"
            pick = itemgetter(*(cells.index(name) for name in _COLUMNS))
        elif pick is not None and len(cells) > 1:
            backend, name, cookie, *counts, mode, last, check, code, latency, rate = pick(cells)
            if backend == NEXT or name == _FRONTEND:
                continue
            numbers = [int(count or 0) for count in counts]
            connections, refused = numbers[7:] if mode == "tcp" else (0, 0)
            if name == "BACKEND":
                requests, retried, redispatched, errors, broken = numbers[_OF_BACKEND]
                lately = (0, int(rate or 0)) if mode == "tcp" else (int(rate or 0), 0)
                known = (requests, retried, redispatched, errors, broken + refused)
                backends[backend] = BackendReading(backend, *known, connections, numbers[0], *lately)
            else:
                answered, retried, redispatched, errors = numbers[2:6]
                servers[name] = ServerReading(
                    backend=backend,
                    name=name,
                    state=ServerState.READY,
                    up=True,
                    open=numbers[0] + numbers[1],
                    answered=answered,
                    retried=retried,
                    redispatched=redispatched,
                    errors=errors,
                    check=_in_words(check, code),
                    idle=_at_least(int(last)) if last not in ("", "-1") else None,
                    cookie=cookie,
                    latency=int(latency or 0),
                    connections=connections,
                )
    return servers, backends


def read_frontends(lines: Iterable[str]) -> frozenset[str]:
    """The names of the frontends of TCP services among ``show stat``'s rows."""
    rows = (line.split(",", 2) for line in lines if line.startswith(PREFIX))
    return frozenset(row[0] for row in rows if row[1] == _FRONTEND)


def _at_least(seconds: int) -> int:
    """The time that has passed for certain: HAProxy subtracts whole seconds of a clock, so that 10 ms over the
    turn of a second are 1 to it (lastsess, Uptime_sec)."""
    return max(0, seconds - 1)


def _in_words(check: str, code: str) -> str:
    """A check's result (management guide, 9.1, check_status) as rota's own prober says it; a star before it means that
    the next check runs."""
    status = check.removeprefix("* ")
    if status.startswith("L7STS"):
        return f"HTTP {code}" if code not in ("", "0") else ANY_STATUS
    return _CHECKS.get(status, "" if status in _NO_FAILURES else status)


def with_codes(reading: Reading, known: Mapping[str, str]) -> Reading:
    """While a server's next check runs HAProxy does not say which status the last one got; what was ``known`` of its
    check, by its name, may."""
    told = {
        name: replace(server, check=known[name])
        for name, server in reading.servers.items()
        if server.check == ANY_STATUS and name in known
    }
    return replace(reading, servers={**reading.servers, **told}) if told else reading


def read_entries(lines: Iterable[str]) -> dict[str, Entry]:
    """``show servers state``: every server by its name."""
    entries = {}
    pick = None
    for line in lines:
        cells = line.split()
        if line.startswith("# be_id"):
            pick = itemgetter(*(cells.index(name) - 1 for name in _ENTRY_COLUMNS))
        elif pick is not None and len(cells) > 1:
            backend, name, admin, operation, address, port, weight = pick(cells)
            if backend == NEXT:
                continue
            flags = int(admin)
            state = ServerState.MAINT if flags & MAINT else ServerState.DRAIN if flags & DRAIN else ServerState.READY
            up = operation != STOPPED and state is not ServerState.MAINT
            entries[name] = Entry(backend, state, up, (address, int(port)), int(weight))
    return entries


def read_parts(stat: Iterable[str], listed: Iterable[str]) -> Reading:
    """Some rows of ``show stat`` with what ``show servers state`` says of the same servers; of one that it does not
    list, which has gone between the two, nothing."""
    servers, backends = read_stat(stat)
    entries = read_entries(listed)
    joined = {
        name: replace(server, state=entries[name].state, up=entries[name].up, weight=entries[name].weight)
        for name, server in servers.items()
        if name in entries
    }
    return Reading(joined, backends)


def uptime_of(info: str) -> int:
    """For how many seconds at least the process that says so runs."""
    return _at_least(number(info, "Uptime_sec"))


def read_proc(text: str) -> Workers:
    """``show proc`` on the master socket."""
    part, current = "", None
    old: list[tuple[int, int]] = []
    for line in text.splitlines():
        if line.startswith("#"):
            part = line[1:].strip()
        elif part.startswith("workers") and line.strip():
            current = int(line.split()[0])
        elif part.startswith("old workers") and line.strip():
            pid, _, reloads = line.split()[:3]
            old.append((-int(reloads), int(pid)))
    return Workers(current, tuple(pid for _, pid in sorted(old)))


def number(info: str, key: str) -> int:
    """A number out of ``show info``; 0 when it is not there."""
    lines: Iterable[str] = info.splitlines()
    return next((int(line.split()[-1]) for line in lines if line.startswith(f"{key}: ")), 0)
