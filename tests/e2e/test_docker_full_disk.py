"""A Docker engine whose disk is full, a small one of these tests' own: what cannot be started is said to have found no
room, and the old replicas serve on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.adapters.docker.registry import PASSWORD, USER
from tests.adapters.docker.registry import running as registry
from tests.e2e.scenario import HELLO, LIGHT, Hello, hello_on, nothing_lost, own_engine, succeeded
from tests.e2e.test_crash_only import full

from rota.testing import docker, images
from rota.testing.docker import DockerEngine
from rota.testing.server import Answer

pytestmark = [pytest.mark.full, pytest.mark.load, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

DISK = 256  # MiB
FULL = "the disk of the engine's machine is full"


@pytest.fixture(scope="module")
def engine(component: Callable[[str], Path]) -> Iterator[DockerEngine]:
    with own_engine(component, disk=DISK) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(engine: DockerEngine) -> AsyncIterator[Hello]:
    async with hello_on(engine) as hello:
        yield hello


@pytest.mark.feature("R4")
async def test_a_new_release_finds_no_room_for_its_image(app: Hello, engine: DockerEngine) -> None:
    """It is on the engine: what finds no room is the tag that keeps it there."""
    await turned_back(app, engine, app.deploy_new)


@pytest.mark.feature("R4")
async def test_a_restart_finds_no_room_for_its_containers_and_goes_on_once_there_is(
    app: Hello, engine: DockerEngine
) -> None:
    """There is no other release to go back to: it is tried again."""
    await app.settled(3)
    before = await app.ready()
    async with app.load(**LIGHT | {"post_share": 0.0}) as load:
        with full(engine.disk):
            restart = asyncio.create_task(app.server.cli("restart", app.name, "--json"))
            failed = await app.server.until(lambda: failures(app))
            assert await app.ready() == before
        answer = await restart
        report = await load.stop()
    nothing_lost(report)
    succeeded(answer)
    assert FULL in failed[0]["reason"]
    assert FULL in answer.err, "who waits reads it"


@pytest.mark.feature("R4", "H1")
async def test_an_image_of_a_registry_finds_no_room(app: Hello, engine: DockerEngine) -> None:
    with registry() as hub:
        hub.put("1", images.python_app(HELLO), "unused")
        account = {"server": hub.address, "username": USER, "password": PASSWORD}
        there = {"repository": f"{hub.address}/app", "registry": account, "tag": "1"}
        said = await turned_back(app, engine, lambda: app.deploy_new(image=there))
    assert "cannot be pulled" in said
    assert "check image:" not in said, "it is not the image's fault"


async def turned_back(app: Hello, engine: DockerEngine, order: Callable[[], Awaitable[Answer]]) -> str:
    """An order on the full disk, under load; why it was turned back. With room there again a deploy succeeds."""
    await app.settled(3)
    before = await app.ready()
    async with app.load(**LIGHT | {"post_share": 0.0}) as load:
        with full(engine.disk):
            answer = await order()
        report = await load.stop()
    nothing_lost(report)
    assert (answer.code, answer.json["phase"]) == (5, "rolled_back"), answer
    await app.settled(3)
    assert await app.ready() == before
    said = str(answer.json["detail"])
    assert FULL in said, said
    assert "docker system prune" in said, said
    await app.deploy_ok(image=docker.HELLO)
    return said


async def failures(app: Hello) -> list[dict[str, Any]]:
    found = (await app.server.get(f"/api/v1/events?app={app.name}&limit=1000"))["events"]
    return [event for event in found if event["kind"] == "failure"]
