"""Everything that happened, for all apps or one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response

from rota.api import sse
from rota.api.face import View
from rota.api.routes.context import PROBLEM, Given
from rota.core.names import AppName

router = APIRouter(prefix="/api/v1", tags=["events"], responses=PROBLEM)


@router.get("/events", response_model=None)
async def events(
    given: Given,
    app: Annotated[AppName | None, Query()] = None,
    limit: Annotated[int, Query(ge=0, le=10_000)] = 100,
    last: sse.LastEventId = 0,
    accept: Annotated[str, Header()] = "",
) -> View | Response:
    """The last events, newest last; with ``Accept: text/event-stream`` those (or what came after Last-Event-ID), then
    new ones, without end."""
    if "text/event-stream" not in accept:
        return {"events": await given.engine.events(app=app, rollout=None, after=last, limit=limit)}
    after = last or _before(await given.engine.events(app=app, rollout=None, after=0, limit=max(limit, 1)), limit)
    return sse.stream(given.engine.follow_events(app=app, after=after), sse.event_frame, given.closing)


def _before(past: list[View], limit: int) -> int:
    """The number after which a stream begins that shows ``limit`` past events first."""
    if not past:
        return 0
    return int(past[0]["seq"]) - 1 if limit else int(past[-1]["seq"])
