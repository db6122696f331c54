"""What the adapter asks of whoever is HAProxy's parent: keep it running, and say when it was not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Run:
    """One life of HAProxy's master; times in seconds of rota's clock, ``exited_at`` None while it lives. It accepts
    from ``serving_at`` on, after it has read its file and bound its addresses; None where that was not seen."""

    pid: int
    started_at: float
    exited_at: float | None = None
    reason: str = ""
    serving_at: float | None = None


class Launcher(Protocol):
    async def ensure(self, argv: Sequence[str], listen: Mapping[str, str]) -> None:
        """Runs the command and starts it again whenever it ends, until told otherwise; running already, nothing
        changes. ``listen`` are places by variables: where the parent can listen for it, so that connections wait while
        it is started again, the variable is set to a word that is HAProxy's for that socket. Raises StepFailed."""
        ...

    async def listen(self, listen: Mapping[str, str]) -> None:
        """The same from the next start on; at places that are no longer among them nobody waits from now on. Raises
        StepFailed."""
        ...

    async def runs(self) -> Sequence[Run]:
        """HAProxy's lives, oldest first, as far back as the parent remembers. Raises StepFailed."""
        ...

    def on_exit(self, wake: Callable[[], None]) -> None:
        """Calls ``wake()`` within milliseconds of HAProxy's end."""
        ...
