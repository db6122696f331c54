"""Connections to replicas past the balancer, as a test says that they are; fulfils the Connections port."""

from __future__ import annotations

from collections.abc import Mapping

from rota.core.names import ReplicaId
from rota.core.observation import Address


class FakeConnections:
    """``open`` may be changed at any time; ``asked`` are those about which somebody wanted to know."""

    def __init__(self) -> None:
        self.open: dict[ReplicaId, int] = {}
        self.asked: set[ReplicaId] = set()

    async def direct(self, replicas: Mapping[ReplicaId, Address]) -> Mapping[ReplicaId, int]:
        self.asked.update(replicas)
        return {name: self.open.get(name, 0) for name in replicas}
