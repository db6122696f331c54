"""The engine's face over fakes: what the loops alone do not show."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest
from tests.engine.daemon import World, quick

from rota.adapters.source import ArchiveDirectory
from rota.core import order as o
from rota.core.capacity import KEPT_BACK, Amount
from rota.core.diagnosis import Finding, Level
from rota.core.durations import Durations
from rota.core.errand import Errand
from rota.core.errors import CapacityError, Conflict, Missing, NotFound, PortTaken, SpecError, StalePlan
from rota.core.names import ReplicaId
from rota.core.observation import Counters, Reloads
from rota.core.rollout import Phase
from rota.core.spec import RolloutOptions
from rota.engine import statistics, time_left
from rota.engine.engine import Engine
from rota.engine.sourcesweep import SourceSweep
from rota.engine.statistics import Statistics
from rota.ports.usage import Reading
from rota.testing.access import FakeAccessLog
from rota.testing.balancer import FakeBalancer
from rota.testing.exec import FakeExec
from rota.testing.notifier import FakeNotifier
from rota.testing.runtime import Faults


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
        machine=world.runtime,
        usage=world.runtime,
        certificates=world.runtime,
        balancer=world.balancer,
        access=FakeAccessLog(),
        logs=world.runtime,
        exec=FakeExec(world.runtime),
        clock=world.clock,
        notifier=FakeNotifier(),
        about=dict,
        examine=lambda: (Finding(Level.OK, "disk", "plenty"),),
        http="127.0.0.1:8080",
        own_ports={"the API's": range(7700, 7701)},
        behind_proxies=False,
        on_shutdown=lambda keep_apps: None,
    )


async def test_a_command_runs_in_the_replica_that_is_named_or_in_one_that_serves(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    first = await engine.exec("web", Errand(command=("env",)))
    assert (first["replica"], first["exit_code"], first["timed_out"]) == ("web-1", 0, False)
    world.balancer.set_server(ReplicaId("web-1"), up=False)
    await world.until(lambda: engine.apps()[0]["ready"] < 2)
    assert (await engine.exec("web", Errand(command=("env",))))["replica"] == "web-2"
    assert (await engine.exec("web", Errand(command=("env",), replica="web-1")))["replica"] == "web-1"
    with pytest.raises(NotFound, match="web has no replica 'web-9'"):
        await engine.exec("web", Errand(command=("env",), replica="web-9"))
    with pytest.raises(NotFound, match="there is no app 'shop'"):
        await engine.exec("shop", Errand(command=("env",)))


async def test_no_name_of_a_removed_app_is_used_again(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    await engine.begin("web", o.Remove())
    await world.until(lambda: world.state is None)
    again = await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    assert again["id"] == "web.3"
    assert [replica["id"] for replica in (await engine.replicas("web"))["replicas"]] == ["web-3", "web-4"]


async def test_uploads_that_no_release_names_any_more_leave_the_disk(
    world: World, engine: Engine, tmp_path: Path
) -> None:
    digests = [f"{number:064x}" for number in range(3)]
    for digest in digests:
        (tmp_path / digest).touch()
        os.utime(tmp_path / digest, (0, 0))
    for digest in digests[:2]:
        await engine.begin("web", o.Deploy(spec=quick(), source=digest))
        await world.until_over()
    assert world.supervisor is not None
    await SourceSweep(engine.sources, world.supervisor).sweep()
    assert sorted(file.name for file in tmp_path.iterdir()) == digests[:2]


async def test_a_server_that_is_being_stopped_begins_nothing(world: World, engine: Engine) -> None:
    """It would be left running, and the keeper with it."""
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    await engine.shutdown(keep_apps=False)
    for order in (o.Deploy(spec=quick(name="shop")), o.Restart()):
        with pytest.raises(Conflict, match="the server is being stopped"):
            await engine.begin("shop" if isinstance(order, o.Deploy) else "web", order)


async def test_what_is_open_is_shown_as_it_is_now(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    world.balancer.set_server(ReplicaId("web-2"), open=7)
    assert [replica["open"] for replica in (await engine.replicas("web"))["replicas"]] == [0, 7]


async def test_an_address_that_is_none_is_refused_before_anything_begins(world: World, engine: Engine) -> None:
    with pytest.raises(SpecError, match=r"notify: nosuch://… is not an address"):
        await engine.begin("web", o.Deploy(spec=quick(notify=["nosuch://token/in/the/path"])))
    assert world.state is None


@pytest.mark.parametrize(
    ("entry", "key", "said"),
    [
        ({"listen": 7700}, "ports.0.listen", "7700 is the API's; choose another one"),
        ({"listen": 1, "accept_proxy": True}, "ports.0.accept_proxy", "no proxy is believed here"),
    ],
)
async def test_a_service_that_this_server_cannot_have_is_refused_at_its_key(
    engine: Engine, entry: dict[str, Any], key: str, said: str
) -> None:
    for ask in (engine.begin, engine.plan):
        with pytest.raises(SpecError, match=said) as refused:
            await ask("web", o.Deploy(spec=quick(ports=[entry])))
        assert [problem.key for problem in refused.value.problems] == [key]


async def test_a_port_belongs_to_one_program_and_to_one_app(world: World, engine: Engine) -> None:
    world.balancer.in_use = {5432}
    order = o.Deploy(spec=quick(ports=[{"listen": 5432}], port=8080))
    with pytest.raises(Conflict, match=r"another program listens on 127\.0\.0\.1:5432; end what has the port"):
        await engine.begin("web", order)
    world.balancer.in_use = set()
    await engine.begin("web", order)
    await world.until_over()
    view = await engine.app("web")
    assert view["listeners"] == [{"listen": "127.0.0.1:5432", "sni": [], "accept_proxy": False}]
    assert view["urls"] == ["http://web.localhost:8080", "tcp://127.0.0.1:5432"]
    with pytest.raises(PortTaken, match="port 5432 belongs to the app 'web'"):
        await engine.begin("other", o.Deploy(spec=order.spec.model_copy(update={"name": "other"})))


async def test_what_is_secret_in_an_address_is_not_shown(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick(notify=["json://user:pass@hooks.example.org/token"])))
    await world.until_over()
    assert (await engine.app("web"))["spec"]["notify"] == ["json://hooks.example.org…"]


MIB = 2**20


async def test_what_does_not_fit_beside_the_other_apps_changes_nothing(world: World, engine: Engine) -> None:
    world.runtime.machine = Amount(KEPT_BACK + 1000 * MIB, 4.0)
    await engine.begin("web", o.Deploy(spec=quick(resources={"memory": "300MiB"})))
    await world.until_over()
    other = quick(name="other", domains=[{"domain": "other.localhost"}], resources={"memory": "300MiB"})
    with pytest.raises(CapacityError, match="400 of 1,256 MiB free, 256 MiB kept back and 600 MiB promised") as refused:
        await engine.begin("other", o.Deploy(spec=other))
    assert refused.value.capacity is not None
    assert refused.value.capacity["largest"] == 1
    assert [app["name"] for app in engine.apps()] == ["web"]
    calls = list(world.runtime.calls)
    with pytest.raises(CapacityError, match="3 fit"):
        await engine.begin("web", o.Scale(replicas=4))
    assert engine.apps()[0]["replicas_wanted"] == 2
    assert world.runtime.calls == calls
    await engine.begin("web", o.Scale(replicas=3))
    await world.until(lambda: len(world.running()) == 3)


async def test_memory_that_others_use_is_not_to_be_had(world: World, engine: Engine) -> None:
    """Each of the two replicas uses 32 MiB of its 300: what is left of the 600 is not counted twice."""
    world.runtime.machine = Amount(2000 * MIB, 4.0)
    await engine.begin("web", o.Deploy(spec=quick(resources={"memory": "300MiB"})))
    await world.until_over()
    world.runtime.left = 900 * MIB
    with pytest.raises(CapacityError, match=r"964 of 2,000 MiB free, 1,036 MiB used by others\); 3 fit;"):
        await engine.begin("web", o.Scale(replicas=4))
    world.runtime.left = 1200 * MIB
    await engine.begin("web", o.Scale(replicas=4))
    await world.until(lambda: len(world.running()) == 4)


async def test_statistics_are_measured_between_two_readings(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.begin("web", o.Deploy(spec=quick(resources={"memory": "64MiB", "cpus": 2})))
    await world.until_over()
    world.balancer.count(ReplicaId("web-1"), Counters(requests=10, app_errors=3))
    world.balancer.set_server(ReplicaId("web-1"), open=2)
    (view,) = await engine.stats("web")
    first, second = view["replicas"]
    assert first["memory"] == {"used": 32 * MIB, "limit": 64 * MIB}
    assert (first["cpu"]["percent"], first["cpu"]["limit_percent"]) == (50.0, 200.0)
    assert first["cpu"]["seconds"] >= statistics.LEAST_INTERVAL
    assert (first["requests"], first["app_errors"], first["open"]) == (10, 3, 2)
    assert first["connections"] == {"requests": 2, "answers": 0, "websockets": 0, "tcp": 0}
    assert (view["old_processes"], view["let_go"]) == (0, 0)
    assert second["requests"] == 0
    (backend,) = view["backends"]
    assert (backend["requests"], backend["app_errors"], backend["open"]) == (10, 3, 2)
    monkeypatch.setattr(statistics, "LEAST_INTERVAL", 0.0)
    assert [app["app"] for app in await engine.stats(None)] == ["web"]
    with pytest.raises(NotFound, match="there is no app 'nope'"):
        await engine.stats("nope")


async def test_a_replica_that_has_ended_has_no_statistics(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    await engine.begin("web", o.Stop())
    await world.until_over()
    (view,) = await engine.stats("web")
    assert view["replicas"] == []


class NoUsage:
    """A replica that ends before it is read."""

    async def usage(self, replicas: Collection[ReplicaId]) -> dict[ReplicaId, Reading]:
        return {}


async def test_what_cannot_be_read_is_unknown(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    assert world.supervisor is not None
    app = world.supervisor.app("web")
    (view,) = await Statistics(NoUsage(), FakeBalancer(), world.clock).of([(app.state, app.observation)])
    assert view["backends"] == []
    assert [replica["id"] for replica in view["replicas"]] == ["web-1", "web-2"]
    for replica in view["replicas"]:
        assert replica["memory"] == {"used": None, "limit": None}
        assert replica["cpu"] == {"percent": None, "limit_percent": None, "seconds": None}
        assert (replica["requests"], replica["app_errors"], replica["open"]) == (0, 0, 0)


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


async def test_what_an_app_has_never_done_is_reckoned_from_the_server_s_other_apps(
    world: World, engine: Engine
) -> None:
    world.runtime.faults = lambda order: Faults(listens_after=0.2, healthy_after=0.2)
    began = world.clock.now()
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    plan = await engine.plan("other", o.Deploy(spec=quick(name="other")))
    boot = plan["durations"]["boot"]["2"]
    assert boot["of"] == 0
    assert 0.2 <= boot["seconds"] <= world.clock.now() - began
    assert plan["durations"]["stop"] == {"1": {"seconds": Durations().stop_of(1).seconds, "of": 0}}


async def test_a_plan_waits_for_the_balancer_s_next_reload(world: World, engine: Engine) -> None:
    world.balancer.pace = Reloads(not_before=world.clock.now() + 60.0, apart=10.0, seconds=0.5, of=3)
    plan = await engine.plan("web", o.Deploy(spec=quick()))
    left = world.balancer.pace.not_before - world.clock.now()
    assert left < plan["predicted_seconds"] < 65.0
    assert plan["durations"]["reload"] == {"seconds": 0.5, "of": 3}
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    assert (await engine.plan("web", o.Restart()))["predicted_seconds"] < 55.0


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


async def test_what_was_kept_of_a_plan_does_not_depend_on_how_many_steps_are_shown_or_kept(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    order = o.Restart()
    begun = await engine.begin("web", order.model_copy(update={"plan": saved(await engine.plan("web", order))}))
    await world.until_over()
    whole = await engine.rollout(begun["id"])
    assert (whole["receipt"]["deviations"], whole["steps_cut"]) == ([], False)
    monkeypatch.setattr("rota.engine.engine.STEPS_SHOWN", 10)
    cut = await engine.rollout(begun["id"])
    assert (cut["receipt"]["deviations"], cut["steps_cut"]) == ([], True)
    assert cut["steps"] == whole["steps"][-len(cut["steps"]) :]
    world.store.prune()
    gone = await engine.rollout(begun["id"])
    assert (gone["receipt"]["deviations"], gone["steps"], gone["steps_cut"]) == ([], [], True)
    assert (await engine.rollouts("web", 1))[0]["receipt"]["deviations"] == []


async def test_without_haproxy_there_is_no_plan(world: World, engine: Engine) -> None:
    world.balancer.lose()
    with pytest.raises(Missing, match="HAProxy does not answer"):
        await engine.plan("web", o.Deploy(spec=quick()))


async def test_a_new_replica_is_asked_by_rota_before_users_come(world: World, engine: Engine) -> None:
    warm_up = {"requests": 3, "path": "/warm"}
    await engine.begin("web", o.Deploy(spec=quick(replicas=1, warm_up=warm_up)))
    await world.until_over()
    assert world.prober.asked.count("/warm") == 3
    assert "/warm" not in world.prober.asked[: world.prober.asked.index("/warm")]


async def test_who_watches_a_rollout_is_told_how_long_it_still_takes(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    begun = (await engine.begin("web", o.Restart(policy=RolloutOptions(delay=100.0))))["id"]
    watched = (await engine.rollout(begun))["progress"]
    assert (watched["done"], watched["of"]) == (0, 2)
    assert 100.0 <= watched["seconds_left"] <= 110.0
    told = await anext(event async for event in engine.follow_events(rollout=begun, after=0) if "seq" not in event)
    assert (told["kind"], told["rollout"], told["progress"]["of"]) == ("progress", begun, 2)
    assert 90.0 <= told["progress"]["seconds_left"] <= 110.0  # time goes on between the two answers
    await engine.pause(begun)
    await world.until(lambda: world.rollout is not None and world.rollout.phase is Phase.PAUSED)
    assert (await engine.rollout(begun))["progress"]["seconds_left"] is None


async def test_the_end_of_a_rollout_is_not_reckoned_again_for_everybody_who_asks(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(time_left, "seconds_left", lambda *_: asked.append("") or 50.0)
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    begun = (await engine.begin("web", o.Restart(policy=RolloutOptions(delay=100.0))))["id"]
    told = [(await engine.rollout(begun))["progress"]["seconds_left"] for _ in range(20)]
    assert len(asked) <= 2  # once while it is pending, once it has begun
    assert told[1:] == sorted(told[1:], reverse=True)
