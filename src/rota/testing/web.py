"""Web servers that misbehave as told, and clients that count what they get; used by the tests of whatever carries
requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from rota.core.observation import Address

UPGRADE = (
    "GET /socket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
"""The handshake of RFC 6455, section 1.3, with its example key; HAProxy checks the answer to it."""

_ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class WebServer:
    """One replica's stand-in on 127.0.0.1. What a path does: ``/slow/S`` answers after S seconds, ``/trickle/S``
    begins its answer and ends it then, ``/status/N`` with
    that code, ``/empty`` closes without an answer, ``/half`` breaks its answer off, ``/socket`` upgrades, echoes and
    ends at ``bye``; ``/health`` is what ``healthy`` says, byte by byte while it ``trickles``. ``lines`` are the other
    ends of the connections that brought a request."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.healthy = True
        self.trickles = False
        self.asked: Counter[str] = Counter()
        self.heads: list[str] = []
        self.lines: set[tuple[str, int]] = set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port)

    async def start(self, port: int = 0) -> WebServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """As a killed process: nothing listens any more, every connection is gone."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def close_kept(self) -> None:
        """Closes every connection; all are between two requests."""
        writers = tuple(self._writers)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, EOFError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.lines.add(writer.get_extra_info("peername"))
        path = head.split()[1]
        self.asked[path.split("/")[1]] += 1
        await _read_body(reader, head.lower())
        if not path.startswith("/health"):
            self.heads.append(head)
        match path.partition("?")[0].split("/")[1:]:
            case ["slow", seconds]:
                await asyncio.sleep(float(seconds))
                await self._reply(writer, 200)
            case ["trickle", seconds]:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
                await writer.drain()
                await asyncio.sleep(float(seconds))
                writer.write(b"2")
                await writer.drain()
            case ["status", code]:
                await self._reply(writer, int(code))
            case ["empty"]:
                return False
            case ["half"]:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                await writer.drain()
                return False
            case ["socket"]:
                writer.write(_ACCEPTED)
                while (said := await reader.read(1000)) not in (b"", b"bye"):
                    writer.write(said)
                return False
            case ["health", *_] if self.trickles:
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.02)
                return False
            case ["health", *_]:
                await self._reply(writer, 200 if self.healthy else 500)
            case _:
                await self._reply(writer, 200)
        return "connection: close" not in head.lower()

    async def _reply(self, writer: asyncio.StreamWriter, code: int) -> None:
        body = self.name.encode()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (code, len(body), body))
        await writer.drain()


async def _read_body(reader: asyncio.StreamReader, head: str) -> None:
    if "\r\ntransfer-encoding: chunked\r\n" in head:
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    _, _, length = head.partition("\r\ncontent-length: ")
    await reader.readexactly(int(length.split("\r\n")[0] or 0))


class Client:
    """One connection after the other to HAProxy, kept alive as long as the other side does. ``cookie`` is sent with
    each request as it is, and so are ``headers``; ``given`` are the cookies that were set, with their attributes;
    ``head`` has the last answer's header fields by their names in lower case."""

    def __init__(self, port: int, host: str) -> None:
        self.cookie = ""
        self.headers: dict[str, str] = {}
        self.given: list[str] = []
        self.head: dict[str, str] = {}
        self._port = port
        self._host = host
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str = "/", method: str = "GET", *, keep: bool = False) -> tuple[int, str]:
        """Status and body; status 0 when there was no whole answer."""
        try:
            reader, writer = self._streams or await asyncio.open_connection("127.0.0.1", self._port)
            self._streams = None
            connection = "keep-alive" if keep else "close"
            length = "Content-Length: 0\r\n" if method == "POST" else ""
            cookie = f"Cookie: {self.cookie}\r\n" if self.cookie else ""
            more = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
            lines = f"Host: {self._host}\r\n{length}{cookie}{more}Connection: {connection}\r\n"
            head = f"{method} {path} HTTP/1.1\r\n{lines}\r\n"
            writer.write(head.encode())
            status, body, goes_on = await self._read(reader, method)
        except (OSError, EOFError, ValueError):
            return 0, ""
        if keep and goes_on:
            self._streams = (reader, writer)
        else:
            writer.close()
        return status, body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _read(self, reader: asyncio.StreamReader, method: str) -> tuple[int, str, bool]:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        fields = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines if line)]
        self.given += [value for name, value in fields if name == "set-cookie"]
        self.head = dict(fields)
        length = None if "content-length" not in self.head else int(self.head["content-length"])
        if method == "HEAD":
            length = 0
        body = await reader.read() if length is None else await reader.readexactly(length)
        goes_on = length is not None and self.head.get("connection") != "close"
        return int(first.split()[1]), body.decode(), goes_on


async def web_socket(port: int, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket through HAProxy, open once it echoes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE.format(host=host).encode() + b"hello")
    await reader.readuntil(b"hello")
    return reader, writer


class Load:
    """Requests one after the other from several clients, half of them on kept connections, until stopped."""

    def __init__(self, port: int, host: str, clients: int = 4, pause: float = 0.005) -> None:
        self.outcomes: Counter[tuple[int, str]] = Counter()
        self._stop = asyncio.Event()
        self._ended = asyncio.Condition()
        self._clients = [(Client(port, host), number % 2 == 0) for number in range(clients)]
        self._pause = pause

    @property
    def sent(self) -> int:
        return self.outcomes.total()

    @property
    def lost(self) -> int:
        return sum(count for (status, _), count in self.outcomes.items() if status != 200)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        tasks = [asyncio.create_task(self._go(client, keep)) for client, keep in self._clients]
        try:
            yield self
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)
            for client, _ in self._clients:
                client.close()

    async def further(self, requests: int, body: str | None = None) -> None:
        """Returns once so many more requests have ended, or so many that this body answered. Raises TimeoutError."""

        def ended() -> int:
            return sum(count for (_, said), count in self.outcomes.items() if body in (None, said))

        until = ended() + requests
        async with asyncio.timeout(10), self._ended:
            await self._ended.wait_for(lambda: ended() >= until)

    async def _go(self, client: Client, keep: bool) -> None:
        while not self._stop.is_set():
            self.outcomes[await client.ask(keep=keep)] += 1
            async with self._ended:
                self._ended.notify_all()
            await asyncio.sleep(self._pause)
