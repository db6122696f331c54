"""The engine's face over fakes: what the loops alone do not show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.daemon import World, quick

from rota.adapters.source import ArchiveDirectory
from rota.core import order as o
from rota.core.errors import Missing, StalePlan
from rota.engine.engine import Engine


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    try:
        await made.start()
        yield made
    finally:
        await made.close()


@pytest.fixture
def engine(world: World, tmp_path: Path) -> Engine:
    assert world.supervisor is not None
    return Engine(
        world.supervisor,
        store=world.store,
        sources=ArchiveDirectory(tmp_path),
        runtime=world.runtime,
        balancer=world.balancer,
        logs=world.runtime,
        clock=world.clock,
        about=dict,
        http="127.0.0.1:8080",
        on_shutdown=lambda keep_apps: None,
    )


async def test_no_name_of_a_removed_app_is_used_again(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    await engine.begin("web", o.Remove())
    await world.until(lambda: world.state is None)
    again = await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    assert again["id"] == "web.3"
    assert [replica["id"] for replica in engine.replicas("web")["replicas"]] == ["web-3", "web-4"]


def saved(plan: dict[str, Any]) -> o.SavedPlan:
    """As the command line makes it of a file."""
    steps = [step["words"] for step in plan["steps"]]
    return o.SavedPlan.model_validate({"basis": plan["basis"], "steps": steps, "durations": plan["durations"]})


async def test_the_removal_of_an_app_has_its_end_in_the_history(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    removal = await engine.begin("web", o.Remove())
    await world.until(lambda: world.state is None)
    assert (await engine.rollout(removal["id"]))["phase"] == "succeeded"


async def test_a_plan_is_reckoned_from_what_was_and_changes_nothing(world: World, engine: Engine) -> None:
    first = await engine.plan("web", o.Deploy(spec=quick()))
    assert (first["change"], first["capacity"]["most"], first["durations"]["boot"]["1"]["of"]) == ("first", 2, 0)
    assert engine.apps() == []
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    plan = await engine.plan("web", o.Restart())
    assert plan["durations"]["boot"]["2"]["of"] == 2
    assert (plan["capacity"]["least"], plan["capacity"]["most"], plan["ends"]) == (2, 3, "succeeded")
    assert (await engine.rollouts("web", 10))[0]["id"] == "web.1"


async def test_a_saved_plan_is_carried_out_once(world: World, engine: Engine) -> None:
    first = saved(await engine.plan("web", o.Deploy(spec=quick())))
    await engine.begin("web", o.Deploy(spec=quick(), plan=first))
    await world.until_over()
    plan = saved(await engine.plan("web", o.Restart()))
    begun = await engine.begin("web", o.Restart(plan=plan))
    await world.until_over()
    done = await engine.rollout(begun["id"])
    assert done["receipt"]["deviations"] == []
    with pytest.raises(StalePlan, match="the replicas were web-1, web-2, and are web-3, web-4"):
        await engine.begin("web", o.Restart(plan=plan))
    assert (await engine.rollouts("web", 1))[0]["id"] == begun["id"]


async def test_what_a_repair_did_meanwhile_is_listed(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    order = o.Restart(policy=o.RolloutOptions(delay=0.3))
    begun = await engine.begin("web", order.model_copy(update={"plan": saved(await engine.plan("web", order))}))
    await world.until(lambda: world.rollout is not None and len(world.rollout.taken) == 1)
    await world.until(lambda: any(name == "web-3" for app in world.balancer.apps.values() for name in app.servers))
    world.runtime.crash(next(seen.id for seen in world.running() if seen.id == "web-2"))
    await world.until_over()
    deviations = (await engine.rollout(begun["id"]))["receipt"]["deviations"]
    assert "not planned: FailReplica web-2" in deviations


async def test_without_haproxy_there_is_no_plan(world: World, engine: Engine) -> None:
    world.balancer.lose()
    with pytest.raises(Missing, match="HAProxy does not answer"):
        await engine.plan("web", o.Deploy(spec=quick()))
