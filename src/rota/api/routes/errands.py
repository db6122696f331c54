"""Running a command in a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine

from fastapi import APIRouter, Request

from rota.api.face import View
from rota.api.idempotency import IdempotencyKey
from rota.api.routes.context import PROBLEM, App, Given
from rota.core.errand import Errand
from rota.core.errors import StepFailed

router = APIRouter(prefix="/api/v1/apps", tags=["apps"], responses=PROBLEM)

_LOOK_AGAIN = 0.5  # seconds between two looks at whether anybody still waits


@router.post("/{app}/exec")
async def run(app: App, errand: Errand, request: Request, given: Given, key: IdempotencyKey = None) -> View:
    """Runs a command in one of the app's replicas, as its user and with its environment; answers when it has ended, or
    was killed because its time was up. It ends too when nobody waits for the answer any more, or the server ends."""
    await given.engine.replicas(app)  # 404 before anything runs

    def work() -> Awaitable[View]:
        return _while_wanted(given.engine.exec(app, errand), request, given.closing)

    return await given.once.perform(request, key, 200, work)


async def _while_wanted(work: Coroutine[object, object, View], request: Request, closing: asyncio.Event) -> View:
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=_LOOK_AGAIN)
            if not task.done() and (closing.is_set() or await request.is_disconnected()):
                raise StepFailed("the command was killed: the server ends, or nobody waits for it any more")
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
