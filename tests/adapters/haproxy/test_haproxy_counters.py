"""What each counter counts, shown on a real HAProxy; the receipt stands on these."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rota.core.names import ReplicaId
from rota.core.observation import Counters
from rota.core.receipt import by_replica, totals
from rota.testing.haproxy import APP, HOST, Rig, pool, until
from rota.testing.web import Load, web_socket

A, B = ReplicaId("hello-1"), ReplicaId("hello-2")


async def counted(rig: Rig, requests: int) -> Counters:
    """The app's totals as soon as so many requests are in them: HAProxy counts one at its very end."""

    async def enough() -> bool:
        return totals((await rig.see()).rows, {}).requests >= requests

    await until(enough, 2)
    return totals((await rig.see()).rows, {})


async def test_a_good_answer_is_a_request_and_nothing_else(rig: Rig) -> None:
    await rig.ready(1, pool())
    for _ in range(5):
        await rig.client().ask()
    assert await counted(rig, 5) == Counters(requests=5)


async def test_an_apps_own_5xx_is_its_own_and_stays_so_when_its_server_is_gone(rig: Rig) -> None:
    await rig.ready(2, pool())
    for _ in range(6):
        assert (await rig.client().ask("/status/503"))[0] == 503
    assert await counted(rig, 6) == Counters(requests=6, app_errors=6)
    assert by_replica((await rig.see()).rows, {})[A].app_errors == 3
    await rig.balancer.disable(A)
    await rig.balancer.remove(A)
    assert await counted(rig, 6) == Counters(requests=6, app_errors=6)
    await rig.another_daemon()
    assert await counted(rig, 6) == Counters(requests=6, app_errors=6)


async def test_no_server_is_a_failure(rig: Rig) -> None:
    await rig.ready(0, pool())
    assert (await rig.client().ask())[0] == 503
    assert await counted(rig, 1) == Counters(requests=1, failed=1)


async def test_an_answer_broken_off_is_a_failure(rig: Rig) -> None:
    await rig.ready(1, pool())
    assert (await rig.client().ask("/half"))[0] == 0
    assert await counted(rig, 1) == Counters(requests=1, failed=1)


async def test_a_post_without_an_answer_is_a_failure_and_asked_once(rig: Rig) -> None:
    servers = await rig.ready(2, pool())
    assert (await rig.client().ask("/empty", "POST"))[0] == 502
    assert sum(server.asked["empty"] for server in servers) == 1
    assert await counted(rig, 1) == Counters(requests=1, failed=1)


async def test_a_get_without_an_answer_is_tried_elsewhere_and_then_a_failure(rig: Rig) -> None:
    servers = await rig.ready(2, pool())
    assert (await rig.client().ask("/empty"))[0] == 502
    assert sum(server.asked["empty"] for server in servers) == 4
    seen = await counted(rig, 1)
    assert (seen.requests, seen.failed, seen.app_errors) == (1, 1, 0)
    assert (seen.retried, seen.redispatched) == (3, 3)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refused_connection_is_redispatched_and_no_failure(rig: Rig, method: str) -> None:
    servers = await rig.ready(2, pool(interval=30))
    await servers[0].stop()
    for _ in range(4):
        assert (await rig.client().ask(method=method)) == (200, "hello-2")
    seen = await counted(rig, 4)
    assert replace(seen, retried=0, redispatched=0) == Counters(requests=4)
    assert seen.redispatched >= 1


async def test_a_client_that_leaves_is_no_failure(rig: Rig) -> None:
    await rig.ready(1, pool())
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(b"GET /slow/0.2 HTTP/1.1\r\nHost: hello.localhost\r\n\r\n")
    await until(lambda: rig.busy(A), 1)
    writer.transport.abort()
    assert await counted(rig, 1) == Counters(requests=1)


@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_web_socket_that_either_side_closes_is_no_failure(rig: Rig, who: str) -> None:
    await rig.ready(1, pool())
    reader, writer = await web_socket(rig.port, HOST)
    if who == "server":
        writer.write(b"bye")
        assert await reader.read() == b""
    writer.close()
    assert await counted(rig, 1) == Counters(requests=1)


async def test_a_cut_web_socket_is_no_failure_of_an_answer(rig: Rig) -> None:
    await rig.ready(1, pool())
    _, writer = await web_socket(rig.port, HOST)
    await rig.balancer.disable(A)
    await rig.balancer.cut(A)
    assert await counted(rig, 1) == Counters(requests=1)
    writer.close()


async def test_the_receipt_agrees_with_the_load_over_replacements_and_reloads(rig: Rig) -> None:
    backend = pool()
    servers = await rig.ready(2, backend)
    for _ in range(10):
        await rig.client().ask("/status/500")
    await counted(rig, 10)
    baseline = {row.key: row.counters for row in (await rig.see()).rows}
    closed: dict[ReplicaId, int] = {}
    async with Load(rig.port, HOST, clients=6).running() as load:
        for round_, old in enumerate(servers):
            new = await rig.web(f"hello-{round_ + 3}")
            await rig.balancer.enable(ReplicaId(new.name), APP, backend.name, new.address)
            await rig.balancer.prepare(pool(f"/health/{round_}"), (HOST,))
            replica = ReplicaId(old.name)
            await rig.balancer.disable(replica)
            await until(lambda replica=replica: rig.idle(replica), 5)
            closed[replica] = by_replica((await rig.see()).rows, baseline)[replica].requests
            await old.stop()
            await rig.balancer.remove(replica)
            await load.further(60)
    assert load.lost == 0, load.outcomes
    seen = await counted(rig, load.sent)
    seen = totals((await rig.see()).rows, baseline)
    assert abs(seen.requests - load.sent) <= max(1, load.sent // 100)
    assert (seen.failed, seen.app_errors) == (0, 0)
    for replica, requests in closed.items():
        served = sum(count for (_, name), count in load.outcomes.items() if name == replica)
        assert abs(requests - served) <= 1
