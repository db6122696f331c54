"""Whether a limit holds, from ratios that were measured in pairs, and whether that can be said at all; no clock, no
I/O."""

from __future__ import annotations

import enum
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

_RESAMPLES = 4000
_CONFIDENCE = 0.95

T = TypeVar("T")


class Verdict(enum.Enum):
    HELD = "held"
    OVER = "over"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Interval:
    """Where a median lies with a confidence of 95 %."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Interval:
        """By the bootstrap: the medians of draws from these. Raises ValueError for none."""
        if not ratios:
            raise ValueError("nothing was measured")
        draw = random.Random(1)  # noqa: S311 - the same interval for the same ratios
        medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES))
        rest = round(_RESAMPLES * (1 - _CONFIDENCE) / 2)
        return cls(statistics.median(ratios), medians[rest], medians[-1 - rest])

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def judged(own: Interval, same: Interval, limit: float) -> tuple[Verdict, str]:
    """``own`` and ``same`` are ratios to a reference; ``same`` is of one that differs from that in nothing, so it says
    how much a ratio strays by itself. A limit below 1 is a least one, above 1 a most one."""
    stray = max(same.high, 1 / same.low)
    if stray > max(limit, 1 / limit):
        return Verdict.UNDECIDED, f"the same beside itself strays by {stray - 1:.3f}, more than the limit allows"
    within, beyond = (own.low >= limit, own.high < limit) if limit < 1 else (own.high <= limit, own.low > limit)
    if within:
        return Verdict.HELD, ""
    if beyond:
        return Verdict.OVER, ""
    return Verdict.UNDECIDED, "the limit lies within the interval: more rounds would tell"


def orders(contenders: Sequence[T], rounds: int) -> list[list[T]]:
    """One a round: an order and the same backwards, so that what changes steadily weighs alike on all; each order as
    often as any other, in an order of their own that is always the same."""
    every = [list(order) for order in permutations(contenders)]
    random.Random(1).shuffle(every)  # noqa: S311 - the same for each run
    chosen = (every[number % len(every)] for number in range(rounds))
    return [[*order, *reversed(order)] for order in chosen]
