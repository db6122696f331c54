"""Server-sent events: turns an async iterator into a stream that a client can take up again where it broke off; used
by the routes for events and logs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import Header
from fastapi.responses import StreamingResponse

from rota.core.errors import RotaError

log = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 15.0
"""So that a broken connection is noticed by both sides; a client waits three of them before it connects again."""

Frame = Callable[[dict[str, Any]], bytes]
LastEventId = Annotated[int, Header(alias="Last-Event-ID", ge=0, lt=2**63)]


def event_frame(event: dict[str, Any]) -> bytes:
    """What is no event of the record has no number to go on after."""
    number = f"id: {event['seq']}\n" if "seq" in event else ""
    return f"{number}event: {event['kind']}\ndata: {json.dumps(event)}\n\n".encode()


def line_frame(line: dict[str, Any]) -> bytes:
    return f"event: line\ndata: {json.dumps(line)}\n\n".encode()


def stream(items: AsyncIterator[dict[str, Any]], frame: Frame, closing: asyncio.Event) -> StreamingResponse:
    """Ends when the items end, when the client goes or when ``closing`` is set: a stream never holds up a shutdown."""
    return StreamingResponse(
        _chunks(items, frame, closing),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _chunks(items: AsyncIterator[dict[str, Any]], frame: Frame, closing: asyncio.Event) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    closed = asyncio.ensure_future(closing.wait())
    coming = asyncio.ensure_future(_next(items))
    try:
        while not closing.is_set():
            await asyncio.wait({coming, closed}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                yield b": still here\n\n"
                continue
            try:
                item = coming.result()
            except RotaError as error:  # the answer has begun: all that is left is to end it
                log.warning("an event stream ends: %s", error)
                return
            if item is None:
                return
            yield frame(item)
            coming = asyncio.ensure_future(_next(items))
    finally:
        await _cancelled(coming, closed)
        aclose = getattr(items, "aclose", None)
        if aclose is not None:
            await aclose()


async def _next(items: AsyncIterator[dict[str, Any]]) -> dict[str, Any] | None:
    return await anext(items, None)


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
