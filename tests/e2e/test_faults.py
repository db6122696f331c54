"""kill -9 of the daemon at every step: traffic goes on, the next daemon is soon in charge, and nothing is left over.

The fault points come from the step types; a step type without a scenario here fails a test."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.e2e import moods
from tests.e2e.scenario import FULL, Hello, nothing_lost
from tests.e2e.site import ServerAt, Site

from rota.core.steps import STEP_TYPES
from rota.testing.faults import POINTS, VARIABLE
from rota.testing.server import ServerBroken, free_port

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

GRACE = {"HELLO_IGNORE_TERM": "1"}

Scenario = Callable[[Hello], Coroutine[Any, Any, None]]


async def restart(app: Hello) -> None:
    await begin(app, "restart")


async def restart_and_clear_away(app: Hello) -> None:
    """The same, for the steps that come when a slot is finished; some in one commit with that."""
    await begin(app, "restart")


async def restart_in_place(app: Hello) -> None:
    await begin(app, "restart", "--order", "in-place")


async def restart_out_of_dns(app: Hello) -> None:
    await begin(app, "restart", "--remove-from-dns")


async def limits(app: Hello) -> None:
    memory = (await app.server.get(f"/api/v1/apps/{app.name}"))["limits"]["memory"]
    await begin(app, "limits", "--memory", "512MiB" if memory != 512 * 2**20 else "256MiB")


async def limits_below_use(app: Hello) -> None:
    """Less than the replicas use by now, and enough for new ones."""
    await app.server.ok("limits", app.name, "--memory", "256MiB")
    for replica in await app.server.replicas(app.name):
        await tell(replica, "/memory?mib=96")
    await begin(app, "limits", "--memory", "64MiB")


async def deploy_other_check(app: Hello) -> None:
    """A new release with another health check: a backend of its own, and routes that move to it."""
    app.version += 1
    app.keys |= {"health_check": {"interval": 2.0 + app.version / 100}}  # one that no release had
    await app.deploy("--detach")


async def deploy_deaf(app: Hello) -> None:
    """A release whose replicas must be killed: they ignore SIGTERM, and so does the next one's hand-off of them."""
    await app.deploy_new(env=GRACE, stop_grace_period=0.2)
    await begin(app, "restart")


async def slow_start(app: Hello) -> None:
    await app.deploy_new("--detach", warm_up={"requests": 2, "slow_start": 0.5})
    del app.keys["warm_up"]  # for those that come after it


async def deploy_bad(app: Hello) -> None:
    await app.deploy_new("--detach", env={"HELLO_CRASH_AFTER": "0"})


async def kill_replica(app: Hello) -> None:
    await app.server.kill_replica((await app.ready())[0])


async def deploy_and_crash(app: Hello) -> None:
    """A release that fails within ``monitor`` after its success."""
    await app.deploy_new()
    await app.crash((await app.ready())[0])


async def wait_for_it(app: Hello) -> None:
    """Nothing to do: what was arranged before makes the step by itself."""


async def keep_users_out(app: Hello) -> None:
    await app.server.cli("maintenance", "on", app.name)


async def kill_haproxy(app: Hello) -> None:
    app.server.kill_child("haproxy")


async def fall_ill(app: Hello) -> None:
    await tell((await app.server.replicas(app.name))[0], "/health/off")


async def fall_ill_by_command(app: Hello) -> None:
    await app.deploy_ok(health_check=moods.CHECK, rollout={"monitor": 0})
    replica = (await app.server.replicas(app.name))[0]["id"]
    moods.set_mood(await app.server.site.pid(app.server, replica), "fails")


async def fall_ill_together(app: Hello) -> None:
    """Until the daemon has died of it."""
    replicas = await app.server.replicas(app.name)
    for replica in replicas:
        await tell(replica, "/health/off")
    await app.server.ended()
    for replica in replicas:
        await tell(replica, "/health/on")


async def tell(replica: Mapping[str, object], path: str) -> None:
    request = urllib.request.Request(f"http://{replica['address']}{path}", method="POST")
    await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=5).close())


def age(app: Hello) -> None:
    """The slot has had tries that brought nothing, and its replica has been in rotation for more than a minute."""

    def older(recorded: dict[str, Any]) -> None:
        recorded["slots"] = {"1": {"attempts": 2, "next_try": 0.0}}
        for entry in recorded["replicas"].values():
            entry["enabled_at"] -= 100.0

    rewrite(app, older)


