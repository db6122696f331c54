"""The Docker engine is lost in the middle of a pull, and for longer than a start waits for it, on an engine of these
tests' own: what goes on, what is turned back, and what is said meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.adapters.docker.registry import PASSWORD, USER
from tests.adapters.docker.registry import running as registry
from tests.e2e.scenario import HELLO, Hello, hello_on, nothing_lost, own_engine, succeeded

from rota.adapters.runtime.docker.runtime import PATIENCE
from rota.testing import images
from rota.testing.docker import DockerEngine

pytestmark = [
    pytest.mark.full,
    pytest.mark.load,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(PATIENCE + 180),
]

LIGHT: dict[str, Any] = {"rate": 100.0, "post_share": 0.0, "slow_share": 0.0}


@pytest.fixture(scope="module")
def engine(component: Callable[[str], Path]) -> Iterator[DockerEngine]:
    with own_engine(component, live_restore=True) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(engine: DockerEngine) -> AsyncIterator[Hello]:
    async with hello_on(engine) as hello:
        yield hello


@pytest.mark.feature("W1", "R4")
async def test_a_start_that_has_waited_for_the_engine_in_vain_turns_the_deploy_back(
    app: Hello, engine: DockerEngine
) -> None:
    before = await app.ready()
    async with app.load(**LIGHT) as load:
        deploy = asyncio.create_task(app.deploy_new())
        await app.server.until(lambda: app.has_come_to("StartReplica"))
        await asyncio.to_thread(engine.kill)
        (failed,) = await app.server.until(lambda: events(app, "failure"), PATIENCE + 30)
        await asyncio.to_thread(engine.start)
        answer = await deploy
        nothing_lost(await load.stop())
    said = f"the Docker engine at {engine.host} does not run; start it (systemctl start docker)"
    assert failed["reason"].startswith(said), failed
    assert (answer.code, answer.json["phase"]) == (5, "rolled_back"), answer
    assert said in answer.json["detail"]
    assert "runtime lost: the Docker engine at" in answer.err
    await app.settled(3)
    assert await app.ready() == before


@pytest.mark.feature("W1", "H1")
async def test_a_pull_tells_how_far_it_is_and_begins_again_with_the_engine(app: Hello, engine: DockerEngine) -> None:
    with registry() as hub:
        hub.put("1", images.python_app(HELLO), "unused")
        hub.may_finish.clear()
        account = {"server": hub.address, "username": USER, "password": PASSWORD}
        there = {"repository": f"{hub.address}/app", "tag": "1", "registry": account}
        async with app.load(**LIGHT) as load:
            deploy = asyncio.create_task(
                app.deploy_new(image=there, command=["python3", "/app/app.py"], env={"HOST": "0.0.0.0"})
            )
            far = f"release being made ready: pulling {hub.address}/app:1: "
            await app.server.until(lambda: told(app, far, " MiB"))
            assert not deploy.done()
            await asyncio.to_thread(engine.kill)
            await asyncio.to_thread(engine.start)
            hub.may_finish.set()
            answer = await deploy
            rollout = succeeded(answer)
            nothing_lost(await load.stop())
    assert far in answer.err, "who waits reads it too"
    assert rollout["receipt"]["failed"] == 0
    assert {replica["release"] for replica in await app.server.replicas(app.name)} == {rollout["to_release"]}


async def events(app: Hello, kind: str) -> list[dict[str, Any]]:
    found = (await app.server.get(f"/api/v1/events?app={app.name}&limit=1000"))["events"]
    return [event for event in found if event["kind"] == kind]


async def told(app: Hello, beginning: str, ending: str) -> bool:
    """Whether ``rota events`` has such a line."""
    shown = (await app.server.cli("events", "--app", app.name, "--limit", "10")).out
    return any(beginning in line and line.endswith(ending) for line in shown.splitlines())
