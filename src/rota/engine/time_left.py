"""The time that rollouts under way still take, by the forecast that rota plan makes; owns what was reckoned last. Asked
by the engine's face whenever somebody watches.

Nobody who watches makes the daemon busy: it reckons at most once a second, and rests twenty times as long as that
took."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from rota.core.durations import Durations
from rota.core.forecast import seconds_left
from rota.core.names import RolloutId
from rota.core.observation import Observation
from rota.core.rollout import Phase, Rollout
from rota.core.state import AppState
from rota.engine.measuring import Measuring
from rota.engine.reconciler import Reconciler
from rota.ports.clock import Clock

_AGAIN_AFTER = 1.0  # seconds
_REST = 20.0  # times what a reckoning took


@dataclass(frozen=True)
class _Reckoned:
    """``lengths`` are measured anew when another slot is done."""

    rollout: RolloutId
    phase: Phase
    done: int
    lengths: Durations
    at: float
    again_at: float
    seconds: float | None


class TimeLeft:
    def __init__(self, measuring: Measuring, clock: Clock) -> None:
        self._measuring = measuring
        self._clock = clock
        self._last: dict[str, _Reckoned] = {}
        self._reckoning: set[str] = set()

    async def of(self, app: Reconciler) -> float | None:
        """Seconds to the end of the app's rollout; None when none is under way, or it waits for a person."""
        rollout, observed = app.state.recorded.running_rollout, app.observation
        if rollout is None or observed is None:
            self._last.pop(app.state.name, None)
            return None
        last, now = self._last.get(app.state.name), self._clock.now()
        name = app.state.name
        due = last is None or (last.rollout, last.phase) != (rollout.id, rollout.phase) or now >= last.again_at
        if due and name not in self._reckoning:  # else each that watches would start a thread of its own
            self._reckoning.add(name)
            try:
                last = self._last[name] = await self._reckon(app.state, observed, rollout, last)
            finally:
                self._reckoning.discard(name)
        if last is None or last.rollout != rollout.id or last.seconds is None:
            return None
        return max(0.0, last.at + last.seconds - now)

    async def _reckon(
        self, state: AppState, observed: Observation, rollout: Rollout, last: _Reckoned | None
    ) -> _Reckoned:
        done = sum(taken.finished_at is not None for taken in rollout.taken.values())
        lengths = last.lengths if last is not None and (last.rollout, last.done) == (rollout.id, done) else None
        began = time.perf_counter()
        if lengths is None:
            lengths = await self._measuring.of(state, observed.balancer)
        now = self._clock.now()
        # Beside the loops: a forecast of many replicas takes its time.
        seconds = await asyncio.to_thread(seconds_left, state, observed, lengths, now)
        again_at = now + max(_AGAIN_AFTER, _REST * (time.perf_counter() - began))
        return _Reckoned(rollout.id, rollout.phase, done, lengths, now, again_at, seconds)
