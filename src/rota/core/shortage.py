"""When the disk is short: below a share of it, or an amount; asked by engine.diskwatch and ``rota doctor``."""

from __future__ import annotations

LEAST_SHARE = 0.05
LEAST_BYTES = 2**30  # the smaller of the two counts: a large disk may be 99 % full
OVER_AT = 1.5  # times that, so that one incident does not come and go


def is_short(free: int, total: int, *, was: bool = False) -> bool:
    """Whether the disk is short now; ``was``: whether it was at the last look."""
    least = min(total * LEAST_SHARE, LEAST_BYTES)
    return free < least * (OVER_AT if was else 1.0)


def in_words(free: int, total: int) -> str:
    return f"{free / 2**20:,.0f} MiB of {total / 2**20:,.0f} MiB are free"
