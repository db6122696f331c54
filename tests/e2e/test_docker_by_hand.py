"""What people and machines do to a Docker engine behind rota's back, on an engine of these tests' own: the app is as it
is to be again within 30 s, and no GET is lost where another replica lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.e2e.scenario import Hello, hello_on, nothing_lost, own_engine, succeeded

from rota.testing.docker import DockerEngine
from rota.testing.load import LoadProcess

pytestmark = [pytest.mark.load, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

WITHIN = 30.0  # seconds
LIGHT: dict[str, Any] = {"rate": 100.0, "post_share": 0.0, "slow_share": 0.0}


def also_in_the_long_form(*values: str) -> list[Any]:
    return [pytest.param(value, marks=pytest.mark.full) for value in values]


@pytest.fixture(scope="module")
def engine(component: Callable[[str], Path]) -> Iterator[DockerEngine]:
    """One that is stopped and started again."""
    with own_engine(component) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(engine: DockerEngine) -> AsyncIterator[Hello]:
    async with hello_on(engine, resources={"memory": "128MiB"}) as hello:
        yield hello


@pytest.mark.feature("W1", "W2")
@pytest.mark.parametrize(
    "words", [("rm", "-f"), ("stop",), pytest.param(("kill",), marks=pytest.mark.full)], ids=" ".join
)
async def test_one_that_is_ended_by_hand_is_replaced(words: tuple[str, ...], app: Hello, engine: DockerEngine) -> None:
    async with light_load(app) as load:
        victim = (await app.ready())[0]
        await engine.cli(*words, await container(engine, victim))
        await replaced(app, victim)
        nothing_lost(await load.stop())


@pytest.mark.feature("W1", "H8")
async def test_one_that_runs_out_of_memory_is_replaced_and_says_so(app: Hello) -> None:
    async with light_load(app) as load:
        victim = (await app.server.replicas(app.name))[0]
        host, _, port = victim["address"].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /memory?mib=512 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert b"200" not in await reader.read()
        writer.close()
        await replaced(app, victim["id"])
        nothing_lost(await load.stop())
    events = (await app.server.get(f"/api/v1/events?app={app.name}&limit=1000"))["events"]
    reasons = [event["reason"] for event in events if event["replica"] == victim["id"] and event["kind"] == "failure"]
    assert any("memory" in reason and "128 MiB" in reason for reason in reasons), reasons


@pytest.mark.feature("W1", "R4")
async def test_all_are_back_after_a_restart_of_the_engine_that_ended_them(app: Hello, engine: DockerEngine) -> None:
    before = await app.ready()
    async with asyncio.timeout(WITHIN):  # from the moment on that it is told to go
        await asyncio.to_thread(engine.restart)
        await app.server.until(lambda: all_new(app, before), WITHIN)


@pytest.mark.full
@pytest.mark.feature("W1", "R4")
async def test_nobody_notices_a_restart_of_the_engine_with_live_restore(app: Hello, engine: DockerEngine) -> None:
    async with living_on(engine), light_load(app) as load:
        before = await app.ready()
        async with asyncio.timeout(WITHIN):
            await asyncio.to_thread(engine.restart)
            await app.server.until(app.server.is_ready, WITHIN)
        assert await app.ready() == before
        await app.order("restart")  # it can be worked with
        nothing_lost(await load.stop())


@pytest.mark.feature("W1", "R4")
@pytest.mark.parametrize("step", ["StartReplica", *also_in_the_long_form("EnableServer", "StopReplica")])
@pytest.mark.parametrize("end", ["kill", *also_in_the_long_form("stop")])
async def test_a_deploy_goes_on_with_the_engine_and_nobody_notices_but_who_waits_for_it(
    end: str, step: str, app: Hello, engine: DockerEngine
) -> None:
    logged = len(app.server.log)
    async with living_on(engine), light_load(app) as load:
        deploy = asyncio.create_task(app.deploy_new())
        await app.server.until(lambda: app.has_come_to(step))
        async with asyncio.timeout(WITHIN):
            await asyncio.to_thread(getattr(engine, end))
            await asyncio.to_thread(engine.start)
            answer = await deploy
        rollout = succeeded(answer)
        nothing_lost(await load.stop())
    assert (rollout["receipt"]["failed"], rollout["receipt"]["gaps"]) == (0, [])
    events = (await app.server.cli("events", "--app", app.name, "--limit", "1000")).out
    for told in (answer.err, "".join(line for line in events.splitlines(True) if f" {rollout['id']} " in line)):
        assert told.count(f"{rollout['id']} runtime lost: the Docker engine at {engine.host} ") == 1, told
        assert told.count(f"{rollout['id']} runtime is back\n") == 1, told
    said = [line.split(" ", 2)[2] for line in app.server.log[logged:].splitlines()]
    assert sum("the Docker engine is back" in line for line in said) == 1, said
    assert len(said) == len(set(said)), f"the loss is told once, not at every look: {said}"


@pytest.mark.feature("W1", "R4")
@pytest.mark.parametrize("step", ["EnableServer", *also_in_the_long_form("StartReplica", "StopReplica")])
@pytest.mark.parametrize("end", ["stop", *also_in_the_long_form("kill")])
async def test_a_deploy_goes_on_with_the_engine_that_has_ended_all_replicas(
    end: str, step: str, app: Hello, engine: DockerEngine
) -> None:
    """Hello ends with exit code 0 when the engine tells it to: what others end is no failure of the new release."""
    await app.settled(3, WITHIN)
    before = await app.ready()
    deploy = asyncio.create_task(app.deploy_new())
    await app.server.until(lambda: app.has_come_to(step))
    async with asyncio.timeout(WITHIN):
        await asyncio.to_thread(getattr(engine, end))
        await asyncio.to_thread(engine.start)
        rollout = succeeded(await deploy)
        await app.server.until(lambda: all_new(app, before), WITHIN)
    assert {replica["release"] for replica in await app.server.replicas(app.name)} == {rollout["to_release"]}


@pytest.mark.feature("H12")
async def test_what_was_done_by_hand_is_shown_where_people_look(app: Hello, engine: DockerEngine) -> None:
    await app.settled(3, WITHIN)
    first = (await app.ready())[0]
    ours = await container(engine, first)
    options = [
        word
        for name, value in {"rota.server": await server_of(engine, ours), "rota.app": app.name}.items()
        for word in ("--label", f"{name}={value}")
    ]
    await engine.cli("update", "--restart", "always", ours)
    await engine.cli("run", "-d", "--name", "somebodys", "--network", "none", *options, "test/busybox:1")
    sentence = "got the restart policy always by hand"

    async def shown() -> bool:
        doctor = (await app.server.cli("doctor", app.name)).out
        return "container somebodys has this server's label" in doctor and sentence in doctor

    await app.server.until(shown, WITHIN)
    assert [one["id"] for one in await app.server.replicas(app.name) if sentence in one["reason"]] == [first]
    await engine.cli("rm", "-f", ours)
    await replaced(app, first)
    assert sentence not in (await app.server.cli("doctor", app.name)).out
    await engine.cli("rm", "-f", "somebodys")  # it is there: rota has left it alone


@asynccontextmanager
async def living_on(engine: DockerEngine) -> AsyncIterator[None]:
    """Containers outlive the engine's daemon as long as the block lasts."""
    await asyncio.to_thread(engine.switch_live_restore, on=True)
    try:
        yield
    finally:
        await asyncio.to_thread(engine.switch_live_restore, on=False)


@asynccontextmanager
async def light_load(app: Hello) -> AsyncIterator[LoadProcess]:
    await app.settled(3, WITHIN)
    async with app.load(**LIGHT) as load:
        yield load


async def container(engine: DockerEngine, replica: str) -> str:
    return await engine.cli("ps", "-q", "--filter", f"label=rota.replica={replica}")


async def server_of(engine: DockerEngine, name: str) -> str:
    return await engine.cli("inspect", "--format", '{{index .Config.Labels "rota.server"}}', name)


async def replaced(app: Hello, victim: str) -> None:
    async def holds() -> bool:
        ready = await app.ready()
        return victim not in ready and len(ready) == 3

    await app.server.until(holds, WITHIN)


async def all_new(app: Hello, before: list[str]) -> bool:
    ready = await app.ready()
    return len(ready) == 3 and not set(ready) & set(before)
