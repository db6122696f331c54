"""How long to wait before a slot's next try: exponential with full jitter, without a source of randomness."""

from __future__ import annotations

import zlib

from rota.core.spec import Restart

SHORT_LIFE = 10.0  # seconds in rotation below which a death counts as "did not become ready" (design.md)
RESET_AFTER = 60.0  # seconds in rotation after which earlier attempts are forgotten (design.md)


def wait(restart: Restart, attempts: int, key: str) -> float:
    """Seconds before try ``attempts + 1``. Full jitter: evenly over 0 to the exponential bound; the place in it
    comes from ``key`` (a replica's id), so that the same history gives the same wait. Past the last attempt it is
    the slow retry at ``max_delay`` (S5)."""
    if attempts >= restart.attempts:
        return restart.max_delay
    bound = min(restart.max_delay, restart.delay * 2.0 ** min(attempts - 1, 60))
    return bound * (zlib.crc32(key.encode()) / 2**32)
