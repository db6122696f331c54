"""What is kept over a crash: written by the engine before it acts, read when it starts and for the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rota.core.events import Event
from rota.core.notice import Letter
from rota.core.rollout import Rollout
from rota.core.state import AppState


@dataclass(frozen=True)
class Answer:
    """A stored answer to a request with an Idempotency-Key; ``fingerprint`` identifies the request."""

    fingerprint: str
    status: int
    body: str


class Store(Protocol):
    """Each write is one durable transaction: all of it or, after a crash, nothing of it.

    Raises StepFailed when it cannot write (disk full) with a message for a person; nothing is lost then."""

    async def load(self) -> tuple[AppState, ...]: ...

    async def save(self, state: AppState, events: Sequence[Event], letters: Sequence[Letter] = ()) -> tuple[Event, ...]:
        """Keeps an app's state, its rollout in the history, the events and what people are to be told of them; returns
        the events with their ``seq``."""
        ...

    async def forget(self, app: str, events: Sequence[Event]) -> tuple[Event, ...]:
        """Drops an app's state; its rollouts and events stay in the history."""
        ...

    async def rollouts(self, app: str | None, limit: int) -> tuple[Rollout, ...]:
        """The newest first."""
        ...

    async def rollout(self, name: str) -> Rollout | None: ...

    async def events(
        self, *, app: str | None = None, rollout: str | None = None, after: int = 0, limit: int = 1000
    ) -> tuple[Event, ...]:
        """Events with a higher ``seq`` than ``after``, oldest first; with ``after`` -1 the newest ``limit``."""
        ...

    async def answer(self, key: str) -> Answer | None: ...

    async def keep_answer(self, key: str, answer: Answer) -> None: ...

    async def due_letters(self, now: float) -> tuple[Letter, ...]:
        """Of each address the letter to be sent by now that has waited longest; so are the addresses in order."""
        ...

    async def next_letter(self, after: float) -> float | None:
        """When the next letter becomes due after that time; None when there is none."""
        ...

    async def put_off(self, letter: Letter) -> None:
        """Keeps a letter's attempts, failure and next try."""
        ...

    async def drop_letter(self, number: int) -> None:
        """The letter was taken."""
        ...

    async def unsent(self) -> tuple[Letter, ...]:
        """The newest letters, at most 100, that have failed so far or were given up; the newest first."""
        ...

    async def incident(self, name: str) -> bool:
        """Whether people were told of it, and not yet that it is over."""
        ...

    async def keep_incident(self, name: str, lasts: bool, letters: Sequence[Letter]) -> None:
        """It lasts, or is over; with what people are to be told."""
        ...

    async def close(self) -> None: ...
