"""A loop that breaks is told of and begun again; nobody else's is touched."""

from __future__ import annotations

import asyncio

import pytest

from rota.engine import loops
from rota.engine.loops import keep, running


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "BEGUN_AGAIN", 0.0)


async def test_one_that_breaks_is_told_of_and_begun_again(caplog: pytest.LogCaptureFixture) -> None:
    runs = iter([ValueError("a bug"), OSError(24, "Too many open files"), None])

    async def breaks_twice() -> None:
        if (error := next(runs)) is not None:
            raise error

    await keep("web-1", breaks_twice)
    assert next(runs, "none left") == "none left"
    assert caplog.text.count("web-1: its loop broke and is begun again") == 2
    assert "a bug" in caplog.text


async def test_they_go_on_beside_each_other_until_the_block_ends(caplog: pytest.LogCaptureFixture) -> None:
    again, other, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    broken = False

    async def breaks_once() -> None:
        nonlocal broken
        if not broken:
            broken = True
            raise ValueError("a bug")
        again.set()
        await asyncio.Event().wait()

    async def goes_on() -> None:
        other.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(outbox=breaks_once, disk=goes_on):
        await again.wait()
        await other.wait()
        assert not ended.is_set()
    assert ended.is_set()
    assert "outbox: its loop broke" in caplog.text
