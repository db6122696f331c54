"""The forwarder: hands questions about other names to the host's resolvers and their answers back, unread; asked by
the front."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import struct
from collections.abc import Collection
from pathlib import Path
from typing import cast

PATIENCE = 2.0  # seconds for one resolver
MOST_AT_ONCE = 256
PORT = 53
_HEADER = 12
_RESPONSE = 0x80


class Forwarder:
    """``own`` are the addresses that this server listens on: a host whose first resolver it is must not ask it in a
    circle."""

    def __init__(self, resolv_conf: Path, own: Collection[tuple[str, int]], port: int = PORT) -> None:
        self._resolv_conf = resolv_conf
        self._own = own
        self._port = port
        self._under_way = 0

    async def ask(self, wire: bytes, *, udp: bool) -> bytes | None:
        """The first answer that comes; None when no resolver gives one in time, or too many are being asked."""
        if self._under_way >= MOST_AT_ONCE:
            return None
        self._under_way += 1
        try:
            for host in self._resolvers():
                try:
                    async with asyncio.timeout(PATIENCE):
                        return await (self._over_udp(host, wire) if udp else self._over_tcp(host, wire))
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    continue
            return None
        finally:
            self._under_way -= 1

    def _resolvers(self) -> list[str]:
        """Read each time: the file changes when a network comes or goes."""
        try:
            lines = self._resolv_conf.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        named = [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]
        return [host for host in named if _is_address(host) and (host, self._port) not in self._own]

    async def _over_udp(self, host: str, wire: bytes) -> bytes:
        asked = secrets.token_bytes(2) + wire[2:]
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Awaiting(asked, answer), remote_addr=(host, self._port)
        )
        try:
            return wire[:2] + (await answer)[2:]
        finally:
            transport.close()

    async def _over_tcp(self, host: str, wire: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(host, self._port)
        try:
            writer.write(struct.pack("!H", len(wire)) + wire)
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            return await reader.readexactly(length)
        finally:
            writer.close()


class _Awaiting(asyncio.DatagramProtocol):
    """One question on a socket and a port of its own: only an answer with its id and its question counts."""

    def __init__(self, asked: bytes, answer: asyncio.Future[bytes]) -> None:
        self._asked = asked
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.DatagramTransport, transport).sendto(self._asked)  # asyncio's own is no subclass of it

    def datagram_received(self, wire: bytes, address: tuple[str | object, int]) -> None:
        fits = len(wire) >= _HEADER and wire[:2] == self._asked[:2] and wire[2] & _RESPONSE
        if fits and _question(wire) == _question(self._asked) and not self._answer.done():
            self._answer.set_result(wire)

    def error_received(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)


def _question(wire: bytes) -> bytes:
    """The first question's bytes, its letters made small; empty where there is none."""
    end = _HEADER
    while end < len(wire) and wire[end]:
        end += wire[end] + 1
    return wire[_HEADER : end + 5].lower() if end < len(wire) else b""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
