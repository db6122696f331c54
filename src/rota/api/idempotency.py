"""Idempotency keys: a POST that is sent again, because its answer was lost, is not done again; used by the routes that
begin something."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated
from weakref import WeakValueDictionary

from fastapi import Header, Request

from rota.api.face import EngineFace, View
from rota.core.errors import RotaError

IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[!-~]+$")
]


class KeyReused(RotaError):
    """The key stands for another request."""

    status = 422
    code = "key-reused"


class OnlyOnce:
    """One request at a time for each key, and for a key that was used the answer it was given.

    A failure is not kept: it changed nothing, and the client may try again."""

    def __init__(self, engine: EngineFace) -> None:
        self._engine = engine
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def perform(self, request: Request, key: str | None, status: int, act: Callable[[], Awaitable[View]]) -> View:
        """Raises KeyReused."""
        if key is None:
            return await act()
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            fingerprint = await _fingerprint(request)
            known = await self._engine.remembered(key)
            if known is not None:
                return _same(key, fingerprint, known)
            body = await act()
            await self._engine.remember(key, fingerprint, status, body)
            return body


def _same(key: str, fingerprint: str, known: tuple[str, int, View]) -> View:
    if known[0] != fingerprint:
        raise KeyReused(f"the idempotency key {key!r} was used for another request")
    return known[2]


async def _fingerprint(request: Request) -> str:
    body = await request.body()
    return hashlib.sha256(b"\0".join((request.url.path.encode(), body))).hexdigest()
