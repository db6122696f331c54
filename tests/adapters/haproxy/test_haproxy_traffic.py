"""Users' requests through a real HAProxy while the port changes what is behind it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace

import pytest

from rota.core.names import ReplicaId
from rota.core.observation import ServerState
from rota.testing.haproxy import APP, HOST, Rig, pool, until
from rota.testing.web import Load, WebServer, web_socket

A, B = ReplicaId("hello-1"), ReplicaId("hello-2")
TIMES = 3  # many through the daemon: tests/e2e/test_many_rollouts.py


async def hand_off(rig: Rig, replica: ReplicaId) -> None:
    await rig.balancer.drain(replica)
    await rig.balancer.disable(replica)
    await until(lambda: rig.idle(replica), 10)


async def test_a_known_host_is_served_and_an_unknown_one_is_told_so(rig: Rig) -> None:
    (server,) = await rig.ready(1, pool())
    assert await rig.client("HELLO.localhost:8080").ask() == (200, server.name)
    status, page = await rig.client("nobody.localhost").ask()
    assert status == 404
    assert "No app has this host name" in page
    assert "x-forwarded-for: 127.0.0.1" in server.heads[0].lower()
    assert "x-forwarded-proto: http" in server.heads[0].lower()


async def test_requests_are_spread_evenly(rig: Rig) -> None:
    await rig.ready(3, pool())
    client = rig.client()
    answers = [(await client.ask(keep=True))[1] for _ in range(90)]
    client.close()
    assert {answers.count(f"hello-{n}") for n in (1, 2, 3)} == {30}


async def test_connections_to_a_server_added_at_runtime_are_used_again(rig: Rig) -> None:
    (server,) = await rig.ready(1, pool(None))
    client = rig.client()
    for _ in range(10):
        await client.ask(keep=True)
    client.close()
    assert len(server.lines) == 1


@pytest.mark.parametrize("balance", ["leastconn", "random", "source"])
async def test_another_way_to_choose_holds_for_servers_added_at_runtime(rig: Rig, balance: str) -> None:
    await rig.ready(3, pool(balance=balance))
    answers = [await rig.client().ask() for _ in range(40)]
    assert {status for status, _ in answers} == {200}
    assert (len({body for _, body in answers}) == 1) is (balance == "source")


async def test_the_value_of_a_header_chooses(rig: Rig) -> None:
    await rig.ready(3, pool(balance="header:X-User"))
    chosen = [await of_user(rig, user) for user in range(40)]
    assert {chosen.count((200, f"hello-{number}")) > 5 for number in (1, 2, 3)} == {True}
    await rig.balancer.prepare(pool("/another", balance="header:X-User"), (HOST,))  # by a reload
    assert [await of_user(rig, user) for user in range(40)] == chosen
    assert len({await rig.client().ask() for _ in range(9)}) == 3


async def of_user(rig: Rig, user: int) -> tuple[int, str]:
    client = rig.client()
    client.headers = {"x-user": f"user-{user}"}
    return await client.ask()


async def test_the_one_with_the_least_open_is_chosen(rig: Rig) -> None:
    """By three more, since HAProxy counts a request for a moment after its answer has arrived."""
    leastconn = pool(balance="leastconn")
    (busy,) = await rig.ready(1, leastconn)
    slow = [asyncio.create_task(rig.client().ask("/slow/3")) for _ in range(3)]
    await until(lambda: _asked(busy, 3), 5)
    free = await rig.web("hello-2")
    await rig.balancer.enable(ReplicaId(free.name), leastconn.app, leastconn.name, free.address)
    assert {(await rig.client().ask())[1] for _ in range(10)} == {free.name}
    assert {answer for _, answer in await asyncio.gather(*slow)} == {busy.name}


async def _asked(server: WebServer, slow: int) -> bool:
    return server.asked["slow"] >= slow


@pytest.mark.feature("H3")
async def test_a_server_whose_answer_lacks_the_expected_body_gets_no_requests(rig: Rig) -> None:
    first, second = await rig.ready(2, replace(pool(interval=0.1), expect_body="hello-1"))
    await until(lambda: rig.down(B), 5)
    assert (await rig.see()).servers[B].check == "the answer is not what is expected"
    assert await rig.up(A)
    first.healthy = False
    await until(lambda: rig.down(A), 5)
    assert (await rig.see()).servers[A].check == "HTTP 500"
    first.healthy, second.name = True, "hello-12"
    await until(lambda: rig.up(A), 5)
    await until(lambda: rig.up(B), 5)


async def test_an_answer_that_comes_byte_by_byte_is_late_as_a_whole(rig: Rig) -> None:
    (server,) = await rig.ready(1, replace(pool(interval=0.1), timeout=0.3))
    server.trickles = True
    await until(lambda: rig.down(A), 5)
    assert "no answer" in (await rig.see()).servers[A].check


async def test_a_rolling_replacement_loses_nothing(rig: Rig) -> None:
    backend = pool()
    servers = await rig.ready(3, backend)
    async with Load(rig.port, HOST, clients=6).running() as load:
        for number in range(4, 4 + TIMES):
            old, new = servers.pop(0), await rig.web(f"hello-{number}")
            servers.append(new)
            await rig.balancer.enable(ReplicaId(new.name), APP, backend.name, new.address)
            await load.further(30, new.name)
            await hand_off(rig, ReplicaId(old.name))
            await old.stop()
            await rig.balancer.remove(ReplicaId(old.name))
    assert load.lost == 0, load.outcomes
    assert {body for _, body in load.outcomes} == {f"hello-{n}" for n in range(1, 4 + TIMES)}
    assert set((await rig.see()).servers) == {server.name for server in servers}


async def test_reloads_under_load_lose_nothing(rig: Rig) -> None:
    await rig.ready(2, pool())
    async with Load(rig.port, HOST, clients=6).running() as load:
        for number in range(TIMES):
            await rig.balancer.prepare(pool(f"/health/{number}"), (HOST,))
            await load.further(10)
    assert load.lost == 0, load.outcomes


async def test_a_slow_request_is_open_until_it_ends_in_an_old_process_too(rig: Rig) -> None:
    await rig.ready(1, pool())
    slow = asyncio.create_task(rig.client().ask("/slow/1.5"))
    await until(lambda: rig.busy(A), 1)
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    seen = (await rig.see()).servers[A]
    assert (seen.open, seen.old_holders) == (1, 1)
    assert (await slow)[0] == 200
    await until(lambda: rig.idle(A), 2)


async def test_a_web_socket_is_open_and_can_be_cut(rig: Rig) -> None:
    await rig.ready(1, pool())
    reader, writer = await web_socket(rig.port, HOST)
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    await rig.balancer.disable(A)
    assert (await rig.see()).servers[A].open == 1
    await rig.balancer.cut(A)
    async with asyncio.timeout(2):
        assert await reader.read() == b""
    writer.close()


async def test_weights_spread_the_requests(rig: Rig) -> None:
    old, new = pool(), pool("/health/new")
    await rig.ready(1, old)
    await rig.balancer.prepare(new, (HOST,))
    server = await rig.web("hello-2")
    await rig.balancer.enable(B, APP, new.name, server.address)
    client = rig.client()
    assert {(await client.ask(keep=True))[1] for _ in range(20)} == {"hello-1"}
    await rig.balancer.route(APP, {old.name: 75, new.name: 25})
    answers = [(await client.ask(keep=True))[1] for _ in range(400)]
    assert 60 <= answers.count("hello-2") <= 140
    await rig.balancer.route(APP, {new.name: 100})
    assert {(await client.ask(keep=True))[1] for _ in range(20)} == {"hello-2"}
    client.close()


@pytest.mark.feature("J4")
async def test_a_new_replica_gets_the_share_that_it_has_grown_to(rig: Rig) -> None:
    began = time.monotonic()
    await rig.ready(1, pool())
    server = await rig.web("hello-2")
    await rig.balancer.enable(B, APP, pool().name, server.address, weight=10)
    client = rig.client()
    for weight, share in ((10, 10), (50, 37), (100, 55)):
        await rig.balancer.weigh(B, weight)
        answers = [(await client.ask(keep=True))[1] for _ in range(110)]
        assert answers.count("hello-2") == pytest.approx(share, abs=1)
    client.close()
    seen = (await rig.see()).servers
    assert all(0 <= server.latency <= time.monotonic() - began for server in seen.values())


@pytest.mark.feature("H1")
async def test_shares_follow_the_weights_over_a_daemon_and_a_haproxy_that_start_anew(rig: Rig) -> None:
    weights = {A: 50, B: 100, ReplicaId("hello-3"): 200}
    await rig.balancer.prepare(pool(), (HOST,))
    for replica, weight in weights.items():
        server = await rig.web(replica)
        await rig.balancer.enable(replica, APP, pool().name, server.address, weight=100)
        await rig.balancer.weigh(replica, weight)

    async def shares() -> dict[str, int]:
        client = rig.client()
        answers = [(await client.ask(keep=True))[1] for _ in range(140)]
        client.close()
        return {replica: answers.count(replica) for replica in weights}

    expected = {replica: pytest.approx(140 * weight / 350, abs=4) for replica, weight in weights.items()}
    assert await shares() == expected
    await rig.another_daemon()
    assert await shares() == expected
    before = (await rig.see()).process
    os.kill(rig.launcher.pid, signal.SIGKILL)

    async def serves_again() -> bool:
        return (await rig.see()).process not in (None, before)

    await until(serves_again, 3)
    assert await shares() == expected
    assert {name: server.weight for name, server in (await rig.see()).servers.items()} == weights


async def test_how_long_answers_take_is_seen(rig: Rig) -> None:
    await rig.ready(1, pool())
    await rig.client().ask("/slow/0.2")

    async def latency() -> float:
        return (await rig.see()).servers[A].latency

    await until(latency, 5)  # counted a moment after the user has the answer
    assert await latency() >= 0.19


async def test_changing_weights_under_load_loses_nothing(rig: Rig) -> None:
    old, new = pool(), pool("/health/new")
    await rig.ready(1, old)
    await rig.balancer.prepare(new, (HOST,))
    server = await rig.web("hello-2")
    await rig.balancer.enable(B, APP, new.name, server.address)
    async with Load(rig.port, HOST, clients=6, pause=0).running() as load:
        for share in (0, 50, 100, 0, 10, 100, 50, 0, 100, 0, 33, 100):
            await rig.balancer.route(APP, {old.name: 100 - share, new.name: share})
            await load.further(20)
    assert load.lost == 0, load.outcomes


async def test_a_server_that_died_goes_down_and_its_requests_are_saved(rig: Rig) -> None:
    servers = await rig.ready(3, pool(interval=30))
    async with Load(rig.port, HOST, clients=6).running() as load:
        await load.further(30, "hello-1")
        await servers[0].stop()
        await until(lambda: rig.down(A), 5)
        await load.further(60)
    assert load.lost == 0, load.outcomes


async def test_an_unhealthy_server_leaves_and_comes_back(rig: Rig) -> None:
    servers = await rig.ready(2, pool(interval=0.1))
    servers[0].healthy = False
    await until(lambda: rig.down(A), 5)
    assert {(await rig.client().ask())[1] for _ in range(6)} == {"hello-2"}
    servers[0].healthy = True
    await until(lambda: rig.up(A), 5)
    assert {(await rig.client().ask())[1] for _ in range(6)} == {"hello-1", "hello-2"}


@pytest.mark.parametrize("whom", ["master", "worker"])
async def test_a_killed_haproxy_serves_again_from_the_file(rig: Rig, whom: str) -> None:
    await rig.ready(2, pool())
    await rig.balancer.disable(B)
    woken: list[str] = []
    rig.balancer.on_change(woken.append)
    before = (await rig.see()).process
    assert before is not None
    os.kill(rig.launcher.pid if whom == "master" else int(before.split("-")[1]), signal.SIGKILL)

    async def serves_again() -> bool:
        return (await rig.client().ask())[0] == 200 and (await rig.see()).process not in (None, before)

    await until(serves_again, 3)
    seen = await rig.see()
    assert {name: server.state for name, server in seen.servers.items()} == {A: ServerState.READY}
    assert len(seen.gaps) == 1
    assert seen.gaps[0].until is not None
    assert seen.gaps[0].since < seen.gaps[0].until
    assert seen.gaps[0].before is not None
    assert seen.gaps[0].before.open == 0
    assert woken.count(APP) >= 1


async def test_what_the_checks_say_wakes_the_app_and_has_words(rig: Rig) -> None:
    sick, dead = await rig.ready(2, pool(interval=0.1))
    await until(rig.settled, 5)
    await rig.another_daemon()  # one that has seen no reload: the end of the process before it would wake, too
    woken: list[str] = []
    rig.balancer.on_change(woken.append)
    sick.healthy = False
    await until(lambda: rig.down(A), 5)
    assert (await rig.see()).servers[A].check == "HTTP 500"
    assert (await rig.see()).servers[B].check == ""
    await until(lambda: _said(woken), 5)
    woken.clear()
    sick.healthy = True
    await until(lambda: _said(woken), 5)
    await until(lambda: rig.up(A), 5)
    assert (await rig.see()).servers[A].check == ""
    await dead.stop()
    await until(lambda: rig.down(B), 5)
    assert (await rig.see()).servers[B].check == "connection refused"


async def _said(woken: list[str]) -> bool:
    return APP in woken
