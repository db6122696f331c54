"""The gRPC health check against an HTTP/2 server: what passes, and in which words the rest fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from rota.adapters.prober import SocketProber
from rota.core.healthcheck import Check, Kind
from rota.core.names import ReplicaId
from rota.core.observation import Address

Headers = list[tuple[str, str]]
OK = [(":status", "200"), ("content-type", "application/grpc")]
SERVING, NOT_SERVING, UNKNOWN = b"\0\0\0\0\2\x08\1", b"\0\0\0\0\2\x08\2", b"\0\0\0\0\0"


@dataclass
class Call:
    """What is answered, and what was asked."""

    headers: Headers = field(default_factory=lambda: list(OK))
    body: bytes = SERVING
    trailers: Headers = field(default_factory=lambda: [("grpc-status", "0")])
    asked: dict[str, str] = field(default_factory=dict)
    message: bytes = b""

    def answer(self, server: H2Connection) -> None:
        server.send_headers(1, self.headers, end_stream=not self.trailers)
        if self.trailers:
            server.send_data(1, self.body)
            server.send_headers(1, self.trailers, end_stream=True)


@asynccontextmanager
async def serving(call: Call) -> AsyncIterator[Address]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = H2Connection(H2Configuration(client_side=False))
        server.initiate_connection()
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                for event in server.receive_data(piece):
                    if isinstance(event, RequestReceived):
                        call.asked = {name.decode(): value.decode() for name, value in event.headers or ()}
                    elif isinstance(event, DataReceived):
                        call.message += event.data or b""
                    elif isinstance(event, StreamEnded):
                        call.answer(server)
                writer.write(server.data_to_send())
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])


@asynccontextmanager
async def saying(words: bytes, again: bool = False) -> AsyncIterator[Address]:
    """A server of something else, that says this once or without end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(1024)
            writer.write(words)
            await writer.drain()
            while again:
                writer.write(words)
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])


async def failure(address: Address, service: str = "", timeout: float = 2.0) -> str:
    check = Check(Kind.GRPC, service=service, timeout=timeout)
    prober = SocketProber(lambda replica: None)
    return (await prober.healthy(ReplicaId("web-1"), address, check, "web.localhost")).failure


async def test_a_server_that_serves_passes_and_was_asked_as_the_protocol_says() -> None:
    call = Call()
    async with serving(call) as address:
        assert await failure(address) == ""
        assert call.message == b"\0\0\0\0\0"
    assert call.asked[":path"] == "/grpc.health.v1.Health/Check"
    assert (call.asked[":method"], call.asked[":authority"]) == ("POST", "web.localhost")
    assert (call.asked["content-type"], call.asked["te"]) == ("application/grpc", "trailers")


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ("shop.Orders", b"\0\0\0\0\x0d\x0a\x0bshop.Orders"),
        ("é" * 100, b"\0\0\0\0\xcb\x0a\xc8\x01" + "é".encode() * 100),
    ],
)
async def test_a_service_is_asked_for_by_name(service: str, message: bytes) -> None:
    call = Call()
    async with serving(call) as address:
        assert await failure(address, service) == ""
    assert call.message == message


@pytest.mark.feature("H3")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Call(body=NOT_SERVING), "its gRPC health is NOT_SERVING"),
        (Call(body=UNKNOWN), "its gRPC health is UNKNOWN"),
        (Call(body=b"\0\0\0\0\2\x08\x09"), "its gRPC health is 9"),
        (Call(body=b""), "the answer is not one of grpc.health.v1.Health"),
        (Call(body=b"\0\0\0\0\x09hello all"), "the answer is not one of grpc.health.v1.Health"),
        (Call(body=b"\0\0\0\1\0\x08\1"), "the answer is not one of grpc.health.v1.Health"),
        (Call(trailers=[("grpc-status", "5")]), "the gRPC server knows no service 'x': check health_check.service"),
        (
            Call(headers=[*OK, ("grpc-status", "12")], trailers=[]),
            "the gRPC server has no health service (grpc.health.v1.Health)",
        ),
        (Call(trailers=[("grpc-status", "14"), ("grpc-message", "no\x7f")]), "gRPC status 14: no?"),
        (Call(trailers=[("x", "y")]), "gRPC status missing"),
        (Call(headers=[(":status", "404")], trailers=[]), "HTTP 404"),
    ],
)
async def test_anything_else_fails_in_words(call: Call, said: str) -> None:
    async with serving(call) as address:
        assert await failure(address, "x") == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the answer is not HTTP/2"),
        (b"", "the connection was closed without an answer"),
        (b"\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\0", "the server broke the call off"),  # GOAWAY
    ],
)
async def test_what_is_no_grpc_server_is_told(words: bytes, said: str) -> None:
    async with saying(words) as address:
        assert await failure(address) == said


async def test_what_comes_without_end_is_late() -> None:
    settings = b"\0\0\0\4\0\0\0\0\0"
    async with saying(settings, again=True) as address:
        assert await failure(address, timeout=0.2) == "no answer within 0.2 s"
