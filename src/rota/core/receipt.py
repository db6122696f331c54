"""The receipt of a rollout: how HAProxy's rows between its beginning and its end add up (R1); shown by the engine's
views, held against a load generator by the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rota.core.names import ReplicaId
from rota.core.observation import Counters, Gap, Row
from rota.core.rollout import Rollout

BALANCER_DOWN = "HAProxy was not running"


@dataclass(frozen=True)
class Receipt:
    """``totals`` are summed over backends, ``by_release`` over their servers. ``complete`` is False when a HAProxy
    process ended with counts that nobody had read."""

    totals: Counters
    by_release: Mapping[int, int]
    cut: int
    gaps: tuple[Gap, ...]
    complete: bool


def receipt(rollout: Rollout, live: Iterable[Row], outages: tuple[Gap, ...]) -> Receipt:
    """``live``: the rows as they stand now, empty once the rollout has ended (it keeps its last ones).
    ``outages``: HAProxy's own, as far as they are not in the rollout yet."""
    rows = {**rollout.rows, **{row.key: row for row in live}}
    baseline = {key: row.counters for key, row in rollout.baseline.items()}
    by_release = dict[int, int]()
    for replica, counted in by_replica(rows.values(), baseline).items():
        release = rollout.releases.get(replica)
        served = counted.requests + counted.connections
        if release is not None and served:
            by_release[release] = by_release.get(release, 0) + served
    gaps = (*rollout.gaps, *outages)
    complete = not any(gap.reason == BALANCER_DOWN for gap in gaps)
    return Receipt(totals(rows.values(), baseline), by_release, rollout.cut, gaps, complete)


def totals(rows: Iterable[Row], baseline: Mapping[str, Counters]) -> Counters:
    """What users saw: the sum of the backends' rows, each less its baseline (by ``Row.key``; none is 0).

    The backends' rows alone hold every request once, those that no server got included, and keep what servers
    counted that are gone; a server's row counts what was sent to it. ``rows`` are the last of every key."""
    return _sum((row for row in rows if row.replica is None), baseline)


def by_replica(rows: Iterable[Row], baseline: Mapping[str, Counters]) -> dict[ReplicaId, Counters]:
    """What each replica answered, over all processes of HAProxy; ``failed`` cannot be told by replica and is 0."""
    of_replica: dict[ReplicaId, list[Row]] = {}
    for row in rows:
        if row.replica is not None:
            of_replica.setdefault(row.replica, []).append(row)
    return {replica: _sum(own, baseline) for replica, own in of_replica.items()}


def _sum(rows: Iterable[Row], baseline: Mapping[str, Counters]) -> Counters:
    return sum((row.counters - baseline.get(row.key, Counters()) for row in rows), Counters())
