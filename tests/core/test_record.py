"""What a step leaves behind that no scenario of decide shows: the table of phases, words and repeated steps."""

from __future__ import annotations

import itertools

import pytest
from tests.core.scenario import deployed

from rota.core import order as o
from rota.core import steps as s
from rota.core.events import EventKind, phase_event, step_event
from rota.core.member import ReplicaPhase
from rota.core.names import ReplicaId
from rota.core.observation import Address
from rota.core.record import record
from rota.core.rollout import MOVES, Cause, Failure, IllegalMove, Phase, check_move
from rota.core.spec import Limits
from rota.testing.faults import fault_points
from rota.testing.runtime import Faults

ONE = ReplicaId("web-1")


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Phase, Phase)))
def test_phases_move_by_the_table_and_not_otherwise(before: Phase, after: Phase) -> None:
    if after in MOVES[before]:
        assert check_move(before, after) is after
    else:
        with pytest.raises(IllegalMove, match="cannot go from"):
            check_move(before, after)


def test_an_ended_phase_leads_nowhere() -> None:
    assert {phase for phase in Phase if phase.ended} == {
        Phase.SUCCEEDED,
        Phase.ROLLED_BACK,
        Phase.FAILED,
        Phase.CANCELLED,
    }


def test_every_step_has_its_three_fault_points() -> None:
    assert len(fault_points()) == 3 * len(s.STEP_TYPES)


@pytest.mark.parametrize(
    "step",
    [
        s.DrainServer(ReplicaId("web-9"), "x"),
        s.RemoveReplica(ReplicaId("web-9"), "x"),
        s.FinishSlot("x", 1),
        s.CutConnections(ReplicaId("web-9"), "x", 3),
        s.PrepareBackend("x", None, ()),  # type: ignore[arg-type]
    ],
)
def test_a_step_about_what_is_gone_changes_nothing(step: s.Step) -> None:
    state = deployed().state
    assert state is not None
    assert record(state, step, 5.0) == state


def test_the_failure_of_a_replica_that_is_gone_still_counts_for_its_slot() -> None:
    state = deployed().state
    assert state is not None
    failure = Failure(ReplicaId("web-9"), 2, Cause.CRASHED, "boom", 1.0)
    after = record(state, s.FailReplica(ReplicaId("web-9"), "boom", failure, 1, 9.0, counted=True), 1.0)
    assert after.recorded.slots[2].next_try == 9.0


def test_a_drain_that_is_asked_for_again_keeps_its_deadline() -> None:
    state = deployed().state
    assert state is not None
    for now in (10.0, 20.0):
        state = record(state, s.DrainServer(ONE, "x"), now)
    assert state.recorded.replicas[ONE].drain_began_at == 10.0
    state = record(state, s.EnableServer(ONE, "x", "web.0", Address("127.0.0.1", 1)), 30.0)
    assert state.recorded.replicas[ONE].drain_began_at is None


def test_events_say_what_and_why() -> None:
    app = deployed()
    assert app.state is not None
    failure = Failure(ONE, 1, Cause.CRASHED, "boom", 1.0, ("last", "lines"))
    event = step_event(app.state, s.FailReplica(ONE, "boom", failure, 1, 9.0, counted=False), 5.0)
    assert (event.kind, event.replica, event.detail, event.rollout) == (EventKind.FAILURE, "web-1", "last\nlines", None)
    app.order(o.Restart())
    event = step_event(app.state, s.PrepareRelease("x", 1), 5.0)
    assert (event.kind, event.step, event.replica, event.rollout) == (EventKind.STEP, "PrepareRelease", None, "web.2")


def test_a_phase_has_an_event_when_it_changes() -> None:
    app = deployed()
    before = app.rollout
    assert phase_event(None, None, 1.0) is None
    assert phase_event(before, before, 1.0) is None
    app.order(o.Restart())
    event = phase_event(before, app.rollout, 1.0)
    assert event is not None
    assert (event.rollout, event.phase, event.reason) == ("web.2", "pending", None)


def test_a_replica_shows_its_phase_on_its_way() -> None:
    app = deployed(replicas=2, min_ready_seconds=1, drain={"timeout": 5})
    shown: list[str] = []

    app.runtime.faults = lambda order: Faults(listens_after=0.2, healthy_after=0.4, stop_takes=0.1)
    app.opens = lambda replica: (0.5,)
    app.takes = lambda step: 0.01
    app.order(o.Restart())
    for _ in range(1500):
        app.run(0.004)
        words = [f"{name} {member.phase.value}" for name, member in app.here().members.items()]
        shown += [word for word in words if word not in shown]
    phases = {word.split()[1] for word in shown}
    assert phases == {phase.value for phase in ReplicaPhase} - {"failed", "stopped", "standby"}
    assert [word for word in shown if word.startswith("web-3")] == [
        "web-3 pending",
        "web-3 starting",
        "web-3 warming",
        "web-3 ready",
    ]


def test_a_stopped_replica_that_is_kept_shows_as_stopped() -> None:
    app = deployed(replicas=1)
    app.order(o.Stop())
    app.run(20.0)
    assert [member.phase for member in app.here().members.values()] == [ReplicaPhase.STOPPED]


def test_an_address_is_written_as_a_url_has_it() -> None:
    assert str(Address("127.0.0.1", 20000)) == "127.0.0.1:20000"


def test_limits_are_said_in_words() -> None:
    assert Limits(memory=2**26, cpus=0.5).written() == "memory 64 MiB, cpus 0.5"
