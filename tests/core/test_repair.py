"""Replicas that run and are unhealthy: noted, replaced when that lasts, few at once, and not when nobody serves."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.core.scenario import deployed, empty, options, running, serving, settled, told

from rota.core import order as o
from rota.core import repair
from rota.core import steps as s
from rota.core.healthcheck import ImageCheck
from rota.core.member import ReplicaPhase
from rota.core.names import ReplicaId
from rota.core.rollout import Cause, Phase
from rota.core.state import SlotRecord
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import MOODS, spec_of

FOR_EVER = 1e6
REPAIR = {"unhealthy_grace": 30.0}


def sicken(app: Simulation, *names: str, seconds: float = FOR_EVER) -> None:
    app.unhealthy |= {ReplicaId(name): (app.now, app.now + seconds) for name in names}


def slot_of(app: Simulation, number: int) -> SlotRecord:
    assert app.state is not None
    return app.state.recorded.slots.get(number, SlotRecord())


def said(app: Simulation, kind: type) -> list[str]:
    return [done.step.reason for done in app.steps if isinstance(done.step, kind)]


def test_one_that_recovers_within_the_grace_stays() -> None:
    app = deployed()
    sicken(app, "web-2", seconds=29.0)
    app.run(120.0)
    assert said(app, s.NoteHealth) == [
        "its health check fails, so it gets no requests",
        "its health check passes again",
    ]
    assert running(app) == ["web-1", "web-2", "web-3"]
    settled(app)


def test_one_that_stays_unhealthy_is_replaced_after_the_grace_and_its_heir_comes_first() -> None:
    app = deployed()
    app.runtime.faults = lambda order: Faults(listens_after=2.0)
    sicken(app, "web-2")
    began = app.now
    app.run(60.0)
    kinds = ("NoteHealth", "FailReplica", "StartReplica", "EnableServer", "DisableServer", "StopReplica")
    assert told(app, *kinds) == [
        "NoteHealth web-2",
        "FailReplica web-2",
        "StartReplica web-4",
        "EnableServer web-4",
        "DisableServer web-2",
        "StopReplica web-2",
    ]
    (failed,) = [done for done in app.steps if isinstance(done.step, s.FailReplica)]
    assert failed.at - began == pytest.approx(30.0, abs=0.1)
    assert failed.step.failure.cause is Cause.UNHEALTHY  # type: ignore[union-attr]
    assert said(app, s.FailReplica) == ["its health check has failed for 30.0 s (repair.unhealthy_grace)"]
    assert slot_of(app, 2) == SlotRecord(0, failed.at)
    settled(app)


def test_what_the_check_saw_is_in_the_reason() -> None:
    app = deployed()
    app.unhealthy_because = "HTTP 503"
    sicken(app, "web-2")
    app.run(10.0)
    here = app.here()
    assert repair.condition(here, here.members[ReplicaId("web-2")]) == (
        "unhealthy for 10.0 s (HTTP 503), gets no requests; is replaced after 30.0 s"
    )
    assert here.members[ReplicaId("web-2")].phase is ReplicaPhase.WARMING
    assert repair.condition(here, here.members[ReplicaId("web-1")]) == ""
    app.run(50.0)
    assert said(app, s.FailReplica) == [
        "its health check has failed for 30.0 s (repair.unhealthy_grace); last: HTTP 503"
    ]


def test_few_are_replaced_at_once() -> None:
    app = deployed(replicas=5)
    app.runtime.faults = lambda order: Faults(listens_after=3.0)
    sicken(app, "web-1", "web-3", "web-5")
    app.run(60.0)
    starts = [done.at for done in app.steps if isinstance(done.step, s.StartReplica)]
    assert len(starts) == 3
    assert min(after - before for before, after in itertools.pairwise(starts)) >= 3.0
    settled(app)


def test_as_many_at_once_as_the_file_says() -> None:
    app = deployed(replicas=5, repair={"max_at_once": 3})
    sicken(app, "web-1", "web-3", "web-5")
    app.run(60.0)
    assert len({done.at for done in app.steps if isinstance(done.step, s.StartReplica)}) == 1
    settled(app)


def test_with_nobody_serving_none_is_replaced_and_it_is_said_once() -> None:
    app = deployed()
    app.unhealthy_because = "HTTP 503"
    sicken(app, "web-1", "web-2", "web-3", seconds=300.0)
    app.run(200.0)
    assert told(app, "StartReplica", "StopReplica", "FailReplica") == []
    (held,) = said(app, s.HoldRepair)
    assert held.startswith("no replica serves (last seen: HTTP 503): what they depend on may be down")
    here = app.here()
    assert "so are all others" in repair.condition(here, here.members[ReplicaId("web-1")])
    app.run(300.0)
    assert said(app, s.HoldRepair)[1:] == ["a replica serves again"]
    assert running(app) == ["web-1", "web-2", "web-3"]
    settled(app)


def test_the_others_get_a_new_grace_when_the_first_recovers() -> None:
    app = deployed()
    sicken(app, "web-1", seconds=100.0)
    sicken(app, "web-2", "web-3", seconds=125.0)
    app.run(300.0)
    assert told(app, "StartReplica") == []
    settled(app)


def test_one_that_does_not_recover_with_the_others_is_replaced() -> None:
    app = deployed()
    sicken(app, "web-1", "web-2", seconds=100.0)
    sicken(app, "web-3")
    app.run(300.0)
    assert running(app) == ["web-1", "web-2", "web-4"]
    settled(app)


def test_a_person_may_replace_what_repair_leaves_alone() -> None:
    app = deployed()
    sicken(app, "web-1", "web-2", "web-3")
    app.run(100.0)
    app.order(o.Restart())
    app.run(100.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_an_only_replica_is_replaced_and_stays_until_its_heir_serves() -> None:
    app = deployed(replicas=1)
    app.runtime.faults = lambda order: MOODS["ill"]
    sicken(app, "web-1", seconds=60.0)
    app.run(50.0)
    assert "web-1" in running(app)
    app.run(30.0)
    assert serving(app) == 1, "the old one recovered"
    app.runtime.faults = lambda order: Faults()
    app.run(60.0)
    assert "web-1" not in running(app)
    settled(app)


def test_where_the_heir_cannot_be_started_beside_it_the_old_one_goes_first() -> None:
    app = deployed()
    room = 3
    app.runtime.faults = lambda order: Faults(start="no room" if len(running(app)) >= room else "")
    sicken(app, "web-2")
    app.run(100.0)
    assert told(app, "StartReplica", "StopReplica") == ["StartReplica web-4", "StopReplica web-2", "StartReplica web-5"]
    settled(app)


def test_a_slot_whose_heirs_do_not_come_up_keeps_the_others_from_being_torn_to_pieces() -> None:
    app = deployed()
    app.runtime.faults = lambda order: MOODS["crashing"]
    sicken(app, "web-1", "web-2")
    app.run(600.0)
    assert {done.step.slot for done in app.steps if isinstance(done.step, s.StartReplica)} == {1}
    assert {"web-1", "web-2", "web-3"} <= set(running(app))


def test_an_unhealthy_replica_may_end_before_its_heir_serves() -> None:
    app = deployed()
    app.runtime.faults = lambda order: Faults(listens_after=2.0)
    sicken(app, "web-2")
    app.run(31.0)
    app.runtime.crash(ReplicaId("web-2"))
    app.run(60.0)
    assert running(app) == ["web-1", "web-3", "web-4"]
    settled(app)


def test_repair_goes_on_in_a_rollout_and_counts_only_what_the_rollout_made() -> None:
    app = deployed()
    app.order(o.Restart(policy=options(delay=50.0)))
    app.run(5.0)
    sicken(app, "web-3")
    app.run(60.0)
    assert app.rollout.failures == ()
    app.run(120.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_a_new_replica_that_turns_unhealthy_within_monitor_turns_its_rollout_back() -> None:
    app = deployed()
    app.order(o.Restart(policy=options(delay=50.0)))
    _with_one_try(app)
    app.run(5.0)
    sicken(app, "web-4")
    app.run(120.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.UNHEALTHY)


def _with_one_try(app: Simulation) -> None:
    from dataclasses import replace

    assert app.state is not None
    rollout = replace(app.rollout, policy=replace(app.rollout.policy, attempts=1))
    app.state = replace(app.state, recorded=replace(app.state.recorded, rollout=rollout))


def test_nothing_is_concluded_while_haproxy_does_not_answer() -> None:
    app = deployed()
    sicken(app, "web-2", seconds=40.0)
    app.run(5.0)
    app.lose_balancer()
    app.run(30.0)
    assert told(app, "FailReplica") == []
    app.restore_balancer()
    app.run(60.0)


def test_a_replica_that_is_ready_waits_for_a_haproxy_that_does_not_answer() -> None:
    app = deployed(replicas=2)
    app.runtime.faults = lambda order: Faults(listens_after=2.0)
    app.order(o.Restart())
    app.run(1.0)
    app.lose_balancer()
    app.run(5.0)
    assert told(app, "EnableServer") == []
    app.restore_balancer()
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED


def test_a_replica_that_is_ready_waits_for_its_backend() -> None:
    app = deployed(replicas=2)
    app.takes = lambda step: 3.0 if isinstance(step, s.PrepareBackend) else 0.0
    app.balancer.apps["web"].backends.clear()
    app.runtime.crash(ReplicaId("web-1"))
    app.run(2.0)
    assert told(app, "StartReplica", "EnableServer") == ["StartReplica web-3"]
    app.run(5.0)
    assert told(app, "EnableServer") == ["EnableServer web-3"]


def test_a_replica_that_something_is_done_to_is_noted_afterwards() -> None:
    app = deployed()
    app.takes = lambda step: 5.0 if isinstance(step, s.UpdateLimits) else 0.0
    app.order(o.ChangeLimits(memory=2**26))
    app.run(0.5)
    sicken(app, "web-1")
    app.run(2.0)
    assert told(app, "NoteHealth") == []
    app.run(10.0)
    assert told(app, "NoteHealth") == ["NoteHealth web-1"]


def test_the_attempts_are_used_up_once_and_forgotten_after_a_minute_in_rotation() -> None:
    app = deployed(replicas=2, restart={"attempts": 3, "delay": 0.1, "max_delay": 1.0})
    app.runtime.faults = lambda order: MOODS["crashing"]
    app.runtime.crash(ReplicaId("web-1"))
    app.run(60.0)
    assert [done.step.last for done in app.steps if isinstance(done.step, s.FailReplica)][:4] == [
        False,
        False,
        False,
        True,
    ]
    assert slot_of(app, 1).alerted
    app.runtime.faults = lambda order: Faults()
    app.run(30.0)
    assert slot_of(app, 1).alerted
    app.run(60.0)
    assert slot_of(app, 1) == SlotRecord()
    assert len(said(app, s.SettleSlot)) == 1
    settled(app)


@pytest.mark.parametrize(
    ("ending", "immediate"),
    [({"code": None, "signal": 9}, True), ({"code": 1}, False), ({"code": None, "signal": 9, "oom": True}, False)],
)
def test_replicas_that_others_kill_wait_for_nothing_and_those_that_die_do(
    ending: dict[str, Any], immediate: bool
) -> None:
    """Five replicas, one killed every two seconds: none of them lives for long, and all are back at once."""
    app = deployed(replicas=5)
    app.runtime.faults = lambda order: Faults(listens_after=0.8)
    for _ in range(150):
        victim = min(running(app), key=lambda name: int(name.rpartition("-")[2]), default=None)
        if victim is not None:
            app.runtime.crash(ReplicaId(victim), **ending)
        app.run(2.0)
    assert (serving(app) >= 4) is immediate
    assert all(slot_of(app, slot).attempts == 0 for slot in range(1, 6)) is immediate


def test_one_that_is_removed_by_hand_again_and_again_is_back_at_once() -> None:
    app = deployed(replicas=1)
    for _ in range(30):
        app.runtime.vanish(ReplicaId(running(app)[0]))
        app.run(2.0)
    assert serving(app) == 1


EXEC = {"type": "exec", "command": ["check"], "interval": 2.0, "fall": 3, "rise": 2}


def test_what_only_the_daemon_can_ask_takes_it_out_of_rotation_and_back() -> None:
    """HAProxy sees nothing of it: an accepted connection is all that it asks."""
    app = deployed(health_check=EXEC)
    app.unhealthy_because = "the command ended with exit code 1"
    sicken(app, "web-2", seconds=20.0)
    began = app.now
    app.run(15.0)
    out = [done.at - began for done in app.steps if isinstance(done.step, s.SuspendServer)]
    assert out == [pytest.approx(4.0, abs=0.1)]
    assert said(app, s.SuspendServer) == ["its health check fails: the command ended with exit code 1"]
    assert serving(app) == 2
    here = app.here()
    assert here.members[ReplicaId("web-2")].phase is ReplicaPhase.WARMING
    assert repair.condition(here, here.members[ReplicaId("web-2")]).startswith(
        "unhealthy for 11.0 s (the command ended with exit code 1), gets no requests; is replaced after 30.0 s"
    )
    app.run(60.0)
    assert told(app, "NoteHealth", "SuspendServer", "EnableServer", "FailReplica") == [
        "NoteHealth web-2",
        "SuspendServer web-2",
        "EnableServer web-2",
    ]
    assert said(app, s.EnableServer) == ["its health check passes again"]
    assert running(app) == ["web-1", "web-2", "web-3"]
    settled(app)


def test_an_images_own_check_is_made_like_one_of_the_file() -> None:
    app = empty()
    app.runtime.image_checks["web", 1] = ImageCheck(("is_ready",), interval=1.0, retries=2)
    app.order(o.Deploy(spec=spec_of(replicas=2)))
    app.run(60.0)
    sicken(app, "web-2", seconds=5.0)
    began = app.now
    app.run(30.0)
    assert [done.at - began for done in app.steps if isinstance(done.step, s.SuspendServer)] == [
        pytest.approx(1.0, abs=0.1)
    ]
    settled(app)


def test_one_that_the_daemon_finds_ill_for_good_is_replaced_and_its_heir_comes_first() -> None:
    app = deployed(health_check=EXEC)
    app.runtime.faults = lambda order: Faults(listens_after=2.0)
    sicken(app, "web-2")
    app.run(90.0)
    kinds = ("SuspendServer", "FailReplica", "StartReplica", "EnableServer", "DisableServer", "StopReplica")
    assert told(app, *kinds) == [
        "SuspendServer web-2",
        "FailReplica web-2",
        "StartReplica web-4",
        "EnableServer web-4",
        "StopReplica web-2",
    ]
    assert said(app, s.FailReplica) == [
        "its health check has failed for 30.0 s (repair.unhealthy_grace); last: HTTP 503"
    ]
    settled(app)


def test_one_that_was_given_up_serves_again_until_its_heir_does() -> None:
    app = deployed(health_check=EXEC, boot_timeout=60)
    app.runtime.faults = lambda order: Faults(listens_after=20.0)
    sicken(app, "web-2", seconds=40.0)
    app.run(45.0)
    assert told(app, "FailReplica", "EnableServer") == ["FailReplica web-2", "EnableServer web-2"]
    assert serving(app) == 3
    app.run(60.0)
    assert told(app, "EnableServer", "DisableServer") == [
        "EnableServer web-2",
        "EnableServer web-4",
        "DisableServer web-2",
    ]
    settled(app)


def test_with_all_of_them_ill_by_the_daemons_check_none_is_replaced() -> None:
    app = deployed(health_check=EXEC)
    sicken(app, "web-1", "web-2", "web-3", seconds=200.0)
    app.run(150.0)
    assert serving(app) == 0
    assert told(app, "StartReplica", "StopReplica", "FailReplica") == []
    assert len(said(app, s.HoldRepair)) == 1
    app.run(100.0)
    assert told(app, "EnableServer") == ["EnableServer web-1", "EnableServer web-2", "EnableServer web-3"]
    assert serving(app) == 3
    settled(app)


def test_a_daemon_that_starts_again_leaves_the_ill_out_of_rotation() -> None:
    app = deployed(health_check=EXEC)
    sicken(app, "web-2", seconds=25.0)
    app.run(10.0)
    app.restart_daemon()
    app.run(10.0)
    assert told(app, "SuspendServer", "EnableServer") == ["SuspendServer web-2"]
    app.lose_balancer()
    app.run(1.0)
    app.restore_balancer()
    app.run(60.0)
    assert told(app, "SuspendServer", "EnableServer") == ["SuspendServer web-2", "EnableServer web-2"]
    settled(app)


def test_a_daemon_that_ends_between_its_note_and_its_act_acts_on_what_it_sees_then() -> None:
    app = deployed(health_check=EXEC)
    sicken(app, "web-2", seconds=4.5)
    app.run(10.0, until=lambda: bool(said(app, s.NoteHealth)))
    app.restart_daemon()
    app.run(60.0)
    assert said(app, s.NoteHealth) == [
        "its health check fails, so it gets no requests",
        "its health check passes again",
    ]
    assert said(app, s.SuspendServer) == []
    assert serving(app) == 3
    settled(app)


def test_an_ill_replica_that_a_rollout_replaces_is_not_waited_for() -> None:
    app = deployed(health_check=EXEC)
    sicken(app, "web-1")
    app.run(10.0)
    app.order(o.Restart())
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)
