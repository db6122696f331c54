"""The running count of a load run; LoadRun feeds it each outcome and asks it for the report."""

from array import array
from collections import Counter
from collections.abc import Sequence

from rota.testing.load.client import Exchange
from rota.testing.load.outcome import Ending, Outcome
from rota.testing.load.plan import LoadPlan, PathKind
from rota.testing.load.report import Count, LoadReport, LostRequest, Percentiles, Seen, WebSocketReport

MAX_SAMPLES = 100


class Tally:
    """Counts outcomes; loop times become wall-clock times by `wall_offset` (seconds)."""

    def __init__(self, plan: LoadPlan, wall_offset: float) -> None:
        self._plan = plan
        self._wall_offset = wall_offset
        self._ok = self._own = 0
        self._kinds: Counter[str] = Counter()
        self._ends: dict[str, Counter[tuple[str, bool]]] = {
            "method": Counter(),
            "path": Counter(),
            "connection": Counter(),
        }
        self._replicas: dict[str, tuple[int, float, float]] = {}
        self._releases: Counter[str] = Counter()
        self._latency: dict[str, array[float]] = {}
        self._lateness: array[float] = array("d")
        self._samples: list[LostRequest] = []
        self._last_ok_at: float | None = None
        self._longest_gap = 0.0

    @property
    def total(self) -> int:
        """How many requests have an outcome."""
        return self._ok + self._own + self._kinds.total()

    @property
    def ok(self) -> int:
        """How many were answered rightly."""
        return self._ok

    def add(self, exchange: Exchange, outcome: Outcome, now: float) -> None:
        """Count one outcome at the loop time `now`."""
        request = exchange.request
        self._lateness.append((exchange.sent - exchange.planned) * 1000)
        if outcome.ending is Ending.OWN:
            self._own += 1
            return
        ok = outcome.ending is Ending.OK
        self._ends["method"][request.method, ok] += 1
        self._ends["path"][request.kind.value, ok] += 1
        self._ends["connection"]["kept" if exchange.reused else "new", ok] += 1
        self._see(outcome, now)
        if ok:
            self._ok += 1
            self._latency.setdefault(request.kind.value, array("d")).append((now - exchange.planned) * 1000)
            if request.kind is not PathKind.SLOW:
                self._end_gap(now)
        else:
            self._kinds[outcome.kind] += 1
            self._sample(exchange, outcome, now)

    def report(self, started: float, last_arrival: float, websockets: WebSocketReport | None) -> LoadReport:
        """The report over everything counted, for requests that arrived between two loop times."""
        silence = last_arrival - (started if self._last_ok_at is None else self._last_ok_at)
        return LoadReport(
            rate=self._plan.rate,
            seconds=round(max(0.0, last_arrival - started), 3),
            requests=self.total,
            ok=self._ok,
            lost=self._kinds.total(),
            own_errors=self._own,
            lateness=percentiles(self._lateness),
            kinds=dict(self._kinds),
            by_method=_counts(self._ends["method"]),
            by_path=_counts(self._ends["path"]),
            by_connection=_counts(self._ends["connection"]),
            by_replica={name: Seen(*seen) for name, seen in self._replicas.items()},
            by_release=dict(self._releases),
            latency={kind: percentiles(values) for kind, values in self._latency.items()},
            longest_gap_ms=round(max(self._longest_gap, silence, 0.0) * 1000, 3),
            samples=tuple(self._samples),
            websockets=websockets,
        )

    def _end_gap(self, now: float) -> None:
        if self._last_ok_at is not None:
            self._longest_gap = max(self._longest_gap, now - self._last_ok_at)
        self._last_ok_at = now

    def _see(self, outcome: Outcome, now: float) -> None:
        if outcome.release is not None:
            self._releases[outcome.release] += 1
        if outcome.replica is not None:
            at = now + self._wall_offset
            answers, first_at, _ = self._replicas.get(outcome.replica, (0, at, at))
            self._replicas[outcome.replica] = (answers + 1, first_at, at)

    def _sample(self, exchange: Exchange, outcome: Outcome, now: float) -> None:
        if len(self._samples) < MAX_SAMPLES:
            request = exchange.request
            self._samples.append(
                LostRequest(
                    number=request.number,
                    sent_at=exchange.sent + self._wall_offset,
                    ended_at=now + self._wall_offset,
                    method=request.method,
                    path=request.path,
                    kind=outcome.kind,
                    reused=exchange.reused,
                    replica=outcome.replica,
                    detail=outcome.detail,
                )
            )


def percentiles(values: Sequence[float]) -> Percentiles:
    """Nearest-rank percentiles; all 0 for no value."""
    if not values:
        return Percentiles()
    ordered = sorted(values)
    p50, p90, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.9, 0.99))
    return Percentiles(round(p50, 3), round(p90, 3), round(p99, 3), round(ordered[-1], 3))


def _counts(ends: Counter[tuple[str, bool]]) -> dict[str, Count]:
    names = sorted({name for name, _ in ends})
    return {name: Count(ends[name, True], ends[name, False]) for name in names}
