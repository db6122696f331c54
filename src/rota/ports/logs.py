"""What replicas have written: read by the API and for the reason of a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from rota.core.names import ReplicaId


@dataclass(frozen=True)
class LogLine:
    replica: ReplicaId
    text: str


class Logs(Protocol):
    async def tail(self, replica: ReplicaId, lines: int) -> tuple[str, ...]:
        """The last lines of a replica's output, oldest first; empty when nothing is kept of it."""
        ...

    def follow(self, replica: ReplicaId, lines: int) -> AsyncIterator[LogLine]:
        """The last lines, then new ones as they come, until the replica is gone and its output read."""
        ...
