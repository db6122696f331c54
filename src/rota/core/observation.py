"""What runtime, balancer and probes say at this moment; never stored as truth. Built by engine.observer, read by
decide."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from rota.core.healthcheck import ImageCheck
from rota.core.names import ReplicaId
from rota.core.spec import AppSpec, Limits
from rota.core.tcp import Listener


class RunState(enum.Enum):
    """A runtime's word for a replica; its *phase* is rota's own (core.situation)."""

    RUNNING = "running"
    EXITED = "exited"


class ServerState(enum.Enum):
    """HAProxy's administrative state of a server."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


class ArtefactState(enum.Enum):
    """Where a release's files are on this machine. LOST: they were there, and what they were is still known."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    LOST = "lost"
    FAILED = "failed"


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Exit:
    """How a run ended; ``code`` and ``signal`` are both None when nobody was there to see it."""

    at: float
    code: int | None = None
    signal: int | None = None
    oom: bool = False

    @property
    def unwatched(self) -> bool:
        return self.code is None and self.signal is None and not self.oom


@dataclass(frozen=True)
class ObservedReplica:
    """One replica as its runtime shows it. ``run`` is the identity of its present run (boot id + pid + start
    ticks, or container id + start): it differs after a restart in place. ``told_to_stop``: this run was sent its stop
    signal, as far as the runtime knows; where no stop is on record somebody else did that. ``oddities``: what somebody
    did to it behind rota's back, in sentences. ``exit`` of one that has exited is None until its runtime knows how.
    ``ports``: those that are others than the file's. Times are seconds of rota's clock."""

    id: ReplicaId
    app: str
    slot: int
    release: int
    generation: int
    state: RunState
    run: str
    started_at: float
    address: Address | None = None
    exit: Exit | None = None
    limits: Limits = field(default_factory=Limits)
    limits_enforced: bool = True
    restarts: int = 0
    told_to_stop: bool = False
    node: str = "local"
    oddities: tuple[str, ...] = ()
    ports: Mapping[int, int] = field(default_factory=dict)

    def port_of(self, named: int) -> int:
        """Where it listens for what its file calls this port."""
        return self.ports.get(named, named)


@dataclass(frozen=True)
class Stranger:
    """What says that it is this server's and is no replica: a copy, which is left alone, or what is left of one that
    has ended; ``app`` is the one that it names, if any."""

    app: str
    said: str


@dataclass(frozen=True)
class Artefact:
    """A release's files as the runtime shows them; ``reason`` says why they could not be made, ``progress`` how far
    they are where that takes long, ``check`` is an image's own health check."""

    release: int
    state: ArtefactState
    reason: str = ""
    progress: str = ""
    check: ImageCheck | None = None


def as_checked(spec: AppSpec, release: int, artefacts: Mapping[int, Artefact]) -> AppSpec:
    """A release's file with what its image says of its health, where the file says nothing."""
    artefact = artefacts.get(release)
    return spec.with_image_check(artefact.check) if artefact is not None else spec


@dataclass(frozen=True)
class Refusal:
    """Limits that a runtime refused a running replica, and why."""

    limits: Limits
    reason: str


@dataclass(frozen=True)
class ProbeHistory:
    """What this daemon saw of one run of a replica since ``since``: until that is in rotation, and from then on where
    HAProxy cannot ask (Check.by_daemon). ``passes`` counts the health checks passed in a row, ``healthy_since`` is the
    time of the first of them, by which it had ``waited`` so many seconds for a core (ports.usage), ``fails`` counts
    those that failed in a row, ``warmed`` the warm-up requests that have ended."""

    run: str
    since: float
    accepted_at: float | None = None
    passes: int = 0
    healthy_since: float | None = None
    waited: float | None = None
    last_failure: str = ""
    fails: int = 0
    warmed: int = 0


