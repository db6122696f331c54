"""Beginning, watching and steering rollouts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from rota.api import sse
from rota.api.face import View
from rota.api.idempotency import IdempotencyKey
from rota.api.routes.context import PROBLEM, App, Given, Rollout
from rota.core.names import AppName
from rota.core.order import Order
from rota.core.steering import Pace, Skip

router = APIRouter(prefix="/api/v1", tags=["rollouts"], responses=PROBLEM)


@router.post("/apps/{app}/rollouts", status_code=202)
async def begin(
    app: App, order: Order, request: Request, response: Response, given: Given, key: IdempotencyKey = None
) -> View:
    """Begins a rollout; 409 names the one that is under way."""
    view = await given.once.perform(request, key, 202, lambda: given.engine.begin(app, order))
    response.headers["Location"] = f"/api/v1/rollouts/{view['id']}"
    return view


@router.post("/apps/{app}/plans")
async def plan(app: App, order: Order, given: Given) -> View:
    """What an order would do, how long it would take and what it means for the users. Nothing is changed, so that
    asking again needs no idempotency key."""
    return await given.engine.plan(app, order)


@router.get("/rollouts")
async def rollouts(
    given: Given, app: Annotated[AppName | None, Query()] = None, limit: Annotated[int, Query(ge=1, le=1000)] = 50
) -> View:
    """Rollouts, newest first, without their steps."""
    return {"rollouts": await given.engine.rollouts(app, limit)}


@router.get("/rollouts/{rollout}")
async def rollout(rollout: Rollout, given: Given) -> View:
    """One rollout with its steps and its receipt, which is live while it runs."""
    return await given.engine.rollout(rollout)


@router.get("/rollouts/{rollout}/events", response_class=Response)
async def events(rollout: Rollout, given: Given, last: sse.LastEventId = 0) -> Response:
    """A rollout's events from the first (or after Last-Event-ID) to its last, as server-sent events."""
    await given.engine.rollout(rollout)  # a stream that has begun cannot become a 404 any more
    return sse.stream(given.engine.follow_events(rollout=rollout, after=last), sse.event_frame, given.closing)


@router.post("/rollouts/{rollout}/pause")
async def pause(rollout: Rollout, request: Request, given: Given, key: IdempotencyKey = None) -> View:
    """Finishes the hand-off under way, then waits for a person."""
    return await given.once.perform(request, key, 200, lambda: given.engine.pause(rollout))


@router.post("/rollouts/{rollout}/resume")
async def resume(rollout: Rollout, request: Request, given: Given, key: IdempotencyKey = None) -> View:
    """Goes on with a paused rollout."""
    return await given.once.perform(request, key, 200, lambda: given.engine.resume(rollout))


@router.post("/rollouts/{rollout}/abort")
async def abort(rollout: Rollout, request: Request, given: Given, key: IdempotencyKey = None) -> View:
    """Goes back to the release it came from; ends as cancelled."""
    return await given.once.perform(request, key, 200, lambda: given.engine.abort(rollout))


@router.post("/rollouts/{rollout}/skip")
async def skip(rollout: Rollout, asked: Skip, request: Request, given: Given, key: IdempotencyKey = None) -> View:
    """Leaves one slot as it was."""
    return await given.once.perform(request, key, 200, lambda: given.engine.skip(rollout, asked))


@router.post("/rollouts/{rollout}/set")
async def tune(rollout: Rollout, asked: Pace, request: Request, given: Given, key: IdempotencyKey = None) -> View:
    """Another delay or parallelism from now on."""
    return await given.once.perform(request, key, 200, lambda: given.engine.tune(rollout, asked))
