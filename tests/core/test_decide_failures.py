"""What becomes of a rollout whose new replicas fail, and of replicas that die by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.scenario import deployed, empty, options, releases, running, serving, settled, told

from rota.adapters.store import codec
from rota.core import order as o
from rota.core import steering
from rota.core import steps as s
from rota.core.member import ReplicaPhase
from rota.core.notice import Topic
from rota.core.rollout import Cause, Kind, Phase
from rota.core.state import AppState
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import MOODS, Deed, History, Life, mood_of, spec_of

REASONS = [
    ("deaf", Cause.TIMEOUT),
    ("ill", Cause.UNHEALTHY),
    ("crashing", Cause.CRASHED),
    ("refused", Cause.START_FAILED),
]


def deploy(app: Simulation, mood: str, replicas: int = 3, **rollout: object) -> None:
    """A new release, whatever there was before it."""
    number = app.state.recorded.next_release if app.state is not None else 1
    fresh = spec_of(mood, replicas=replicas, build_command=[f"make {number}"])
    app.order(o.Deploy(spec=fresh, policy=options(**rollout)))
    app.run(120.0)


@pytest.mark.parametrize(("mood", "cause"), REASONS)
def test_a_release_that_does_not_come_up_is_rolled_back_with_the_reason(mood: str, cause: Cause) -> None:
    app = deployed()
    deploy(app, mood)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, cause)
    assert releases(app) == [1, 1, 1]
    assert len(app.rollout.taken) == 1
    settled(app)


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_the_old_release_serves_throughout_or_again(order: str) -> None:
    app = deployed()
    deploy(app, "deaf", order=order)
    assert serving(app) == 3
    assert app.rollout.gaps == ()


def test_a_crash_is_reported_with_its_last_lines() -> None:
    app = deployed(replicas=1)
    app.order(o.Deploy(spec=spec_of("crashing", replicas=1)))
    app.run(0.01)
    app.runtime.write(next(iter(set(app.seen()) - {"web-1"})), "Traceback", "boom")
    app.run(60.0)
    assert app.rollout.failures[-1].log == ("Traceback", "boom")
    assert app.rollout.detail == "web-2: it exited with code 1"


def test_a_build_that_fails_turns_back_and_touches_no_slot() -> None:
    app = deployed()
    app.runtime.prepare_faults["web", 2] = "make: *** no rule"
    deploy(app, "unbuilt")
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.BUILD_FAILED)
    assert app.rollout.detail == "make: *** no rule"
    assert told(app, "TakeSlot", "StartReplica") == []


def test_a_build_that_failed_is_tried_again_by_a_new_deploy() -> None:
    app = deployed()
    app.runtime.prepare_faults["web", 2] = "no space left"
    deploy(app, "unbuilt")
    app.runtime.prepare_faults.clear()
    deploy(app, "unbuilt")
    assert app.rollout.phase is Phase.SUCCEEDED


def test_a_first_deploy_that_fails_leaves_nothing_running() -> None:
    app = empty()
    deploy(app, "crashing")
    assert (app.rollout.phase, app.rollout.cause) == (Phase.FAILED, Cause.CRASHED)
    assert app.seen() == {}
    assert app.state is not None
    assert not app.state.desired.running
    deploy(app, "good")
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_a_first_deploy_cannot_continue_past_a_failure() -> None:
    app = empty()
    deploy(app, "crashing", failure_action="continue")
    assert app.rollout.phase is Phase.FAILED
    assert app.seen() == {}


def test_pause_waits_for_a_person_who_may_abort() -> None:
    app = deployed()
    deploy(app, "deaf", failure_action="pause")
    assert app.rollout.phase is Phase.PAUSED
    assert serving(app) == 3
    app.ask(steering.abort)
    app.run(60.0)
    assert app.rollout.phase is Phase.CANCELLED
    settled(app)


def test_pause_waits_for_a_person_who_may_resume() -> None:
    app = deployed()
    app.runtime.faults = lambda order: Faults(listens_after=None) if order.release == 2 else Faults()
    deploy(app, "good", failure_action="pause")
    app.runtime.faults = lambda order: Faults()
    app.ask(steering.resume)
    app.run(120.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_continue_leaves_the_slots_that_fail_as_they_were() -> None:
    app = deployed()
    bad = {"web-4"}
    app.runtime.faults = lambda order: MOODS["crashing" if order.replica in bad else "good"]
    app.order(o.Restart(policy=options(failure_action="continue")))
    app.state = _with_one_attempt(app)
    app.run(120.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert app.rollout.detail == "slots left as they were: 1"
    assert running(app)[0] == "web-1"
    settled(app)


def _with_one_attempt(app: Simulation) -> AppState:
    assert app.state is not None
    rollout = app.state.recorded.rollout
    assert rollout is not None
    rollout = replace(rollout, policy=replace(rollout.policy, attempts=1))
    return replace(app.state, recorded=replace(app.state.recorded, rollout=rollout))


@pytest.mark.parametrize("mood", ["deaf", "refused", "crashing"])
def test_continue_with_no_slot_changed_has_failed(mood: str) -> None:
    app = deployed()
    deploy(app, mood, failure_action="continue", order="stop-first")
    assert app.rollout.phase is Phase.FAILED
    assert app.rollout.detail == "no slot could be changed"
    assert releases(app) == [1, 1, 1]
    settled(app)


def test_some_failures_are_allowed_by_max_failure_ratio_and_no_more() -> None:
    app = deployed(replicas=5)
    app.runtime.faults = lambda order: (
        MOODS["crashing" if order.slot == 2 else "good"] if order.release == 2 else Faults()
    )
    deploy(app, "good", replicas=5, max_failure_ratio=0.2)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert releases(app) == [2, 1, 2, 2, 2]
    app.runtime.faults = lambda order: MOODS["crashing" if order.slot in (2, 4) else "good"]
    app.order(o.Deploy(spec=spec_of(replicas=5, min_ready_seconds=0.5), policy=options(max_failure_ratio=0.2)))
    app.run(10.0)
    assert app.rollout.cause is Cause.CRASHED


@pytest.mark.parametrize("section", [{"max_failure_ratio": 0.4}, {"failure_action": "continue"}])
def test_a_first_deploy_has_nothing_to_leave_a_failed_slot_with(section: dict[str, Any]) -> None:
    app = empty()
    app.runtime.faults = lambda order: MOODS["crashing" if order.slot == 2 else "good"]
    app.order(o.Deploy(spec=spec_of(replicas=3, rollout=section)))
    app.run(60.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.FAILED, Cause.CRASHED)
    assert running(app) == []


def test_what_a_left_behind_slot_had_does_not_come_up_either() -> None:
    app = deployed()
    app.runtime.faults = lambda order: MOODS["crashing"]
    deploy(app, "good", failure_action="continue", order="stop-first")
    assert app.rollout.phase is Phase.PAUSED


def test_a_rollback_is_never_rolled_back_itself() -> None:
    app = deployed()
    deploy(app, "good")
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=1)))
    app.run(60.0)
    app.runtime.faults = lambda order: MOODS["deaf"]
    app.order(o.Rollback(release=1))
    app.run(60.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.PAUSED, Cause.TIMEOUT)
    assert serving(app) == 3


def test_the_way_back_pauses_when_the_old_release_fails_too() -> None:
    app = deployed()
    app.runtime.faults = lambda order: MOODS["crashing"]
    deploy(app, "good", order="stop-first")
    assert app.rollout.phase is Phase.PAUSED
    assert app.rollout.back
    assert serving(app) == 2
    app.runtime.faults = lambda order: Faults()
    app.ask(steering.resume)
    app.run(60.0)
    assert app.rollout.phase is Phase.ROLLED_BACK
    settled(app)


def test_a_paused_way_back_does_not_end_by_itself() -> None:
    app = deployed()
    app.runtime.faults = lambda order: MOODS["crashing"]
    deploy(app, "good", order="stop-first")
    app.runtime.faults = lambda order: Faults()
    app.run(600.0)
    assert app.rollout.phase is Phase.PAUSED
    assert serving(app) == 3


def test_a_restart_is_tried_as_often_as_the_file_says() -> None:
    app = deployed(restart={"attempts": 5, "delay": 0.1, "max_delay": 1.0})
    app.runtime.faults = lambda order: MOODS["crashing"]
    app.order(o.Restart())
    app.run(600.0)
    assert len(told(app, "StartReplica")) >= 5
    assert len([done for done in app.steps if type(done.step).__name__ == "TurnBack"]) == 1
    assert app.rollout.taken[1].back


def test_a_restart_that_never_comes_up_is_tried_twenty_times_whatever_becomes_of_the_daemon() -> None:
    """With the file's defaults, and a daemon that ends after the seventh try and knows only what was written down."""
    app = deployed(restart={})
    app.runtime.faults = lambda order: MOODS["crashing"]
    app.order(o.Restart())
    app.run(3600.0, until=lambda: len(_failures(app)) == 7)
    assert app.state is not None
    app.state = _read_again(app.state)
    app.restart_daemon()
    app.run(36_000.0)
    starts = [done.at for done in app.steps if isinstance(done.step, s.StartReplica)]
    failures = _failures(app)
    assert (len(starts), len(failures)) == (20, 20)
    waits = [start - failed for start, failed in zip(starts[1:], failures, strict=False)]
    assert all(0.0 <= wait <= min(300.0, 2.0**tries) for tries, wait in enumerate(waits))
    assert sum(waits) > 300.0
    assert [(one.topic, one.title) for one in app.notices] == [
        (Topic.ROLLED_BACK, f"web: {app.rollout.id}: restart rolled back: crashed")
    ]
    assert (app.rollout.phase, serving(app)) == (Phase.ROLLED_BACK, 3)