def lose_record(app: Hello) -> None:
    """A replica with the app's labels that no record knows: its record is taken out of the store by hand."""
    rewrite(app, lambda recorded: recorded["replicas"].popitem())


def rewrite(app: Hello, change: Callable[[dict[str, Any]], object]) -> None:
    with closing(sqlite3.connect(app.server.directory / "state/rota.db")) as store, store:
        (body,) = store.execute("SELECT body FROM apps WHERE name = ?", (app.name,)).fetchone()
        state = json.loads(body)
        change(state["recorded"])
        store.execute("UPDATE apps SET body = ? WHERE name = ?", (json.dumps(state), app.name))


async def cut(app: Hello) -> None:
    """Something stays open beyond drain.timeout (see hold_open)."""
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
    "BeginRollout": restart,
    "TakeSlot": restart,
    "StartReplica": restart,
    "EnableServer": restart,
    "DrainServer": restart,
    "DisableServer": restart,
    "StopReplica": restart,
    "FinishSlot": restart,
    "RecordCounters": restart_and_clear_away,
    "RemoveServer": restart_and_clear_away,
    "RemoveReplica": restart_and_clear_away,
    "FinishRollout": restart_and_clear_away,
    "PrepareRelease": deploy_other_check,
    "PrepareBackend": deploy_other_check,
    "RouteApp": deploy_other_check,
    "RestartReplica": restart_in_place,
    "UpdateLimits": limits,
    "KillReplica": deploy_deaf,
    "SetWeight": slow_start,
    "WithdrawRecords": restart_out_of_dns,
    "NoteWithdrawn": restart_out_of_dns,
    "PublishRecords": restart_out_of_dns,
    "BeginRollback": deploy_and_crash,
    "FailReplica": kill_replica,
    "TurnBack": deploy_bad,
    "PauseRollout": pause,
    "AdoptReplica": wait_for_it,
    "NoteHealth": fall_ill,
    "NoteRefusal": limits_below_use,
    "SettleSlot": wait_for_it,
}
"""What makes each step happen; those of one scenario in the order in which it has them."""
KILLING = (kill_replica, deploy_and_crash)
ARRANGED = {"AdoptReplica": lose_record, "SettleSlot": age}
LOSSY: Mapping[str, Scenario] = {
    "OpenGap": simultaneous,
    "CloseGap": simultaneous,
    "CutConnections": cut,
    "HoldRepair": fall_ill_together,
    "NoteOutage": kill_haproxy,
    "SetMaintenance": keep_users_out,
    "SuspendServer": fall_ill_by_command,
    "UnrouteApp": remove,
    "DeleteReleases": remove,
    "ForgetApp": remove,
}
ILL_SOON = {"health_check": {"interval": 0.2, "fast_interval": 0.1}, "repair": {"unhealthy_grace": 0.1}}
POINTS_TRIED = POINTS if FULL else ("recorded",)
ON_RUNTIME = frozenset(
    [
        "PrepareRelease",
        "StartReplica",
        "RestartReplica",
        "UpdateLimits",
        "StopReplica",
        "KillReplica",
        "RemoveReplica",
        "DeleteReleases",
        "AdoptReplica",
        "FailReplica",
    ]
)
"""Steps that call the runtime, or come of what it shows. The short form tries the others' calls, which are the same
whatever replicas are, on processes alone."""


def chains(scenarios: Mapping[str, Scenario]) -> list[Any]:
    """Tuples of steps: in the long form each alone; in the short one those of a scenario after each other, so that one
    daemon after the other dies in the same rollout."""
    if FULL:
        return [pytest.param((step,), id=step) for step in scenarios]
    found = []
    for runtime, tried in (("process", set(scenarios)), ("docker", ON_RUNTIME)):
        together: dict[object, tuple[str, ...]] = {}
        for step, scenario in scenarios.items():
            if step in tried:
                key = step if step in ARRANGED else scenario
                together[key] = (*together.get(key, ()), step)
        for chain in together.values():
            name = chain[0] if len(chain) == 1 else scenarios[chain[0]].__name__
            found.append(pytest.param(chain, id=f"{name}-on-{runtime}", marks=pytest.mark.runtime(runtime)))
    return found


