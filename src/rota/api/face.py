"""What the API asks of the engine: one protocol, fulfilled by engine.Engine and by the tests' small fake.

Views are JSON-ready mappings whose keys design.md and docs/guide fix; errors are rota.core.errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from rota.core.errand import Errand
from rota.core.order import Order
from rota.core.steering import Pace, Skip
from rota.ports.source import Sources

View = dict[str, Any]


class EngineFace(Protocol):
    """Every method that names an app or a rollout raises NotFound when there is none such."""

    @property
    def sources(self) -> Sources: ...

    def apps(self) -> list[View]: ...

    async def app(self, name: str) -> View: ...

    async def replicas(self, name: str) -> View: ...

    async def stats(self, name: str | None) -> list[View]:
        """One view an app: what its replicas use and serve; None is every app."""
        ...

    def releases(self, name: str) -> View: ...

    async def rollouts(self, app: str | None, limit: int) -> list[View]:
        """Newest first, without their steps."""
        ...

    async def rollout(self, id: str) -> View: ...

    def server(self) -> View: ...

    def dns(self) -> View: ...

    async def doctor(self, app: str | None) -> View:
        """What is wrong, with one app, or with all and the host."""
        ...

    async def ready(self) -> None:
        """Raises Missing or StepFailed naming what does not answer."""
        ...

    async def begin(self, app: str, order: Order) -> View:
        """Starts a rollout and returns its view. Raises Conflict while another one is under way."""
        ...

    async def plan(self, app: str, order: Order) -> View:
        """What the order would do; changes nothing. Raises what ``begin`` raises."""
        ...

    async def pause(self, rollout: str) -> View: ...

    async def resume(self, rollout: str) -> View: ...

    async def abort(self, rollout: str) -> View: ...

    async def skip(self, rollout: str, asked: Skip) -> View: ...

    async def tune(self, rollout: str, asked: Pace) -> View: ...

    async def maintain(self, name: str, on: bool) -> View:
        """The app's view; whether users are kept out by now is in it."""
        ...

    async def exec(self, app: str, errand: Errand) -> View:
        """Runs a command in a replica and returns what came of it."""
        ...

    async def shutdown(self, keep_apps: bool) -> None:
        """Returns at once; the work goes on and ends with the process."""
        ...

    async def events(self, *, app: str | None, rollout: str | None, after: int, limit: int) -> list[View]:
        """The newest ``limit`` events whose ``seq`` is over ``after``, oldest of them first."""
        ...

    def follow_events(self, *, app: str | None = None, rollout: str | None = None, after: int) -> AsyncIterator[View]:
        """Events over ``after``, then new ones; with ``rollout``, ends after that rollout's last event."""
        ...

    async def log_lines(self, app: str, replica: str | None, tail: int) -> list[View]: ...

    def follow_logs(self, app: str, replica: str | None, tail: int) -> AsyncIterator[View]: ...

    async def requests(self, app: str, tail: int) -> list[View]:
        """The last requests of the app's users, oldest first."""
        ...

    def follow_requests(self, app: str, tail: int) -> AsyncIterator[View]: ...

    async def remembered(self, key: str) -> tuple[str, int, View] | None:
        """The fingerprint of the request that used this idempotency key, and the status and body it was given."""
        ...

    async def remember(self, key: str, fingerprint: str, status: int, body: View) -> None: ...
