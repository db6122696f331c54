"""HAProxy's start, and what runs brought to agree with the file, whoever had it started and whatever else took a port
of its meanwhile; used by balancer.py, each call under the adapter's lock."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection

from rota.adapters.balancer.haproxy.book import Book
from rota.adapters.balancer.haproxy.disk import Disk
from rota.adapters.balancer.haproxy.launcher import Launcher
from rota.adapters.balancer.haproxy.servers import Servers
from rota.adapters.balancer.haproxy.settings import Settings, can_bind
from rota.adapters.balancer.haproxy.socket import NotAnswering
from rota.adapters.balancer.haproxy.tcp import frontend_name, frontend_names, not_bindable
from rota.adapters.balancer.haproxy.worker import Haproxy
from rota.core.errors import StepFailed

_START_DEADLINE = 5.0


class Adoption:
    def __init__(
        self, settings: Settings, launcher: Launcher, haproxy: Haproxy, disk: Disk, book: Book, servers: Servers
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._haproxy = haproxy
        self._disk = disk
        self._book = book
        self._servers = servers

    async def start(self, reload: Callable[[], Awaitable[None]]) -> None:
        """Takes over the HAProxy that runs, or has one started, and makes it agree with the file. Raises StepFailed."""
        self._book.state = await self._disk.read()
        await self._disk.check(self._book.state)
        running = await self._running()
        renewed = await self._disk.choose_program(running)
        outdated = bool(running) and (renewed or await self._disk.differs(self._book.state))
        await self._disk.write(self._book.state)
        await self._launcher.ensure(self._settings.argv(), self._settings.listen())
        await self._until_started()
        if outdated or not await self._has_all():
            await reload()
        await self._agree()
        await self._book.clear()
        await self._launcher.listen(self._settings.listen())

    async def gave_way(self, running: Collection[str]) -> bool:
        """Takes the listeners out of the file whose ports others have, beside the frontends that run: one app's must
        not keep all the others from being served by a HAProxy that does not start, or pauses before it gives up."""
        state = self._book.state.listening(lambda listener: not not_bindable([listener], running))
        changed = state != self._book.state
        if changed:
            await self._book.write(state)
        return changed

    async def listen_as_before(self) -> None:
        """The file is to be one that HAProxy can be started from, also where somebody else took a port meanwhile."""
        with contextlib.suppress(NotAnswering):
            frontends = await self._haproxy.frontends()
            await self._book.write(self._book.state.listening(lambda listener: frontend_name(listener) in frontends))

    async def _running(self) -> str:
        """The version of the HAProxy that runs; "" when none does."""
        try:
            return await self._haproxy.version()
        except NotAnswering:
            return ""

    async def _until_started(self) -> None:
        try:
            await self._haproxy.until_answers(_START_DEADLINE)
        except StepFailed as error:
            if await self.gave_way(()):
                await self._until_started()
                return
            taken = [bind for bind in self._settings.binds if not can_bind(bind)]
            reason = f"another program listens on {', '.join(taken)}; choose another address" if taken else str(error)
            raise StepFailed(f"HAProxy does not start: {reason}") from error

    async def _has_all(self) -> bool:
        """Whether it listens wherever it is to, and has every pool."""
        pools = {name for app in self._book.state.apps.values() for name in app.pools}
        listens = await self._haproxy.frontends() == frontend_names(self._book.state)
        return listens and pools <= await self._haproxy.backends()

    async def _agree(self) -> None:
        """Maps and servers: a call may have been broken off half-way."""
        await self._book.change(self._book.state)
        entries = await self._haproxy.entries()
        for app in self._book.state.apps.values():
            for server in app.servers.values():
                await self._servers.complete(app.pools[server.backend], server, entries)
