"""What else may happen to a daemon: stopped for a while, and a disk that is full, with replicas that die meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.e2e.scenario import FULL, Hello, nothing_lost, same_on_both
from tests.e2e.site import ServerAt, Site

pytestmark = [
    pytest.mark.load,
    same_on_both,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
]

STOPPED = 60.0 if FULL else 3.0  # seconds


@pytest.fixture(scope="module")
def disk(site: Site, component: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for a server whose data directory is a small file system; its log is elsewhere."""
    component("mounts")
    directory = tmp_path_factory.mktemp(site.name)
    place = directory / "state"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "rota-test", str(place)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(site: Site, disk: Path) -> AsyncIterator[Hello]:
    async with ServerAt(site, directory=disk) as server:
        hello = Hello(server, replicas=3)
        await hello.deploy_ok()
        yield hello


@pytest.mark.feature("R4")
async def test_a_daemon_that_is_stopped_in_a_restart_goes_on_and_nothing_is_lost(app: Hello) -> None:
    """While it is stopped a replica is killed: HAProxy alone takes it out of rotation."""
    async with app.load(post_share=0.0, slow_share=0.0) as load:
        await app.server.ok("restart", app.name, "--detach", "--delay", "1s")
        await app.server.until(lambda: taken(app))
        victim = (await app.ready())[-1]
        with app.server.stopped():
            await app.server.kill_replica(victim)
            await asyncio.sleep(STOPPED)  # for how long it is stopped, nothing is awaited by it
        ended = await app.rollout_ended()
        report = await load.stop()
    nothing_lost(report)
    assert ended["phase"] == "succeeded", ended
    await app.settled(3)
    assert victim not in await app.ready()


@pytest.mark.feature("R4", "W1")
async def test_a_replica_that_dies_while_the_disk_is_full_is_replaced_once_there_is_room(app: Hello) -> None:
    """With containers at once, if all that is to be written finds its place in files that are long enough: an engine
    keeps its records elsewhere, the keeper has a new one for each process."""
    victim = (await app.ready())[0]
    async with app.load(post_share=0.0, slow_share=0.0) as load:
        with full(app.server.directory / "state"):
            before = len(app.server.log)
            await app.server.kill_replica(victim)
            await app.server.until(lambda: complains_or_replaces(app, before, victim))
        await app.server.until(lambda: replaced(app, victim))
        report = await load.stop()
    nothing_lost(report)
    await app.settled(3)


async def taken(app: Hello) -> bool:
    newest = (await app.server.get(f"/api/v1/rollouts?app={app.name}&limit=1"))["rollouts"][0]
    shown = await app.server.get(f"/api/v1/rollouts/{newest['id']}")
    return any(step["step"] == "TakeSlot" for step in shown["steps"])


async def complains_or_replaces(app: Hello, before: int, victim: str) -> bool:
    complaint = "disk full; free some space, rota goes on by itself"
    return complaint in app.server.log[before:] or await replaced(app, victim)


async def replaced(app: Hello, victim: str) -> bool:
    ready = await app.ready()
    return len(ready) == 3 and victim not in ready


@contextlib.contextmanager
def full(directory: Path) -> Iterator[None]:
    """There is no byte left as long as the block lasts."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(os.urandom(1) * size)
    try:
        yield
    finally:
        filler.unlink()
