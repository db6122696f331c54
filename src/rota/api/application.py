"""The HTTP API as one ASGI application; made by the daemon, which hands in the engine."""

from __future__ import annotations

import asyncio

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

import rota
from rota.api import problems
from rota.api.face import EngineFace
from rota.api.guard import Guard
from rota.api.idempotency import OnlyOnce
from rota.api.routes import apps, errands, events, rollouts, server, sources
from rota.api.routes.context import Context


def create_api(engine: EngineFace, token_sha256: str, *, closing: asyncio.Event | None = None) -> FastAPI:
    """``token_sha256`` is the SHA-256 of the administrator's token in hex. Setting ``closing`` ends all streams, which
    uvicorn would otherwise wait for."""
    api = FastAPI(
        title="rota",
        version=rota.__version__,
        docs_url=None,  # these pages load their scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,
        # Only documents the token: the guard has checked it before a route is looked for.
        dependencies=[Depends(HTTPBearer(auto_error=False))],
    )
    api.state.context = Context(engine, OnlyOnce(engine), closing or asyncio.Event())
    problems.install(api)
    for module in (apps, errands, rollouts, events, sources, server):
        api.include_router(module.router)
    api.add_middleware(Guard, token_sha256=token_sha256)
    return api
