"""The journal: the store, and those who follow what is written to it; used by the reconcilers and the event streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from rota.core.events import Event
from rota.core.notice import Notice, addresses, letters
from rota.core.state import AppState
from rota.ports.store import Store


class Journal:
    """Writes through to the store; whoever follows is told afterwards, so that nobody hears of what is not durable."""

    def __init__(self, store: Store, notify: Sequence[str] = ()) -> None:
        """``notify``: where notices about any app, and about the server, go beside the app's own addresses."""
        self.letters_written = asyncio.Event()
        self._store = store
        self._notify = tuple(notify)
        self._written = asyncio.Condition()
        self._last = 0

    async def save(self, state: AppState, events: Sequence[Event], notices: Sequence[Notice] = ()) -> None:
        """Notices are written in the same commit: none is lost, and none is sent of what did not happen."""
        addressed = letters(notices, (*self._notify, *addresses(state))) if notices else ()
        await self._tell(await self._store.save(state, events, addressed))
        if addressed:
            self.letters_written.set()

    async def incident(self, name: str, lasts: bool, notice: Notice) -> None:
        """An incident of the server begins or is over."""
        await self._store.keep_incident(name, lasts, letters([notice], self._notify))
        self.letters_written.set()

    async def forget(self, app: str, events: Sequence[Event]) -> None:
        await self._tell(await self._store.forget(app, events))

    async def follow(self, *, app: str | None, rollout: str | None, after: int) -> AsyncIterator[Event]:
        """Events with a higher ``seq`` than ``after``, then new ones as they are written; ends never."""
        while True:
            seen = self._last
            events = await self._store.events(app=app, rollout=rollout, after=after)
            for event in events:
                after = event.seq
                yield event
            if not events:
                await self._more_than(seen)

    async def _more_than(self, seen: int) -> None:
        async with self._written:
            await self._written.wait_for(lambda: self._last > seen)

    async def _tell(self, events: Sequence[Event]) -> None:
        if events:
            async with self._written:
                self._last = max(self._last, events[-1].seq)
                self._written.notify_all()