def _failures(app: Simulation) -> list[float]:
    return [done.at for done in app.steps if isinstance(done.step, s.FailReplica)]


def _read_again(state: AppState) -> AppState:
    """As the database has it."""
    releases = {number: codec.release_of(codec.release_text(one)) for number, one in state.releases.items()}
    rollout = state.recorded.rollout
    again = codec.rollout_of(codec.rollout_text(rollout)) if rollout is not None else None
    return codec.state_of(codec.state_text(state), releases, again)


def test_a_deploy_that_does_not_listen_in_time_is_tried_once() -> None:
    app = deployed()
    deploy(app, "deaf")
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.TIMEOUT)
    assert told(app, "StartReplica") == ["StartReplica web-4"]


def test_a_restart_that_comes_up_at_the_third_try_succeeds() -> None:
    app = deployed()
    tries = iter([MOODS["crashing"], MOODS["crashing"]])
    app.runtime.faults = lambda order: next(tries, Faults())
    app.order(o.Restart(policy=options(delay=0.0)))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_a_new_replica_that_dies_within_monitor_counts() -> None:
    app = deployed()
    deploy(app, "short-lived")
    ends = [(Kind.DEPLOY, Phase.ROLLED_BACK), (Kind.ROLLBACK, Phase.SUCCEEDED)]
    assert (app.rollout.kind, app.rollout.phase) in ends
    assert app.rollout.cause is Cause.CRASHED
    app = deployed(min_ready_seconds=0)
    app.order(o.Deploy(spec=spec_of("short-lived", replicas=3), policy=options(delay=5.0)))
    app.run(60.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.CRASHED)
    assert releases(app) == [1, 1, 1]
    settled(app)


