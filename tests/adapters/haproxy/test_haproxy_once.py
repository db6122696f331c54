"""How often a replica gets a request that may have an effect: counted on its own side."""

from __future__ import annotations

import asyncio

import pytest

from rota.testing.haproxy import Rig, pool, until
from rota.testing.web import WebServer

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


@pytest.mark.parametrize("method", UNSAFE)
async def test_what_was_sent_and_not_answered_is_not_sent_again(rig: Rig, method: str) -> None:
    servers = await rig.ready(3, pool())
    status, _ = await rig.client().ask("/empty", method)
    assert status == 502
    assert sum(server.asked["empty"] for server in servers) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_what_has_no_effect_is_tried_again_where_nothing_was_answered(rig: Rig, method: str) -> None:
    servers = await rig.ready(3, pool())
    await rig.client().ask("/empty", method)
    assert sum(server.asked["empty"] for server in servers) == 4


@pytest.mark.parametrize("method", UNSAFE)
async def test_nothing_was_sent_where_nobody_listens_so_another_one_gets_it_once(rig: Rig, method: str) -> None:
    dead, *others = await rig.ready(3, pool(interval=60))
    await dead.stop()
    answers = [await rig.client().ask("/once", method) for _ in range(6)]
    assert {status for status, _ in answers} == {200}
    assert sum(server.asked["once"] for server in others) == 6


async def test_half_a_body_is_sent_to_nobody_else_when_its_replica_dies(rig: Rig) -> None:
    servers = await rig.ready(2, pool(interval=60))
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(b"POST /slow/5 HTTP/1.1\r\nHost: hello.localhost\r\nContent-Length: 1000\r\n\r\nhalf")
    await until(lambda: _asked(servers), 2)
    (holder,) = [server for server in servers if server.asked["slow"]]
    await holder.stop()
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.split()[1] == b"502"
    assert sum(server.asked["slow"] for server in servers) == 1
    writer.close()


async def _asked(servers: list[WebServer]) -> bool:
    return any(server.asked["slow"] for server in servers)


@pytest.mark.parametrize("method", UNSAFE)
async def test_over_a_connection_that_the_app_just_closed_nothing_is_sent_twice(rig: Rig, method: str) -> None:
    """A request may meet the close on its way, and fail; it never reaches the app a second time."""
    (server,) = await rig.ready(1, pool(interval=60))
    client = rig.client()
    answers = []
    for _ in range(10):
        await client.ask("/kept", keep=True)
        await server.close_kept()
        answers.append((await client.ask("/once", method, keep=True))[0])
    client.close()
    assert server.asked["once"] == answers.count(200)
    assert set(answers) <= {200, 502}
