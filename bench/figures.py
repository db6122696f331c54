"""The arithmetic of the benches: spreads, overheads, and the times between a rollout's steps; no clock, no I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Of measurements in milliseconds."""

    median: float
    p90: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError for no values."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(statistics.median(values), quantile(values, 0.9), min(values), max(values))

    def __str__(self) -> str:
        return f"median {self.median:7.1f} ms   p90 {self.p90:7.1f}   min {self.least:7.1f}   max {self.most:7.1f}"


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of all do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(part * len(ranked)) - 1)]


def overhead_each(whole: float, bare: float, replicas: int) -> float:
    """What a rollout took beyond its replicas' own times, for each of them."""
    return (whole - bare) / replicas


def moment(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


def times_between(steps: Iterable[Mapping[str, Any]], finished_at: str) -> dict[str, list[float]]:
    """By "step → next step" the milliseconds from one step of a rollout to the one after it, in the order of their
    first appearance; the last one lasts until the rollout's end."""
    entries = [(str(step["step"]), moment(step["at"])) for step in steps]
    entries.append(("(end)", moment(finished_at)))
    found: dict[str, list[float]] = {}
    for (name, at), (after, until) in pairwise(entries):
        found.setdefault(f"{name} → {after}", []).append((until - at) * 1000)
    return found
