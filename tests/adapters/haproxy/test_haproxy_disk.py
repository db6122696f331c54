"""The directory that HAProxy is started from: what is left in it."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from rota.adapters.balancer.haproxy import Settings
from rota.adapters.balancer.haproxy.disk import Disk
from rota.adapters.balancer.haproxy.state import App, State, read_state
from rota.core.errors import StepFailed
from rota.core.spec import MAX_DRAIN
from rota.testing.haproxy import pool


async def test_a_trial_file_does_not_stay_behind(tmp_path: Path) -> None:
    await Disk(Settings(tmp_path), "true").check(State())
    with pytest.raises(StepFailed, match="HAProxy does not accept its new file"):
        await Disk(Settings(tmp_path), "false").check(State())
    assert not list(tmp_path.glob("*.trial"))


def test_an_old_process_outlives_the_longest_drain(tmp_path: Path) -> None:
    assert Settings(tmp_path).hard_stop > 2 * MAX_DRAIN


async def test_the_key_of_the_cookies_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        await Disk(Settings(tmp_path), "true").read()
        keys.append((tmp_path / "cookie.key").read_text())
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32
    (tmp_path / "cookie.key").write_text("not\na key")
    await Disk(Settings(tmp_path), "true").read()
    assert len((tmp_path / "cookie.key").read_text()) == 32
    assert (tmp_path / "cookie.key").stat().st_mode & 0o777 == 0o600


async def test_writes_keep_their_order_whoever_stops_waiting(tmp_path: Path) -> None:
    """The first is given up before its file is written; the last one's is what stays."""
    disk = Disk(Settings(tmp_path), "true")
    await disk.read()
    states = [State().with_app(App("a").prepared(pool(None, "a"), (f"{name}.localhost",))) for name in "xyz"]
    tasks = [asyncio.create_task(disk.write(state)) for state in states]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await disk.close()
    assert read_state((tmp_path / "haproxy.cfg").read_text()) == states[-1]
    assert (tmp_path / "hosts.map").read_text() == "z.localhost a\n"


async def test_the_loop_goes_on_while_the_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write waits for what only the loop can do."""
    went_on = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: went_on.wait(10) or pytest.fail("the loop stood still"))
    disk = Disk(Settings(tmp_path), "true")
    asyncio.get_running_loop().call_soon(went_on.set)
    await disk.read()
    await disk.write(State())
    await disk.close()


async def test_a_check_that_hangs_is_given_up(tmp_path: Path) -> None:
    """It would hold up every later change; the program does not stay behind either."""
    hanging, pid = tmp_path / "hanging", tmp_path / "pid"
    hanging.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 600\n")
    hanging.chmod(0o700)
    with pytest.raises(StepFailed, match=r"has not said within 0\.5 s whether it accepts its new file"):
        await Disk(Settings(tmp_path), str(hanging), deadline=0.5).check(State())
    assert not list(tmp_path.glob("*.trial"))
    assert not pid.exists() or not Path(f"/proc/{pid.read_text().strip()}").exists()
