"""``overlap: forbid``: never two generations at once, whatever is asked for and whatever breaks (S8)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.scenario import deployed, empty, options, releases, running, serving, settled, told

from rota.core import order as o
from rota.core import steering
from rota.core.errors import UsageError
from rota.core.names import ReplicaId
from rota.core.rollout import Cause, Phase, SlotTarget
from rota.core.spec import AppSpec, Limits
from rota.testing.runtime import Faults
from rota.testing.simulation import Crash, Simulation
from rota.testing.simulation_history import spec_of


def worker(mood: str = "good", replicas: int = 3, **fields: Any) -> AppSpec:
    return spec_of(mood, replicas=replicas, **{"overlap": "forbid", **fields})


def working(**fields: Any) -> Simulation:
    return deployed(3, **{"overlap": "forbid", **fields})


def slow_to_stop(replicas: int, seconds: float) -> Simulation:
    app = empty()
    app.runtime.faults = lambda order: Faults(stop_takes=seconds)
    app.order(o.Deploy(spec=worker(replicas=replicas, stop_grace_period=30)))
    app.run(60.0)
    app.steps.clear()
    return app


@pytest.mark.parametrize("order", [o.Restart(), o.Redeploy(), o.Deploy(spec=worker(min_ready_seconds=1))])
def test_all_old_ones_are_gone_before_a_new_one_starts_and_the_gap_is_told(order: o.Order) -> None:
    app = working()
    app.opens = lambda replica: (0.15,) if replica == "web-3" else ()
    app.order(order)
    app.run(60.0)
    steps = told(app, "StopReplica", "StartReplica")
    assert [words.split()[0] for words in steps] == ["StopReplica"] * 3 + ["StartReplica"] * 3
    assert app.rollout.policy.min_available == 0
    assert [gap.until is not None for gap in app.rollout.gaps] == [True]
    settled(app)


def test_a_release_that_fails_is_gone_before_the_old_one_comes_back() -> None:
    app = working()
    app.order(o.Deploy(spec=worker("crashing")))
    app.run(60.0)
    assert app.rollout.phase is Phase.ROLLED_BACK
    assert releases(app) == [1, 1, 1]
    settled(app)


@pytest.mark.parametrize("acted", [None, 0, 1, 2])
@pytest.mark.parametrize("decisions", range(12))
def test_a_crash_of_the_daemon_lets_none_slip_through(decisions: int, acted: int | None) -> None:
    app = working()
    app.takes = lambda step: 0.1
    app.order(o.Restart())
    for _ in range(decisions):
        before = len(app.steps)
        app.run(5.0, lambda before=before: len(app.steps) > before)  # type: ignore[misc]
    app.crash = Crash(acted)
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_another_order_in_the_middle_waits_for_all_that_run() -> None:
    app = working()
    app.runtime.faults = lambda order: Faults(stop_takes=0.4)
    app.order(o.Restart())
    app.run(0.2)
    app.order(o.Deploy(spec=worker(min_ready_seconds=1), supersede=True))
    app.run(60.0)
    assert releases(app) == [2, 2, 2]
    settled(app)


def test_an_abort_in_the_middle_waits_too_and_a_scale_adds_none_of_the_old() -> None:
    app = working()
    app.order(o.Deploy(spec=worker(min_ready_seconds=3)))
    app.run(1.0)
    app.order(o.Scale(replicas=5))
    app.run(1.0)
    assert set(releases(app)) == {2}
    app.ask(steering.abort)
    app.run(60.0)
    assert releases(app) == [1] * 5
    settled(app)


def test_a_replica_that_dies_is_replaced_beside_its_fellows() -> None:
    app = working()
    app.runtime.crash(ReplicaId("web-2"), 1)
    app.run(10.0)
    assert running(app) == ["web-1", "web-3", "web-4"]
    assert serving(app) == 3


def test_one_that_was_started_anew_just_before_a_restart_is_restarted_as_well() -> None:
    app = working()
    app.runtime.crash(ReplicaId("web-2"), 1)
    app.order(o.Restart())
    app.run(60.0)
    assert len(set(running(app)) & {"web-1", "web-3"}) == 0
    settled(app)


def test_the_last_generation_that_forbids_it_is_waited_for_as_well() -> None:
    app = working()
    app.order(o.Deploy(spec=worker(overlap="allow", rollout={"order": "start-first", "failure_action": "continue"})))
    app.run(60.0)
    assert app.rollout.policy.barrier
    assert releases(app) == [2, 2, 2]
    app.order(o.Restart())
    assert not app.rollout.policy.barrier


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (
            {"order": "start-first"},
            "start-first contradicts overlap: forbid, which stops all old replicas before a new",
        ),
        ({"order": "in-place"}, "in-place contradicts overlap: forbid"),
        ({"mode": "sequential"}, "sequential contradicts overlap: forbid"),
        ({"min_available": 1}, "min_available 1 contradicts overlap: forbid"),
        ({"failure_action": "continue"}, "continue contradicts overlap: forbid"),
        ({"max_failure_ratio": 0.5}, r"max_failure_ratio 0\.5 contradicts overlap: forbid"),
    ],
)
def test_what_would_let_two_generations_run_is_refused_by_name(flag: dict[str, object], words: str) -> None:
    app = working()
    with pytest.raises(UsageError, match=words):
        app.order(o.Restart(policy=options(**flag)))


@pytest.mark.parametrize("flag", [{"order": "stop-first"}, {"mode": "simultaneous"}, {"min_available": 0}])
def test_what_it_does_anyway_may_be_asked_for(flag: dict[str, object]) -> None:
    app = working()
    app.order(o.Restart(policy=options(**flag)))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED


def test_the_way_back_to_a_release_that_forbids_it_is_whole_too() -> None:
    app = working()
    app.order(o.Deploy(spec=worker(overlap="allow")))
    app.run(60.0)
    app.order(o.Rollback())
    assert app.rollout.policy.barrier
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert releases(app) == [1, 1, 1]
    settled(app)


@pytest.mark.parametrize("replicas", [1, 3])
def test_an_unhealthy_one_is_stopped_before_its_heir_starts(replicas: int) -> None:
    """Twice the same scheduler is as bad as two versions of it."""
    app = slow_to_stop(replicas, 3.0)
    app.unhealthy[ReplicaId("web-1")] = (app.now, 1e9)
    app.run(120.0)
    heir = f"web-{replicas + 1}"
    assert told(app, "StopReplica", "StartReplica") == ["StopReplica web-1", f"StartReplica {heir}"]
    assert serving(app) == replicas
    settled(app)


def test_an_unhealthy_one_that_recovers_as_it_goes_holds_up_nothing() -> None:
    app = deployed(1, overlap="forbid")
    app.unhealthy[ReplicaId("web-1")] = (app.now, app.now + 30.1)
    app.refuses = lambda step: "before" if type(step).__name__ == "DisableServer" and app.now < 1090.2 else ""
    app.run(120.0)
    assert running(app) == ["web-2"]
    assert serving(app) == 1


def test_one_that_is_too_late_is_gone_before_the_next_try() -> None:
    app = deployed(1, overlap="forbid", boot_timeout=20.0)
    app.runtime.faults = lambda order: Faults(listens_after=25.0 if order.replica == "web-2" else 0.0)
    app.runtime.crash(ReplicaId("web-1"), 1)
    app.run(120.0)
    assert running(app) == ["web-3"]


def test_an_app_that_is_started_again_waits_for_what_still_stops() -> None:
    app = slow_to_stop(3, 5.0)
    app.order(o.Stop())
    app.run(1.0)
    app.order(o.Start(supersede=True))
    app.run(60.0)
    assert serving(app) == 3
    settled(app)


def test_slots_of_a_rollout_that_gave_way_go_back_with_all_others() -> None:
    """A deploy gives way to another before its success; that one is scaled, fails, and goes back."""
    app = working()
    app.order(o.Deploy(spec=worker(min_ready_seconds=1)))
    app.run(60.0, lambda: "TakeSlot 1" in app.kinds())
    app.order(o.Deploy(spec=worker("deaf"), supersede=True))
    app.order(o.Scale(replicas=5))
    app.run(60.0)
    assert app.rollout.phase is Phase.ROLLED_BACK
    assert releases(app) == [1] * 5
    settled(app)


def test_slots_of_a_rollout_that_gave_way_go_back_though_none_was_taken_up() -> None:
    app = working()
    app.order(o.Deploy(spec=worker(min_ready_seconds=1)))
    app.run(60.0, lambda: "TakeSlot 1" in app.kinds())
    app.runtime.prepare_faults["web", 3] = "the build failed"
    app.order(o.Deploy(spec=worker(min_ready_seconds=2), supersede=True))
    app.order(o.Scale(replicas=5))
    app.run(60.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.BUILD_FAILED)
    assert releases(app) == [1] * 5
    settled(app)


def test_a_release_that_gives_way_is_not_overlapped_either() -> None:
    app = deployed(2)
    app.order(o.Deploy(spec=worker(replicas=2)))
    app.run(60.0, lambda: "StartReplica web-3" in app.kinds())
    app.order(o.Deploy(spec=spec_of(replicas=2, min_ready_seconds=1), supersede=True))
    app.run(60.0)
    assert app.rollout.policy.barrier
    assert releases(app) == [3, 3]
    settled(app)


@pytest.mark.parametrize("scaled", ["before the stop", "after the start", "not at all"])
def test_slots_of_a_deploy_that_gave_way_to_a_stop_start_again_as_all_others(scaled: str) -> None:
    """Else those of the release that has not succeeded, and those that the scale added, would run at once, or wait for
    each other for ever."""
    app = working()
    app.order(o.Deploy(spec=worker(min_ready_seconds=1)))
    app.run(60.0, lambda: "TakeSlot 3" in app.kinds())
    if scaled == "before the stop":
        app.order(o.Scale(replicas=5))
    app.order(o.Stop(supersede=True))
    app.run(60.0)
    app.order(o.Start())
    app.run(60.0)
    if scaled == "after the start":
        app.order(o.Scale(replicas=5))
        app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert releases(app) == [1] * (3 if scaled == "not at all" else 5)
    settled(app)


def test_a_stop_before_all_old_ones_have_gone_keeps_them_apart_too() -> None:
    app = slow_to_stop(3, 5.0)
    app.order(o.Deploy(spec=worker(min_ready_seconds=1, stop_grace_period=30)))
    app.run(60.0, lambda: "StopReplica web-1" in app.kinds())
    app.order(o.Scale(replicas=4))
    app.order(o.Stop(supersede=True))
    app.order(o.Start(supersede=True))
    app.run(120.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert releases(app) == [1] * 4
    settled(app)


def test_a_slot_that_is_added_to_a_restart_that_gave_way_runs_the_generation_of_the_others() -> None:
    """The release of the deploy that took its place is not ready yet."""
    app = working()
    app.order(o.Restart())
    app.run(60.0, lambda: "EnableServer web-6" in app.kinds())
    app.runtime.prepare_takes = 5.0
    app.order(o.Deploy(spec=worker(replicas=5, min_ready_seconds=1), supersede=True))
    app.run(2.0)
    assert running(app) == ["web-4", "web-5", "web-6", "web-7", "web-8"]
    app.run(60.0)
    assert releases(app) == [2] * 5
    settled(app)


def test_two_releases_do_not_even_begin_in_the_same_moment() -> None:
    """However it came about that the slots are to run both."""
    app = working()
    app.order(o.Deploy(spec=worker(min_ready_seconds=1)))
    app.run(60.0)
    app.order(o.Rollback())
    app.run(60.0)
    app.desire(slots={2: SlotTarget(2, 1, Limits())})
    for name in list(app.seen()):
        app.runtime.vanish(name)
    app.run(60.0)
    assert releases(app) == [1, 1]