@dataclass(frozen=True)
class Counters:
    """HAProxy's counts of one server or backend since its process started (shown one by one in
    tests/adapters/haproxy/test_haproxy_counters.py).

    On a backend's row, counted when a request ends: ``requests`` all that came, with a server or without one,
    ``connections`` those of TCP services, from their beginning on;
    ``retried`` further attempts, of which ``redispatched`` went to another server; ``failed`` answers with 5xx that
    HAProxy itself made and answers that a server broke off, never a client that left; ``app_errors`` 5xx that the app
    answered, by servers that are gone too. On a server's row, counted when its answer begins: ``requests`` that it
    answered and ``app_errors``, the 5xx of them, and ``connections``; ``failed`` is 0 there.
    """

    requests: int = 0
    retried: int = 0
    redispatched: int = 0
    failed: int = 0
    app_errors: int = 0
    connections: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            self.requests + other.requests,
            self.retried + other.retried,
            self.redispatched + other.redispatched,
            self.failed + other.failed,
            self.app_errors + other.app_errors,
            self.connections + other.connections,
        )

    def __sub__(self, other: Counters) -> Counters:
        return Counters(
            self.requests - other.requests,
            self.retried - other.retried,
            self.redispatched - other.redispatched,
            self.failed - other.failed,
            self.app_errors - other.app_errors,
            self.connections - other.connections,
        )


@dataclass(frozen=True)
class Row:
    """One line of HAProxy's statistics: ``process`` (pid + start) and ``name`` identify it for ever.
    ``replica`` is None on a backend's row; those alone add up to an app's totals
    (core.receipt), the servers' rows say which replica and release answered."""

    process: str
    name: str
    app: str
    counters: Counters
    replica: ReplicaId | None = None

    @property
    def key(self) -> str:
        return f"{self.process}/{self.name}"


@dataclass(frozen=True)
class ObservedServer:
    """One replica's entry in HAProxy, its TCP services' with it: READY, up and MAINT only where all of them are.
    ``open`` counts open and queued requests and connections in every HAProxy process, ``old_holders`` the old
    processes (after a reload) that may still send to it. ``check`` says what the last
    health check saw, when that failed. ``idle`` is for how many seconds it has been sent nothing, at least: HAProxy
    counts whole ones, and none before its own start. ``weight`` is its share beside the others', ``latency`` in seconds
    how long its last answers took to begin, about, 0 while there are none."""

    replica: ReplicaId
    backend: str
    state: ServerState
    up: bool
    open: int = 0
    old_holders: int = 0
    check: str = ""
    idle: float = 0.0
    weight: int = 100
    latency: float = 0.0


@dataclass(frozen=True)
class Open:
    """What is open to one replica over all HAProxy processes: ``requests`` that wait for an answer, ``answers`` under
    way (a download, server-sent events), ``websockets``, and plain ``tcp`` connections."""

    requests: int = 0
    answers: int = 0
    websockets: int = 0
    tcp: int = 0

    def __add__(self, other: Open) -> Open:
        return Open(
            self.requests + other.requests,
            self.answers + other.answers,
            self.websockets + other.websockets,
            self.tcp + other.tcp,
        )


@dataclass(frozen=True)
class Connections:
    """What is open at this moment, by replica. ``old_processes`` of HAProxy live still after a reload; ``let_go``
    counts, by app, the long connections that were ended because their old process had to make room for another."""

    open: Mapping[ReplicaId, Open] = field(default_factory=dict)
    old_processes: int = 0
    let_go: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LastLook:
    """What HAProxy said of an app ``ago`` seconds before it was gone: ``open`` requests and connections, and how many
    ``requests``, and ``connections`` to its TCP services, had come in the last second."""

    ago: float
    open: int
    requests: int = 0
    connections: int = 0


@dataclass(frozen=True)
class Gap:
    """A stretch of time in which nobody was served; ``until`` is None while it lasts. ``before``: of an outage of
    HAProxy's that somebody looked before."""

    since: float
    until: float | None
    reason: str
    before: LastLook | None = None


