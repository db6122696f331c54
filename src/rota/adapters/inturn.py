"""A thread for the writes of an adapter: in the order of the calls, and not on the loop, which a slow disk would stop;
used by whoever keeps files that one call after the other replaces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class InTurn:
    """What nobody waits for any more ends before the next begins; what it has not begun by then is not done."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def begin(self, work: Callable[[], None]) -> None:
        """Nobody waits for it, and nobody hears what it raises."""
        self._thread.submit(work)

    async def close(self) -> None:
        """Waits for what is under way; nothing may be asked after this."""
        await asyncio.to_thread(self._thread.shutdown)
