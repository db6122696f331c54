"""Replicas, HAProxy and the keeper killed under load; simultaneous and replace; and the receipt's own honesty."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_asyncio
from tests.e2e.scenario import FULL, LIGHT, Hello, InvalidLoad, nothing_lost, same_count, same_on_both
from tests.e2e.site import ServerAt, Site

from rota.testing.server import keeper_pid

pytestmark = [pytest.mark.load, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

SECONDS = 300 if FULL else 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(site: Site) -> AsyncIterator[Hello]:
    async with ServerAt(site) as server:
        hello = Hello(server, replicas=3)
        await hello.deploy_ok()
        yield hello


@pytest.mark.feature("W1", "W2", "V6")
@pytest.mark.timeout(SECONDS + 180)
async def test_of_five_one_killed_every_two_seconds_costs_no_get(app: Hello) -> None:
    """Only GET: a POST that was in a killed replica's hands may not be sent twice. No kill waits for what became of the
    one before."""
    await app.server.ok("scale", f"{app.name}=5")
    async with app.load(post_share=0.0, slow_share=0.0) as load:
        for _ in range(SECONDS // 2):
            await app.server.kill_replica((await app.ready())[0])
            await asyncio.sleep(2.0)  # the pace of the kills, nothing is awaited by it
        report = await load.stop()
    nothing_lost(report)
    await app.settled(5)
    await app.server.ok("scale", f"{app.name}=3")
    await app.settled(3)


@pytest.mark.feature("W1")
async def test_a_replica_killed_in_a_rollout_does_not_stop_it(app: Hello) -> None:
    async with app.load(post_share=0.0, slow_share=0.0) as load:
        order = asyncio.create_task(app.order("restart"))
        await app.server.until(lambda: in_hand(app))
        await app.server.kill_replica((await app.ready())[-1])
        rollout = await order
        report = await load.stop()
    nothing_lost(report)
    assert rollout["receipt"]["failed"] == 0
    await app.settled(3)


@pytest.mark.feature("R4")
@pytest.mark.parametrize("daemon_lives", [True, False], ids=["daemon-alive", "daemon-dead"])
async def test_haproxy_killed_in_a_rollout_serves_again_from_its_file(app: Hello, daemon_lives: bool) -> None:
    before = app.server.child("haproxy")["pid"]
    restart = asyncio.create_task(app.server.cli("restart", app.name, "--detach", "--delay", "0.5s"))
    await restart
    await app.server.until(lambda: in_hand(app))
    if not daemon_lives:
        await app.server.kill()
    app.server.kill_child("haproxy")

    async def back() -> bool:
        return app.server.child("haproxy")["pid"] != before and await answers(app)

    await app.server.until(back, timeout=10.0)
    if not daemon_lives:
        await app.server.start()
    ended = await app.rollout_ended()
    assert ended["phase"] == "succeeded", ended
    assert not ended["receipt"]["complete"]
    assert [gap for gap in ended["receipt"]["gaps"] if "HAProxy" in gap["reason"] and gap["seconds"] is not None]
    await app.settled(3)
    async with app.load(seconds=2.0) as load:
        nothing_lost(await load.wait_finished(30.0))


@pytest.mark.feature("R4")
async def test_the_keeper_killed_in_a_rollout_costs_nothing(app: Hello) -> None:
    state = app.server.directory / "state"
    async with app.load() as load:
        order = asyncio.create_task(app.order("restart"))
        await app.server.until(lambda: in_hand(app))
        before = keeper_pid(state)
        assert before is not None
        app.server.kill_pid(before)
        rollout = await order
        report = await load.stop()
    nothing_lost(report)
    assert rollout["receipt"]["failed"] == 0
    assert keeper_pid(state) not in {None, before}
    await app.settled(3)


@pytest.mark.feature("V3", "H5")
@pytest.mark.parametrize("how", ["simultaneous", "replace"])
async def test_a_full_restart_says_what_its_gap_was(app: Hello, how: str) -> None:
    if how == "simultaneous":
        rollout = await app.order("restart", "--simultaneous")
    else:
        rollout = await app.deploy_ok(deployment_strategy="replace")
        app.version += 1
        rollout = await app.deploy_ok()
        app.keys.pop("deployment_strategy")
        await app.deploy_ok()
    (gap,) = rollout["receipt"]["gaps"]
    assert gap["seconds"] > 0
    assert gap["reason"]
    assert rollout["policy"]["mode"] == "simultaneous"
    await app.settled(3)


@pytest.mark.full
@pytest.mark.feature("V3", "H5", "S8", "R1", "R11")
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ("restart", "--simultaneous")),
        ({}, ("redeploy", "--simultaneous")),
        ({}, ("limits", "--memory", "300MiB", "--simultaneous")),
        ({}, ("rollback", "--simultaneous")),
        ({"deployment_strategy": "replace"}, ("restart",)),
        ({"deployment_strategy": "replace"}, ("rollback",)),
        ({"overlap": "forbid"}, ("redeploy",)),
        ({"overlap": "forbid"}, ("rollback",)),
    ],
    ids=lambda given: " ".join(given.values() if isinstance(given, dict) else given[::3]),
)
async def test_a_change_all_at_once_says_what_its_gap_cost(
    app: Hello, keys: dict[str, str], words: tuple[str, ...]
) -> None:
    """Whoever came while nobody served was lost, and nobody else."""
    before = dict(app.keys)
    for _ in range(2):  # there is a release to go back to, of the same kind
        assert (await app.deploy_new(**keys)).code == 0
    app.keys = before
    async with app.load(**LIGHT) as load:
        rollout = await app.order(*words)
        report = await load.stop()
    if not report.valid:
        raise InvalidLoad(report.summary())
    (gap,) = rollout["receipt"]["gaps"]
    assert gap["seconds"] > 0
    assert rollout["receipt"]["complete"]
    same_count(rollout["receipt"]["failed"], report.lost)
    assert report.lost > 0
    await app.settled(3)
    await app.deploy_ok()


@same_on_both
@pytest.mark.feature("R1")
async def test_the_receipt_counts_what_the_users_side_counts(app: Hello) -> None:
    """All of the load falls into one rollout: its delay keeps it going until the load has ended."""
    await app.server.ok("restart", app.name, "--detach", "--delay", "6s")
    await app.server.until(lambda: in_hand(app))
    async with app.load(seconds=4.0) as load:
        report = await load.wait_finished(60.0)
    assert (await app.server.get(f"/api/v1/rollouts?app={app.name}&limit=1"))["rollouts"][0]["finished_at"] is None
    receipt = (await app.rollout_ended())["receipt"]
    nothing_lost(report)
    same_count(receipt["requests"], report.requests)
    assert receipt["failed"] == 0
    assert sum(receipt["by_release"].values()) == pytest.approx(report.requests, rel=0.01)


@same_on_both
@pytest.mark.feature("V7", "R1")
async def test_what_stays_open_beyond_the_deadline_is_cut_and_counted(app: Hello) -> None:
    await app.deploy_ok(drain={"timeout": 0.5})
    async with app.load(rate=20.0, slow_share=0.0, websockets=6) as load:
        rollout = await app.order("restart")
        report = await load.stop()
    app.keys.pop("drain")
    nothing_lost(report)
    assert rollout["receipt"]["cut"] >= 6
    assert rollout["receipt"]["failed"] == 0


@pytest.mark.full
@pytest.mark.feature("V7")
async def test_two_hundred_web_sockets_have_their_time_and_end_share_by_share(app: Hello) -> None:
    await app.deploy_ok(drain={"timeout": 3})
    await app.server.ok("scale", f"{app.name}=1")
    await app.settled(1)
    async with app.load(rate=5.0, slow_share=0.0, websockets=200) as load:
        rollout = await app.order("restart")
        report = await load.stop()
    app.keys.pop("drain")
    nothing_lost(report)
    assert rollout["receipt"]["cut"] == 200
    assert report.websockets is not None
    assert report.websockets.closed == 200
    assert max(report.websockets.closed_at) - min(report.websockets.closed_at) > 8.0
    at = {step["step"]: datetime.fromisoformat(step["at"]) for step in reversed(rollout["steps"])}
    assert (at["CutConnections"] - at["DisableServer"]).total_seconds() >= 3.0
    await app.server.ok("scale", f"{app.name}=3")
    await app.settled(3)


async def in_hand(app: Hello) -> bool:
    """A rollout is in the middle: a replica is neither ready nor gone."""
    phases = [replica["phase"] for replica in await app.server.replicas(app.name)]
    return any(phase in {"starting", "warming", "draining"} for phase in phases)


async def answers(app: Hello) -> bool:
    """Whether a user gets an answer of a replica."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", app.server.http_port)
            writer.write(f"GET / HTTP/1.1\r\nHost: {app.host}\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readline()
            writer.close()
            return line.split()[1:2] == [b"200"]
    except (OSError, TimeoutError):
        return False
