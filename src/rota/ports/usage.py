"""What replicas use of their machine: read by the engine's statistics, at most a few times a second, and by its probing
once a boot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from rota.core.names import ReplicaId


@dataclass(frozen=True)
class Reading:
    """Of one replica's whole tree at the moment ``at`` (rota's clock). ``memory`` in bytes, without file cache that
    the kernel can drop; ``cpu_seconds`` since some time before, so that two readings tell the use between them."""

    at: float
    memory: int
    cpu_seconds: float


class Usage(Protocol):
    async def usage(self, replicas: Collection[ReplicaId]) -> Mapping[ReplicaId, Reading]:
        """One reading of each that runs; one that has ended, or that nobody knows, has no entry. Takes well under a
        millisecond a replica. Raises StepFailed while the runtime itself cannot be asked."""
        ...

    async def waited(self, replica: ReplicaId) -> float | None:
        """Seconds that it was ready to compute and had no core, since it began: those of the thread of its tree that
        waited longest, as threads wait beside each other. None where nobody can tell."""
        ...
