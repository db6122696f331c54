"""Time: nobody else is asked what time it is."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch on rota's own clock: set once a boot from the wall clock, then moved on by the time
        since boot, so that a jump of the wall clock neither shortens nor lengthens a wait."""
        ...
