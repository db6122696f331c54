"""Blue-green: all new replicas there, one switch, the old ones kept for a while to go back to (S6)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.scenario import deployed, empty, options, releases, running, serving, settled, told

from rota.core import order as o
from rota.core import steering
from rota.core import steps as s
from rota.core.errors import UsageError
from rota.core.rollout import Cause, Kind, Phase
from rota.core.spec import AppSpec
from rota.ports.runtime import StartOrder
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import spec_of

OLD, NEW = ["web-1", "web-2", "web-3"], ["web-4", "web-5", "web-6"]
CHANGES = ("StartReplica", "EnableServer", "RouteApp", "DisableServer", "StopReplica")


def blue_green(mood: str = "good", replicas: int = 3, **fields: Any) -> AppSpec:
    wanted: dict[str, Any] = {"deployment_strategy": "blue-green", "keep_old": 100, **fields}
    return spec_of(mood, replicas=replicas, **wanted)


def released(replicas: int = 3, **fields: Any) -> Simulation:
    """Release 2 serves, one switch after release 1."""
    app = deployed(replicas, deployment_strategy="blue-green", keep_old=100)
    app.order(o.Deploy(spec=blue_green(replicas=replicas, min_ready_seconds=1, **fields)))
    app.run(10.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    return app


def phases(app: Simulation) -> dict[str, str]:
    return {str(name): member.phase.value for name, member in sorted(app.here().members.items())}


def test_nobody_is_sent_to_a_new_replica_before_all_are_there_and_then_to_all() -> None:
    app = released()
    assert told(app, *CHANGES) == [
        *(f"StartReplica {name}" for name in NEW),
        *(f"EnableServer {name}" for name in NEW),
        "RouteApp",
    ]
    assert app.rollout.gaps == ()
    enabled = {done.step.reason for done in app.steps if isinstance(done.step, s.EnableServer)}
    assert enabled == {"ready; requests come with the switch"}


def test_the_old_ones_are_kept_out_of_rotation_and_go_when_their_time_has_passed() -> None:
    app = released()
    assert phases(app) == dict.fromkeys(OLD, "standby") | dict.fromkeys(NEW, "ready")
    assert serving(app) == 3
    settled(app)
    app.run(85.0)
    assert running(app) == OLD + NEW
    app.run(30.0)
    assert running(app) == NEW
    assert [done.step.reason for done in app.steps if type(done.step).__name__ == "DisableServer"] == [
        "keep_old has passed"
    ] * 3
    settled(app)


def test_going_back_while_they_are_kept_is_one_switch_and_no_start() -> None:
    app = released()
    app.steps.clear()
    app.order(o.Rollback())
    app.run(30.0)
    assert (app.rollout.kind, app.rollout.phase, app.rollout.to_release) == (Kind.ROLLBACK, Phase.SUCCEEDED, 1)
    assert told(app, "StartReplica", "EnableServer", "RouteApp") == ["RouteApp"]
    assert told(app, *CHANGES)[0] == "RouteApp"
    assert running(app) == OLD
    settled(app)


def test_one_that_was_lost_while_it_was_kept_is_started_before_the_switch_back() -> None:
    app = released()
    app.runtime.crash(app.here().of_slot(2)[0].id, 1)
    app.run(5.0)
    assert running(app) == ["web-1", "web-3", *NEW]
    app.steps.clear()
    app.order(o.Rollback())
    app.run(30.0)
    assert told(app, "StartReplica", "RouteApp") == ["StartReplica web-7", "RouteApp"]
    assert running(app) == ["web-1", "web-3", "web-7"]
    settled(app)


def test_going_back_later_or_by_another_way_starts_replicas() -> None:
    app = released()
    app.run(200.0)
    app.order(o.Rollback())
    app.run(30.0)
    assert len(told(app, "StartReplica")) == 6
    again = released()
    again.order(o.Rollback(policy=options(mode="sequential", delay=0)))
    again.run(30.0)
    assert releases(again) == [1, 1, 1]
    assert len(told(again, "StartReplica")) == 6
    settled(again)


def test_a_rollback_goes_to_the_release_that_is_kept_not_to_the_highest_number() -> None:
    app = released()
    app.order(o.Rollback())
    app.run(30.0)
    app.order(o.Deploy(spec=blue_green(min_ready_seconds=2)))
    app.run(10.0)
    app.order(o.Rollback())
    app.run(30.0)
    assert app.rollout.to_release == 1


@pytest.mark.parametrize("mood", ["deaf", "ill", "crashing", "refused"])
def test_with_one_new_replica_failing_nothing_is_switched(mood: str) -> None:
    app = deployed(3, deployment_strategy="blue-green")
    usual = app.runtime.faults
    assert usual is not None
    app.runtime.faults = lambda order: usual(order) if order.slot == 2 else Faults()
    app.order(o.Deploy(spec=blue_green(mood)))
    app.run(60.0)
    assert app.rollout.phase is Phase.ROLLED_BACK
    assert told(app, "RouteApp") == []
    assert running(app) == OLD
    assert app.rollout.gaps == ()
    settled(app)


def test_one_that_dies_in_its_pool_while_others_are_not_ready_counts() -> None:
    app = deployed(2, deployment_strategy="blue-green")
    app.runtime.faults = lambda order: Faults(crash_after=30.0) if order.slot == 1 else Faults(listens_after=50.0)
    app.order(o.Deploy(spec=blue_green(replicas=2, boot_timeout=60)))
    app.run(100.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.CRASHED)
    assert told(app, "RouteApp") == []


def test_an_abort_after_the_switch_goes_back_by_one_switch() -> None:
    app = deployed(3, deployment_strategy="blue-green")
    app.order(o.Deploy(spec=blue_green()))
    app.run(10.0, lambda: bool(told(app, "RouteApp")))
    app.ask(steering.abort)
    app.run(30.0)
    assert app.rollout.phase is Phase.CANCELLED
    assert told(app, "RouteApp") == ["RouteApp", "RouteApp"]
    assert running(app) == OLD
    settled(app)


def test_without_keep_old_the_old_ones_go_at_once() -> None:
    app = deployed(3, deployment_strategy="blue-green")
    app.order(o.Deploy(spec=blue_green(keep_old=0)))
    app.run(10.0)
    assert running(app) == NEW
    settled(app)


def test_a_restart_switches_too_and_keeps_nothing() -> None:
    app = released()
    app.order(o.Restart())
    app.run(30.0)
    assert told(app, "RouteApp") == ["RouteApp", "RouteApp"]
    assert running(app) == ["web-7", "web-8", "web-9"]
    settled(app)


def test_limits_that_are_changed_live_need_no_switch() -> None:
    app = released()
    app.order(o.ChangeLimits(memory=64 * 2**20))
    app.run(30.0)
    assert told(app, "RouteApp") == ["RouteApp"]
    assert running(app) == OLD + NEW or running(app) == NEW
    settled(app)


def test_the_count_may_change_before_the_switch_and_while_the_old_ones_are_kept() -> None:
    app = deployed(2, deployment_strategy="blue-green")
    app.order(o.Deploy(spec=blue_green(replicas=2, min_ready_seconds=5)))
    app.run(2.0)
    app.order(o.Scale(replicas=4))
    app.run(30.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert serving(app) == 4
    app.order(o.Scale(replicas=3))
    app.run(10.0)
    assert serving(app) == 3
    assert len(running(app)) == 5
    app.order(o.Rollback())
    app.run(30.0)
    assert releases(app) == [1, 1, 1]
    settled(app)


def test_when_nobody_serves_any_more_the_new_ones_do_without_waiting_for_each_other() -> None:
    app = deployed(2, deployment_strategy="blue-green")
    app.runtime.faults = lambda order: Faults(listens_after=0.0 if order.slot == 1 else 3.0)
    app.order(o.Deploy(spec=blue_green(replicas=2)))
    app.run(1.0)
    for name in list(app.seen()):
        if name in {"web-1", "web-2"}:
            app.runtime.crash(name, 1)
    app.run(0.5)
    assert serving(app) == 1
    app.run(30.0)
    assert serving(app) == 2
    settled(app)


def test_another_way_may_be_asked_for_by_name() -> None:
    app = released()
    app.order(o.Restart(policy=options(mode="sequential", delay=0)))
    app.run(30.0)
    assert told(app, "RouteApp") == ["RouteApp"]
    assert len(told(app, "TakeSlot")) == 6
    settled(app)


def test_a_superseding_deploy_switches_past_what_it_found() -> None:
    app = deployed(3, deployment_strategy="blue-green")
    app.order(o.Deploy(spec=blue_green("deaf")))
    app.run(1.0)
    app.order(o.Deploy(spec=blue_green(min_ready_seconds=1), supersede=True))
    app.run(30.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert releases(app).count(3) == 3
    settled(app)


def test_replicas_of_a_switch_that_was_given_up_are_not_restarted_in_place_for_ever() -> None:
    """They are in another pool than their slots: those get new ones."""
    app = empty()
    app.runtime.faults = lambda order: Faults(stop_takes=None if order.replica == "web-1" else 0.0)
    app.order(o.Deploy(spec=blue_green(stop_grace_period=5)))
    app.run(20.0)
    app.order(o.Redeploy())
    app.run(30.0, lambda: "RemoveReplica web-3" in app.kinds())
    assert app.rollout.phase is Phase.PROGRESSING
    app.steps.clear()
    app.order(o.Restart(policy=options(mode="simultaneous", order="in-place"), supersede=True))
    app.run(30.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert len(told(app, "RestartReplica")) <= 3
    settled(app)


@pytest.mark.parametrize("flag", [{"failure_action": "continue"}, {"max_failure_ratio": 0.5}])
def test_a_part_of_a_switch_is_refused(flag: dict[str, object]) -> None:
    app = released()
    with pytest.raises(UsageError, match=r"contradicts deployment_strategy: blue-green, .* or give --sequential"):
        app.order(o.Restart(policy=options(**flag)))


@pytest.mark.parametrize("change", [blue_green(replicas=2), spec_of(replicas=2, rollout={"parallelism": 2})])
def test_one_that_still_starts_as_its_rollout_turns_back_is_no_failure_of_the_way_back(
    change: AppSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's engine takes its time: one has ended by itself before its start is known to have been made."""
    app = deployed(2, deployment_strategy=change.deployment_strategy)
    start = app.runtime.start

    async def begun_and_over(order: StartOrder) -> None:
        await start(order)
        if order.replica == "web-4":
            app.runtime.crash(order.replica)

    monkeypatch.setattr(app.runtime, "start", begun_and_over)
    app.takes = lambda step: 0.3 if isinstance(step, s.StartReplica) and step.replica == "web-4" else 0.0
    app.runtime.faults = lambda order: Faults(crash_after=0.05)
    app.order(o.Deploy(spec=change.model_copy(update={"min_ready_seconds": 1})))
    app.run(60.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.CRASHED)
    assert running(app) == ["web-1", "web-2"]
    settled(app)
