"""What is kept over a crash: written by the engine before it acts, read when it starts and for the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rota.core.events import Event
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

    async def save(self, state: AppState, events: Sequence[Event]) -> tuple[Event, ...]:
        """Keeps an app's state, its rollout in the history and the events; returns the events with their ``seq``."""
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

    async def close(self) -> None: ...
