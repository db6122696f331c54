"""For how long caches may have what a view said before: the longest TTL seen of late; used by internal and outside.

A record's TTL ends with the record, and caches go on: what was answered with 120 s is kept for 120 s, also when the TTL
has been made 1 s since, and when the daemon that saw it has ended."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

from rota.adapters.durable import write_durably

LONGEST_TTL = 300.0  # seconds: no hand-off waits for longer, whatever somebody set by hand
_EARLY = 0.1  # of a TTL, by which its moment in the file may be too early: each reading moves it

log = logging.getLogger(__name__)


class Caches:
    """Remembers each TTL until the last answer that had it is gone from every cache; those longer than ``usual``, for
    which every hand-off waits anyway, in a file, where there is one."""

    def __init__(self, file: Path | None = None, usual: float = 0.0) -> None:
        self._file = file
        self._usual = usual
        self._until: dict[float, float] = {} if file is None else _read(file)
        self._kept = dict(self._until)

    def saw(self, ttl: float) -> None:
        """An answer may have had this TTL until now."""
        ttl = min(ttl, LONGEST_TTL)
        self._until[ttl] = _now() + ttl
        if ttl > self._usual and self._until[ttl] > self._kept.get(ttl, 0.0) + _EARLY * ttl:
            self._keep()

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
        if ended and self._kept:
            self._keep()
        return ended

    def _keep(self) -> None:
        if self._file is None:
            return
        self._kept = {ttl: until for ttl, until in self._until.items() if ttl > self._usual}
        ahead = time.time() - _now()  # a moment of another process can only be told by the wall's clock
        try:
            if self._kept:
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                text = json.dumps({str(ttl): until + ahead for ttl, until in self._kept.items()})
                # A machine that goes down is down for longer than it takes a cache to forget.
                write_durably(self._file, text, sync=False)
            else:
                self._file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be written, so a restart forgets what caches may have: %s", self._file, error)


def _read(file: Path) -> dict[float, float]:
    """Nothing when it cannot be read: it is a memory of minutes."""
    try:
        read = {float(ttl): float(until) - time.time() for ttl, until in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    # A clock that was set back must not make the memory longer than the TTL.
    return {ttl: _now() + min(left, ttl) for ttl, left in read.items() if 0 < ttl <= LONGEST_TTL and left > 0}


def _now() -> float:
    return asyncio.get_running_loop().time()
