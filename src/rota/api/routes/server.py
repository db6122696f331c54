"""The server itself: whether it lives, whether it can work, what it is, and its end."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from rota.api.face import View
from rota.api.idempotency import IdempotencyKey
from rota.api.problems import problem_of
from rota.api.routes.context import PROBLEM, Given
from rota.core.errors import Missing, StepFailed
from rota.core.names import AppName

router = APIRouter(tags=["server"], responses=PROBLEM)


class Shutdown(BaseModel):
    """``keep_apps``: only the daemon ends; replicas and HAProxy go on serving."""

    model_config = ConfigDict(extra="forbid")

    keep_apps: bool = False


@router.get("/healthz")
async def health() -> View:
    """Whether this process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
async def ready(given: Given) -> View | JSONResponse:
    """Whether store, runtime and HAProxy answer too; with no app as well."""
    try:
        await given.engine.ready()
    except (Missing, StepFailed) as error:
        return problem_of(error, status=503)
    return {"status": "ready"}


@router.get("/api/v1/server")
async def server(given: Given) -> View:
    """Versions, addresses and process ids."""
    return given.engine.server()


@router.get("/api/v1/doctor")
async def doctor(given: Given, app: AppName | None = None) -> View:
    """What is wrong, with one app, or with all of them and the host; ``level`` is ok, warning or problem."""
    return await given.engine.doctor(app)


@router.get("/api/v1/stats")
async def stats(given: Given) -> View:
    """What the replicas of every app use and serve."""
    return {"apps": await given.engine.stats(None)}


@router.get("/api/v1/dns")
async def dns(given: Given) -> View:
    """Each view of DNS, and what it says of which replica."""
    return given.engine.dns()


@router.post("/api/v1/shutdown", status_code=202)
async def shutdown(order: Shutdown, request: Request, given: Given, key: IdempotencyKey = None) -> View:
    """Begins to stop replicas, HAProxy and keeper in order, then the server."""

    async def act() -> View:
        await given.engine.shutdown(order.keep_apps)
        return {"status": "stopping"}

    return await given.once.perform(request, key, 202, act)
