"""What a rollout does, step by step, by strategy and order."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.scenario import deployed, empty, options, releases, running, serving, settled, told

from rota.core import order as o
from rota.core import steering
from rota.core import steps as s
from rota.core.observation import Reloads
from rota.core.rollout import Kind, Phase
from rota.core.spec import AppSpec, Order
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import spec_of

ARRIVES = ["StartReplica web-4", "EnableServer web-4"]
HANDED_OFF = ["DisableServer web-1", "StopReplica web-1", "RemoveServer web-1"]
LIFE = ("StartReplica", "EnableServer", "DisableServer", "StopReplica", "RemoveServer")


def test_the_first_deploy_starts_all_replicas_at_once() -> None:
    app = empty()
    app.order(o.Deploy(spec=spec_of(replicas=3)))
    app.run(60.0)
    assert told(app, *LIFE)[:3] == ["StartReplica web-1", "StartReplica web-2", "StartReplica web-3"]
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_start_first_lets_the_new_one_arrive_and_then_hands_the_old_one_off() -> None:
    app = deployed()
    app.order(o.Restart())
    app.run(60.0)
    assert told(app, *LIFE)[:5] == ARRIVES + HANDED_OFF
    assert running(app) == ["web-4", "web-5", "web-6"]
    settled(app)


def test_stop_first_hands_the_old_one_off_and_then_lets_the_new_one_arrive() -> None:
    app = deployed()
    app.order(o.Restart(policy=options(order="stop-first")))
    app.run(60.0)
    steps = told(app, *LIFE)
    assert steps[:2] == HANDED_OFF[:2]
    assert steps.index("StopReplica web-1") < steps.index("StartReplica web-4")
    assert steps.index("EnableServer web-4") < steps.index("DisableServer web-2")
    settled(app)


def test_in_place_keeps_ids_and_counts_restarts() -> None:
    app = deployed()
    app.order(o.Restart(policy=options(order="in-place")))
    app.run(60.0)
    assert running(app) == ["web-1", "web-2", "web-3"]
    assert [seen.restarts for seen in app.seen().values()] == [1, 1, 1]
    assert told(app, "RestartReplica") == ["RestartReplica web-1", "RestartReplica web-2", "RestartReplica web-3"]
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_simultaneous_takes_all_slots_up_at_once_and_says_what_the_gap_was() -> None:
    app = deployed()
    app.order(o.Restart(policy=options(mode="simultaneous")))
    app.run(60.0)
    assert told(app, "TakeSlot", "DisableServer")[:4] == [
        "TakeSlot 1",
        "TakeSlot 2",
        "TakeSlot 3",
        "DisableServer web-1",
    ]
    assert [gap.reason for gap in app.rollout.gaps] == ["no replica was in service"]
    assert app.rollout.gaps[0].until is not None
    settled(app)


def test_replace_starts_no_new_one_before_the_last_old_one_is_gone() -> None:
    app = deployed(deployment_strategy="replace")
    app.opens = lambda replica: (0.15,) if replica == "web-3" else ()
    app.order(o.Redeploy())
    app.run(60.0)
    steps = told(app, "StopReplica", "StartReplica")
    assert sorted(steps[:3]) == ["StopReplica web-1", "StopReplica web-2", "StopReplica web-3"]
    assert steps[2] == "StopReplica web-3"
    assert running(app) == ["web-4", "web-5", "web-6"]
    settled(app)


def test_two_slots_are_in_hand_with_parallelism_2() -> None:
    app = deployed(replicas=4)
    app.order(o.Restart(policy=options(parallelism=2)))
    app.run(60.0)
    assert told(app, "TakeSlot", "FinishSlot")[:4] == ["TakeSlot 1", "TakeSlot 2", "FinishSlot 1", "FinishSlot 2"]


def test_the_delay_counts_from_the_hand_back() -> None:
    app = deployed(replicas=2)
    app.order(o.Restart(policy=options(delay=5.0)))
    app.run(60.0)
    enabled = [done.at for done in app.steps if type(done.step).__name__ == "EnableServer"]
    taken = [done.at for done in app.steps if type(done.step).__name__ == "TakeSlot"]
    assert taken[1] - enabled[0] == pytest.approx(5.0, abs=0.01)


def slow_app(**fields: Any) -> AppSpec:
    return spec_of(replicas=4, boot_timeout=60, **fields)


@pytest.mark.feature("V4", "V9")
@pytest.mark.parametrize(
    "order",
    [
        o.Restart(policy=options(delay=300)),
        o.Redeploy(policy=options(delay=300, order="stop-first")),
        o.Restart(policy=options(delay=300, order="in-place")),
        o.Deploy(spec=slow_app(min_ready_seconds=10, rollout={"delay": 300})),
        o.Restart(policy=options(delay=300, parallelism=2)),
    ],
    ids=["start-first", "stop-first", "in-place", "slow to be ready", "two at once"],
)
def test_the_longest_delay_comes_after_readiness_and_never_instead_of_it(order: o.Order) -> None:
    """A whole rollout: no slot is taken up before the one before it is ready and in rotation, and 300 s have passed
    since."""
    app = deployed(replicas=4, boot_timeout=60)
    app.runtime.faults = lambda _: Faults(listens_after=20.0, healthy_after=40.0)
    app.order(order)
    app.run(3600.0)
    policy, ready_after = (
        app.rollout.policy,
        40.0 + app.here().spec(app.here().desired.current.release).min_ready_seconds,
    )
    assert app.rollout.phase is Phase.SUCCEEDED
    taken, back = times(app, "TakeSlot"), times(app, "EnableServer")
    started = times(app, "RestartReplica" if policy.order is Order.IN_PLACE else "StartReplica")
    assert len(taken) == len(started) == len(back) == 4
    for number in range(4):
        assert back[number] >= started[number] + ready_after
        if number >= policy.parallelism:
            before = back[number // policy.parallelism * policy.parallelism - 1]
            assert before + 300.0 <= taken[number] <= before + 300.01
    settled(app)


def times(app: Simulation, kind: str) -> list[float]:
    return [done.at for done in app.steps if type(done.step).__name__ == kind]


def test_a_deploy_of_the_same_file_changes_nothing() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of(replicas=3)))
    app.run(60.0)
    assert told(app, "StartReplica", "StopReplica", "DrainServer") == []
    assert app.rollout.phase is Phase.SUCCEEDED
    assert running(app) == ["web-1", "web-2", "web-3"]


def test_a_deploy_may_change_the_number_of_replicas() -> None:
    app = deployed(replicas=3)
    app.order(o.Deploy(spec=spec_of(replicas=5)))
    app.run(60.0)
    assert releases(app) == [2] * 5
    app.order(o.Deploy(spec=spec_of(replicas=2)))
    app.run(60.0)
    assert releases(app) == [3] * 2
    settled(app)


def test_a_release_with_other_checks_moves_the_routes_with_its_replicas() -> None:
    app = deployed(replicas=2)
    app.order(o.Deploy(spec=spec_of(replicas=2, health_check={"fall": 7})))
    shares: list[list[int]] = []

    def look() -> bool:
        now = sorted(app.balancer.apps["web"].routes.values())
        if not shares or shares[-1] != now:
            shares.append(now)
        return False

    app.run(60.0, look)
    assert [1, 1] in shares or [1, 2] in shares
    assert len(app.balancer.apps["web"].routes) == 1
    settled(app)


def test_a_redeploy_makes_new_replicas_of_the_same_release() -> None:
    app = deployed()
    app.order(o.Redeploy())
    app.run(60.0)
    assert app.rollout.kind is Kind.REDEPLOY
    assert releases(app) == [1, 1, 1]
    assert running(app) == ["web-4", "web-5", "web-6"]


def test_a_rollback_goes_to_the_release_before() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=1)))
    app.run(60.0)
    app.order(o.Rollback())
    app.run(60.0)
    assert app.rollout.to_release == 1
    assert releases(app) == [1, 1, 1]
    settled(app)


def test_limits_change_live() -> None:
    app = deployed()
    app.order(o.ChangeLimits(memory=64 * 2**20))
    app.run(60.0)
    assert told(app, "UpdateLimits") == ["UpdateLimits web-1", "UpdateLimits web-2", "UpdateLimits web-3"]
    assert {seen.limits.memory for seen in app.seen().values()} == {64 * 2**20}
    assert running(app) == ["web-1", "web-2", "web-3"]
    settled(app)


@pytest.mark.parametrize("order", ["start-first", "stop-first", "in-place"])
def test_limits_change_with_a_restart_where_that_is_asked_for(order: str) -> None:
    app = deployed()
    app.order(o.ChangeLimits(cpus=0.5, policy=options(order=order)))
    app.run(60.0)
    assert told(app, "UpdateLimits") == []
    assert {seen.limits.cpus for seen in app.seen().values()} == {0.5}
    settled(app)


def test_scaling_up_and_down_touches_no_other_replica() -> None:
    app = deployed()
    app.order(o.Scale(replicas=5))
    app.run(60.0)
    assert running(app) == ["web-1", "web-2", "web-3", "web-4", "web-5"]
    app.order(o.Scale(replicas=2))
    app.run(60.0)
    assert running(app) == ["web-1", "web-2"]
    assert told(app, "DisableServer") == ["DisableServer web-3", "DisableServer web-4", "DisableServer web-5"]
    settled(app)


@pytest.mark.parametrize("remove", [True, False])
def test_stop_hands_all_off_and_keeps_or_removes_what_is_left(remove: bool) -> None:
    app = deployed()
    app.order(o.Stop(remove=remove))
    app.run(60.0)
    assert running(app) == []
    assert len(app.seen()) == (0 if remove else 3)
    assert app.rollout.phase is Phase.SUCCEEDED
    app.order(o.Start())
    app.run(60.0)
    assert serving(app) == 3
    assert len(app.seen()) == 3
    settled(app)


def test_remove_leaves_nothing() -> None:
    app = deployed()
    app.order(o.Remove())
    app.run(60.0)
    assert app.state is None
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_a_suspended_app_stops_and_goes_on_with_its_rollout_later() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=1)))
    app.run(1.5)
    app.suspend()
    app.run(60.0)
    assert running(app) == []
    app.suspend(False)
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert releases(app) == [2, 2, 2]
    settled(app)


def test_a_pause_finishes_the_hand_off_under_way() -> None:
    app = deployed()
    app.order(o.Restart())
    app.run(0.05)
    app.ask(steering.pause)
    app.run(60.0)
    assert app.rollout.phase is Phase.PAUSED
    assert running(app) == ["web-2", "web-3", "web-4"]
    app.run(10_000.0)
    app.ask(steering.resume)
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert running(app) == ["web-4", "web-5", "web-6"]


def test_a_pause_can_be_taken_back_before_it_comes() -> None:
    app = deployed()
    app.order(o.Restart())
    app.run(0.05)
    app.ask(steering.pause)
    app.ask(steering.resume)
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED


@pytest.mark.parametrize("at", [0.0, 0.05, 1.15, 1.25])
def test_an_abort_goes_back_to_the_release_before_and_ends_cancelled(at: float) -> None:
    app = deployed(replicas=2)
    app.order(o.Deploy(spec=spec_of(replicas=2, min_ready_seconds=1)))
    app.run(at)
    app.ask(steering.abort)
    app.run(60.0)
    assert app.rollout.phase is Phase.CANCELLED
    assert releases(app) == [1, 1]
    settled(app)


def test_an_abort_of_the_first_deploy_leaves_nothing_running() -> None:
    app = empty()
    app.order(o.Deploy(spec=spec_of(min_ready_seconds=5)))
    app.run(1.0)
    app.ask(steering.abort)
    app.run(60.0)
    assert app.rollout.phase is Phase.CANCELLED
    assert app.seen() == {}


def test_a_superseding_order_takes_over_from_what_is_there() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of("deaf", replicas=3)))
    app.run(1.0)
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=1), supersede=True))
    app.run(60.0)
    assert app.rollouts["web.2"].phase is Phase.CANCELLED
    assert app.rollout.phase is Phase.SUCCEEDED
    assert releases(app) == [3, 3, 3]
    settled(app)


def test_releases_older_than_ten_are_deleted() -> None:
    app = deployed(replicas=1)
    for count in range(12):
        app.order(o.Deploy(spec=spec_of(replicas=1, health_check={"fall": 50 + count})))
        app.run(20.0)
    assert app.state is not None
    assert sorted(app.state.releases) == list(range(4, 14))
    settled(app)


def test_an_abort_of_a_scale_goes_back_to_the_count_before() -> None:
    app = deployed(min_ready_seconds=5)
    app.order(o.Scale(replicas=5))
    app.run(1.0)
    app.ask(steering.abort)
    app.run(60.0)
    assert app.rollout.phase is Phase.CANCELLED
    assert running(app) == ["web-1", "web-2", "web-3"]
    settled(app)


def test_no_delay_is_waited_for_a_slot_that_came_meanwhile_and_is_as_it_should_be() -> None:
    app = deployed(2)
    app.order(o.Restart(policy=options(delay=100)))
    app.run(10.0)
    app.order(o.Scale(replicas=4))
    began = app.rollout.started_at
    app.run(1000.0, lambda: app.rollout.phase.ended)
    assert (app.rollout.phase, told(app, "StartReplica")) == (
        Phase.SUCCEEDED,
        ["StartReplica web-3", "StartReplica web-4", "StartReplica web-5", "StartReplica web-6"],
    )
    assert began is not None
    assert app.now - began < 2 * 100
    settled(app)


def test_a_wait_for_a_reload_is_told_as_long_as_it_is() -> None:
    app = deployed(2)
    app.balancer.pace = Reloads(not_before=app.now + 6.2, apart=20.0)
    app.order(o.Deploy(spec=spec_of(replicas=2, health_check={"fall": 2})))
    app.run(0.1)
    (asked,) = [done.step for done in app.steps if isinstance(done.step, s.PrepareBackend)]
    assert asked.reason == "HAProxy is reloaded for them in 7 s, as it is at most once in 20 s"


def test_the_reasons_are_sentences_for_people() -> None:
    app = empty()
    app.order(o.Deploy(spec=spec_of(replicas=2)))
    app.run(60.0)
    app.order(o.Scale(replicas=1))
    app.run(60.0)
    reasons = {type(done.step).__name__: done.step.reason for done in app.steps}
    assert reasons["DisableServer"] == "there is 1 slot now"
    assert reasons["PrepareBackend"] == "HAProxy is reloaded for them"
    app.order(o.Deploy(spec=spec_of(replicas=1, domains=[{"domain": "example.org"}])))
    app.run(60.0)
    told_why = [done.step.reason for done in app.steps if type(done.step).__name__ == "PrepareBackend"]
    assert "example.org" in told_why[1]
    assert " must lead to web." in told_why[1]
