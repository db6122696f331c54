"""When HAProxy was not running, and what it had said last before; asked by balancer.py at each look."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rota.adapters.balancer.haproxy.launcher import Launcher, Run
from rota.adapters.balancer.haproxy.stats import BackendReading, Reading
from rota.core.errors import StepFailed
from rota.core.observation import Gap, LastLook


class Told(Protocol):
    """What one process said at one moment."""

    def of(self, app: str) -> Reading: ...


@dataclass(frozen=True)
class _Look:
    at: float
    processes: Sequence[Told]


class Outages:
    """``look`` comes before HAProxy is read, ``read`` after it."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._gaps: tuple[Gap, ...] = ()
        self._last: _Look | None = None
        self._before: dict[float, _Look | None] = {}

    async def look(self) -> None:
        with contextlib.suppress(StepFailed):  # HAProxy serves on without its parent; what is known of gaps stands
            self._gaps = _gaps_of(await self._launcher.runs())
        for gap in self._gaps:
            if gap.since not in self._before:
                # A reading of the next process says nothing of the one before.
                self._before[gap.since] = self._last if self._last is not None and self._last.at <= gap.since else None
        self._before = {gap.since: self._before[gap.since] for gap in self._gaps}

    def read(self, at: float, processes: Sequence[Told]) -> None:
        """What all of them said at one moment."""
        self._last = _Look(at, processes)

    def of(self, app: str) -> tuple[Gap, ...]:
        return tuple(replace(gap, before=self._said(app, gap)) for gap in self._gaps)

    def _said(self, app: str, gap: Gap) -> LastLook | None:
        look = self._before[gap.since]
        if look is None:
            return None
        counts = [_counts(row) for told in look.processes for row in told.of(app).backends.values()]
        return LastLook(gap.since - look.at, *map(sum, zip(*counts, strict=True))) if counts else None


def _counts(row: BackendReading) -> tuple[int, int, int]:
    """What was open, and the requests and the TCP connections that had come in the second before."""
    return row.open, row.came, row.connected


def _gaps_of(runs: Sequence[Run]) -> tuple[Gap, ...]:
    """The times between HAProxy's lives, and the one that lasts when it is not running."""
    gaps = []
    for run, after in zip(runs, [*runs[1:], None], strict=True):
        if run.exited_at is not None:
            until = (after.serving_at or after.started_at) if after else None
            gaps.append(Gap(run.exited_at, until, run.reason or "HAProxy had ended"))
    return tuple(gaps)
