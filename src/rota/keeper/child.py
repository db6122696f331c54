"""One child: its record, and what the keeper holds of its present run; made and changed by the children."""

from .listeners import Listeners
from .loop import Timer
from .record import Record
from .sweep import Sweep

FIRST_BACKOFF, LONGEST_BACKOFF = 0.05, 5.0
SETTLED = 10.0
"""Seconds alive after which the next restart is immediate again."""
HELD_FOR = 5
"""So many quick ends in a row, some 1.5 s, have connections wait for a child; then they are refused."""


class Child:
    """A record, and what this keeper holds of its present run."""

    def __init__(self, record: Record, listeners: Listeners) -> None:
        self.record, self.listeners = record, listeners
        self.pidfd: int | None = None
        self.ours_to_reap = False
        self.since = 0.0
        self.quick_exits = 0
        self.restart_timer: Timer | None = None
        self.sweep: Sweep | None = None

    @property
    def alive(self) -> bool:
        """Whether its main process runs."""
        return self.pidfd is not None

    def cancel_restart(self) -> None:
        """It is not started again by itself."""
        if self.restart_timer is not None:
            self.restart_timer.cancel()
            self.restart_timer = None

    def listen(self) -> None:
        """Connections wait for it, unless it ends again and again."""
        self.listeners.hold(self.record.listen if self.quick_exits <= HELD_FOR else {})

    def backoff(self) -> float:
        """Seconds to wait before the next restart; counts it."""
        delay = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (self.quick_exits - 1)) if self.quick_exits else 0.0
        self.quick_exits = min(self.quick_exits + 1, 16)
        return delay