def test_no_progress_within_the_deadline_turns_back() -> None:
    app = deployed(replicas=2)
    app.order(o.Deploy(spec=spec_of(replicas=2, min_ready_seconds=0.5), policy=options(progress_deadline=20.0)))
    app.run(0.4)
    app.unhealthy["web-3"] = (app.now + 0.5, app.now + 1e6)  # type: ignore[index]
    app.run(120.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.PROGRESS_DEADLINE)
    settled(app)


@pytest.mark.parametrize("section", [{"delay": 2, "min_available": 0}, {}])
def test_replicas_that_die_again_and_again_once_they_serve_hold_up_neither_delay_nor_deadline(
    section: dict[str, Any],
) -> None:
    """With no ``monitor`` that is no failure of the rollout's; what they wait, and each new one in rotation, is no
    progress of it either. What the histories found."""
    spec: dict[str, Any] = {"sticky": True, "drain": {"timeout": 0.2}, "repair": {"unhealthy_grace": 1}}
    spec |= {"rollout": {"progress_deadline": 20, "monitor": 0, **section}}
    first, second = ("good", {"replicas": 4}, False), ("short-lived", {"replicas": 4}, True)
    deploys = [Deed(0.0, "deploy", deed) for deed in (first, second, ("good", {}, False))]
    deeds = [*deploys[:2], Deed(0.0, "lose_balancer", 0.2), deploys[2]]
    life = Life(History({"replicas": 1, **spec}, deeds, seed=0))
    life.play()
    assert life.simulation.rollouts["web.2"].phase.ended


