"""TCP services that say who they are and echo, and the clients that keep lines to them; used by the tests of whatever
carries connections."""

from __future__ import annotations

import asyncio
import ssl

from rota.core.observation import Address

DEADLINE = 5.0  # seconds


class EchoServer:
    """One replica's TCP service on 127.0.0.1: it speaks first, with its name, and then echoes. ``heard`` is what came
    first on each connection, where it came ahead of a client's own word (``head``: how many bytes that is)."""

    def __init__(self, name: str, *, head: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.name = name
        self.port = 0
        self.heard: list[bytes] = []
        self._head = head
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port)

    async def start(self) -> EchoServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """As a killed process."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._head:
                self.heard.append(await reader.readexactly(self._head))
            writer.write(f"{self.name}\n".encode())
            while said := await reader.read(1000):
                writer.write(said)
        except (OSError, EOFError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Line:
    """A connection that is kept; ``of`` is who answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.of = ""

    @classmethod
    async def open(
        cls, port: int, *, ahead: bytes = b"", tls: ssl.SSLContext | None = None, name: str | None = None
    ) -> Line:
        """``ahead`` is sent before anything is heard; ``name`` is asked for in TLS. Raises OSError or EOFError unless
        somebody answers."""
        async with asyncio.timeout(DEADLINE):
            to = asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
            line = cls(*(await to))
            if ahead:
                line._writer.write(ahead)
            try:
                line.of = (await line._reader.readuntil()).decode().strip()
            except BaseException:
                line.close()
                raise
            return line

    async def echo(self, word: bytes = b"ping\n") -> bytes:
        """What comes back of a word; b"" once the line has ended."""
        async with asyncio.timeout(DEADLINE):
            try:
                self._writer.write(word)
                return await self._reader.readexactly(len(word))
            except (OSError, EOFError):
                return b""

    async def ended(self) -> bool:
        """Returns once the other side has closed it; raises TimeoutError when it does not."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self._reader.read() == b""
            except OSError:
                return True

    def close(self) -> None:
        self._writer.close()
