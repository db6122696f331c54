"""A release on trial: what fails within ``monitor`` after the success, and how the way back goes by the file."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.scenario import deployed, options, releases, running, serving, settled, told

from rota.core import order as o
from rota.core import steering
from rota.core.names import ReplicaId
from rota.core.notice import Topic
from rota.core.rollout import Cause, Kind, Phase
from rota.core.spec import FailureAction, Order
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import spec_of


def released(replicas: int = 3, **fields: Any) -> Simulation:
    """Release 2 has just succeeded."""
    app = deployed(replicas)
    app.order(o.Deploy(spec=spec_of(replicas=replicas, min_ready_seconds=0.5, **fields)))
    app.run(60.0, lambda: app.rollout.phase is Phase.SUCCEEDED)
    app.steps.clear()
    return app


def kill(app: Simulation, *names: str) -> None:
    for name in names:
        app.runtime.crash(ReplicaId(name), 3)


def test_a_failure_soon_after_the_success_goes_back_by_itself() -> None:
    app = released()
    kill(app, "web-5")
    app.run(60.0)
    assert (app.rollout.id, app.rollout.kind, app.rollout.phase) == ("web.3", Kind.ROLLBACK, Phase.SUCCEEDED)
    assert (app.rollout.cause, app.rollout.detail) == (Cause.CRASHED, "web-5 of release 2: it exited with code 3")
    assert [failure.replica for failure in app.rollouts["web.2"].failures] == ["web-5"]
    assert app.rollouts["web.2"].phase is Phase.SUCCEEDED
    assert releases(app) == [1, 1, 1]
    settled(app)


def test_what_was_taken_back_by_itself_is_told_once_with_its_reason_and_its_last_lines() -> None:
    app = released()
    app.runtime.write(ReplicaId("web-5"), "Traceback", "boom")
    kill(app, "web-5")
    app.run(60.0)
    (notice,) = app.notices
    assert (notice.topic, notice.title) == (Topic.ROLLED_BACK, "web: web.2: deploy rolled back: crashed")
    assert notice.body == (
        "web-5 crashed: it exited with code 3\nIts last lines:\n  | Traceback\n  | boom\n"
        "It had succeeded; release 1 is put back in its place.\nMore: rota rollout show web.3"
    )


@pytest.mark.parametrize(("action", "topics"), [("pause", [Topic.PAUSED]), ("continue", [])])
def test_where_a_person_decides_that_is_what_is_told(action: str, topics: list[Topic]) -> None:
    app = released(rollout={"failure_action": action})
    kill(app, "web-5")
    app.run(60.0)
    assert [notice.topic for notice in app.notices] == topics


def test_after_monitor_a_failure_is_only_repaired() -> None:
    app = released()
    app.run(11.0)
    kill(app, "web-5")
    app.run(60.0)
    assert app.rollout.id == "web.2"
    assert releases(app) == [2, 2, 2]


@pytest.mark.parametrize(("action", "rollouts"), [("pause", 3), ("continue", 2)])
def test_another_failure_action_asks_a_person_or_nobody(action: str, rollouts: int) -> None:
    app = released(rollout={"failure_action": action})
    kill(app, "web-5")
    app.run(60.0)
    assert len(app.rollouts) == rollouts
    assert serving(app) == 3
    assert releases(app) == [2, 2, 2]


def test_the_person_who_is_asked_may_go_back_or_stay() -> None:
    for act, end, release in ((steering.resume, Phase.SUCCEEDED, 1), (steering.abort, Phase.CANCELLED, 2)):
        app = released(rollout={"failure_action": "pause"})
        kill(app, "web-5")
        app.run(60.0)
        assert (app.rollout.kind, app.rollout.phase) == (Kind.ROLLBACK, Phase.PAUSED)
        assert app.rollout.detail == "web-5 of release 2: it exited with code 3"
        app.ask(act)
        app.run(60.0)
        assert app.rollout.phase is end
        assert releases(app) == [release] * 3
        settled(app)


def test_max_failure_ratio_holds_after_the_success_too() -> None:
    app = released(rollout={"max_failure_ratio": 0.4})
    kill(app, "web-4")
    app.run(5.0)
    assert app.rollout.id == "web.2"
    kill(app, "web-5")
    app.run(60.0)
    assert app.rollout.kind is Kind.ROLLBACK
    assert releases(app) == [1, 1, 1]


@pytest.mark.parametrize("order", [o.Restart(), o.Scale(replicas=4), o.Rollback()])
def test_only_a_deploy_is_on_trial(order: o.Order) -> None:
    app = released()
    app.run(60.0)
    app.order(order)
    app.run(60.0, lambda: app.rollout.phase is Phase.SUCCEEDED)
    count = len(app.rollouts)
    kill(app, running(app)[-1])
    app.run(30.0)
    assert len(app.rollouts) == count


def test_a_first_deploy_has_nothing_to_go_back_to() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of(replicas=3)))
    app.run(1.0)
    kill(app, "web-1")
    app.run(30.0)
    assert len(app.rollouts) == 2
    first = deployed(rollout={"monitor": 300})
    kill(first, "web-1")
    first.run(30.0)
    assert len(first.rollouts) == 1
    assert first.rollout.failures[-1].replica == "web-1"


def test_a_way_back_that_fails_pauses_and_never_loops() -> None:
    app = released()
    usual = app.runtime.faults
    assert usual is not None
    app.runtime.faults = lambda order: usual(order) if order.release == 2 else Faults(crash_after=0.0)
    kill(app, "web-5")
    app.run(600.0)
    assert (app.rollout.id, app.rollout.phase) == ("web.3", Phase.PAUSED)


def test_a_section_that_does_not_fit_any_more_does_not_keep_it_from_going_back() -> None:
    app = deployed(2)
    app.order(o.Deploy(spec=spec_of(replicas=2, min_ready_seconds=0.5, rollback={"order": "stop-first"})))
    app.run(0.1)
    app.order(o.Scale(replicas=1))
    app.run(60.0, lambda: app.rollout.phase is Phase.SUCCEEDED)
    kill(app, running(app)[0])
    app.run(60.0)
    assert (app.rollout.kind, app.rollout.policy.order) == (Kind.ROLLBACK, Order.START_FIRST)
    assert releases(app) == [1]


def test_a_way_back_told_to_continue_goes_on_past_a_slot_that_fails() -> None:
    app = deployed(3)
    bad = {(2, 3), (1, 1)}  # release and slot
    app.runtime.faults = lambda order: Faults(crash_after=0.0 if (order.release, order.slot) in bad else None)
    section = {"failure_action": "continue", "progress_deadline": 20}
    app.order(o.Deploy(spec=spec_of(replicas=3, rollback=section)))
    app.run(600.0)
    assert (app.rollout.phase, app.rollout.back) == (Phase.PAUSED, True)
    assert releases(app) == [2, 1, 1]


def test_the_files_rollback_section_is_the_way_back_s_policy() -> None:
    app = released()
    section = {"parallelism": "100%", "monitor": 1}
    app.order(o.Deploy(spec=spec_of("crashing", replicas=3, rollback=section), policy=options(delay=2)))
    app.run(60.0)
    assert app.rollout.phase is Phase.ROLLED_BACK
    assert (app.rollout.policy.parallelism, app.rollout.policy.monitor, app.rollout.policy.delay) == (3, 1.0, 2.0)


def test_rota_rollback_takes_it_from_the_file_in_force() -> None:
    app = released(rollback={"parallelism": 3, "failure_action": "continue"})
    app.order(o.Rollback())
    assert app.rollout.policy.parallelism == 3
    assert app.rollout.policy.failure_action is FailureAction.CONTINUE
    app.run(60.0)
    assert told(app, "TakeSlot") == ["TakeSlot 1", "TakeSlot 2", "TakeSlot 3"]


def test_a_rollback_told_to_continue_leaves_the_slots_that_fail() -> None:
    app = released(rollback={"failure_action": "continue"})
    usual = app.runtime.faults
    assert usual is not None
    app.runtime.faults = lambda order: Faults(crash_after=0.0) if order.slot == 2 else usual(order)
    app.order(o.Rollback())
    app.run(5.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert app.rollout.detail == "slots left as they were: 2"
