"""One run of something for all who ask before it begins: looks at HAProxy and its reloads; used by balancer.py and
reloads.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """``run`` is called with ``begin``, which it calls when who asks later needs a run of their own."""

    def __init__(self, run: Callable[[Callable[[], None]], Coroutine[Any, Any, T]]) -> None:
        self._run = run
        self._next: asyncio.Task[T] | None = None

    async def next(self) -> T:
        """What a run gives that begins after this call; who stops waiting for it stops nobody else."""
        if self._next is None:
            self._next = asyncio.create_task(self._until_done())
        awaited: Awaitable[T] = asyncio.shield(self._next)
        return await awaited

    async def _until_done(self) -> T:
        own = asyncio.current_task()

        def begin() -> None:
            if self._next is own:
                self._next = None

        try:
            return await self._run(begin)
        finally:
            begin()
