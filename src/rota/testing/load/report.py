"""What came of a load run: the report that people and tests read; the tally makes it."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_LATENESS_MS = 50.0
"""A run whose p99 lateness is over this did not keep its rate and shows nothing."""


@dataclass(frozen=True)
class Count:
    """Requests of one sort, by how they ended."""

    ok: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Percentiles:
    """A distribution in milliseconds."""

    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True)
class Seen:
    """The answers of one replica; first and last in seconds since 1970."""

    answers: int
    first_at: float
    last_at: float


@dataclass(frozen=True)
class LostRequest:
    """One lost request; `sent_at` and `ended_at` in seconds since 1970, `replica` as far as it is known."""

    number: int
    sent_at: float
    ended_at: float
    method: str
    path: str
    kind: str
    reused: bool
    replica: str | None
    detail: str


@dataclass(frozen=True)
class WebSocketReport:
    """The held WebSockets, counted apart: `closed_at` are the times at which the other side closed one."""

    opened: int = 0
    echoed: int = 0
    wrong: int = 0
    failed: int = 0
    closed: int = 0
    closed_at: tuple[float, ...] = ()


@dataclass(frozen=True)
class LoadReport:
    """Every arrival counted once: requests = ok + lost + own_errors.

    `kinds` splits `lost` (refused, unreachable, reset, closed, broken, timeout, status-NNN, wrong-body).
    `longest_gap_ms` is the longest time without a right answer (slow ones aside).
    Latency is taken from the planned arrival.
    """

    rate: float
    seconds: float
    requests: int
    ok: int
    lost: int
    own_errors: int
    lateness: Percentiles
    kinds: dict[str, int] = field(default_factory=dict)
    by_method: dict[str, Count] = field(default_factory=dict)
    by_path: dict[str, Count] = field(default_factory=dict)
    by_connection: dict[str, Count] = field(default_factory=dict)
    by_replica: dict[str, Seen] = field(default_factory=dict)
    by_release: dict[str, int] = field(default_factory=dict)
    latency: dict[str, Percentiles] = field(default_factory=dict)
    longest_gap_ms: float = 0.0
    samples: tuple[LostRequest, ...] = ()
    websockets: WebSocketReport | None = None

    @property
    def invalid_reason(self) -> str | None:
        """Why the run shows nothing; None for a valid one."""
        if self.lateness.p99 > MAX_LATENESS_MS:
            return f"the rate was not kept: p99 lateness {self.lateness.p99:.0f} ms"
        if self.own_errors:
            return f"{self.own_errors} errors of the generator's own side"
        return None

    @property
    def valid(self) -> bool:
        """Whether the generator did what was planned."""
        return self.invalid_reason is None

    def summary(self) -> str:
        """One line for people."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        line = f"{self.requests:,} requests, {self.lost:,} lost{f' ({kinds})' if kinds else ''}"
        fast = self.latency.get("fast")
        if fast is not None:
            line += f", p50 {fast.p50:.1f} ms, p99 {fast.p99:.1f} ms"
        if self.websockets is not None:
            line += f", {self.websockets.echoed:,} WebSocket echoes, {self.websockets.closed} closed"
        return line if self.valid else f"{line}; INVALID: {self.invalid_reason}"

    def to_json(self) -> str:
        """One line of JSON with all fields, `valid` and `invalid_reason`."""
        return json.dumps({**asdict(self), "valid": self.valid, "invalid_reason": self.invalid_reason})

    @classmethod
    def from_json(cls, text: str) -> "LoadReport":
        """The report that `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        fields: dict[str, Any] = json.loads(text)
        del fields["valid"], fields["invalid_reason"]
        for name in ("by_method", "by_path", "by_connection"):
            fields[name] = {key: Count(**count) for key, count in fields[name].items()}
        fields["by_replica"] = {key: Seen(**seen) for key, seen in fields["by_replica"].items()}
        fields["latency"] = {key: Percentiles(**values) for key, values in fields["latency"].items()}
        fields["lateness"] = Percentiles(**fields["lateness"])
        fields["samples"] = tuple(LostRequest(**sample) for sample in fields["samples"])
        sockets = fields["websockets"]
        if sockets is not None:
            fields["websockets"] = WebSocketReport(**{**sockets, "closed_at": tuple(sockets["closed_at"])})
        return cls(**fields)
