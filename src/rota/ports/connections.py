"""Who is connected to replicas past the balancer; asked by the observer for those whose hand-off waits for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rota.core.names import ReplicaId
from rota.core.observation import Address


class Connections(Protocol):
    async def direct(self, replicas: Mapping[ReplicaId, Address]) -> Mapping[ReplicaId, int]:
        """How many established connections each has, without those of the balancer; nothing of one whose connections
        cannot be seen from here."""
        ...