@dataclass(frozen=True)
class Reloads:
    """HAProxy gets new backends by a reload: none before ``not_before`` (rota's clock), nor within ``apart`` seconds
    after another. ``seconds`` is what the newest ones took, the median of ``of``."""

    not_before: float = 0.0
    apart: float = 0.0
    seconds: float = 0.0
    of: int = 0


@dataclass(frozen=True)
class ObservedBalancer:
    """One app's part of HAProxy. ``process`` is None while HAProxy does not answer. ``routes`` maps each of the
    app's backends to its share of new requests. ``hosts`` are its sites (core.domains), ``listeners`` those of its TCP
    services that the process has. ``gaps`` are HAProxy's own outages, newest last. ``reloads`` are all apps'."""

    process: str | None = None
    servers: Mapping[ReplicaId, ObservedServer] = field(default_factory=dict)
    backends: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    listeners: frozenset[Listener] = frozenset()
    routes: Mapping[str, int] = field(default_factory=dict)
    maintenance: bool = False
    rows: tuple[Row, ...] = ()
    gaps: tuple[Gap, ...] = ()
    reloads: Reloads = Reloads()


@dataclass(frozen=True)
class DnsEntry:
    """What DNS is to say of one replica in rotation: its address, under its own names and, in a view that has any of
    them, under its app's ``hosts``."""

    replica: ReplicaId
    slot: int
    release: int
    address: Address
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Published:
    """Of one replica as a view shows it; ``hosts`` are those under which it is there whole. While a change may have
    been made or not, what it was about is not ``sure``: some answer may name it, and some may not."""

    address: Address
    hosts: frozenset[str] = frozenset()
    sure: bool = True


@dataclass(frozen=True)
class ObservedDns:
    """One app's part of one view of DNS: rota's own names, or a zone outside. ``published`` has every replica of
    which there is anything; ``hosts`` are those of the app's hosts that the zone has, None for rota's own names;
    ``shared``: they lead to the same addresses whoever is in rotation, a node's. What it tells is gone from every
    cache ``ttl`` seconds after it was withdrawn. A hand-off that removes records waits for a view that is
    ``required`` even while it does not answer; ``trouble`` says why it does not, ``published`` is then what was
    seen last."""

    published: Mapping[ReplicaId, Published] = field(default_factory=dict)
    hosts: frozenset[str] | None = None
    ttl: float = 1.0
    required: bool = False
    trouble: str = ""
    shared: bool = False

    def kind(self, replica: ReplicaId) -> str:
        """The type of the records that it has, as far as those of others may be of another type."""
        if self.shared:
            return ""
        return "AAAA" if ":" in self.published[replica].address.host else "A"

    @property
    def answering(self) -> bool:
        return not self.trouble


@dataclass(frozen=True)
class Observation:
    """Everything seen of one app at one moment. ``dns`` has each view by its name, none when there is no DNS for the
    app; ``direct`` how many connections past the balancer are open to each replica that ``handoff.watched`` names;
    ``logs`` has the last lines of replicas that exited or are overdue; ``refusals`` what this daemon was refused;
    ``busy`` the subjects (core.steps) of the steps that were under way when the look began."""

    replicas: Mapping[ReplicaId, ObservedReplica] = field(default_factory=dict)
    artefacts: Mapping[int, Artefact] = field(default_factory=dict)
    balancer: ObservedBalancer = field(default_factory=ObservedBalancer)
    dns: Mapping[str, ObservedDns] = field(default_factory=dict)
    direct: Mapping[ReplicaId, int] = field(default_factory=dict)
    probes: Mapping[ReplicaId, ProbeHistory] = field(default_factory=dict)
    logs: Mapping[ReplicaId, tuple[str, ...]] = field(default_factory=dict)
    refusals: Mapping[ReplicaId, Refusal] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
