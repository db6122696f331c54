"""What the processes that a reload left may still do, and how long the others wait for them."""

from __future__ import annotations

import asyncio

import pytest

from rota.adapters.balancer.haproxy import connections, reloads
from rota.core.names import ReplicaId
from rota.core.observation import Counters, Open
from rota.testing.haproxy import APP, HOST, Rig, pool, until
from rota.testing.web import Load, web_socket

A, B = ReplicaId("hello-1"), ReplicaId("hello-2")


async def test_a_long_connection_of_one_app_delays_no_hand_off_of_another(rig: Rig) -> None:
    await rig.ready(2, pool())
    await rig.ready(1, pool(app="chat"), "chat.localhost")
    _, socket = await web_socket(rig.port, "chat.localhost")
    kept = rig.client()
    await kept.ask(keep=True)
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    await rig.balancer.disable(A)
    await until(lambda: rig.idle(A), 2)
    assert (await rig.see("chat")).servers[ReplicaId("chat-1")].open == 1
    socket.close()
    kept.close()


async def test_a_long_connection_delays_the_hand_off_of_its_own_replica_alone(rig: Rig) -> None:
    await rig.ready(2, pool())
    _, socket = await web_socket(rig.port, HOST)
    holder = A if await rig.busy(A) else B
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    await until(lambda: rig.idle(A if holder is B else B), 2)
    seen = (await rig.see()).servers[holder]
    assert (seen.open, seen.old_holders) == (1, 0)
    socket.close()
    await until(lambda: rig.idle(holder), 2)


async def test_a_request_that_is_not_answered_may_go_to_any_server_of_its_pool(rig: Rig) -> None:
    await rig.ready(2, pool())
    slow = asyncio.create_task(rig.client().ask("/slow/4"))  # longer than a reload on a busy machine
    await until(lambda: _any_open(rig), 1)
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    assert [server.old_holders for server in (await rig.see()).servers.values()] == [1, 1]
    assert (await slow)[0] == 200
    await until(lambda: rig.idle(A), 2)
    await until(lambda: rig.idle(B), 2)


async def _any_open(rig: Rig) -> bool:
    return any(server.open for server in (await rig.see()).servers.values())


@pytest.mark.feature("V6")
async def test_a_kept_connection_is_led_to_a_replica_that_its_old_process_never_knew(rig: Rig) -> None:
    (old,) = await rig.ready(1, pool())
    kept = [rig.client() for _ in range(4)]
    assert [await client.ask(keep=True) for client in kept] == [(200, old.name)] * 4
    _, socket = await web_socket(rig.port, HOST)  # or the old process is gone before it is asked
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    new = await rig.web(B)
    await rig.balancer.enable(B, APP, pool().name, new.address)
    await rig.balancer.disable(A)
    answers = [await kept[0].ask(method="POST"), *[await client.ask(keep=True) for client in kept[1:]]]
    assert answers == [(200, new.name)] * 4
    assert "x-forwarded-for: 127.0.0.1" in new.heads[0].lower()

    async def counted() -> Counters:
        return sum((row.counters for row in (await rig.see()).rows if row.replica is None), Counters())

    async def each_once() -> bool:  # the WebSocket is counted when it ends, a request some moments after its answer
        return (await counted()).requests == 8

    await until(each_once, 5)
    assert (await counted()).failed == 0
    socket.close()


async def test_another_daemon_sees_what_an_old_process_may_do(rig: Rig) -> None:
    await rig.ready(1, pool())
    reader, socket = await web_socket(rig.port, HOST)
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    balancer = await rig.another_daemon()
    seen = (await rig.see()).servers[A]
    assert (seen.open, seen.old_holders) == (1, 0)
    await balancer.cut(A)
    async with asyncio.timeout(2):
        assert await reader.read() == b""
    socket.close()


async def test_replicas_change_under_load_while_old_processes_live(rig: Rig) -> None:
    backend = pool()
    servers = await rig.ready(2, backend)
    _, socket = await web_socket(rig.port, HOST)
    first = A if await rig.busy(A) else B
    async with Load(rig.port, HOST, clients=6).running() as load:
        await rig.balancer.prepare(pool("/health/2"), (HOST,))
        new = await rig.web("hello-3")
        await rig.balancer.enable(ReplicaId(new.name), APP, backend.name, new.address)
        (leaving,) = [server for server in servers if server.name != first]
        await rig.balancer.disable(ReplicaId(leaving.name))
        await until(lambda: rig.idle(ReplicaId(leaving.name)), 5)
        await leaving.stop()
        await load.further(60, new.name)
    assert load.lost == 0, load.outcomes
    socket.close()


async def test_long_connections_end_share_by_share_over_all_processes(rig: Rig) -> None:
    await rig.ready(1, pool())
    sockets = [await web_socket(rig.port, HOST) for _ in range(6)]
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    sockets += [await web_socket(rig.port, HOST) for _ in range(6)]
    await rig.balancer.disable(A)
    for leave in (9, 9, 4, 0):
        await rig.balancer.cut(A, leave)
        await until(lambda leave=leave: _open(rig, leave), 2)  # type: ignore[misc]
    for reader, writer in sockets:
        async with asyncio.timeout(2):
            assert await reader.read() == b""
        writer.close()


async def _open(rig: Rig, count: int) -> bool:
    return (await rig.see()).servers[A].open == count


async def test_what_is_open_is_told_by_kind_over_all_processes(rig: Rig) -> None:
    await rig.ready(1, pool())
    sockets = [await web_socket(rig.port, HOST) for _ in range(2)]
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    sockets += [await web_socket(rig.port, HOST)]
    waiting = asyncio.create_task(rig.client().ask("/slow/1"))
    answering = asyncio.create_task(rig.client().ask("/trickle/1"))
    await until(lambda: _open(rig, 5), 2)
    await until(lambda: _answering(rig), 2)
    seen = await rig.balancer.connections()
    assert seen.open == {A: Open(requests=1, answers=1, websockets=3)}
    assert seen.old_processes == 1
    await asyncio.gather(waiting, answering)
    for _, writer in sockets:
        writer.close()


async def _answering(rig: Rig) -> bool:
    return bool((await rig.balancer.connections()).open[A].answers)


async def test_the_oldest_process_makes_room_and_what_ends_with_it_is_counted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloads, "_MOST_OLD", 1)
    monkeypatch.setattr(reloads, "_PATIENCE", 0.0)
    monkeypatch.setattr(connections, "_LEAST_AGE", 0)
    monkeypatch.setattr(connections, "_EVERY", 0.0)
    await rig.ready(1, pool())
    first, second = [await web_socket(rig.port, HOST) for _ in range(3)], []
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    second = [await web_socket(rig.port, HOST)]
    await rig.balancer.prepare(pool("/health/3"), (HOST,))
    for reader, _ in first:
        async with asyncio.timeout(2):
            assert await reader.read() == b""
    assert (await rig.balancer.connections()).let_go == {APP: 3}
    assert (await (await rig.another_daemon()).connections()).let_go == {APP: 3}
    assert (await rig.see()).servers[A].open == 1
    for _, writer in first + second:
        writer.close()
