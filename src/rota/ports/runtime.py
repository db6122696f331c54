"""Where replicas run: started, stopped and watched by the engine, one step a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from rota.core.fitness import RuntimeKind
from rota.core.names import ReplicaId
from rota.core.observation import Artefact, ObservedReplica, Stranger
from rota.core.spec import AppSpec, Limits


@dataclass(frozen=True)
class ReleaseOrder:
    """A release to make ready on this machine; ``source`` is the digest of its uploaded directory."""

    app: str
    release: int
    source: str | None
    spec: AppSpec


@dataclass(frozen=True)
class StartOrder:
    """One replica to start; the same order twice starts one replica."""

    replica: ReplicaId
    app: str
    slot: int
    release: int
    generation: int
    limits: Limits
    spec: AppSpec


class Runtime(Protocol):
    """Every call may be repeated after a crash and then changes nothing more. Raises StepFailed (StartFailed for
    start, restart and prepare) with a message for a person."""

    @property
    def kind(self) -> RuntimeKind:
        """Which apps it can run (core.fitness)."""
        ...

    async def observe(
        self, app: str | None = None
    ) -> tuple[Mapping[ReplicaId, ObservedReplica], Mapping[tuple[str, int], Artefact]]:
        """All replicas of all apps, or of one, running or exited and not removed yet, and the artefacts of all by (app,
        release). That one has exited may be seen before it is known how: its ``exit`` is None until then, and a change
        when it is not.

        Raises StepFailed while the runtime itself cannot be asked."""
        ...

    def strangers(self) -> tuple[Stranger, ...]:
        """What only looks like one of its replicas, or was one and cannot be removed."""
        ...

    def on_change(self, wake: Callable[[str], None]) -> None:
        """Calls ``wake(app)`` within milliseconds whenever a replica or an artefact of that app changes."""
        ...

    async def prepare(self, order: ReleaseOrder) -> None:
        """Begins to make a release's files ready and returns; observe shows when they are."""
        ...

    async def start(self, order: StartOrder) -> None:
        """Starts a replica and returns once it runs; its address is then observed."""
        ...

    async def restart(self, order: StartOrder) -> None:
        """Starts an exited replica again in place: same id and files, a new run, ``restarts`` one higher."""
        ...

    async def update_limits(self, replica: ReplicaId, limits: Limits) -> None:
        """Changes the limits of a running replica, live."""
        ...

    async def stop(self, replica: ReplicaId) -> None:
        """Sends the app's stop signal (S7: SIGTERM) and returns; a replica that is gone is no error."""
        ...

    async def kill(self, replica: ReplicaId) -> None:
        """Ends the replica's whole process tree with SIGKILL and returns."""
        ...

    async def remove(self, replica: ReplicaId) -> None:
        """Forgets an exited replica and gives its address back."""
        ...

    async def forget(self, app: str, keep_releases: frozenset[int]) -> None:
        """Deletes an app's releases other than those named, and with none named all the app's files."""
        ...