def test_with_continue_a_slot_that_does_not_get_on_is_left_behind() -> None:
    app = deployed(replicas=2)
    app.refuses = lambda step: "before" if type(step).__name__ == "EnableServer" and step.replica == "web-3" else ""
    deploy(app, "good", replicas=2, progress_deadline=20.0, failure_action="continue")
    assert app.rollout.phase is Phase.SUCCEEDED
    assert app.rollout.detail == "slots left as they were: 1"
    assert releases(app) == [1, 2]


def test_a_call_that_is_refused_for_ever_does_not_hold_up_the_deadline() -> None:
    app = deployed()
    app.refuses = lambda step: "before" if type(step).__name__ == "EnableServer" and step.replica == "web-4" else ""
    app.order(o.Restart(policy=options(progress_deadline=20.0)))
    app.run(300.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.PROGRESS_DEADLINE)


def test_a_scale_whose_new_replica_fails_has_failed() -> None:
    app = deployed()
    app.runtime.faults = lambda order: MOODS["deaf"]
    app.order(o.Scale(replicas=4))
    app.run(60.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.FAILED, Cause.TIMEOUT)


def test_a_replica_that_dies_is_replaced_at_once() -> None:
    app = deployed()
    app.runtime.crash("web-2", None, signal=9)  # type: ignore[arg-type]
    app.run(1.0)
    assert told(app, "DisableServer", "FailReplica", "StartReplica", "EnableServer") == [
        "DisableServer web-2",
        "FailReplica web-2",
        "StartReplica web-4",
        "EnableServer web-4",
    ]
    settled(app)


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ({"code": 3}, "it exited with code 3"),
        ({"signal": 9}, "it was ended by signal 9 (SIGKILL)"),
        (
            {"signal": 9, "oom": True},
            "it was ended by the kernel: out of memory (it has no limit, the machine is full);"
            " raise resources.memory or make it use less",
        ),
        ({"code": None}, "it ended while nobody watched; its exit code is not known"),
    ],
)
def test_the_reason_says_how_it_ended(ending: dict[str, object], words: str) -> None:
    app = deployed(replicas=1)
    app.runtime.faults = lambda order: MOODS["deaf"]
    app.runtime.crash("web-1", **{"code": None, **ending})  # type: ignore[arg-type]
    app.run(1.0)
    failed = [member for member in app.here().members.values() if member.phase is ReplicaPhase.FAILED]
    assert [member.record.failure.detail for member in failed if member.record.failure] == [words]


def test_a_replica_that_was_removed_by_hand_is_replaced() -> None:
    app = deployed()
    app.runtime.vanish("web-2")  # type: ignore[arg-type]
    app.run(10.0)
    assert running(app) == ["web-1", "web-3", "web-4"]
    settled(app)


