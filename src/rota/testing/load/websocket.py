"""WebSockets held open beside the requests of a load run (RFC 6455); LoadRun opens and ends them."""

import asyncio
import base64
import hashlib
import os
import time
from contextlib import suppress

from rota.testing.load.plan import LoadPlan
from rota.testing.load.report import WebSocketReport

MESSAGE_SECONDS = 1.0
REOPEN_SECONDS = 1.0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class _RefusedError(Exception):
    """The server did not agree to the WebSocket."""


class HeldWebSockets:
    """Holds `plan.websockets` connections to `/ws`; each sends a message a second, and is opened again
    a second after the other side closed it."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._opened = self._echoed = self._wrong = self._failed = 0
        self._closed_at: list[float] = []
        self._tasks = [asyncio.create_task(self._hold(number)) for number in range(plan.websockets)]

    async def close(self) -> None:
        """End all of them; that counts as nothing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def report(self) -> WebSocketReport:
        """What was counted so far."""
        return WebSocketReport(
            opened=self._opened,
            echoed=self._echoed,
            wrong=self._wrong,
            failed=self._failed,
            closed=len(self._closed_at),
            closed_at=tuple(self._closed_at),
        )

    async def _hold(self, number: int) -> None:
        while True:
            try:
                async with asyncio.timeout(self._plan.timeout):
                    reader, writer = await self._open()
            except (OSError, TimeoutError, _RefusedError, asyncio.IncompleteReadError):
                self._failed += 1
            else:
                self._opened += 1
                await self._talk(number, reader, writer)
            await asyncio.sleep(REOPEN_SECONDS)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._plan.address)
        try:
            key = base64.b64encode(os.urandom(16))
            writer.write(
                f"GET /ws HTTP/1.1\r\nHost: {self._plan.authority}\r\n"
                f"Upgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n\r\n".encode("latin-1")
            )
            head = await reader.readuntil(b"\r\n\r\n")
            accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
            if not head.startswith(b"HTTP/1.1 101 ") or accept not in head:
                raise _RefusedError(head[:80])
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def _talk(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send and check messages until the other side closes."""
        messages = 0
        try:
            while True:
                message = f"socket {number} message {messages}".encode()
                messages += 1
                writer.write(_frame(_TEXT, message))
                async with asyncio.timeout(self._plan.timeout):
                    echo = await _read_message(reader, writer)
                if echo is None:
                    break
                if echo == message:
                    self._echoed += 1
                else:
                    self._wrong += 1
                if await _closes_within(MESSAGE_SECONDS, reader, writer):
                    break
            self._closed_at.append(time.time())
        except TimeoutError:
            self._wrong += 1
        except (OSError, asyncio.IncompleteReadError):
            self._closed_at.append(time.time())
        finally:
            writer.close()


async def _closes_within(seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await _read_message(reader, writer) is None
    return False


async def _read_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """The next text or binary message; None when the other side closes. Pings are answered."""
    while True:
        first, second = await reader.readexactly(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
        payload = await reader.readexactly(length)
        opcode = first & 0x0F
        if opcode == _CLOSE:
            return None
        if opcode == _PING:
            writer.write(_frame(_PONG, payload))
        elif opcode != _PONG:
            return payload


def _frame(opcode: int, payload: bytes) -> bytes:
    """A whole masked frame; payloads here are under 126 bytes."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes((0x80 | opcode, 0x80 | len(payload))) + mask + masked
