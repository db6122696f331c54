"""Loops that are to go on: one that breaks is a bug, which must neither be kept silent nor cost what the loop does.
Begun by the supervisor, probing and the composition root, repeated by the watches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from rota.core.errors import StepFailed

BEGUN_AGAIN = 1.0  # seconds after which a loop that broke is

log = logging.getLogger(__name__)


async def keep(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Until it returns; one that raises is begun again."""
    while True:
        try:
            return await run()
        except Exception:
            log.exception("%s: its loop broke and is begun again", name)
            await asyncio.sleep(BEGUN_AGAIN)


async def repeat(name: str, look: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Until it is cancelled; what cannot be asked now is asked the next time."""
    while True:
        try:
            await look()
        except StepFailed as error:
            log.warning("%s: %s; trying again", name, error)
        await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def running(**loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """As long as the block lasts."""
    tasks = [asyncio.create_task(keep(name, run)) for name, run in loops.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
