"""Preparations: what is known of each release on this machine, and the work that makes one ready; used by the runtimes,
which differ in that work alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Set

from rota.core.observation import Artefact, ArtefactState
from rota.ports.runtime import ReleaseOrder

_log = logging.getLogger(__name__)

Key = tuple[str, int]
"""An app and the number of its release."""


class Preparations:
    """``make`` does the work for a release and says with ``set`` what came of it; ``wake(app)`` is called at each
    change."""

    def __init__(self, make: Callable[[ReleaseOrder], Awaitable[None]], wake: Callable[[str], None]) -> None:
        self._make = make
        self._wake = wake
        self._known: dict[Key, Artefact] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    @property
    def known(self) -> Mapping[Key, Artefact]:
        return self._known

    @property
    def under_way(self) -> Set[Key]:
        return self._tasks.keys()

    def begin(self, order: ReleaseOrder) -> asyncio.Task[None]:
        """The work for it: what is under way goes on, anything else begins anew."""
        key = (order.app, order.release)
        task = self._tasks.get(key)
        if task is None or task.done():
            self.set(key, Artefact(order.release, ArtefactState.PREPARING))
            task = self._tasks[key] = asyncio.ensure_future(self._make(order))
            task.add_done_callback(lambda ended: self._ended(key, ended))
        return task

    async def cancel(self, key: Key) -> None:
        """It is not worked at any more when this returns."""
        if (task := self._tasks.get(key)) is not None:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def set(self, key: Key, artefact: Artefact) -> None:
        if self._known.get(key) != artefact:
            self._known[key] = artefact
            self._wake(key[0])

    def forget(self, key: Key) -> None:
        if self._known.pop(key, None) is not None:
            self._wake(key[0])

    def _ended(self, key: Key, ended: asyncio.Future[None]) -> None:
        if self._tasks.get(key) is ended:  # not the one that was begun since
            del self._tasks[key]
        if not ended.cancelled() and (bug := ended.exception()) is not None:
            _log.error("the preparation of release %d of %s broke", key[1], key[0], exc_info=bug)
            self.set(key, Artefact(key[1], ArtefactState.FAILED, f"rota broke at it ({bug!r}); its log says more"))
