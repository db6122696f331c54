"""One look at whether a replica answers; asked by the observer until the replica is in rotation, and from then on where
HAProxy cannot ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rota.core.healthcheck import Check
from rota.core.names import ReplicaId
from rota.core.observation import Address


@dataclass(frozen=True)
class ProbeResult:
    """``failure`` is empty when it passed, else the reason in a person's words."""

    failure: str = ""

    @property
    def passed(self) -> bool:
        return not self.failure


class Prober(Protocol):
    async def accepts(
        self, replica: ReplicaId, address: Address, timeout: float, variable: str = "PORT"
    ) -> ProbeResult:
        """Whether a TCP connection is accepted there, by a socket of the replica's own process tree. ``variable`` is
        how the replica knows where to listen."""
        ...

    async def healthy(self, replica: ReplicaId, address: Address, check: Check, host: str) -> ProbeResult:
        """One health check: whether it passes within ``check.timeout`` seconds. ``host`` is the app's, for HTTP. Raises
        StepFailed when it cannot be asked now, which says nothing of the replica."""
        ...
