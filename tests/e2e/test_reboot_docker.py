"""A machine with Docker that is switched off and on: no process, container, mount or bridge outlives it, and what
systemd then starts, in whatever order, brings everything back as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
import pytest_asyncio
from tests.e2e.scenario import HELLO, Hello
from tests.e2e.site import Containers, ServerAt

from rota.testing.docker import DockerEngine, docker_engine
from rota.testing.post import Hook, web_hook
from rota.testing.reboot import switch_off
from rota.testing.server import ServerBroken

pytestmark = [pytest.mark.full, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

WITHIN = 60.0  # seconds


@pytest.fixture(scope="module")
def engine(component: Callable[[str], Path]) -> Iterator[DockerEngine]:
    """One that is switched off."""
    component("haproxy")
    component("docker-engine")
    with docker_engine() as made:
        made.import_hello(HELLO)
        yield made


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with web_hook() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(engine: DockerEngine, hook: Hook) -> AsyncIterator[Hello]:
    async with ServerAt(Containers(engine)) as server:
        hello = Hello(server, replicas=3, notify=[hook.url], stop_grace_period="1s", rollout={"monitor": "5m"})
        await hello.deploy_ok()
        yield hello


@pytest.mark.feature("R4", "W2")
async def test_a_release_on_trial_is_back_though_the_engine_came_up_after_rota(
    app: Hello, engine: DockerEngine, hook: Hook
) -> None:
    server = app.server
    assert (await app.deploy_new()).code == 0
    before = await server.replicas(app.name)
    await machine_off(server, engine)
    for _ in range(2):  # as the unit does: Restart=on-failure
        with pytest.raises(ServerBroken, match=r"rota serve ended with 1\n[^$]*does not run; start it"):
            await server.start()
    await asyncio.to_thread(engine.start)
    await server.start()
    await back(app, before, release=2)
    assert [entry["kind"] for entry in (await server.get(f"/api/v1/rollouts?app={app.name}"))["rollouts"]] == [
        "deploy"
    ] * 2
    assert f"{app.name}  3 of 3 serve" in (await server.ok("doctor", app.name)).out
    assert hook.taken == []


@pytest.mark.feature("R4")
async def test_a_restart_that_was_under_way_goes_on(app: Hello, engine: DockerEngine) -> None:
    server, before = app.server, await app.server.replicas(app.name)
    await server.ok("restart", app.name, "--delay", "1s", "--detach")

    async def begun() -> bool:
        return any(replica["phase"] == "starting" for replica in await server.replicas(app.name))

    await server.until(begun)
    await machine_off(server, engine)
    await asyncio.to_thread(engine.start)
    await server.start()
    assert (await app.rollout_ended(WITHIN))["phase"] == "succeeded"
    await back(app, before, release=2)
    assert {replica["generation"] for replica in await server.replicas(app.name)} == {3}


async def machine_off(server: ServerAt, engine: DockerEngine) -> None:
    await switch_off(server)
    await asyncio.to_thread(engine.switch_off)


async def back(app: Hello, before: list[dict[str, object]], *, release: int) -> None:
    """As many as asked for, one a slot, all new; nothing of the old ones is left, and HAProxy leads to the new ones."""
    await app.settled(3, WITHIN)
    replicas = await app.server.replicas(app.name)
    assert [(replica["slot"], replica["release"]) for replica in replicas] == [(slot, release) for slot in (1, 2, 3)]
    names = {str(replica["id"]) for replica in replicas}
    assert not names & {str(replica["id"]) for replica in before}
    assert await app.server.site.kept(app.server, app.name) == names
    answers = {await asyncio.to_thread(ask, app) for _ in range(12)}
    assert answers == {(200, name) for name in names}


def ask(app: Hello) -> tuple[int, str | None]:
    """One user's request through HAProxy: the status, and who answered."""
    line = HTTPConnection("127.0.0.1", app.server.http_port, timeout=30)
    try:
        line.request("GET", "/", headers={"Host": app.host})
        answer = line.getresponse()
        return answer.status, answer.headers.get("X-Rota-Replica")
    finally:
        line.close()
