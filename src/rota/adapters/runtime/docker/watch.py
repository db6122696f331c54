"""The watch over an engine: its events, read on from where they broke off, and a full list at each connection and every
30 seconds; keeps the table for the docker runtime."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime
from typing import Any

from rota.adapters.runtime.docker.client import Client, EngineLost, Refused
from rota.adapters.runtime.docker.names import Names
from rota.adapters.runtime.docker.table import Table
from rota.core.errors import StepFailed

_log = logging.getLogger(__name__)
FULL_LIST = 30.0  # seconds
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)  # what an answer of another shape leads to
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0
_ACTIONS = ("start", "die", "kill", "oom", "pause", "unpause", "rename", "update", "destroy")
_BEGINNING = "1"  # before all that an engine still knows


class Watch:
    """``look(info)`` is called at each connection and with each full list, before anybody is told, with what the
    engine says of itself; ``wake_all`` when the engine was lost and when it is back."""

    def __init__(
        self,
        client: Client,
        names: Names,
        table: Table,
        look: Callable[[Mapping[str, Any]], Awaitable[None]],
        wake_all: Callable[[], None],
    ) -> None:
        self._client = client
        self._names = names
        self._table = table
        self._look = look
        self._wake_all = wake_all
        self._since = ""
        self._lost = ""
        self._connected = asyncio.Event()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """All that is ours is in the table when it returns. Raises StepFailed when the engine cannot be asked."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(_say_why)
        try:
            await self.until_back(FULL_LIST)
        except EngineLost:
            await self.close()
            raise

    async def close(self) -> None:
        self._again.clear()
        tasks = [*self._asking.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check(self) -> None:
        """Raises StepFailed while the engine cannot be asked."""
        if self._lost:
            raise StepFailed(self._lost)
        if self._task is None or self._task.done():
            raise StepFailed("the watch over the Docker engine has ended; start rota serve again")

    async def until_back(self, timeout: float) -> None:
        """Raises EngineLost when it has not come back within ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._connected.wait()
        except TimeoutError:
            raise EngineLost(self._lost or "the Docker engine does not answer in time") from None

    async def _run(self) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                await self._begin()
                async with (
                    self._events(self._filtered(since=self._since)) as events,
                    self._events(self._moves()) as moves,
                ):
                    await self._list()
                    self._found()
                    wait = _FIRST_WAIT
                    await self._follow(self._read(events), self._read_moves(moves))
            except (StepFailed, *UNREADABLE) as error:
                self._lose(_why(error))
                await asyncio.sleep(wait)
                wait = min(_LONGEST_WAIT, wait * 2)

    async def _begin(self) -> None:
        """Speaks the engine's present version; the first time, learns who was told to stop before this daemon began."""
        await self._client.negotiate()
        if self._since:
            return
        now = str((await self._client.get("info"))["SystemTime"])
        self._since = _written(round(datetime.fromisoformat(now).timestamp() * 1e9))
        past = self._filtered(since=_BEGINNING, until=self._since)
        async with self._events(past) as events:
            async for event in events:
                with suppress(*UNREADABLE):
                    self._heed(event)

    async def _follow(self, *readings: Coroutine[Any, Any, None]) -> None:
        """Until events end, with a full list every now and then."""
        readers = {asyncio.create_task(reading) for reading in readings}
        try:
            while not any(reader.done() for reader in readers):
                done, _ = await asyncio.wait(readers, timeout=FULL_LIST, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    await self._list()
            for reader in readers:
                if reader.done():
                    reader.result()
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _read(self, events: AsyncIterator[Any]) -> None:
        async for event in events:
            try:
                self._since = _written(int(event["timeNano"]))
                self._heed(event)
                if event["Action"] != "destroy":
                    self._ask(str(event["Actor"]["ID"]))
            except UNREADABLE as error:  # read again from here it would be no better
                _log.warning("an event of the Docker engine is passed over (%r): %s", error, event)

    async def _read_moves(self, moves: AsyncIterator[Any]) -> None:
        """Somebody takes a container out of a network, or puts it into one: that is the network's event."""
        async for event in moves:
            with suppress(*UNREADABLE):
                container = str(event["Actor"]["Attributes"]["container"])
                if self._table.knows(container):
                    self._ask(container)

    def _heed(self, event: Mapping[str, Any]) -> None:
        container, attributes = str(event["Actor"]["ID"]), event["Actor"]["Attributes"]
        if event["Action"] == "destroy":
            self._table.remove(container)
        stop = attributes.get("rota.stop_signal")
        if event["Action"] == "kill" and attributes.get("signal") == _number(stop):
            self._table.signalled(container, int(event["timeNano"]) // 1000)

    def _ask(self, container: str) -> None:
        """Beside the others: the engine answers about one that is being started when it has started. What happens
        while it is being asked is asked for once more."""
        if container in self._asking:
            self._again.add(container)
            return
        task = asyncio.create_task(self._refresh(container))
        self._asking[container] = task
        task.add_done_callback(lambda _: self._answered(container))

    def _answered(self, container: str) -> None:
        del self._asking[container]
        if container in self._again:
            self._again.discard(container)
            self._ask(container)

    async def _refresh(self, container: str) -> None:
        try:
            await self._table.refresh(container)
        except (EngineLost, Refused, *UNREADABLE) as error:
            _log.info("container %s could not be looked at, the next full list does: %s", container[:12], error)

    async def _list(self) -> None:
        await self._look(await self._client.get("info"))
        await self._table.list_all()

    def _events(self, params: Mapping[str, str]) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        return self._client.stream("GET", "events", params)

    def _moves(self) -> dict[str, str]:
        filters = {"type": ["network"], "event": ["connect", "disconnect"]}
        return {"filters": json.dumps(filters), "since": self._since}

    def _filtered(self, **period: str) -> dict[str, str]:
        filters = {"type": ["container"], "label": [self._names.filter], "event": list(_ACTIONS)}
        return {"filters": json.dumps(filters), **period}

    def _found(self) -> None:
        self._connected.set()
        self._table.engine_back()
        if self._lost:
            _log.info("the Docker engine is back")
            self._lost = ""
            self._wake_all()

    def _lose(self, reason: str) -> None:
        self._connected.clear()
        if reason != self._lost:
            _log.warning("%s; trying again", reason)
        was_there, self._lost = not self._lost, reason
        if was_there:
            self._table.engine_lost()
            self._wake_all()


def _why(error: Exception) -> str:
    if isinstance(error, StepFailed):
        return error.message
    _log.error("an answer of the Docker engine is not as it should be", exc_info=error)
    return f"the Docker engine gives an answer that cannot be understood ({error!r})"


def _written(nanoseconds: int) -> str:
    """As the engine takes a moment: seconds and nine digits."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"


def _number(name: str | None) -> str:
    """A signal as the events give it."""
    return str(int(signal.Signals[name])) if name is not None and name in signal.Signals.__members__ else ""


def _say_why(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("the watch over the Docker engine broke", exc_info=task.exception())
