"""What containers have written, read from the engine; fulfils the Logs port for the API and the engine."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from rota.adapters.runtime.docker.client import Client, Refused
from rota.adapters.runtime.docker.inspection import Inspection
from rota.core.names import ReplicaId
from rota.ports.logs import LogLine

LONGEST_LINE = 64 * 1024
_LOOK_AGAIN = 0.1  # seconds
_HEADER = struct.Struct(">BxxxL")  # which stream, and how many bytes follow (Engine API, "attach")


class ContainerLogs:
    """``inspection_of`` gives what is known of a replica's container, None when there is none."""

    def __init__(self, client: Client, inspection_of: Callable[[ReplicaId], Inspection | None]) -> None:
        self._client = client
        self._inspection_of = inspection_of

    async def tail(self, replica: ReplicaId, lines: int) -> tuple[str, ...]:
        seen = self._inspection_of(replica)
        if seen is None or lines <= 0:
            return ()
        written = [line async for line in self._lines(seen.id, {"tail": lines})]
        return tuple(written[-lines:])

    async def follow(self, replica: ReplicaId, lines: int) -> AsyncIterator[LogLine]:
        """Over restarts in place: the engine's own stream ends with each run."""
        wanted: dict[str, Any] = {"tail": lines}
        read = ""
        while (seen := self._inspection_of(replica)) is not None:
            if seen.run == read:
                await asyncio.sleep(_LOOK_AGAIN)
                continue
            if read:
                wanted = {"since": seen.started_seconds}
            read = seen.run
            async for line in self._lines(seen.id, {"follow": 1, **wanted}):
                yield LogLine(replica, line)

    async def _lines(self, container: str, wanted: Mapping[str, Any]) -> AsyncIterator[str]:
        """Nothing, or nothing more, of one that is gone."""
        params = {"stdout": 1, "stderr": 1, **wanted}
        try:
            async with self._client.bytes(f"containers/{container}/logs", params) as pieces:
                async for line in _shown(_frames(pieces)):
                    yield line
        except Refused as refused:
            if refused.http_status not in (404, 409):  # gone, or about to be
                raise


async def _frames(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """The pieces of each stream (1 is stdout, 2 is stderr), as they were written."""
    rest = b""
    async for piece in pieces:
        rest += piece
        while len(rest) >= _HEADER.size:
            stream, length = _HEADER.unpack_from(rest)
            end = _HEADER.size + length
            if len(rest) < end:
                break
            yield stream, rest[_HEADER.size : end]
            rest = rest[end:]


async def _shown(frames: AsyncIterator[tuple[int, bytes]]) -> AsyncIterator[str]:
    """Whole lines, each stream's own, cut at 64 KiB; at the end also the one that was never ended."""
    begun = {1: b"", 2: b""}
    async for stream, content in frames:
        *lines, rest = (begun.get(stream, b"") + content).split(b"\n")
        for line in lines:
            yield _text(line)
        begun[stream] = rest[:LONGEST_LINE]
    for rest in begun.values():
        if rest:
            yield _text(rest)


def _text(line: bytes) -> str:
    return line[:LONGEST_LINE].decode(errors="replace").rstrip("\r")
