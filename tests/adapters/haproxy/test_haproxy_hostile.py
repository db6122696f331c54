"""Requests that are to harm, and limits: what a real HAProxy lets through to an app, and what it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from rota.testing.haproxy import HOST, Rig, pool, running_rig
from rota.testing.web import web_socket

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEEP = b"POST / HTTP/1.1\r\nHost: hello.localhost\r\n"
POST = b"POST / HTTP/1.1\r\nHost: hello.localhost\r\nConnection: close\r\n"
GET = b"GET / HTTP/1.1\r\nHost: hello.localhost\r\nConnection: close\r\n"
CHUNKED = "transfer-encoding: chunked"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: hello.localhost\r\n\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["system", "bundled"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with running_rig(request.param, head_timeout=0.3) as rig:
        await rig.ready(1, pool(None))
        limited = replace(pool(None, app="limited"), max_body=1000, request_timeout=0.3, response_timeout=0.4)
        await rig.ready(1, replace(limited, idle_timeout=0.6), "limited.localhost")
        yield rig


def reached(rig: Rig) -> int:
    return sum(len(server.heads) for server in rig.servers)


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 6\r\nContent-Length: 5\r\n\r\n0\r\n\r\nG",
        POST + b"Content-Length: 5, 6\r\n\r\nabcde",
        POST + b"Content-Length: +5\r\n\r\nabcde",
        POST + b"Content-Length: 5 \x0b\r\n\r\nabcde",
        POST + b"Content-Length: \r\n\r\n",
        POST + b"Content-Length: 99999999999999999999\r\n\r\n",
        POST + b"Content-Length : 5\r\n\r\nabcde",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: hello.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
        GET + b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n",
        GET + b"Host: other.localhost\r\n\r\n",
        GET + b"X-Big: " + b"a" * 16_000 + b"\r\n\r\n",
        GET + b"X-Many: a\r\n" * 200 + b"\r\n",
        b"GET http://other.localhost/ HTTP/1.1\r\nHost: hello.localhost\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: hello.localhost\r\n\r\n",
        b"GET /a\rb HTTP/1.1\r\nHost: hello.localhost\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=lambda text: repr(text[:90][len(POST) :])[:60],
)
async def test_what_can_be_read_in_two_ways_is_refused_and_reaches_no_app(rig: Rig, request_: bytes) -> None:
    before = reached(rig)
    answer = await rig.say(request_)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert reached(rig) == before


@pytest.mark.parametrize(
    ("request_", "framing"),
    [
        # RFC 9112, 6.3: chunks count, the length is dropped, and the connection is closed behind it.
        (KEEP + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT, [CHUNKED]),
        (KEEP + b"Transfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n0\r\n\r\n" + NEXT, [CHUNKED]),
        (POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", ["content-length: 3"]),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0;a=b\r\n\r\n", [CHUNKED]),
        (GET + b"X-A: b\r\n Content-Length: 5\r\n\r\n", []),
    ],
)
async def test_what_may_be_read_in_one_way_reaches_the_app_so_and_alone(
    rig: Rig, request_: bytes, framing: list[str]
) -> None:
    """One request with one framing, whatever was written; what stands behind it is not read as a second one."""
    before = reached(rig)
    answer = await rig.say(request_)
    head = rig.servers[0].heads[-1]
    fields = [line for line in head.splitlines() if line.startswith(("content-length", "transfer-encoding"))]
    assert (fields, answer.count(b"HTTP/1.1 200"), reached(rig) - before) == (framing, 1, 1)
    assert "\r\n " not in head


async def test_a_head_that_does_not_come_is_not_waited_for(rig: Rig) -> None:
    before = reached(rig)
    answers = await asyncio.gather(*(rig.say(GET + b"X-Slow: " + bytes([65 + number])) for number in range(20)))
    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 408 Request Time-out"}
    assert reached(rig) == before
    assert (await rig.client().ask())[0] == 200


async def test_a_body_that_does_not_come_holds_no_replica(rig: Rig) -> None:
    before = reached(rig)
    answer = await rig.say(b"POST / HTTP/1.1\r\nHost: limited.localhost\r\nContent-Length: 100\r\n\r\nab")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert reached(rig) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n", 413),
        (b"Content-Length: 1000\r\n\r\n" + b"a" * 1000, 200),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"\r\n", 200),
    ],
)
async def test_a_body_over_the_limit_or_of_unknown_length_is_refused(rig: Rig, body: bytes, status: int) -> None:
    before = reached(rig)
    answer = await rig.say(b"POST / HTTP/1.1\r\nHost: limited.localhost\r\nConnection: close\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert reached(rig) - before == (status == 200)


async def test_an_answer_that_does_not_come_is_given_up_at_the_app_s_limit(rig: Rig) -> None:
    assert (await rig.client("limited.localhost").ask("/slow/2", "POST"))[0] == 504
    assert (await rig.client(HOST).ask("/slow/0.6"))[0] == 200


async def test_a_web_socket_that_carries_nothing_ends_at_the_app_s_limit(rig: Rig) -> None:
    (reader, writer), (idle, other) = [await web_socket(rig.port, host) for host in ("limited.localhost", HOST)]
    assert await reader.read() == b""
    other.write(b"still")
    assert await idle.readexactly(5) == b"still"
    writer.close()
    other.close()
