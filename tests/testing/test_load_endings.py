"""Small hostile servers: each way to lose a request is counted under its own name."""

import asyncio
import errno
import resource
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from rota.testing.load import LoadPlan, LoadReport, run_load
from rota.testing.load.outcome import Ending, connect_failure
from rota.testing.load.response import MalformedResponseError, ResponseReader

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nX-Rota-Replica: bad\r\n"
GOOD = HEAD + b"Content-Length: 11\r\n\r\nHello from "


@asynccontextmanager
async def hostile(serve: Serve) -> AsyncIterator[str]:
    """A server that treats each connection by `serve`; yields its URL."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def load(serve: Serve, **changes: float) -> LoadReport:
    """20 GETs in a fifth of a second on new connections unless changed."""
    async with hostile(serve) as url:
        options = {"slow_share": 0.0, "post_share": 0.0, "new_share": 1.0, "timeout": 5.0, **changes}
        return await run_load(LoadPlan(url, rate=100, seconds=0.2, **options))  # type: ignore[arg-type]


def answering(answer: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return serve


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    reset(writer)


async def resets_in_the_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD + b"Content-Length: 100\r\n\r\nHello")
    await asyncio.sleep(0.05)
    reset(writer)


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("serve", "kind"),
    [
        (answering(b""), "closed"),
        (resets, "reset"),
        (resets_in_the_answer, "broken"),
        (answering(HEAD + b"Content-Length: 100\r\n\r\nHello from "), "broken"),
        (answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n"), "broken"),
        (answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "broken"),
        (answering(HEAD + b"Content-Length: many\r\n\r\n"), "broken"),
        (answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), "status-503"),
        (answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\n\r\nHello from "), "status-404"),
        (answering(HEAD + b"Content-Length: 11\r\n\r\nGoodbye to "), "wrong-body"),
        (answering(HEAD + b"Content-Length: 0\r\n\r\n"), "wrong-body"),
    ],
)
async def test_each_loss_has_its_kind(serve: Serve, kind: str) -> None:
    report = await load(serve)
    assert (report.requests, report.ok, report.lost, report.kinds) == (20, 0, 20, {kind: 20})
    assert [sample.kind for sample in report.samples] == [kind] * 20
    assert report.own_errors == 0


async def test_a_server_that_hangs_is_a_timeout() -> None:
    report = await load(hangs, timeout=0.3)
    assert report.kinds == {"timeout": 20}


async def test_nobody_listening_is_refused() -> None:
    report = await run_load(LoadPlan("http://127.0.0.1:1", rate=100, seconds=0.2))
    assert report.kinds == {"refused": 20}
    assert report.longest_gap_ms >= 150


async def test_an_echo_that_changed_a_byte_is_a_wrong_body() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-1] + bytes([body[-1] ^ 1]))

    report = await load(serve, post_share=1)
    assert (report.kinds, report.by_method["POST"].lost) == ({"wrong-body": 20}, 20)
    assert report.samples[0].replica == "bad"


async def test_a_kept_connection_that_closes_under_a_request_is_lost_and_not_retried() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GOOD)
        await reader.readuntil(b"\r\n\r\n")

    report = await load(serve, new_share=0, kept=1)
    assert report.requests == 20
    assert report.kinds == {"closed": report.by_connection["kept"].lost}
    assert report.by_connection["kept"].lost == 10
    assert all(sample.reused for sample in report.samples)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_connection_that_the_server_ended_after_an_answer_is_not_used_again(announced: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") if announced else GOOD)
        if announced:
            await reader.read()

    report = await load(serve, new_share=0, kept=1)
    assert (report.ok, report.lost) == (20, 0)
    assert report.by_connection["new"].ok == 20


async def test_answers_ended_by_length_chunks_or_close_are_all_right() -> None:
    for answer in (
        GOOD,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n6;x=y\r\n from \r\n0\r\n\r\n",
        HEAD + b"\r\nHello from ",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + GOOD,
    ):
        report = await load(answering(answer))
        assert (report.ok, report.kinds) == (20, {})


@pytest.mark.parametrize("split", range(1, len(GOOD)))
def test_an_answer_in_two_pieces_is_the_same_answer(split: int) -> None:
    reader = ResponseReader()
    assert reader.feed(GOOD[:split]) is None
    response = reader.feed(GOOD[split:])
    assert response is not None
    assert (response.status, response.body, response.persistent) == (200, b"Hello from ", True)


def test_bytes_beyond_the_answer_end_the_connections_use() -> None:
    response = ResponseReader().feed(GOOD + b"HTTP/1.1 200 OK\r\n")
    assert response is not None
    assert not response.persistent


def test_a_head_without_an_end_is_malformed() -> None:
    with pytest.raises(MalformedResponseError):
        ResponseReader().feed(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000)


async def test_too_few_files_are_errors_of_its_own_and_make_the_run_invalid() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with hostile(hangs) as url:
        lowest_free = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno(), hard))
        lowest_free.close()
        try:
            report = await run_load(LoadPlan(url, rate=100, seconds=0.2, slow_share=0, timeout=0.3))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert report.own_errors > 0
    assert report.requests == 20 == report.ok + report.lost + report.own_errors
    assert not report.valid


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (OSError(errno.EADDRNOTAVAIL, "no port left"), Ending.OWN),
        (MemoryError(), Ending.OWN),
        (OSError(errno.EHOSTUNREACH, "no route"), Ending.UNREACHABLE),
        (OSError(errno.ECONNRESET, "reset"), Ending.RESET),
    ],
)
def test_a_failure_to_connect_is_told_from_an_error_of_its_own(error: OSError | MemoryError, ending: Ending) -> None:
    assert connect_failure(error).ending is ending