async def test_every_step_has_a_fault_point_here() -> None:
    assert {step.__name__ for step in STEP_TYPES} == {*LOSSLESS, *LOSSY}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(site: Site) -> AsyncIterator[ServerAt]:
    async with ServerAt(site, "--dns", f"127.0.0.1:{free_port()}") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(server: ServerAt) -> Hello:
    """Sticky, so that its hand-offs have all their steps, with sessions that are over at once."""
    hello = Hello(server, replicas=2, sticky=True, drain={"session_timeout": 0}, repair={"unhealthy_grace": 0.1})
    await hello.deploy_ok()
    return hello


@pytest.mark.feature("R4", "V6")
@pytest.mark.parametrize("point", POINTS_TRIED)
@pytest.mark.parametrize("chain", chains(LOSSLESS))
async def test_a_daemon_killed_at_a_step_loses_nothing(
    chain: tuple[str, ...], point: str, app: Hello, component: Callable[[str], Path]
) -> None:
    if "NoteRefusal" in chain:
        component("cgroups")
    await app.settled(2)
    # A POST that is in a killed replica's hands may not be sent twice: where one is killed, only GETs are sent.
    kinds = {"post_share": 0.0, "slow_share": 0.0} if LOSSLESS[chain[0]] in KILLING else {}
    pauses = chain == ("PauseRollout",)
    async with app.load(rate=100.0, slow_seconds=0.5, **kinds) as load:
        await die_at(app.server, point, chain, LOSSLESS[chain[0]], app)
        ended = await app.rollout_ended(30.0, phase="paused" if pauses else None)
        report = await load.stop()
    if pauses:
        await app.server.ok("rollout", "abort", ended["id"])
        await app.rollout_ended()
    nothing_lost(report)  # last: an invalid load has the test tried again
    assert ended["receipt"]["failed"] == 0
    await app.settled(2)
    await no_strangers(app)


@pytest.mark.feature("R4")
@pytest.mark.parametrize("point", POINTS_TRIED)
@pytest.mark.parametrize("chain", chains(LOSSY))
async def test_a_daemon_killed_at_a_step_goes_on(chain: tuple[str, ...], point: str, server: ServerAt) -> None:
    app = Hello(
        server, f"other-{chain[0].lower()}-{point}", replicas=2, drain={"timeout": 0.5}, stop_grace_period=1, **ILL_SOON
    )
    await app.deploy_ok()
    holding = asyncio.create_task(hold_open(app)) if chain == ("CutConnections",) else None
    await die_at(server, point, chain, LOSSY[chain[0]], app)
    ended = await app.rollout_ended(30.0)
    if holding is not None:
        holding.cancel()
    assert ended["phase"] == "succeeded"
    if LOSSY[chain[0]] is remove:
        await server.until(lambda: forgotten(app))
        return
    await app.settled(2)
    await no_strangers(app)
    await app.order("remove", "--yes")


async def die_at(server: ServerAt, point: str, chain: tuple[str, ...], scenario: Scenario, app: Hello) -> None:
    """A daemon that will die at the first step takes over, the scenario makes it, and the next ones take over, each to
    die at the step after, until one lives."""
    await server.kill()
    arrange = ARRANGED.get(chain[0])
    if arrange is not None:
        arrange(app)
    await _take_over(server, **{VARIABLE: f"{point}:{chain[0]}"})
    work = asyncio.create_task(scenario(app))
    for step, following in pairwise((*chain, None)):
        try:
            code = await server.ended(60.0)
        except TimeoutError:
            raise AssertionError(f"{step} was not reached: {await app.state_of_affairs()}") from None
        assert code == -9, f"{step} was not reached: the daemon ended with {code}"
        await _take_over(server, **({VARIABLE: f"{point}:{following}"} if following else {}))
    await work


async def _take_over(server: ServerAt, **environment: str) -> None:
    with suppress(*([ServerBroken] if environment else [])):  # one that is to die may do so before it is ready
        await server.start(**environment)


async def forgotten(app: Hello) -> bool:
    return app.name not in [known["name"] for known in (await app.server.get("/api/v1/apps"))["apps"]]


async def no_strangers(app: Hello) -> None:
    """Neither an orphan nor a duplicate: what is there is what rota shows, once the engine has taken away what it was
    told to."""

    async def none_left() -> bool:
        shown = {replica["id"] for replica in await app.server.replicas(app.name)}
        return await app.server.site.kept(app.server, app.name) == shown

    await app.server.until(none_left)


async def hold_open(app: Hello) -> None:
    """A request that lasts longer than any drain here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.server.http_port)
    try:
        writer.write(f"GET /slow?seconds=60 HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode())
        while await reader.read(1024):
            pass
    finally:
        writer.close()
