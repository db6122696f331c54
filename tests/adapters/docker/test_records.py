"""What the docker runtime keeps beside the engine: written in the order of the calls, and not on the loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from rota.adapters.inturn import InTurn
from rota.adapters.runtime.docker.pins import Pin, Pins
from rota.adapters.runtime.docker.reruns import Reruns, Standing
from rota.core.errors import StartFailed, StepFailed


@pytest_asyncio.fixture
async def turn() -> AsyncIterator[InTurn]:
    turn = InTurn("records")
    yield turn
    await turn.close()


async def test_the_loop_goes_on_while_they_are_written(
    tmp_path: Path, turn: InTurn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write waits for what only the loop can do."""
    went_on = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: went_on.wait(10) or pytest.fail("the loop stood still"))
    for write in (
        Pins(tmp_path / "images.json", turn).put(("web", 1), Pin("sha256:1")),
        Reruns(tmp_path / "restarts.json", turn).begin("c", "run 1", Standing(1, 0), 2),
    ):
        went_on.clear()
        asyncio.get_running_loop().call_soon(went_on.set)
        await write


async def test_changes_of_one_moment_are_all_kept_whoever_stops_waiting(tmp_path: Path, turn: InTurn) -> None:
    pins = Pins(tmp_path / "images.json", turn)
    puts = [asyncio.create_task(pins.put(("web", number), Pin(f"sha256:{number}"))) for number in range(1, 6)]
    dropped = asyncio.create_task(pins.drop(("web", 2)))
    await asyncio.sleep(0)
    puts[-1].cancel()
    await asyncio.gather(*puts, dropped, return_exceptions=True)
    again = Pins(tmp_path / "images.json", turn)
    again.open()
    assert again.keys == pins.keys
    assert {("web", 1), ("web", 3), ("web", 4)} <= pins.keys <= {("web", n) for n in (1, 3, 4, 5)}


async def test_a_restart_that_is_begun_after_others_are_forgotten_stays(tmp_path: Path, turn: InTurn) -> None:
    reruns = Reruns(tmp_path / "restarts.json", turn)
    await reruns.begin("old", "run 1", Standing(1, 0), 2)
    reruns.keep(frozenset({"new"}))
    await reruns.begin("new", "run 1", Standing(1, 0), 2)
    for known in (reruns, Reruns(tmp_path / "restarts.json", turn)):
        assert known.standing("new", "run 2", 1) == Standing(2, 1)
        assert known.standing("old", "run 2", 1) == Standing(1, 0)


async def test_what_cannot_be_written_is_not_believed(
    tmp_path: Path, turn: InTurn, caplog: pytest.LogCaptureFixture
) -> None:
    pins, reruns = Pins(tmp_path / "images.json", turn), Reruns(tmp_path / "restarts.json", turn)
    await reruns.begin("c", "run 1", Standing(1, 0), 2)
    tmp_path.rename(tmp_path.with_name("away"))
    with pytest.raises(StepFailed, match="the image cannot be put on record"):
        await pins.put(("web", 1), Pin("sha256:1"))
    with pytest.raises(StartFailed, match="the restart cannot be put on record"):
        await reruns.begin("d", "run 1", Standing(1, 0), 2)
    assert pins.keys == frozenset()
    assert reruns.standing("d", "run 2", 1) == Standing(1, 0)
    reruns.keep(frozenset())
    await turn.do(lambda: None)
    assert "what is gone stays on record" in caplog.text
    tmp_path.with_name("away").rename(tmp_path)
