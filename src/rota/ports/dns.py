"""One view of DNS: rota's own names, or a zone outside; told by the engine, step by step, which replicas it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rota.core.names import ReplicaId
from rota.core.observation import DnsEntry, ObservedDns


class Dns(Protocol):
    """Every call may be repeated after a crash and then changes nothing more. Once it has returned, the view's server
    answers accordingly. Raises StepFailed with a message for a person."""

    async def observe(self, app: str, hosts: frozenset[str]) -> ObservedDns | None:
        """The app's part, without waiting for anybody; ``hosts`` are all that lead to it. None when the view has
        nothing to do with the app."""
        ...

    def on_change(self, wake: Callable[[str], None]) -> None:
        """Calls ``wake(app)`` when what the view shows of an app has changed by itself, or it answers again."""
        ...

    async def publish(self, app: str, entry: DnsEntry) -> None:
        """Names the replica, at this address and nowhere else. Raises StepFailed, having changed nothing, when a name
        has records that rota did not make."""
        ...

    async def withdraw(self, app: str, replica: ReplicaId) -> None:
        """Takes out what was published for the replica, and nothing else; one that is not there is no error."""
        ...
