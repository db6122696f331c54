"""A clock that tests move by hand; the fakes hang what is to happen later on it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class FakeClock:
    """Stands still between calls of ``advance``; fulfils the Clock port. Starts at 2026-01-01 00:00 UTC."""

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return self._now

    def call_at(self, when: float, act: Callable[[], None]) -> None:
        """Calls ``act`` once the clock has been moved to ``when``; a moment that is past already: at the next move."""
        heapq.heappush(self._due, (when, next(self._order), act))

    def advance(self, seconds: float) -> None:
        """Moves on by ``seconds`` and does what falls due on the way, in the order of its times, each at its time."""
        if seconds < 0:
            raise ValueError("time does not go back")
        until = self._now + seconds
        while self._due and self._due[0][0] <= until:
            when, _, act = heapq.heappop(self._due)
            self._now = max(self._now, when)
            act()
        self._now = until

    @property
    def next_due(self) -> float | None:
        """When the next thing happens by itself; None when nothing is to come."""
        return self._due[0][0] if self._due else None
