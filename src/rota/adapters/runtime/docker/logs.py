"""What containers have written, read from the engine; fulfils the Logs port for the API and the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rota.adapters.runtime.docker.client import Client, Refused
from rota.adapters.runtime.docker.frames import frames
from rota.adapters.runtime.docker.inspection import Inspection
from rota.core.names import ReplicaId
from rota.ports.logs import LogLine

LONGEST_LINE = 64 * 1024
_LOOK_AGAIN = 0.1  # seconds


class ContainerLogs:
    """``inspection_of`` gives what is known of a replica's container, None when there is none."""

    def __init__(self, client: Client, inspection_of: Callable[[ReplicaId], Inspection | None]) -> None:
        self._client = client
        self._inspection_of = inspection_of

    async def tail(self, replica: ReplicaId, lines: int) -> tuple[str, ...]:
        seen = self._inspection_of(replica)
        if seen is None or lines <= 0:
            return ()
        written = [line async for line in _shown(self._entries(seen.id, {"tail": lines}))]
        return tuple(written[-lines:])

    async def follow(self, replica: ReplicaId, lines: int) -> AsyncIterator[LogLine]:
        """Over restarts in place: the engine's own stream ends with each run."""
        place = _Place()
        read, wanted = "", {"tail": str(lines)}
        while (seen := self._inspection_of(replica)) is not None:
            if seen.run == read:
                await asyncio.sleep(_LOOK_AGAIN)
                continue
            read = seen.run
            async for line in _shown(place.after(self._entries(seen.id, {"follow": 1, **wanted}))):
                yield LogLine(replica, line)
            wanted = place.since

    async def _entries(self, container: str, wanted: Mapping[str, Any]) -> AsyncIterator[_Entry]:
        """Nothing, or nothing more, of one that is gone."""
        params = {"stdout": 1, "stderr": 1, "timestamps": 1, **wanted}
        try:
            async with self._client.bytes(f"containers/{container}/logs", params) as pieces:
                async for stream, content in frames(pieces):
                    at, _, text = content.partition(b" ")
                    yield _Entry(stream, at.decode(), text)
        except Refused as refused:
            if refused.http_status not in (404, 409):  # gone, or about to be
                raise


@dataclass(frozen=True)
class _Entry:
    """What was written at once; ``at`` has as many digits as any other, so that they compare as they are."""

    stream: int
    at: str
    text: bytes


class _Place:
    """How far has been read. An app may write before the engine says that it has started: only what was read last tells
    where to go on."""

    def __init__(self) -> None:
        self._last = ""

    @property
    def since(self) -> dict[str, str]:
        """As the engine takes a moment, which it includes."""
        if not self._last:
            return {}
        whole, _, fraction = self._last.rstrip("Z").partition(".")
        return {"since": f"{int(datetime.fromisoformat(whole + 'Z').timestamp())}.{fraction or 0}"}

    async def after(self, entries: AsyncIterator[_Entry]) -> AsyncIterator[_Entry]:
        """Those that were not read before."""
        before = self._last
        async for entry in entries:
            if entry.at > before:
                self._last = max(self._last, entry.at)
                yield entry


async def _shown(entries: AsyncIterator[_Entry]) -> AsyncIterator[str]:
    """Whole lines, each stream's own, cut at 64 KiB; at the end also the one that was never ended."""
    begun: dict[int, bytes] = {}
    async for entry in entries:
        *lines, rest = (begun.get(entry.stream, b"") + entry.text).split(b"\n")
        for line in lines:
            yield _text(line)
        begun[entry.stream] = rest[:LONGEST_LINE]
    for rest in begun.values():
        if rest:
            yield _text(rest)


def _text(line: bytes) -> str:
    return line[:LONGEST_LINE].decode(errors="replace").rstrip("\r")
