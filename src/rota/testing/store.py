"""A store in memory, with faults to order; used by tests in place of the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rota.core.errors import StepFailed
from rota.core.events import Event
from rota.core.notice import Letter
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
        self._letters: dict[int, Letter] = {}
        self._letter_count = 0
        self._incidents: set[str] = set()
        self._faults: list[str] = []
        self._pruned = 0

    def fail_next(self, writes: int = 1, message: str = "cannot write: disk full") -> None:
        """The next writes raise StepFailed with this message and change nothing."""
        self._faults += [message] * writes

    def prune(self) -> None:
        """The events so far are too old to be kept."""
        self._pruned = len(self._events)

    async def load(self) -> tuple[AppState, ...]:
        return tuple(self._states[name] for name in sorted(self._states))

    async def save(self, state: AppState, events: Sequence[Event], letters: Sequence[Letter] = ()) -> tuple[Event, ...]:
        self._fail_if_ordered()
        self._add(letters)
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
            for event in self._events[self._pruned :]
            if event.seq > after and app in (None, event.app) and rollout in (None, event.rollout)
        ]
        return tuple(found[max(0, len(found) - limit) :] if after < 0 else found[:limit])

    async def answer(self, key: str) -> Answer | None:
        return self._answers.get(key)

    async def keep_answer(self, key: str, answer: Answer) -> None:
        self._fail_if_ordered()
        self._answers[key] = answer

    async def due_letters(self, now: float) -> tuple[Letter, ...]:
        due = [letter for letter in self._letters.values() if letter.next_try is not None and letter.next_try <= now]
        first: dict[str, Letter] = {}
        for letter in sorted(due, key=lambda letter: (letter.next_try, letter.number)):
            first.setdefault(letter.url, letter)
        return tuple(first.values())

    async def next_letter(self, after: float) -> float | None:
        times = (letter.next_try for letter in self._letters.values() if letter.next_try is not None)
        return min((at for at in times if at > after), default=None)

    async def put_off(self, letter: Letter) -> None:
        self._fail_if_ordered()
        if letter.number in self._letters:
            self._letters[letter.number] = letter

    async def drop_letter(self, number: int) -> None:
        self._fail_if_ordered()
        self._letters.pop(number, None)

    async def unsent(self) -> tuple[Letter, ...]:
        return tuple(letter for letter in reversed(self._letters.values()) if letter.failure)[:100]

    async def incident(self, name: str) -> bool:
        return name in self._incidents

    async def keep_incident(self, name: str, lasts: bool, letters: Sequence[Letter]) -> None:
        self._fail_if_ordered()
        self._add(letters)
        (self._incidents.add if lasts else self._incidents.discard)(name)

    async def close(self) -> None:
        return

    def _fail_if_ordered(self) -> None:
        if self._faults:
            raise StepFailed(self._faults.pop(0))

    def _add(self, letters: Iterable[Letter]) -> None:
        for letter in letters:
            self._letter_count += 1
            self._letters[self._letter_count] = replace(letter, number=self._letter_count)

    def _append(self, events: Iterable[Event]) -> tuple[Event, ...]:
        numbered = tuple(replace(event, seq=len(self._events) + count) for count, event in enumerate(events, start=1))
        self._events += numbered
        return numbered
