"""kill -9 of the daemon at every step: traffic goes on, the next daemon is soon in charge, and nothing is left over.

The fault points come from the step types; a step type without a scenario here fails a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
import pytest_asyncio
from tests.e2e.scenario import FULL, Hello, nothing_lost

from rota.core.steps import STEP_TYPES
from rota.testing.faults import POINTS, VARIABLE
from rota.testing.server import RunningServer

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

GRACE = {"HELLO_IGNORE_TERM": "1"}

Scenario = Callable[[Hello], Awaitable[None]]


async def restart(app: Hello) -> None:
    await begin(app, "restart")


async def restart_in_place(app: Hello) -> None:
    await begin(app, "restart", "--order", "in-place")


async def limits(app: Hello) -> None:
    memory = (await app.server.get(f"/api/v1/apps/{app.name}"))["limits"]["memory"]
    await begin(app, "limits", "--memory", "512MiB" if memory != 512 * 2**20 else "256MiB")


async def deploy_other_check(app: Hello) -> None:
    """A new release with another health check: a backend of its own, and routes that move to it."""
    interval = 1.0 + (float(app.keys.get("health_check", {}).get("interval", 1.0)) % 2)
    app.version += 1
    app.keys |= {"health_check": {"interval": interval}}
    await app.deploy("--detach")


async def deploy_deaf(app: Hello) -> None:
    """A release whose replicas must be killed: they ignore SIGTERM, and so does the next one's hand-off of them."""
    await app.deploy_new(env=GRACE, stop_grace_period=0.2)
    await begin(app, "restart")


async def deploy_bad(app: Hello) -> None:
    await app.deploy_new("--detach", env={"HELLO_CRASH_AFTER": "0"})


async def kill_replica(app: Hello) -> None:
    app.server.kill_child((await app.ready())[0])


async def lose_record(app: Hello) -> None:
    """A replica with the app's labels that no record knows: its row is taken out of the database by hand."""


async def cut(app: Hello) -> None:
    """Something stays open beyond drain.timeout."""
    await app.deploy_new(drain={"timeout": 0.3})
    await begin(app, "restart")


async def simultaneous(app: Hello) -> None:
    await begin(app, "restart", "--simultaneous")


async def pause(app: Hello) -> None:
    await app.deploy_new("--detach", "--failure-action", "pause", env={"HELLO_CRASH_AFTER": "0"})


async def remove(app: Hello) -> None:
    await begin(app, "remove", "--yes")


async def begin(app: Hello, command: str, *words: str) -> None:
    await app.server.cli(command, app.name, *words, "--detach")


LOSSLESS: Mapping[str, Scenario] = {
    "PrepareRelease": deploy_other_check,
    "PrepareBackend": deploy_other_check,
    "RouteApp": deploy_other_check,
    "StartReplica": restart,
    "RestartReplica": restart_in_place,
    "UpdateLimits": limits,
    "StopReplica": restart,
    "KillReplica": deploy_deaf,
    "RemoveReplica": restart,
    "EnableServer": restart,
    "DrainServer": restart,
    "DisableServer": restart,
    "RemoveServer": restart,
    "BeginRollout": restart,
    "TakeSlot": restart,
    "FinishSlot": restart,
    "RecordCounters": restart,
    "FinishRollout": restart,
    "FailReplica": kill_replica,
    "TurnBack": deploy_bad,
    "PauseRollout": pause,
}
LOSSY: Mapping[str, Scenario] = {
    "OpenGap": simultaneous,
    "CloseGap": simultaneous,
    "CutConnections": cut,
    "UnrouteApp": remove,
    "DeleteReleases": remove,
    "ForgetApp": remove,
}
POINTS_TRIED = POINTS if FULL else ("recorded",)


def test_every_step_has_a_fault_point_here() -> None:
    assert {step.__name__ for step in STEP_TYPES} == {*LOSSLESS, *LOSSY}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[RunningServer]:
    async with RunningServer() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(server: RunningServer) -> Hello:
    hello = Hello(server, replicas=3)
    await hello.deploy_ok()
    return hello


@pytest.mark.feature("R4", "V6")
@pytest.mark.parametrize("point", POINTS_TRIED)
@pytest.mark.parametrize("step", LOSSLESS)
async def test_a_daemon_killed_at_a_step_loses_nothing(step: str, point: str, app: Hello) -> None:
    await whole_again(app)
    async with app.load(rate=100.0, slow_seconds=0.5) as load:
        await die_at(app.server, f"{point}:{step}", LOSSLESS[step], app)
        ended = await app.rollout_ended(30.0)
        report = await load.stop()
    nothing_lost(report)
    if step == "PauseRollout":
        return
    assert ended["receipt"]["failed"] == 0
    await app.settled(3)
    await no_strangers(app)


@pytest.mark.feature("R4")
@pytest.mark.parametrize("point", POINTS_TRIED)
@pytest.mark.parametrize("step", LOSSY)
async def test_a_daemon_killed_at_a_step_goes_on(step: str, point: str, server: RunningServer) -> None:
    app = Hello(server, f"other-{step.lower()}-{point}", replicas=2)
    await app.deploy_ok()
    holding = asyncio.create_task(hold_open(app)) if step == "CutConnections" else None
    await die_at(server, f"{point}:{step}", LOSSY[step], app)
    ended = await app.rollout_ended(30.0)
    if holding is not None:
        holding.cancel()
    assert ended["phase"] == "succeeded"
    if LOSSY[step] is remove:
        assert app.name not in [known["name"] for known in (await server.get("/api/v1/apps"))["apps"]]
        return
    await app.settled(2)
    await no_strangers(app)
    await app.order("remove", "--yes")


async def die_at(server: RunningServer, fault: str, scenario: Scenario, app: Hello) -> None:
    """A daemon that will die there takes over, the scenario makes it, and the next one takes over."""
    await server.kill()
    await server.start(**{VARIABLE: fault})
    work = asyncio.create_task(scenario(app))
    code = await server.ended(60.0)
    assert code == -9, f"{fault} was not reached: the daemon ended with {code}"
    await server.start()
    await work


async def whole_again(app: Hello) -> None:
    """Whatever an earlier case left: a paused rollout is given up, a good version runs."""
    newest = (await app.server.get(f"/api/v1/rollouts?app={app.name}&limit=1"))["rollouts"][0]
    if newest["phase"] == "paused":
        await app.server.cli("rollout", "abort", newest["id"])
        await app.rollout_ended()
    await app.settled(3)


async def no_strangers(app: Hello) -> None:
    """Neither an orphan nor a duplicate: the keeper's children are the replicas that rota shows, and HAProxy."""
    shown = {replica["id"] for replica in await app.server.replicas(app.name)}
    children = app.server.directory / "state/keeper/children"
    kept = {path.stem for path in children.glob(f"{app.name}-*.json")}
    assert kept == shown


async def hold_open(app: Hello) -> None:
    """A request that lasts longer than any drain here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.server.http_port)
    try:
        writer.write(f"GET /slow?seconds=20 HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode())
        while await reader.read(1024):
            pass
    finally:
        writer.close()
