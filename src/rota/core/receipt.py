"""How HAProxy's rows add up to a receipt: read by decide and the API, held against a load generator by the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rota.core.names import ReplicaId
from rota.core.observation import Counters, Row


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
