"""FakeNotifier: the Notifier port in memory, with faults to order; used by the tests of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rota.core.errors import StepFailed, UsageError
from rota.core.redaction import shown


class FakeNotifier:
    """``sent`` is what was taken, in order: (url, title, body), ``names`` the letters' names. Addresses that begin with
    ``nosuch`` are none; one in ``stuck`` takes nothing before its event is set."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []
        self.names: list[str] = []
        self.refusals: dict[str, int] = {}
        """How many more letters an address refuses."""
        self.stuck: dict[str, asyncio.Event] = {}
        self.on_send: Callable[[], None] = lambda: None

    async def check(self, *urls: str) -> None:
        for url in urls:
            if url.startswith("nosuch"):
                raise UsageError(f"{shown(url)} is not an address that notices can be sent to")

    async def send(self, url: str, title: str, body: str, name: str) -> None:
        self.on_send()
        if url in self.stuck:
            await self.stuck[url].wait()
        if self.refusals.get(url, 0) > 0:
            self.refusals[url] -= 1
            raise StepFailed(f"{shown(url)}: not taken")
        self.sent.append((url, title, body))
        self.names.append(name)
