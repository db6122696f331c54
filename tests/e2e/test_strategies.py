"""Each way to roll on a real server: what users notice (nothing, or the gap that is told), and the way back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.e2e.scenario import Hello, nothing_lost

from rota.testing.server import RunningServer

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

LIGHT: dict[str, Any] = {"rate": 100.0, "slow_seconds": 0.3}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[RunningServer]:
    async with RunningServer() as running:
        yield running


async def phases(app: Hello) -> list[str]:
    return sorted(replica["phase"] for replica in await app.server.replicas(app.name))


async def ids(app: Hello, phase: str) -> set[str]:
    return {replica["id"] for replica in await app.server.replicas(app.name) if replica["phase"] == phase}


def kinds(rollout: dict[str, Any]) -> list[str]:
    return [step["step"] for step in rollout["steps"]]


@pytest.mark.feature("S6", "V6", "R1")
async def test_blue_green_switches_once_and_back_without_a_start(server: RunningServer) -> None:
    app = Hello(server, "blue", replicas=2, deployment_strategy="blue-green", drain={"timeout": 2})
    await app.deploy_ok()
    async with app.load(**LIGHT) as load:
        app.version += 1
        there = await app.deploy_ok()
        old = await ids(app, "standby")
        back = await app.order("rollback")
        report = await load.stop()
    nothing_lost(report)
    assert (there["policy"]["strategy"], there["receipt"]["failed"], there["receipt"]["gaps"]) == ("blue-green", 0, [])
    steps = kinds(there)
    assert steps.count("RouteApp") == 1
    assert max(at for at, step in enumerate(steps) if step == "EnableServer") < steps.index("RouteApp")
    assert len(old) == 2
    assert await ids(app, "ready") == old
    assert {"StartReplica", "EnableServer"} & set(kinds(back)) == set()
    assert (back["to_release"], back["receipt"]["failed"]) == (1, 0)
    await app.order("remove", "--yes")


@pytest.mark.feature("S6", "R8")
async def test_with_one_new_replica_failing_blue_green_switches_nothing(server: RunningServer) -> None:
    app = Hello(server, "green", replicas=2, deployment_strategy="blue-green", drain={"timeout": 2})
    await app.deploy_ok()
    before = set(await app.ready())
    async with app.load(**LIGHT) as load:
        answer = await app.deploy_new(env={"HELLO_CRASH_AFTER": "0"})
        report = await load.stop()
    nothing_lost(report)
    assert (answer.code, answer.json["phase"]) == (5, "rolled_back")
    assert "RouteApp" not in kinds(answer.json)
    assert set(await app.ready()) == before
    await app.order("remove", "--yes")


@pytest.mark.feature("S8")
async def test_overlap_forbid_never_runs_two_generations(server: RunningServer) -> None:
    app = Hello(server, "worker", replicas=2, overlap="forbid", stop_grace_period=2)
    await app.deploy_ok()
    app.version += 1
    rollout = await app.deploy_ok()
    steps = [step for step in rollout["steps"] if step["step"] in {"RemoveServer", "StartReplica"}]
    assert [step["step"] for step in steps] == ["RemoveServer"] * 2 + ["StartReplica"] * 2
    assert len(rollout["receipt"]["gaps"]) == 1
    refused = await server.cli("restart", app.name, "--order", "start-first")
    assert refused.code == 2
    assert "start-first contradicts overlap: forbid" in refused.err
    await app.order("remove", "--yes")
