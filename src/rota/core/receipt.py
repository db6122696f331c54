"""The receipt of a rollout: what HAProxy counted between its beginning and its end (R1); shown by engine.status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rota.core.observation import Counters, Gap, Row
from rota.core.rollout import Rollout


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
    totals, by_release = Counters(), dict[int, int]()
    for key, row in rows.items():
        before = rollout.baseline.get(key)
        counted = row.counters - before.counters if before is not None else row.counters
        if row.replica is None:
            totals += counted
        elif row.replica in rollout.releases and counted.requests:
            release = rollout.releases[row.replica]
            by_release[release] = by_release.get(release, 0) + counted.requests
    gaps = (*rollout.gaps, *outages)
    return Receipt(totals, by_release, rollout.cut, gaps, not any("HAProxy" in gap.reason for gap in gaps))
