"""The front: UDP and TCP on one address; takes packets, keeps to the allowance, and sends what answers or the
forwarder give; opened by main."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from .allowance import Allowance
from .answers import Answers, Elsewhere
from .forwarding import Forwarder
from .places import Places

IDLE = 5.0  # seconds that a TCP client may take for its next question
AT_A_TIME = 64  # packets
LONGEST_PACKET = 4096  # bytes: no question is longer
BUFFER = 2**20  # bytes that the kernel keeps while this process waits for its turn

_IP_FREEBIND = 15  # linux/in.h: the address of a bridge that its engine makes anew is away for a moment
_Client = Any  # a socket's address: two parts, or four with IPv6


class Front:
    def __init__(self, answers: Answers, forwarder: Forwarder, allowance: Allowance) -> None:
        self._answers = answers
        self._forwarder = forwarder
        self._allowance = allowance
        self._forwarding: set[asyncio.Task[None]] = set()
        self._places = Places(allowance)

    def packets(self, line: socket.socket) -> None:
        """Those that have come by UDP, some at a time: the loop has others to serve too. asyncio's own endpoints take
        one a round, which costs half of the questions a second."""
        for _ in range(AT_A_TIME):
            try:
                wire, address = line.recvfrom(LONGEST_PACKET)
                self._packet(wire, address, line)
            except BlockingIOError:
                return
            except OSError:  # told of an earlier answer that its client's port was closed, or found no way to send
                continue

    def _packet(self, wire: bytes, address: _Client, line: socket.socket) -> None:
        known = self._allowance.is_known(address[0])
        if not known and not self._allowance.take(address[0]):
            return
        answer = self._answers.answer(wire, udp=True)
        if isinstance(answer, bytes):
            line.sendto(answer, address)
        elif answer is Elsewhere.ASKED and known:
            task = asyncio.get_running_loop().create_task(self._forward(wire, address, line))
            self._forwarding.add(task)
            task.add_done_callback(self._forwarding.discard)
        elif answer is Elsewhere.ASKED:
            line.sendto(self._answers.refusal(wire), address)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP client, until it leaves, is silent for too long, or may have no more answers."""
        host = writer.get_extra_info("peername")[0]
        try:
            with self._places.place(host) as there_is_one:
                while there_is_one and await self._one_more_over_tcp(reader, writer, host):
                    pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one_more_over_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> bool:
        """Waits for a question and answers it; False when the client is given no answer."""
        async with asyncio.timeout(IDLE):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            answer = await self._answer_over_tcp(await reader.readexactly(length), host)
            if answer is None:
                return False
            writer.write(struct.pack("!H", len(answer)) + answer)
            await writer.drain()
            return True

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

    async def _forward(self, wire: bytes, address: _Client, line: socket.socket) -> None:
        answer = await self._forwarder.ask(wire, udp=True) or self._answers.failure(wire)
        with suppress(OSError):
            line.sendto(answer, address)


@asynccontextmanager
async def listen(address: tuple[str, int], front: Front) -> AsyncIterator[None]:
    """Raises OSError naming the address."""
    loop = asyncio.get_running_loop()
    with _bound(address, socket.SOCK_DGRAM) as datagrams, _bound(address, socket.SOCK_STREAM) as streams:
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        server = await asyncio.start_server(front.connection, sock=streams)
        loop.add_reader(datagrams, front.packets, datagrams)
        try:
            yield
        finally:
            server.close()
            loop.remove_reader(datagrams)
            front.packets(datagrams)  # those that came to this one while another takes its place


def _bound(address: tuple[str, int], kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, kind)
    try:
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # one that takes its place answers beside it first
        with suppress(OSError):
            made.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
        made.bind(address)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from error
    return made
