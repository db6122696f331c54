"""When HAProxy was not running, and what it had said last before; asked by balancer.py at each look."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rota.adapters.balancer.haproxy.launcher import Launcher, Run
from rota.adapters.balancer.haproxy.stats import Reading
from rota.adapters.balancer.haproxy.view import app_of
from rota.core.errors import StepFailed
from rota.core.observation import Gap, LastLook


@dataclass(frozen=True)
class _Look:
    """``counts``: by app what was open, and the requests and the TCP connections that had come in the second before."""

    at: float
    counts: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


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

    def read(self, at: float, readings: Iterable[Reading]) -> None:
        """What all processes said at one moment."""
        counts: dict[str, tuple[int, int, int]] = {}
        for row in (row for reading in readings for row in reading.backends.values()):
            app = app_of(row.name)
            there, requests, connections = counts.get(app, (0, 0, 0))
            counts[app] = (there + row.open, requests + row.came, connections + row.connected)
        self._last = _Look(at, counts)

    def of(self, app: str) -> tuple[Gap, ...]:
        return tuple(replace(gap, before=self._said(app, gap)) for gap in self._gaps)

    def _said(self, app: str, gap: Gap) -> LastLook | None:
        look = self._before[gap.since]
        if look is None or app not in look.counts:
            return None
        return LastLook(gap.since - look.at, *look.counts[app])


def _gaps_of(runs: Sequence[Run]) -> tuple[Gap, ...]:
    """The times between HAProxy's lives, and the one that lasts when it is not running."""
    gaps = []
    for run, after in zip(runs, [*runs[1:], None], strict=True):
        if run.exited_at is not None:
            until = (after.serving_at or after.started_at) if after else None
            gaps.append(Gap(run.exited_at, until, run.reason or "HAProxy had ended"))
    return tuple(gaps)
