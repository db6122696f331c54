"""One look at HAProxy for all who ask at the same moment; and nobody is given one that began before he asked."""

from __future__ import annotations

import asyncio

import pytest

from rota.adapters.balancer.haproxy.shared import Shared
from rota.adapters.balancer.haproxy.worker import Haproxy
from rota.core.names import ReplicaId
from rota.core.observation import ServerState
from rota.testing.haproxy import Rig, pool

A = ReplicaId("hello-1")


async def test_all_who_ask_at_once_are_served_by_one_look(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.ready(1, pool())
    reads, read = 0, Haproxy.read

    async def counted(self: Haproxy) -> object:
        nonlocal reads
        reads += 1
        return await read(self)

    monkeypatch.setattr(Haproxy, "read", counted)
    seen = await asyncio.gather(*(rig.see() for _ in range(50)))
    assert reads == 1
    assert {one.servers[A].state for one in seen} == {ServerState.READY}


async def test_a_look_shows_what_was_done_before_it_was_asked_for(rig: Rig) -> None:
    await rig.ready(1, pool())
    for drained in range(20):
        early = asyncio.create_task(rig.see())
        for _ in range(drained):
            await asyncio.sleep(0)  # the early look is under way, each time a little further
        await rig.balancer.drain(A)
        assert (await rig.see()).servers[A].state is ServerState.DRAIN
        await early
        await rig.balancer.enable(A, "hello", pool().name, rig.servers[0].address)


async def test_who_stops_waiting_stops_nobody_else() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    runs = 0

    async def run(begin: object) -> int:
        nonlocal runs
        runs += 1
        begun.set()
        await go_on.wait()
        return runs

    shared = Shared(run)
    first, second = asyncio.create_task(shared.next()), asyncio.create_task(shared.next())
    await begun.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go_on.set()
    assert await second == 1
    assert await shared.next() == 2


async def test_a_run_that_breaks_is_followed_by_another() -> None:
    answers = iter([ValueError("once"), 2])

    async def run(begin: object) -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    shared = Shared(run)
    with pytest.raises(ValueError, match="once"):
        await shared.next()
    assert await shared.next() == 2
