"""The loop: written down before it acts, woken at once, and never ended by a port that refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.engine.daemon import World, quick

from rota.core import order as o
from rota.core.events import EventKind
from rota.core.names import ReplicaId
from rota.core.rollout import Kind, Phase
from rota.engine.executor import Executor
from rota.testing.runtime import FakeRuntime


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    try:
        await made.start()
        await made.order(o.Deploy(spec=quick()))
        await made.until_over()
        yield made
    finally:
        await made.close()


async def test_every_call_was_written_down_before_it_was_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, bool]] = []
    carry_out = Executor.carry_out

    async def look(self: Executor, state, step) -> None:  # type: ignore[no-untyped-def]
        events = await world.store.events(app="web")
        replica = getattr(step, "replica", None)
        written = any(event.step == type(step).__name__ and event.replica == replica for event in events)
        made.append((type(step).__name__, written))
        await carry_out(self, state, step)

    monkeypatch.setattr(Executor, "carry_out", look)
    await world.order(o.Restart())
    await world.until_over()
    assert len(made) > 10
    assert [name for name, written in made if not written] == []


async def test_a_refused_call_is_noted_and_made_again(world: World) -> None:
    world.balancer.fail("disable", times=1, message="HAProxy says no")
    await world.order(o.Restart())
    await world.until_over()
    assert world.rollout is not None
    assert world.rollout.phase is Phase.SUCCEEDED
    failed = [event for event in await world.store.events(app="web") if event.kind.value == "step-failed"]
    assert [(event.step, event.detail or event.reason) for event in failed] == [("DisableServer", "HAProxy says no")]


async def test_how_far_a_release_is_that_takes_long_is_told_once_each(world: World) -> None:
    world.runtime.prepare_takes = 3600.0
    await world.order(o.Deploy(spec=quick("new")))
    await world.until(lambda: "prepare web 2" in world.runtime.calls)

    async def told() -> list[str | None]:
        events = await world.store.events(app="web")
        return [event.reason for event in events if event.kind is EventKind.PREPARING]

    for said in ("pulling new", "pulling new", "pulling new: 1.0 of 2.0 MiB"):
        world.runtime.get_on_with("web", 2, said)
        async with asyncio.timeout(10):
            while said not in await told():
                await asyncio.sleep(0.005)
    assert await told() == ["pulling new", "pulling new: 1.0 of 2.0 MiB"]


async def test_a_replica_that_cannot_be_started_counts_as_failed(world: World) -> None:
    world.runtime.prepare_faults["web", 2] = "no compiler"
    await world.order(o.Deploy(spec=quick(build_command=["make"])))
    await world.until_over()
    assert world.rollout is not None
    assert (world.rollout.phase, world.rollout.detail) == (Phase.ROLLED_BACK, "no compiler")


async def test_a_dead_replica_wakes_the_loop(world: World) -> None:
    world.runtime.crash(ReplicaId("web-1"))
    await asyncio.wait_for(world.until(lambda: "start web-3" in world.runtime.calls), 5.0)


async def test_an_unhealthy_replica_is_replaced_with_its_last_lines(world: World) -> None:
    world.runtime.write(ReplicaId("web-1"), "pool exhausted")
    world.balancer.set_server(ReplicaId("web-1"), up=False, check="HTTP 503")
    await world.until(lambda: "stop web-1" in world.runtime.calls)
    await world.until_over()
    failures = [event for event in await world.store.events(app="web") if event.kind.value == "failure"]
    assert [(event.replica, event.detail) for event in failures] == [("web-1", "pool exhausted")]
    assert (failures[0].reason or "").endswith("; last: HTTP 503")


async def test_a_store_that_cannot_write_stops_the_act_and_not_the_loop_and_is_told_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.store.fail_next(2)
    calls = len(world.runtime.calls)
    world.runtime.crash(ReplicaId("web-1"))
    await world.until(lambda: not world.store._faults)
    assert len(world.runtime.calls) == calls
    await world.until_over()
    said = [message for message in caplog.messages if "trying again" in message or "goes on" in message]
    assert said == ["web: cannot write: disk full; trying again", "web: goes on"]


async def test_a_runtime_that_cannot_be_asked_is_asked_again(world: World) -> None:
    world.runtime.unavailable = "no answer"
    world.runtime.crash(ReplicaId("web-1"))
    await asyncio.sleep(0)
    world.runtime.unavailable = ""
    await world.until_over()


async def test_a_runtime_that_is_lost_and_is_back_is_told_once_each_to_whoever_waits(world: World) -> None:
    assert world.supervisor is not None
    looks: list[str] = []

    async def observe(app: str | None = None, *, of: FakeRuntime = world.runtime) -> Any:
        looks.append(of.unavailable)
        return await FakeRuntime.observe(of, app)

    async def told() -> list[tuple[str | None, str | None]]:
        events = await world.store.events(rollout="web.2")
        return [(event.reason, event.detail) for event in events if event.kind is EventKind.APP]

    world.runtime.observe = observe  # type: ignore[method-assign]
    world.runtime.prepare_takes = 3600.0
    await world.order(o.Deploy(spec=quick("new")))
    await world.until(lambda: "prepare web 2" in world.runtime.calls)
    for turn in (1, 2):
        world.runtime.unavailable = f"no answer, {turn}"
        world.supervisor.wake("web")
        await world.until(lambda: looks.count(world.runtime.unavailable) == 3)
        world.runtime.unavailable = ""
        async with asyncio.timeout(10):
            while len(await told()) < 2 * turn:
                await asyncio.sleep(0.005)
    back = ("runtime-back", None)
    assert await told() == [("runtime-lost", "no answer, 1"), back, ("runtime-lost", "no answer, 2"), back]


async def test_an_order_is_durable_when_it_has_been_taken(world: World) -> None:
    await world.order(o.Scale(replicas=3))
    assert world.store.saved[-1].desired.replicas == 3


async def test_a_superseded_rollout_ends_in_the_history(world: World) -> None:
    await world.order(o.Restart())
    await world.order(o.Restart(supersede=True))
    kept = await world.store.rollout("web.2")
    assert kept is not None
    assert kept.phase is Phase.CANCELLED
    await world.until_over()


async def test_suspended_apps_stop_and_run_again_with_the_next_daemon(world: World) -> None:
    assert world.supervisor is not None
    await world.supervisor.suspend()
    assert world.running() == []
    await world.close()
    await world.start()
    await world.until(lambda: len(world.running()) == 2)


async def test_what_comes_late_does_not_bring_a_removed_app_back(world: World) -> None:
    assert world.supervisor is not None
    reconciler = world.supervisor.apps["web"]
    await world.order(o.Remove())
    await world.until(lambda: world.state is None)
    await reconciler.change(lambda state: state)
    assert await world.store.load() == ()


async def test_the_history_keeps_the_end_of_a_removal(world: World) -> None:
    await world.order(o.Remove())
    await world.until(lambda: world.state is None)
    (newest,) = await world.store.rollouts("web", 1)
    assert (newest.kind, newest.phase) == (Kind.REMOVE, Phase.SUCCEEDED)
