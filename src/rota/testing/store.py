"""A store in memory, with faults to order; used by tests in place of the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rota.core.errors import StepFailed
from rota.core.events import Event
from rota.core.rollout import Rollout
from rota.core.state import AppState
from rota.ports.store import Answer


class MemoryStore:
    """Fulfils the Store port. It outlives ``close``: given to a second engine it is what the first one left.

    ``saved`` is every state that was ever kept, oldest first: what a crash at that moment would have left."""

    def __init__(self) -> None:
        self.saved: list[AppState] = []
        self._states: dict[str, AppState] = {}
        self._rollouts: dict[tuple[str, float], Rollout] = {}
        self._events: list[Event] = []
        self._answers: dict[str, Answer] = {}
        self._faults: list[str] = []

    def fail_next(self, writes: int = 1, message: str = "cannot write: disk full") -> None:
        """The next writes raise StepFailed with this message and change nothing."""
        self._faults += [message] * writes

    async def load(self) -> tuple[AppState, ...]:
        return tuple(self._states[name] for name in sorted(self._states))

    async def save(self, state: AppState, events: Sequence[Event]) -> tuple[Event, ...]:
        self._fail_if_ordered()
        self.saved.append(state)
        self._states[state.name] = state
        rollout = state.recorded.rollout
        if rollout is not None:
            self._rollouts[rollout.id, rollout.created_at] = rollout
        return self._append(events)

    async def forget(self, app: str, events: Sequence[Event]) -> tuple[Event, ...]:
        self._fail_if_ordered()
        self._states.pop(app, None)
        return self._append(events)

    async def rollouts(self, app: str | None, limit: int) -> tuple[Rollout, ...]:
        newest = reversed(self._rollouts.values())
        return tuple(rollout for rollout in newest if app in (None, rollout.app))[:limit]

    async def rollout(self, name: str) -> Rollout | None:
        return next((rollout for rollout in reversed(self._rollouts.values()) if rollout.id == name), None)

    async def events(
        self, *, app: str | None = None, rollout: str | None = None, after: int = 0, limit: int = 1000
    ) -> tuple[Event, ...]:
        found = [
            event
            for event in self._events
            if event.seq > after and app in (None, event.app) and rollout in (None, event.rollout)
        ]
        return tuple(found[max(0, len(found) - limit) :] if after < 0 else found[:limit])

    async def answer(self, key: str) -> Answer | None:
        return self._answers.get(key)

    async def keep_answer(self, key: str, answer: Answer) -> None:
        self._fail_if_ordered()
        self._answers[key] = answer

    async def close(self) -> None:
        return

    def _fail_if_ordered(self) -> None:
        if self._faults:
            raise StepFailed(self._faults.pop(0))

    def _append(self, events: Iterable[Event]) -> tuple[Event, ...]:
        numbered = tuple(replace(event, seq=len(self._events) + count) for count, event in enumerate(events, start=1))
        self._events += numbered
        return numbered
