"""One health check by the standard gRPC protocol (grpc.health.v1.Health/Check) over plain HTTP/2; asked by the prober.

Two messages of one field each are written and read by hand here: a gRPC library would be the largest that rota has.
Form: github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md and doc/health-checking.md."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from rota.ports.prober import ProbeResult

_METHOD = "/grpc.health.v1.Health/Check"
_MOST_READ = 64 * 1024  # bytes of an answer; one of these has some hundred
_PREFIX = 5  # bytes before a message: compressed or not, and its length
_OK, _NOT_FOUND, _UNIMPLEMENTED = "0", "5", "12"
_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING = 1


async def check(connection: socket.socket, service: str, host: str) -> ProbeResult:
    """``service`` is whose health is asked, "" the whole server's. Raises OSError."""
    client = H2Connection(H2Configuration(client_side=True))
    answer = _Answer()
    try:
        client.initiate_connection()
        client.send_headers(1, _headers(host))
        client.send_data(1, _framed(_request(service)), end_stream=True)
        await _exchange(client, connection, answer)
    except ProtocolError:
        return ProbeResult("the answer is not HTTP/2")
    return ProbeResult(answer.failure(service))


@dataclass
class _Answer:
    """What has come of it."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    over: bool = False
    broken: str = ""

    def take(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                self.headers |= {_text(name): _text(value) for name, value in event.headers or ()}
            case DataReceived():
                self.body += event.data or b""
            case StreamEnded():
                self.over = True
            case StreamReset() | ConnectionTerminated():
                self.over, self.broken = True, "the server broke the call off"

    def failure(self, service: str) -> str:
        """Empty when it serves."""
        if self.broken or not self.headers:
            return self.broken or "the connection was closed without an answer"
        if self.headers.get(":status") != "200":
            return f"HTTP {self.headers.get(':status')}"
        code = self.headers.get("grpc-status", "")
        if code != _OK:
            return _refusal(code, self.headers, service)
        status = _status(self.body)
        if status is None:
            return "the answer is not one of grpc.health.v1.Health"
        return "" if status == _SERVING else f"its gRPC health is {_STATUS.get(status, status)}"


async def _exchange(client: H2Connection, connection: socket.socket, answer: _Answer) -> None:
    """Until the answer is complete, or too long for one."""
    loop, total = asyncio.get_running_loop(), 0
    while not answer.over and total < _MOST_READ:
        await loop.sock_sendall(connection, client.data_to_send())
        piece = await loop.sock_recv(connection, 8192)
        if not piece:
            return
        if not total and piece.startswith(b"HTTP/1"):  # a frame of 4 MB, for all that the library can know
            raise ProtocolError
        total += len(piece)
        for event in client.receive_data(piece):
            answer.take(event)


def _headers(host: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", _METHOD),
        (":authority", host),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "rota"),
    ]


def _refusal(code: str, headers: Mapping[str, str], service: str) -> str:
    if code == _NOT_FOUND:
        return f"the gRPC server knows no service {service!r}: check health_check.service"
    if code == _UNIMPLEMENTED:
        return "the gRPC server has no health service (grpc.health.v1.Health)"
    said = "".join(mark if mark.isprintable() else "?" for mark in headers.get("grpc-message", "")[:200])
    return f"gRPC status {code or 'missing'}{f': {said}' if said else ''}"


def _request(service: str) -> bytes:
    """HealthCheckRequest: field 1 is a string."""
    name = service.encode()
    return b"\x0a" + bytes(_varint(len(name))) + name if name else b""


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _status(body: bytes) -> int | None:
    """HealthCheckResponse: field 1 is an enum, 0 when it is left out. None when this is no such message."""
    if len(body) < _PREFIX or body[0] != 0 or len(body) != _PREFIX + int.from_bytes(body[1:_PREFIX], "big"):
        return None
    message = body[_PREFIX:]
    if not message:
        return 0
    return message[1] if len(message) == 2 and message[0] == 0x08 and message[1] < 0x80 else None


def _varint(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")
