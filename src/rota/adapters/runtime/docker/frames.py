"""The engine's form of two streams in one, for logs and exec (Engine API, "attach", stream format)."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator

_HEADER = struct.Struct(">BxxxL")  # which stream, and how many bytes follow


async def frames(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
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
