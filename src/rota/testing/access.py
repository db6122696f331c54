"""FakeAccessLog: the AccessLog port in memory; used by the tests of the engine and held to the real one by
tests/contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any


class FakeAccessLog:
    def __init__(self) -> None:
        self.entries: list[Mapping[str, Any]] = []
        self._more = asyncio.Condition()

    async def add(self, app: str, path: str, **fields: Any) -> None:
        async with self._more:
            self.entries.append({"protocol": "http", "app": app, "path": path, "at": 0.0, "status": 200} | fields)
            self._more.notify_all()

    async def tail(self, app: str, lines: int) -> list[Mapping[str, Any]]:
        return [entry for entry in self.entries if entry["app"] == app][-lines:] if lines else []

    async def follow(self, app: str, lines: int) -> AsyncIterator[Mapping[str, Any]]:
        seen = len(self.entries)
        for entry in await self.tail(app, lines):
            yield entry
        while True:
            async with self._more:
                while len(self.entries) == seen:
                    await self._more.wait()
            entry = self.entries[seen]
            seen += 1
            if entry["app"] == app:
                yield entry
