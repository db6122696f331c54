"""The front: UDP and TCP on one address; takes packets, keeps to the allowance, and sends what answers or the
forwarder give; opened by main."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from .allowance import Allowance
from .answers import Answers, Elsewhere
from .forwarding import Forwarder

MOST_CONNECTIONS = 128
IDLE = 5.0  # seconds that a TCP client may take for its next question
BUFFER = 2**20  # bytes that the kernel keeps while this process waits for its turn


class Front:
    def __init__(self, answers: Answers, forwarder: Forwarder, allowance: Allowance) -> None:
        self._answers = answers
        self._forwarder = forwarder
        self._allowance = allowance
        self._forwarding: set[asyncio.Task[None]] = set()
        self._connections = 0

    def packet(self, wire: bytes, address: tuple[str, int], transport: asyncio.DatagramTransport) -> None:
        """One UDP packet, from anybody."""
        known = self._allowance.is_known(address[0])
        if not known and not self._allowance.take(address[0]):
            return
        answer = self._answers.answer(wire, udp=True)
        if isinstance(answer, bytes):
            transport.sendto(answer, address)
        elif answer is Elsewhere.ASKED and known:
            task = asyncio.get_running_loop().create_task(self._forward(wire, address, transport))
            self._forwarding.add(task)
            task.add_done_callback(self._forwarding.discard)
        elif answer is Elsewhere.ASKED:
            transport.sendto(self._answers.refusal(wire), address)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP client, until it leaves, is silent for too long, or may have no more answers."""
        self._connections += 1
        host = writer.get_extra_info("peername")[0]
        try:
            while self._connections <= MOST_CONNECTIONS:
                async with asyncio.timeout(IDLE):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(length)
                    answer = await self._answer_over_tcp(wire, host)
                    if answer is None:
                        return
                    writer.write(struct.pack("!H", len(answer)) + answer)
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections -= 1
            writer.close()

    async def _answer_over_tcp(self, wire: bytes, host: str) -> bytes | None:
        known = self._allowance.is_known(host)
        if not known and not self._allowance.take(host):
            return None
        answer = self._answers.answer(wire, udp=False)
        if answer is not Elsewhere.ASKED:
            return answer
        if not known:
            return self._answers.refusal(wire)
        return await self._forwarder.ask(wire, udp=False) or self._answers.failure(wire)

    async def _forward(self, wire: bytes, address: tuple[str, int], transport: asyncio.DatagramTransport) -> None:
        answer = await self._forwarder.ask(wire, udp=True) or self._answers.failure(wire)
        if not transport.is_closing():
            transport.sendto(answer, address)


@asynccontextmanager
async def listen(address: tuple[str, int], front: Front) -> AsyncIterator[None]:
    """Raises OSError naming the address."""
    loop = asyncio.get_running_loop()
    with _bound(address, socket.SOCK_DGRAM) as datagrams, _bound(address, socket.SOCK_STREAM) as streams:
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Packets(front), sock=datagrams)
        server = await asyncio.start_server(front.connection, sock=streams)
        try:
            yield
        finally:
            server.close()
            transport.close()


def _bound(address: tuple[str, int], kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, kind)
    try:
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from error
    return made


class _Packets(asyncio.DatagramProtocol):
    def __init__(self, front: Front) -> None:
        self._front = front

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # asyncio's own is no subclass of it

    def datagram_received(self, wire: bytes, address: tuple[str | object, int]) -> None:
        self._front.packet(wire, (str(address[0]), *address[1:]), self._transport)
