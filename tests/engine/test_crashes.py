"""A daemon killed at any point of any step: the next one goes on, and nothing is lost, doubled or left over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from tests.engine.daemon import World, quick

from rota.core import order as o
from rota.core.names import ReplicaId
from rota.core.observation import Counters, LastLook
from rota.core.rollout import Phase
from rota.core.spec import Limits, RolloutOptions
from rota.core.state import AppState, SlotRecord
from rota.core.steps import STEP_TYPES
from rota.ports.runtime import StartOrder
from rota.testing.dns import FakeDns
from rota.testing.faults import fault_points
from rota.testing.runtime import Faults


async def _restart(world: World) -> None:
    await world.order(o.Restart())


async def _in_place(world: World) -> None:
    await world.order(o.Restart(policy=RolloutOptions(order="in-place")))


async def _restart_out_of_dns(world: World) -> None:
    await world.order(o.Restart(policy=RolloutOptions(remove_from_dns=True)))


async def _replace(world: World) -> None:
    await world.order(o.Restart(policy=RolloutOptions(mode="simultaneous")))


async def _scale(world: World) -> None:
    await world.order(o.Scale(replicas=1))


async def _limits(world: World) -> None:
    await world.order(o.ChangeLimits(memory=2**26))


async def _limits_below_use(world: World) -> None:
    await world.order(o.ChangeLimits(memory=2**23))


async def _stop(world: World) -> None:
    await world.order(o.Stop(remove=True))


async def _remove(world: World) -> None:
    await world.order(o.Remove())


async def _deploy(world: World) -> None:
    await world.order(o.Deploy(spec=quick(health_check={"start_interval": 0.01, "fall": 5})))


async def _sticky(world: World) -> None:
    """From now on its users have sessions, and a restart lets them finish."""
    await world.order(o.Deploy(spec=quick(sticky=True, drain={"timeout": 0.2})))
    await world.until_over()
    await world.order(o.Restart())


async def _slow_start(world: World) -> None:
    await world.order(o.Deploy(spec=quick(warm_up={"slow_start": 0.1})))


async def _bad_deploy(world: World) -> None:
    world.runtime.faults = lambda order: Faults(crash_after=0.0) if order.release > 1 else Faults()
    await world.order(o.Deploy(spec=quick("bad")))


async def _bad_deploy_that_pauses(world: World) -> None:
    world.runtime.faults = lambda order: Faults(crash_after=0.0) if order.release > 1 else Faults()
    await world.order(o.Deploy(spec=quick("bad"), policy=RolloutOptions(failure_action="pause")))


async def _release_that_fails_soon(world: World) -> None:
    fresh = quick(health_check={"start_interval": 0.01, "fall": 5})
    await world.order(o.Deploy(spec=fresh))
    await world.until(lambda: world.rollout is not None and world.rollout.phase is Phase.SUCCEEDED)
    world.runtime.crash(world.running()[0].id, 3)


async def _restart_of_the_busy(world: World) -> None:
    for name in ("web-1", "web-2"):
        world.balancer.set_server(ReplicaId(name), open=2)
    await world.order(o.Restart())
    await world.until(lambda: world.kill.hit.is_set() or _has_begun(world))
    for name in list(world.balancer.apps["web"].servers):
        world.balancer.count(name, Counters(requests=1))


def _has_begun(world: World) -> bool:
    return world.rollout is not None and world.rollout.started_at is not None


async def _restart_of_the_deaf(world: World) -> None:
    await world.order(o.Restart())


async def _stray(world: World) -> None:
    order = StartOrder(ReplicaId("web-9"), "web", 1, 1, 0, Limits(), quick())
    await world.runtime.start(order)
    await world.order(o.Restart())


async def _ill(world: World) -> None:
    world.balancer.set_server(ReplicaId("web-1"), up=False, check="HTTP 503")


async def _ill_by_command(world: World) -> None:
    """As only the daemon can see it."""
    often = {"interval": 0.1, "fast_interval": 0.05, "start_interval": 0.01, "fall": 2}
    await world.order(o.Deploy(spec=quick(health_check={"type": "exec", "command": ["check"], **often})))
    await world.until_over()
    world.runtime.ill[world.running()[0].id] = "the check's command ended with exit code 1"


async def _all_ill(world: World) -> None:
    for name in ("web-1", "web-2"):
        world.balancer.set_server(ReplicaId(name), up=False)


async def _haproxy_killed(world: World) -> None:
    world.balancer.lose(world.clock.now(), before=LastLook(0.1, 2, 50))
    world.balancer.restore(world.clock.now() + 0.01)


async def _lasting(world: World) -> None:
    """Its replica is in rotation for a minute after some that were not."""

    def aged(state: AppState) -> AppState:
        replicas = {
            name: replace(entry, enabled_at=(entry.enabled_at or 0.0) - 100.0)
            for name, entry in state.recorded.replicas.items()
        }
        slots = {1: SlotRecord(attempts=3, alerted=True)}
        return replace(state, recorded=replace(state.recorded, replicas=replicas, slots=slots))

    assert world.supervisor is not None
    await world.supervisor.app("web").change(aged)


async def _close(world: World) -> None:
    assert world.supervisor is not None
    app = world.supervisor.app("web")
    await app.change(lambda state: replace(state, desired=replace(state.desired, maintenance=True)))


Scenario = Callable[[World], Awaitable[None]]
WHERE: dict[str, Scenario] = {
    "PrepareRelease": _deploy,
    "StartReplica": _restart,
    "RestartReplica": _in_place,
    "UpdateLimits": _limits,
    "StopReplica": _replace,
    "KillReplica": _restart_of_the_deaf,
    "RemoveReplica": _scale,
    "DeleteReleases": _remove,
    "PrepareBackend": _deploy,
    "RouteApp": _deploy,
    "EnableServer": _restart,
    "SetWeight": _slow_start,
    "PublishRecords": _restart_out_of_dns,
    "WithdrawRecords": _restart_out_of_dns,
    "NoteWithdrawn": _restart_out_of_dns,
    "DrainServer": _sticky,
    "DisableServer": _restart,
    "CutConnections": _restart_of_the_busy,
    "RemoveServer": _stop,
    "SetMaintenance": _close,
    "UnrouteApp": _remove,
    "BeginRollout": _replace,
    "BeginRollback": _release_that_fails_soon,
    "TakeSlot": _in_place,
    "FinishSlot": _restart,
    "AdoptReplica": _stray,
    "FailReplica": _bad_deploy,
    "SuspendServer": _ill_by_command,
    "NoteHealth": _ill,
    "NoteRefusal": _limits_below_use,
    "HoldRepair": _all_ill,
    "NoteOutage": _haproxy_killed,
    "SettleSlot": _lasting,
    "RecordCounters": _restart_of_the_busy,
    "OpenGap": _replace,
    "CloseGap": _replace,
    "TurnBack": _bad_deploy,
    "PauseRollout": _bad_deploy_that_pauses,
    "FinishRollout": _restart,
    "ForgetApp": _remove,
}
"""In which scenario each step is taken."""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    try:
        yield made
    finally:
        await made.close()


def test_every_step_is_in_a_scenario() -> None:
    assert set(WHERE) == {step.__name__ for step in STEP_TYPES}


@pytest.mark.parametrize("point", fault_points())
async def test_the_next_daemon_goes_on_where_one_was_killed(world: World, point: str) -> None:
    scenario = WHERE[point.partition(":")[2]]
    if scenario is _restart_of_the_deaf:
        world.runtime.faults = lambda order: Faults(stop_takes=None)
    if scenario is _restart_out_of_dns:
        world.dns = {"internal": FakeDns(ttl=0.05), "zone": FakeDns("localhost", ttl=0.05, required=True)}
    await world.start()
    await world.order(o.Deploy(spec=quick()))
    await world.until_over()
    await world.close()
    await world.start(point)
    await scenario(world)
    await world.until(world.kill.hit.is_set)
    await world.close()
    await world.start()
    await world.until_over()
    _nothing_is_left_over(world)


def _nothing_is_left_over(world: World) -> None:
    if world.state is None:
        assert world.running() == []
        assert world.balancer.apps == {}
        return
    slots = [(seen.slot, seen.release) for seen in world.running()]
    assert len(slots) == len(set(slots))
    for view in world.dns.values():
        assert set(view.seen["web"]) == {seen.id for seen in world.running()}
    started = [call for call in world.runtime.calls if call.startswith("start ")]
    assert len(started) == len(set(started)), "a replica was started twice"
