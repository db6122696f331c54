"""The logs of an app's replicas, read and followed together; asked by the engine's face."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from rota.core.errors import NotFound
from rota.core.names import ReplicaId
from rota.engine import views
from rota.engine.supervisor import Supervisor
from rota.engine.views import View
from rota.ports.logs import Logs
from rota.ports.store import Store

ALL_LINES = 1000  # of a replica that starts while its app's logs are followed
MOST_WAITING = 1000  # lines that are read and not taken yet; then nothing more is read
LOOK_AGAIN = 0.1  # seconds

_Lines = asyncio.Queue[View]


class Following:
    def __init__(self, supervisor: Supervisor, store: Store, logs: Logs) -> None:
        self._supervisor = supervisor
        self._store = store
        self._logs = logs

    async def tail(self, app: str, replica: str | None, lines: int) -> list[View]:
        """The last lines of every replica, or of one. Raises NotFound."""
        found: list[View] = []
        for name in self._replicas_of(app, replica):
            found += [{"replica": name, "text": text} for text in await self._logs.tail(name, lines)]
        return found

    async def follow(self, app: str, replica: str | None, lines: int) -> AsyncIterator[View]:
        """The last lines of every replica, then new ones merged; replicas that come later join by themselves. Of one
        replica: until it is gone. Ends when the app is removed. Raises NotFound, and StepFailed for what cannot be
        read."""
        read = _Lines(MOST_WAITING)
        reading = asyncio.create_task(self._read(app, replica, lines, read))
        try:
            while (line := await _next(read, reading)) is not None:
                yield line
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, app: str, replica: str | None, lines: int, into: _Lines) -> None:
        if replica is not None:
            for name in self._replicas_of(app, replica):
                await self._copy(app, name, lines, into)
            return
        try:
            async with asyncio.TaskGroup() as copies:
                await self._copy_all(app, lines, into, copies)
        except ExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _copy_all(self, app: str, lines: int, into: _Lines, copies: asyncio.TaskGroup) -> None:
        newest = await self._store.events(app=app, after=-1, limit=1)
        known = set(self._replicas_of(app, None))
        for name in known:
            copies.create_task(self._copy(app, name, lines, into))
        after = newest[-1].seq if newest else 0
        async for event in self._supervisor.journal.follow(app=app, rollout=None, after=after):
            if event.step == "ForgetApp":
                return
            if event.step == "StartReplica" and event.replica is not None and event.replica not in known:
                known.add(name := ReplicaId(event.replica))
                copies.create_task(self._copy(app, name, ALL_LINES, into))

    async def _copy(self, app: str, name: ReplicaId, lines: int, into: _Lines) -> None:
        """Its start is on record before the act: until the runtime knows it there is nothing to follow yet."""
        begun = False
        while not begun and app in self._supervisor.apps and name in self._replicas_of(app, None):
            async for line in self._logs.follow(name, lines):
                begun = True
                await into.put({"replica": line.replica, "text": line.text})
            await asyncio.sleep(LOOK_AGAIN)

    def _replicas_of(self, app: str, replica: str | None) -> list[ReplicaId]:
        here = self._supervisor.app(app)
        known = [member.id for member in views.members(views.situation(here.state, here.observation, 0.0))]
        if replica is None:
            return known
        if replica not in known:
            raise NotFound(f"{app} has no replica {replica!r}; rota ps {app} lists them")
        return [ReplicaId(replica)]


async def _next(read: _Lines, reading: asyncio.Task[None]) -> View | None:
    """The next line, None when there are no more. Raises what ended the reading."""
    if read.empty() and not reading.done():
        coming = asyncio.create_task(read.get())
        try:
            await asyncio.wait({coming, reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            coming.cancel()
        if coming.done():
            return coming.result()
    if not read.empty():
        return read.get_nowait()
    reading.result()
    return None