def test_a_slot_whose_replicas_die_waits_longer_and_longer() -> None:
    app = deployed(replicas=1)
    app.runtime.faults = lambda order: MOODS["crashing"]
    app.runtime.crash("web-1")  # type: ignore[arg-type]
    app.run(60.0)
    starts = [done.at for done in app.steps if type(done.step).__name__ == "StartReplica"]
    assert 10 < len(starts) < 20
    assert starts[-1] - starts[-2] > 4.0


@pytest.mark.parametrize("mood", ["crashing", "refused"])
def test_a_slot_is_given_up_after_its_last_attempt_where_the_file_says_so(mood: str) -> None:
    app = deployed(replicas=2, restart={"attempts": 3, "delay": 0.1, "max_delay": 1, "give_up": True})
    app.runtime.faults = lambda order: MOODS[mood]
    app.runtime.crash("web-1")  # type: ignore[arg-type]
    app.run(300.0)
    assert len(told(app, "StartReplica")) == 3
    assert app.state is not None
    ends = [record.failure.detail for record in app.state.recorded.replicas.values() if record.failure]
    assert ends[-1].endswith("; given up after 3 attempts (restart.give_up), until a restart or deploy")
    app.runtime.faults = lambda order: Faults()
    app.order(o.Restart())
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert serving(app) == 2


def test_a_slot_whose_replicas_die_in_rotation_waits_too() -> None:
    app = deployed(replicas=1)
    app.runtime.faults = lambda order: MOODS["flapping"]
    app.runtime.crash("web-1")  # type: ignore[arg-type]
    app.run(60.0)
    assert len(told(app, "StartReplica")) < 20


def test_a_failed_replica_is_shown_until_another_took_its_place() -> None:
    app = deployed(replicas=1)
    app.runtime.faults = lambda order: MOODS["deaf"]
    app.runtime.crash("web-1")  # type: ignore[arg-type]
    app.run(1.0)
    assert app.here().members["web-1"].phase is ReplicaPhase.FAILED  # type: ignore[index]
    app.runtime.faults = lambda order: Faults()
    app.run(60.0)
    assert list(app.seen()) == running(app)


def explained_late() -> Simulation:
    """Each end is seen half a second before it is known how it ended."""
    app = empty()
    app.runtime.faults = lambda order: Faults(explained_after=0.5)
    app.order(o.Deploy(spec=spec_of(replicas=3)))
    app.run(60.0)
    app.steps.clear()
    return app


def test_one_that_ended_gets_no_request_before_it_is_known_how_it_ended() -> None:
    app = explained_late()
    app.runtime.crash("web-2")  # type: ignore[arg-type]
    app.run(0.2)
    assert told(app, "DisableServer", "FailReplica", "StartReplica") == ["DisableServer web-2"]
    app.run(1.0)
    assert told(app, "DisableServer", "FailReplica", "StartReplica")[1:] == ["FailReplica web-2", "StartReplica web-4"]
    app.run(60.0)
    settled(app)


def test_one_is_started_again_in_place_once_it_is_known_how_it_ended() -> None:
    app = explained_late()
    app.order(o.Restart(policy=options(order="in-place")))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert told(app, "RestartReplica") == ["RestartReplica web-1", "RestartReplica web-2", "RestartReplica web-3"]
    settled(app)


def test_every_replica_is_dead_and_a_deploy_mends_it() -> None:
    app = deployed()
    app.runtime.faults = lambda order: MOODS[mood_of(order.spec) if order.release > 1 else "crashing"]
    for name in running(app):
        app.runtime.crash(name)  # type: ignore[arg-type]
    app.run(20.0)
    deploy(app, "good", order="stop-first")
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


@pytest.mark.parametrize("action", ["continue", "rollback"])
def test_a_slot_that_cannot_serve_is_taken_out_of_turn(action: str) -> None:
    app = deployed(replicas=2)
    app.runtime.faults = lambda order: MOODS["good" if order.release > 1 else "crashing"]
    app.runtime.crash("web-2")  # type: ignore[arg-type]
    app.run(20.0)
    deploy(app, "good", replicas=2, failure_action=action)
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)
