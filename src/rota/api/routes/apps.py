"""Apps: what there is, what runs of it, what it writes, and whether users are let in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from rota.api import sse
from rota.api.face import View
from rota.api.idempotency import IdempotencyKey
from rota.api.routes.context import PROBLEM, App, Given
from rota.core.steering import Maintenance

router = APIRouter(prefix="/api/v1/apps", tags=["apps"], responses=PROBLEM)

Tail = Annotated[int, Query(ge=0, le=100_000)]
Replica = Annotated[str | None, Query(pattern=r"^[a-z0-9-]{1,60}$")]


@router.get("")
async def apps(given: Given) -> View:
    """Every app."""
    return {"apps": given.engine.apps()}


@router.get("/{app}")
async def app(app: App, given: Given) -> View:
    """One app with its replicas and its running or last rollout."""
    return await given.engine.app(app)


@router.get("/{app}/replicas")
async def replicas(app: App, given: Given) -> View:
    """The replicas that exist, failed ones until they are replaced."""
    return await given.engine.replicas(app)


@router.post("/{app}/maintenance")
async def maintenance(app: App, asked: Maintenance, request: Request, given: Given, key: IdempotencyKey = None) -> View:
    """Answers the app's users with 503 and a page, or lets them in again; replicas and rollouts go on beneath."""
    return await given.once.perform(request, key, 200, lambda: given.engine.maintain(app, asked.on))


@router.get("/{app}/stats")
async def stats(app: App, given: Given) -> View:
    """What the replicas use now (memory, CPU between two readings) and have served."""
    return (await given.engine.stats(app))[0]


@router.get("/{app}/releases")
async def releases(app: App, given: Given) -> View:
    """The releases, newest first."""
    return given.engine.releases(app)


@router.get("/{app}/logs", response_model=None)
async def logs(
    app: App, given: Given, tail: Tail = 100, replica: Replica = None, follow: bool = False
) -> View | Response:
    """The last lines of the replicas' output; ``follow=true`` goes on with new ones as server-sent events."""
    if follow:
        await given.engine.log_lines(app, replica, 0)  # a stream that has begun cannot become a 404 any more
        return sse.stream(given.engine.follow_logs(app, replica, tail), sse.line_frame, given.closing)
    return {"app": app, "lines": await given.engine.log_lines(app, replica, tail)}


@router.get("/{app}/requests", response_model=None)
async def requests(app: App, given: Given, tail: Tail = 100, follow: bool = False) -> View | Response:
    """The last requests of the app's users, as HAProxy saw them; ``follow=true`` goes on with new ones as server-sent
    events."""
    await given.engine.replicas(app)  # a stream that has begun cannot become a 404 any more
    if follow:
        return sse.stream(given.engine.follow_requests(app, tail), sse.line_frame, given.closing)
    return {"app": app, "requests": await given.engine.requests(app, tail)}
