"""A client that resolves a name for each request and goes straight to the replica, past HAProxy; used by test_dns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

Resolve = Callable[[], Awaitable[tuple[str, int]]]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

IDLE = 0.5  # seconds that a connection is kept for the next request
WORKERS = 10


class DirectClient:
    """Requests of ``seconds`` each, one after the other by each worker, on connections that are kept."""

    def __init__(self, resolve: Resolve, seconds: float) -> None:
        self.answered = 0
        self.reused = 0
        self.lost: list[str] = []
        self._resolve = resolve
        self._path = f"/slow?seconds={seconds:g}"
        self._kept: dict[tuple[str, int], list[tuple[Connection, asyncio.TimerHandle]]] = {}

    async def run(self, over: asyncio.Event) -> None:
        """Until it is over, and every request has its answer."""
        await asyncio.gather(*(self._work(over) for _ in range(WORKERS)))

    async def _work(self, over: asyncio.Event) -> None:
        while not over.is_set():
            place = await self._resolve()
            try:
                connection = self._take(place) or await asyncio.open_connection(*place)
                answer = await self._ask(*connection)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(f"{place}: {error!r}")
                continue
            if answer.startswith(b"HTTP/1.1 200 "):
                self.answered += 1
            else:
                self.lost.append(f"{place}: {answer[:60]!r}")
            self._keep(place, connection)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(f"GET {self._path} HTTP/1.1\r\nHost: hello\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(length))
        return head

    def _take(self, place: tuple[str, int]) -> Connection | None:
        kept = self._kept.get(place, [])
        while kept:
            connection, timer = kept.pop()
            timer.cancel()
            if not connection[0].at_eof():
                self.reused += 1
                return connection
        return None

    def _keep(self, place: tuple[str, int], connection: Connection) -> None:
        timer = asyncio.get_running_loop().call_later(IDLE, self._drop, place, connection)
        self._kept.setdefault(place, []).append((connection, timer))

    def _drop(self, place: tuple[str, int], connection: Connection) -> None:
        self._kept[place] = [one for one in self._kept[place] if one[0] is not connection]
        with suppress(OSError):
            connection[1].close()
