"""A small web app that shows what rota does with replicas; rota starts it, HAProxy and the tests ask it.

It needs Python 3.11 and nothing else. README.md lists its paths and the HELLO_* variables.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import ClassVar, NoReturn, TypeAlias

DRAIN_SECONDS = 25.0
MAX_HEAD_BYTES = 32 * 1024
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_FRAME_BYTES = 1024 * 1024
MAX_SLOW_SECONDS = 600.0
MAX_HELD_MIB = 16 * 1024
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
PING, PONG, CLOSE = 0x9, 0xA, 0x8
Route: TypeAlias = Callable[["Connection", str, dict[str, str], bytes], None]


class App:
    """What all connections share: identity, health, and who is still connected."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.version = environ.get("HELLO_VERSION", "1")
        self.name = environ.get("ROTA_APP", "hello")
        self.release = environ.get("ROTA_RELEASE", "0")
        self.replica = environ.get("ROTA_REPLICA", "local")
        self.slot = environ.get("ROTA_SLOT", "0")
        self.always_unhealthy = environ.get("HELLO_UNHEALTHY") == "1"
        self.access_log = environ.get("HELLO_ACCESS_LOG") == "1"
        self.healthy = True
        self.held = b""
        self.connections: set[Connection] = set()
        self.stopping = asyncio.Event()
        self.empty = asyncio.Event()
        self.identity = f"X-Rota-Replica: {self.replica}\r\nX-Rota-Release: {self.release}\r\n"
        self.greeting = (
            f"Hello from {self.name}, version {self.version}, replica {self.replica}, slot {self.slot}\n"
        ).encode()
        names = {"version": self.version, "release": self.release, "replica": self.replica, "slot": self.slot}
        self.version_json = f"{json.dumps({**names, 'pid': os.getpid()})}\n".encode()

    def forget(self, connection: "Connection") -> None:
        """Drop a connection that ended."""
        self.connections.discard(connection)
        if self.stopping.is_set() and not self.connections:
            self.empty.set()

    async def drain(self) -> None:
        """Let the open requests end, for at most DRAIN_SECONDS; idle connections are closed at once."""
        for connection in list(self.connections):
            connection.say_goodbye()
        if not self.connections:
            return
        try:
            await asyncio.wait_for(self.empty.wait(), DRAIN_SECONDS)
        except TimeoutError:
            complain(f"{len(self.connections)} connections still open after {DRAIN_SECONDS:g} s")


