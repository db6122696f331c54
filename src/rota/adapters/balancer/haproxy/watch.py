"""The watch over HAProxy: says who is to be woken when it is lost or back, an old process has ended, or the checks of a
server begin to fail or pass again; run by balancer.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rota.adapters.balancer.haproxy.socket import NotAnswering
from rota.adapters.balancer.haproxy.stats import Workers
from rota.adapters.balancer.haproxy.view import app_of
from rota.adapters.balancer.haproxy.worker import Haproxy

_EVERY = 1.0
_EVERY_LOST = 0.05


class Watch:
    """``wake_all`` and ``wake`` (one app) are called from ``run``; ``saw`` is told of old workers that are there;
    ``absent`` is called every second in which HAProxy does not come back."""

    def __init__(
        self,
        haproxy: Haproxy,
        wake_all: Callable[[], None],
        wake: Callable[[str], None],
        saw: Callable[[tuple[int, ...]], None],
        absent: Callable[[], Awaitable[None]],
    ) -> None:
        self._haproxy = haproxy
        self._wake_all = wake_all
        self._wake = wake
        self._saw = saw
        self._absent = absent
        self._absent_rounds = 0
        self._lost = asyncio.Event()

    def lost(self) -> None:
        """HAProxy's parent saw it end."""
        self._lost.set()

    async def run(self) -> None:
        """Asks now and then in case nobody said so."""
        before: Workers | None = None
        failing: frozenset[tuple[str, str]] = frozenset()
        while True:
            try:
                async with asyncio.timeout(_EVERY if before is not None and before.current else _EVERY_LOST):
                    await self._lost.wait()
            except TimeoutError:
                pass
            lost = self._lost.is_set()
            self._lost.clear()
            now = await self._haproxy.living()
            self._saw(now.old)
            if lost or (before is not None and now != before):
                self._wake_all()
            before = now
            await self._count_absence(now.current is None)
            failing = await self._tell_health(failing)

    async def _count_absence(self, absent: bool) -> None:
        self._absent_rounds = self._absent_rounds + 1 if absent else 0
        if self._absent_rounds * _EVERY_LOST >= _EVERY:
            self._absent_rounds = 0
            await self._absent()

    async def _tell_health(self, before: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Wakes the apps of which other servers fail their checks than ``before``; returns which do."""
        try:
            after = await self._haproxy.failing()
        except NotAnswering:
            return frozenset()
        for app in {app_of(backend) for backend, _ in before ^ after}:
            self._wake(app)
        return after
