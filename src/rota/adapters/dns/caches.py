"""For how long caches may have what a view said before: the longest TTL seen of late; used by internal and outside.

A record's TTL ends with the record, and caches go on: what was answered with 120 s is kept for 120 s, also when the TTL
has been made 1 s since."""

from __future__ import annotations

import asyncio

LONGEST_TTL = 300.0  # seconds: no hand-off waits for longer, whatever somebody set by hand


class Caches:
    """Remembers each TTL until the last answer that had it is gone from every cache."""

    def __init__(self) -> None:
        self._until: dict[float, float] = {}

    def saw(self, ttl: float) -> None:
        """An answer may have had this TTL until now."""
        ttl = min(ttl, LONGEST_TTL)
        self._until[ttl] = _now() + ttl

    @property
    def longest(self) -> float:
        """Seconds; 0 when nothing is kept that was seen."""
        now = _now()
        return max((ttl for ttl, until in self._until.items() if until > now), default=0.0)

    @property
    def changes_at(self) -> float:
        """When ``longest`` becomes another, in the loop's time, if nothing is seen until then."""
        return self._until.get(self.longest, float("inf"))

    def forget(self) -> bool:
        """Lets go of what is over; whether there was any."""
        now = _now()
        left = {ttl: until for ttl, until in self._until.items() if until > now}
        ended = len(left) < len(self._until)
        self._until = left
        return ended


def _now() -> float:
    return asyncio.get_running_loop().time()