class Connection(asyncio.Protocol):
    """One client connection: requests in order, one at a time, until either side closes."""

    transport: asyncio.Transport

    def __init__(self, app: App) -> None:
        self.app = app
        self.buffer = bytearray()
        self.waiting: asyncio.TimerHandle | None = None  # the timer of a slow answer or an event stream
        self.websocket = self.streaming = False
        self.last = False  # the answer under way is the last one
        self.head_only = self.continued = False
        self.line = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server makes no other
        self.transport = transport
        self.app.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
        self.app.forget(self)

    def eof_received(self) -> bool:
        """Answer what is under way to a client that only listens from now on."""
        self.last = True
        return self.waiting is not None and not self.streaming

    def data_received(self, received: bytes) -> None:
        self.buffer += received
        if self.websocket:
            self._read_frames()
        else:
            self._read_requests()

    def say_goodbye(self) -> None:
        """The process is about to end: close now unless a request is under way."""
        if self.websocket:
            self._end_websocket(1001)
        elif self.streaming or (self.waiting is None and not self.buffer):
            self.transport.close()

    # --- HTTP/1.1 (RFC 9112) ---

    def _read_requests(self) -> None:
        while self.buffer and self.waiting is None and not self.transport.is_closing():
            if not self._read_request():
                break
        # A client that pipelines behind a slow request waits in its own socket buffer.
        if self.waiting is not None and len(self.buffer) > MAX_HEAD_BYTES:
            self.transport.pause_reading()

    def _read_request(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD_BYTES:
                self._refuse(431)
            return False
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        parts = lines[0].split(" ")
        length = headers.get("content-length", "0")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not (length.isascii() and length.isdigit()):
            return self._refuse(400)
        if "transfer-encoding" in headers:
            return self._refuse(411)
        if int(length) > MAX_BODY_BYTES:
            return self._refuse(413)
        total = end + 4 + int(length)
        if len(self.buffer) < total:
            if headers.get("expect", "").lower() == "100-continue" and not self.continued:
                self.continued = True
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        body = bytes(self.buffer[end + 4 : total])
        del self.buffer[:total]
        self._answer(parts, headers, body)
        return True

    def _answer(self, parts: list[str], headers: dict[str, str], body: bytes) -> None:
        method, target, protocol = parts
        options = headers.get("connection", "").lower()
        self.last = self.last or "close" in options or (protocol == "HTTP/1.0" and "keep-alive" not in options)
        self.head_only = method == "HEAD"
        self.continued = False
        self.line = f"{method} {target}"
        path, _, query = target.partition("?")
        route = self.ROUTES.get(("GET" if self.head_only else method, path))
        if route is not None:
            route(self, query, headers, body)
        elif any(path == known for _, known in self.ROUTES):
            self._respond(405, b"method not allowed\n")
        else:
            self._respond(404, b"not found\n")

    def _respond(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        last = self.last or self.app.stopping.is_set()
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"{self.app.identity}{'Connection: close' if last else 'Connection: keep-alive'}\r\n\r\n"
        ).encode("latin-1")
        self.transport.write(head if self.head_only else head + body)
        if self.app.access_log:
            print(f"{self.line} {status} {len(body)}", flush=True)
        if last:
            self.transport.close()

    def _refuse(self, status: int) -> bool:
        self.last, self.head_only, self.line = True, False, "refused"
        self._respond(status, REASONS[status].lower().encode() + b"\n")
        return False

    # --- paths ---

    def _root(self, query: str, headers: dict[str, str], body: bytes) -> None:
        self._respond(200, self.app.greeting)

    def _version(self, query: str, headers: dict[str, str], body: bytes) -> None:
        self._respond(200, self.app.version_json, "application/json")

    def _health(self, query: str, headers: dict[str, str], body: bytes) -> None:
        if self.app.healthy and not self.app.always_unhealthy:
            self._respond(200, b"ok\n")
        else:
            self._respond(503, b"unhealthy\n")

    def _health_off(self, query: str, headers: dict[str, str], body: bytes) -> None:
        self.app.healthy = False
        self._respond(200, b"off\n")

    def _health_on(self, query: str, headers: dict[str, str], body: bytes) -> None:
        self.app.healthy = True
        self._respond(200, b"on\n")

    def _echo(self, query: str, headers: dict[str, str], body: bytes) -> None:
        self._respond(200, body, "application/octet-stream")

    def _slow(self, query: str, headers: dict[str, str], body: bytes) -> None:
        try:
            seconds = float(query.removeprefix("seconds=") or "1")
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= MAX_SLOW_SECONDS:
            self._respond(400, f"seconds must be 0 to {MAX_SLOW_SECONDS:g}\n".encode())
            return
        self.waiting = asyncio.get_running_loop().call_later(seconds, self._slow_ends)

    def _slow_ends(self) -> None:
        self.waiting = None
        self._respond(200, b"slow: done\n")
        self.transport.resume_reading()
        self._read_requests()

    def _memory(self, query: str, headers: dict[str, str], body: bytes) -> None:
        try:
            mebibytes = int(query.removeprefix("mib="))
        except ValueError:
            mebibytes = -1
        if not 0 <= mebibytes <= MAX_HELD_MIB:
            self._respond(400, f"mib must be 0 to {MAX_HELD_MIB}\n".encode())
            return
        self.app.held = b""  # first, so that it never holds both
        self.app.held = b"x" * (mebibytes * 2**20)
        self._respond(200, b"held\n")

    def _crash(self, query: str, headers: dict[str, str], body: bytes) -> None:
        complain("crash: asked to")
        os._exit(1)

    def _sse(self, query: str, headers: dict[str, str], body: bytes) -> None:
        # A stream has no length: it ends with its connection (RFC 9112, 6.3).
        self.streaming = True
        self.transport.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
            f"{self.app.identity}Connection: close\r\n\r\n".encode("latin-1")
        )
        if self.head_only:
            self.transport.close()
        else:
            self._send_event(1)

    def _send_event(self, number: int) -> None:
        self.transport.write(f"id: {number}\ndata: {self.app.replica}\n\n".encode())
        self.waiting = asyncio.get_running_loop().call_later(1, self._send_event, number + 1)

    # --- WebSocket echo (RFC 6455) ---

    def _upgrade(self, query: str, headers: dict[str, str], body: bytes) -> None:
        key = headers.get("sec-websocket-key", "")
        if headers.get("upgrade", "").lower() != "websocket" or not key:
            self._respond(426, b"this path speaks WebSocket\n")
            return
        # Imported by the first WebSocket only, so that the app listens sooner.
        import base64
        import hashlib

        digest = hashlib.sha1(key.encode() + WEBSOCKET_GUID, usedforsecurity=False).digest()
        accept = base64.b64encode(digest).decode()
        self.websocket = True
        self.transport.write(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n{self.app.identity}\r\n".encode("latin-1")
        )
        if self.app.stopping.is_set():
            self.say_goodbye()
        self._read_frames()

    def _read_frames(self) -> None:
        while len(self.buffer) >= 2 and not self.transport.is_closing():
            first, second = self.buffer[0], self.buffer[1]
            if first & 0x70 or not second & 0x80:  # no extension was agreed on; clients must mask
                self._end_websocket(1002)
                return
            start, length = 2, second & 0x7F
            if length >= 126:
                start = 4 if length == 126 else 10
                if len(self.buffer) < start:
                    return
                length = int.from_bytes(self.buffer[2:start], "big")
            if length > MAX_FRAME_BYTES:
                self._end_websocket(1009)
                return
            end = start + 4 + length
            if len(self.buffer) < end:
                return
            payload = unmask(bytes(self.buffer[start : start + 4]), bytes(self.buffer[start + 4 : end]))
            del self.buffer[:end]
            self._answer_frame(first, payload)

    def _answer_frame(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode == CLOSE:
            self._send_frame(CLOSE, payload[:2])
            self.transport.close()
        elif opcode == PING:
            self._send_frame(PONG, payload)
        elif opcode != PONG:
            # Text, binary and continuation frames go back as they came, FIN bit included.
            self._send_frame(opcode, payload, final=first & 0x80)

    def _send_frame(self, opcode: int, payload: bytes, final: int = 0x80) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((final | opcode, size))
        elif size < 65536:
            head = bytes((final | opcode, 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((final | opcode, 127)) + size.to_bytes(8, "big")
        self.transport.write(head + payload)

    def _end_websocket(self, code: int) -> None:
        self._send_frame(CLOSE, code.to_bytes(2, "big"))
        self.transport.close()

    ROUTES: ClassVar[dict[tuple[str, str], Route]] = {
        ("GET", "/"): _root,
        ("GET", "/version"): _version,
        ("GET", "/health"): _health,
        ("POST", "/health/off"): _health_off,
        ("POST", "/health/on"): _health_on,
        ("GET", "/slow"): _slow,
        ("POST", "/echo"): _echo,
        ("POST", "/memory"): _memory,
        ("POST", "/crash"): _crash,
        ("GET", "/sse"): _sse,
        ("GET", "/ws"): _upgrade,
    }


def unmask(mask: bytes, payload: bytes) -> bytes:
    """Undo a client's masking (RFC 6455, 5.3), all bytes at once."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def complain(message: str) -> None:
    print(f"hello: {message}", file=sys.stderr, flush=True)


def crash() -> NoReturn:
    """End as a program does that misses its configuration."""
    complain("the environment variable DATABASE_URL is missing")
    os._exit(3)


async def serve(environ: dict[str, str]) -> None:
    """Listen, answer until SIGTERM or SIGINT, let the open requests end, return."""
    loop = asyncio.get_running_loop()
    app = App(environ)
    loop.add_signal_handler(signal.SIGINT, app.stopping.set)
    if environ.get("HELLO_IGNORE_TERM") == "1":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, app.stopping.set)
    crash_after = environ.get("HELLO_CRASH_AFTER")
    if crash_after is not None:
        loop.call_later(float(crash_after), crash) if float(crash_after) else crash()
    if await stopped_within(app, float(environ.get("HELLO_BOOT_SECONDS", "0"))):
        return
    if environ.get("HELLO_NEVER_LISTEN") == "1":
        await app.stopping.wait()
        return
    host = environ.get("HOST", "127.0.0.1")
    port = int(environ.get("HELLO_LISTEN_PORT") or environ.get("PORT", "8000"))
    server = await loop.create_server(lambda: Connection(app), host, port, backlog=1024)
    bound = server.sockets[0].getsockname()[1]
    print(f"hello {app.version} listens on {host}:{bound}", flush=True)
    await app.stopping.wait()
    server.close()
    await app.drain()


async def stopped_within(app: App, seconds: float) -> bool:
    """Wait so long for SIGTERM; true when it came."""
    if seconds <= 0:
        return False
    try:
        await asyncio.wait_for(app.stopping.wait(), seconds)
    except TimeoutError:
        return False
    return True


if __name__ == "__main__":
    asyncio.run(serve(dict(os.environ)))
