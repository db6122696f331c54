"""A real server whose engine is at a TCP port behind TLS: a deploy, what people ask of replicas, a restart in load."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.e2e.scenario import LIGHT, Hello, nothing_lost, own_engine
from tests.e2e.site import Containers, ServerAt

from rota.testing.docker import DockerEngine

pytestmark = [pytest.mark.full, pytest.mark.load, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def engine(component: Callable[[str], Path]) -> Iterator[DockerEngine]:
    with own_engine(component, tls=True) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(engine: DockerEngine) -> AsyncIterator[Hello]:
    server = ServerAt(Containers(engine, engine.tls_host))
    try:
        await server.start(DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(engine.client))
        hello = Hello(server, replicas=2)
        await hello.deploy_ok()
        yield hello
    finally:
        await server.end()


@pytest.mark.feature("H1")
async def test_nobody_notices_a_restart_over_tls(app: Hello) -> None:
    async with app.load(**LIGHT) as load:
        before = await app.ready()
        rollout = await app.order("restart")
        report = await load.stop()
    nothing_lost(report)
    assert rollout["receipt"]["failed"] == 0
    assert not set(await app.ready()) & set(before)


@pytest.mark.feature("H8")
async def test_what_people_ask_is_answered_over_tls(app: Hello, engine: DockerEngine) -> None:
    said = await app.server.ok("exec", app.name, "--", "python3", "-c", "import os; print(os.environ['ROTA_APP'])")
    assert said.out == f"{app.name}\n"
    assert f"{app.name}-" in (await app.server.ok("logs", app.name, "--all-containers")).out
    doctor = (await app.server.cli("doctor")).out
    assert f"the certificate {engine.client}/cert.pem" in doctor
    assert f"the certificate of the Docker engine at {engine.tls_host}" in doctor
