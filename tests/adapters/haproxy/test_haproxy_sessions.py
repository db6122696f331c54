"""Sticky sessions through a real HAProxy: who has a cookie stays where it leads, as long as that is there."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from rota.core.names import ReplicaId
from rota.core.observation import ServerState
from rota.testing.haproxy import APP, HOST, Rig, pool, until
from rota.testing.web import Client

A, B, C = ReplicaId("hello-1"), ReplicaId("hello-2"), ReplicaId("hello-3")
STICKY = pool(interval=60, cookie="seat")
OTHER = pool("/health/other", interval=60, cookie="seat")


async def user(rig: Rig, of: str = "") -> Client:
    """One with a cookie, who was given the replica ``of`` (or any)."""
    for _ in range(20):
        client = rig.client()
        status, body = await client.ask()
        assert status == 200
        if body == of or not of:
            client.cookie = client.given.pop().partition(";")[0]
            return client
    raise AssertionError(f"nobody was given {of}")


async def answers(client: Client, count: int = 6) -> set[tuple[int, str]]:
    return {await client.ask() for _ in range(count)}


async def test_a_first_answer_sets_the_cookie_and_the_next_requests_go_there(rig: Rig) -> None:
    servers = await rig.ready(3, STICKY)
    client = rig.client()
    _, body = await client.ask()
    (given,) = client.given
    cookie, *attributes = given.split("; ")
    assert sorted(attributes) == ["HttpOnly", "SameSite=Lax", "path=/"]
    assert "hello" not in cookie
    assert "127" not in cookie
    client.cookie = f"theirs=1; {cookie}; more=2"
    assert await answers(client, 9) == {(200, body)}
    assert client.given == [given]
    asked = next(server.heads[-1] for server in servers if server.name == body)
    assert "seat=" not in asked
    assert "theirs=1" in asked


async def test_the_browser_is_told_how_long_to_keep_it(rig: Rig) -> None:
    await rig.ready(1, replace(STICKY, cookie_age=3600.0))
    client = rig.client()
    await client.ask()
    assert "Max-Age=3600" in client.given[0].split("; ")


async def test_the_browser_is_told_where_the_cookie_may_go(rig: Rig) -> None:
    await rig.ready(1, replace(STICKY, cookie_secure=True, cookie_site="none"))
    client = rig.client()
    await client.ask()
    assert {"Secure", "HttpOnly", "SameSite=None"} <= set(client.given[0].split("; "))


@pytest.mark.parametrize("cookie", ["seat=forged", "seat=", "seat=1; seat=2", 'seat="x', "seat=hello-1", "seat=%00;;="])
async def test_a_cookie_that_leads_nowhere_is_exchanged(rig: Rig, cookie: str) -> None:
    await rig.ready(2, STICKY)
    client = rig.client()
    client.cookie = cookie
    assert (await client.ask())[0] == 200
    client.cookie = client.given[0].partition(";")[0]
    assert len(await answers(client)) == 1


async def test_one_of_two_cookies_that_are_both_right_is_taken(rig: Rig) -> None:
    await rig.ready(2, STICKY)
    first, second = await user(rig, A), await user(rig, B)
    client = rig.client()
    client.cookie = f"{first.cookie}; {second.cookie}"
    assert {status for status, _ in await answers(client)} == {200}


async def test_a_drained_replica_keeps_its_users_and_gets_no_new_ones(rig: Rig) -> None:
    await rig.ready(2, STICKY)
    theirs = await user(rig, A)
    await rig.balancer.drain(A)
    assert await answers(theirs) == {(200, A)}
    assert await answers(rig.client()) == {(200, B)}
    await rig.balancer.disable(A)
    assert await answers(theirs, 1) == {(200, B)}
    assert theirs.given
    theirs.cookie = theirs.given[0].partition(";")[0]
    theirs.given.clear()
    assert await answers(theirs) == {(200, B)}
    assert not theirs.given


async def test_how_long_a_replica_has_been_idle_is_seen(rig: Rig) -> None:
    await rig.ready(2, STICKY)
    theirs = await user(rig, A)
    await rig.balancer.drain(A)

    async def idle() -> float:
        return (await rig.see()).servers[A].idle

    async def idle_for_a_second() -> bool:
        return await idle() >= 1

    await until(idle_for_a_second, 5)
    await theirs.ask(keep=True)
    assert await idle() < 1
    await until(idle_for_a_second, 5)
    await theirs.ask(keep=True)  # on the connection that was kept
    assert await idle() < 1
    theirs.close()


async def test_a_replica_is_never_seen_idle_for_longer_than_it_was(rig: Rig) -> None:
    """Over the turn of a second too: else a user who comes all the time is sent away."""
    await rig.ready(2, STICKY)
    theirs = await user(rig, A)
    for phase in range(10):
        asked = time.monotonic()  # HAProxy has the request after this
        await theirs.ask()
        while (idle := await shown_idle(rig)) == 0 and time.monotonic() - asked < 0.3:
            await asyncio.sleep(0.002)  # thousands of questions a second are not all answered
        assert idle <= time.monotonic() - asked, phase


async def shown_idle(rig: Rig) -> float:
    """0 too when HAProxy did not answer: such a look says nothing."""
    server = (await rig.see()).servers.get(A)
    return 0.0 if server is None else server.idle


async def test_a_reload_keeps_sessions_and_what_is_known_of_them(rig: Rig) -> None:
    await rig.ready(2, STICKY)
    theirs, others = await user(rig, A), await user(rig, B)
    await rig.balancer.drain(A)
    await rig.balancer.prepare(OTHER, (HOST,))
    seen = (await rig.see()).servers
    assert seen[A].state is ServerState.DRAIN
    assert seen[A].idle < 10
    assert await answers(theirs) == {(200, A)}
    assert await answers(others) == {(200, B)}
    assert not theirs.given


async def test_a_killed_haproxy_comes_back_with_the_sessions(rig: Rig) -> None:
    await rig.ready(3, STICKY)
    users = [await user(rig, replica) for replica in (A, B, C)]
    before = (await rig.see()).process
    assert before is not None
    import os
    import signal

    os.kill(rig.launcher.pid, signal.SIGKILL)

    async def another() -> bool:
        return (await rig.see()).process not in (None, before)

    await until(another, 5)
    assert [await answers(client) for client in users] == [{(200, A)}, {(200, B)}, {(200, C)}]
    assert (await rig.see()).servers[A].idle <= 5


async def test_a_new_server_at_runtime_has_its_cookie_too(rig: Rig) -> None:
    await rig.ready(2, STICKY)
    await rig.balancer.prepare(OTHER, (HOST,))  # from here on the first two come from the file
    late = await rig.web(C)
    await rig.balancer.enable(C, APP, STICKY.name, late.address)
    theirs = await user(rig, C)
    assert await answers(theirs) == {(200, C)}
    assert not theirs.given


async def test_users_stay_with_their_replica_while_the_app_is_in_two_backends(rig: Rig) -> None:
    await rig.ready(2, STICKY)
    theirs, others = await user(rig, A), await user(rig, B)
    await rig.balancer.prepare(OTHER, (HOST,))
    new = await rig.web(C)
    await rig.balancer.enable(C, APP, OTHER.name, new.address)
    await rig.balancer.route(APP, {STICKY.name: 1, OTHER.name: 1})
    late = await user(rig, C)
    for client, replica in ((theirs, A), (others, B), (late, C)):
        assert await answers(client, 20) == {(200, replica)}
        assert not client.given
    await rig.balancer.drain(A)
    await rig.balancer.route(APP, {OTHER.name: 100})
    assert await answers(theirs) == {(200, A)}
    await rig.balancer.drain(B)
    await rig.balancer.disable(A)
    await rig.balancer.disable(B)
    assert await answers(theirs) == {(200, C)}
    assert await answers(others) == {(200, C)}
    assert await answers(late) == {(200, C)}


async def test_taking_a_backends_last_replica_away_loses_no_request(rig: Rig) -> None:
    await rig.ready(1, STICKY)
    theirs = await user(rig, A)
    await rig.balancer.prepare(OTHER, (HOST,))
    new = await rig.web(B)
    await rig.balancer.enable(B, APP, OTHER.name, new.address)
    await rig.balancer.route(APP, {OTHER.name: 1})
    done = asyncio.Event()

    async def go_on() -> set[tuple[int, str]]:
        seen = set()
        while not done.is_set():
            seen.add(await theirs.ask())
        return seen

    asking = asyncio.create_task(go_on())
    for _ in range(5):
        await rig.balancer.enable(A, APP, STICKY.name, rig.servers[0].address)
        await rig.balancer.drain(A)
        await until(lambda: _asks(theirs, A), 2)
        await rig.balancer.disable(A)
        await until(lambda: _asks(theirs, B), 2)
    done.set()
    assert await asking == {(200, A), (200, B)}


async def _asks(theirs: Client, replica: ReplicaId) -> bool:
    return (await theirs.ask())[1] == replica


async def test_a_daemon_that_comes_back_knows_the_sessions_backends(rig: Rig) -> None:
    await rig.ready(1, STICKY)
    theirs = await user(rig, A)
    await rig.balancer.prepare(OTHER, (HOST,))
    new = await rig.web(B)
    await rig.balancer.enable(B, APP, OTHER.name, new.address)
    await rig.balancer.route(APP, {OTHER.name: 1})
    await rig.another_daemon()
    assert await answers(theirs) == {(200, A)}


async def test_a_replica_at_the_address_of_one_that_has_gone_inherits_its_users(rig: Rig) -> None:
    """As containers do: the engine gives an address again at once."""
    await rig.ready(2, STICKY)
    theirs = await user(rig, A)
    await rig.balancer.disable(A)
    await rig.balancer.enable(C, APP, STICKY.name, rig.servers[0].address)
    assert await answers(theirs) == {(200, A)}  # the web server's name; HAProxy's is the new one's
    assert (await rig.see()).servers[C].idle < 5
    await rig.balancer.remove(A)
    assert await answers(theirs) == {(200, A)}
    assert not theirs.given
