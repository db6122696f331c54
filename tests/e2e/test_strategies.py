"""Each way to roll on a real server: what users notice (nothing, or the gap that is told), and the way back."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.e2e.scenario import LIGHT, Hello, nothing_lost, same_on_both
from tests.e2e.site import ServerAt, Site

from rota.testing.load import LoadReport

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

BLUE_GREEN = {"deployment_strategy": "blue-green", "overlap": "allow"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(site: Site) -> AsyncIterator[Hello]:
    """One app for all: every backend that it needs costs a wait for HAProxy's next reload once."""
    async with ServerAt(site) as server:
        hello = Hello(server, "ways", replicas=2, stop_grace_period=2, drain={"timeout": 2}, **BLUE_GREEN)
        await hello.deploy_ok()
        yield hello


async def ids(app: Hello, phase: str) -> set[str]:
    return {replica["id"] for replica in await app.server.replicas(app.name) if replica["phase"] == phase}


def kinds(rollout: dict[str, Any]) -> list[str]:
    return [step["step"] for step in rollout["steps"]]


@pytest.mark.feature("S6", "V6", "R1")
async def test_blue_green_switches_once_and_back_without_a_start(app: Hello) -> None:
    async with app.load(**LIGHT) as load:
        app.version += 1
        there = await app.deploy_ok(**BLUE_GREEN)
        switched = await load.stop()
    old, new = await ids(app, "standby"), await ids(app, "ready")
    async with app.load(**LIGHT) as load:
        back = await app.order("rollback")
        switched_back = await load.stop()
    at_once(switched, old, new)
    at_once(switched_back, new, old)
    assert (there["policy"]["strategy"], there["receipt"]["failed"], there["receipt"]["gaps"]) == ("blue-green", 0, [])
    steps = kinds(there)
    assert steps.count("RouteApp") == 1
    assert max(at for at, step in enumerate(steps) if step == "EnableServer") < steps.index("RouteApp")
    assert len(old) == 2
    assert await ids(app, "ready") == old
    assert {"StartReplica", "EnableServer"} & set(kinds(back)) == set()
    assert (back["to_release"], back["receipt"]["failed"]) == (there["from_release"], 0)


def at_once(report: LoadReport, before: set[str], after: set[str]) -> None:
    """Nothing was lost, and nobody who came after the first one that the new ones answered was sent to the old ones."""
    nothing_lost(report)
    seen, longest = report.by_replica, max(kind.max for kind in report.latency.values()) / 1000
    assert set(seen) == before | after
    first = min(seen[replica].first_at for replica in after)
    assert max(seen[replica].last_at for replica in before) <= first + longest


@pytest.mark.feature("S6", "R8")
async def test_with_one_new_replica_failing_blue_green_switches_nothing(app: Hello) -> None:
    before = set(await app.ready())
    async with app.load(**LIGHT) as load:
        answer = await app.deploy_new(env={"HELLO_CRASH_AFTER": "0"}, **BLUE_GREEN)
        report = await load.stop()
    nothing_lost(report)
    assert (answer.code, answer.json["phase"]) == (5, "rolled_back")
    assert "RouteApp" not in kinds(answer.json)
    assert set(await app.ready()) == before


@same_on_both
@pytest.mark.feature("R5", "V4")
async def test_a_slot_is_skipped_and_the_pace_changed_while_it_runs(app: Hello) -> None:
    server = app.server
    await server.ok("scale", f"{app.name}=4")
    begun = await server.ok("restart", app.name, "--sequential", "--delay", "300s", "--detach")
    rollout = begun.out.strip()
    last = next(replica["id"] for replica in await server.replicas(app.name) if replica["slot"] == 3)
    skipped = await server.ok("rollout", "skip", rollout, "--replica", last)
    assert skipped.out == f"{rollout} restart leaves out slot 3\n"
    wrong = await server.cli("rollout", "set", rollout, "--parallelism", "101%")
    assert wrong.code == 2
    assert "1% to 100%" in wrong.err
    paced = await server.ok("rollout", "set", rollout, "--delay", "0", "--parallelism", "2")
    assert paced.out == f"{rollout} restart goes on 2 at a time, 0 ms apart\n"
    ended = await app.rollout_ended()
    assert (ended["phase"], ended["detail"]) == ("succeeded", "slots left as they were: 3")
    assert last in await app.ready()
    assert together(ended) == 2
    await server.ok("scale", f"{app.name}=2")


def together(rollout: dict[str, Any]) -> int:
    """How many slots it had in hand at once, at most."""
    counts = itertools.accumulate({"TakeSlot": 1, "FinishSlot": -1}.get(step, 0) for step in kinds(rollout))
    return max(counts)


@same_on_both
@pytest.mark.feature("R5")
async def test_what_cannot_be_steered_is_said(app: Hello) -> None:
    rollout = await app.rollout_ended()
    ended = rollout["id"]
    for verb in (("resume",), ("abort",), ("skip", "--slot", "1"), ("set", "--delay", "1")):
        refused = await app.server.cli("rollout", verb[0], ended, *verb[1:])
        assert refused.code == 1
        assert f"{ended} has ended: {rollout['phase'].replace('_', ' ')}" in refused.err
    begun = (await app.server.ok("restart", app.name, "--sequential", "--delay", "300s", "--detach")).out.strip()
    refused = await app.server.cli("rollout", "resume", begun)
    assert (refused.code, refused.err.strip()) == (1, f"{begun} is not paused")
    second = await app.server.cli("redeploy", app.name)
    assert second.code == 1
    assert f"{begun} (restart) is under way" in second.err
    await app.server.ok("redeploy", app.name, "--supersede")
    given_up = await app.server.get(f"/api/v1/rollouts/{begun}")
    assert (given_up["phase"], given_up["reason"]) == ("cancelled", "superseded")


@pytest.mark.feature("S8", "V3")
async def test_overlap_forbid_never_runs_two_generations(app: Hello) -> None:
    app.version += 1
    rollout = await app.deploy_ok(deployment_strategy="rolling", overlap="forbid")
    steps = [step["step"] for step in rollout["steps"] if step["step"] in {"RemoveServer", "StartReplica"}]
    assert steps == ["RemoveServer"] * 2 + ["StartReplica"] * 2
    assert len(rollout["receipt"]["gaps"]) == 1
    refused = await app.server.cli("restart", app.name, "--order", "start-first")
    assert refused.code == 2
    assert "start-first contradicts overlap: forbid" in refused.err


@pytest.mark.feature("W6", "R8")
async def test_a_release_that_fails_soon_after_its_success_is_taken_back(app: Hello) -> None:
    """Under Compose's names, and with the policy of the file's own way back."""
    there = {"monitor": "60s", "failure_action": "rollback", "order": "start-first"}
    names = {"update_config": there, "rollback_config": {"parallelism": 0, "order": "start-first"}}
    app.version += 1
    deployed = await app.deploy_ok(deployment_strategy="rolling", overlap="allow", **names)
    await app.crash((await app.ready())[0])

    async def goes_back() -> bool:
        newest = (await app.server.get(f"/api/v1/rollouts?app={app.name}&limit=1"))["rollouts"][0]
        return newest["kind"] == "rollback" and newest["finished_at"] is not None

    await app.server.until(goes_back, 30.0)
    back = await app.rollout_ended()
    assert (back["phase"], back["reason"], back["to_release"]) == ("succeeded", "crashed", deployed["from_release"])
    assert (back["policy"]["parallelism"], back["policy"]["failure_action"]) == (2, "pause")
