"""Logs that are followed end when there is nothing more to come, and say why when they cannot go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from tests.engine.daemon import World, quick

from rota.core import order as o
from rota.core.errors import NotFound, StepFailed
from rota.core.names import ReplicaId
from rota.engine.following import Following
from rota.engine.views import View
from rota.ports.logs import LogLine


class SlowLogs:
    """Each replica's output comes when a test lets it; ``break_off`` fails all that is read."""

    def __init__(self) -> None:
        self.lines: dict[str, asyncio.Queue[str | Exception | None]] = {}

    def of(self, replica: str) -> asyncio.Queue[str | Exception | None]:
        return self.lines.setdefault(replica, asyncio.Queue())

    async def tail(self, replica: ReplicaId, lines: int) -> tuple[str, ...]:
        return ()

    async def follow(self, replica: ReplicaId, lines: int) -> AsyncIterator[LogLine]:
        while (text := await self.of(replica).get()) is not None:
            if isinstance(text, Exception):
                raise text
            yield LogLine(replica, text)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    try:
        await made.start()
        await made.order(o.Deploy(spec=quick()))
        await made.until_over()
        yield made
    finally:
        await made.close()


@pytest.fixture
def logs() -> SlowLogs:
    return SlowLogs()


@pytest.fixture
def following(world: World, logs: SlowLogs) -> Following:
    assert world.supervisor is not None
    return Following(world.supervisor, world.store, logs)


async def taken(lines: AsyncIterator[View]) -> list[str]:
    """All to the end, which has to come."""
    async with asyncio.timeout(10):
        return [line["text"] async for line in lines]


async def test_one_replica_s_end_with_it(following: Following, logs: SlowLogs) -> None:
    for text in ("a", "b", None):
        logs.of("web-1").put_nowait(text)
    assert await taken(following.follow("web", "web-1", 10)) == ["a", "b"]


async def test_one_that_is_not_there_is_no_stream_without_end(following: Following) -> None:
    with pytest.raises(NotFound, match="web has no replica 'web-9'"):
        await taken(following.follow("web", "web-9", 10))


async def test_what_cannot_be_read_ends_them_with_the_reason(following: Following, logs: SlowLogs) -> None:
    logs.of("web-2").put_nowait("before")
    logs.of("web-2").put_nowait(StepFailed("the engine is gone"))
    with pytest.raises(StepFailed, match="the engine is gone"):
        await taken(following.follow("web", None, 10))


async def test_all_of_an_app_are_merged_later_ones_too_and_end_when_it_is_removed(
    world: World, following: Following, logs: SlowLogs
) -> None:
    async with aclosing(following.follow("web", None, 10)) as lines, asyncio.timeout(20):
        logs.of("web-2").put_nowait("two")
        assert await anext(lines) == {"replica": "web-2", "text": "two"}
        await world.order(o.Scale(replicas=3))
        logs.of("web-3").put_nowait("three")
        assert await anext(lines) == {"replica": "web-3", "text": "three"}
        await world.order(o.Remove(supersede=True))
        for name in ("web-1", "web-2", "web-3"):
            logs.of(name).put_nowait(None)
        assert [line async for line in lines] == []
