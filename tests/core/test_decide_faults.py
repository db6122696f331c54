"""What decide makes of a world that does not do as it is told: HAProxy gone, calls refused, crashes, strays."""

from __future__ import annotations

import pytest
from tests.core.scenario import deployed, empty, options, running, serving, settled, told

from rota.core import order as o
from rota.core.handoff import CUT_TIME
from rota.core.names import ReplicaId
from rota.core.rollout import Phase
from rota.core.spec import Limits
from rota.core.steps import CutConnections
from rota.ports.runtime import ReleaseOrder, StartOrder
from rota.testing.runtime import Faults
from rota.testing.simulation import Crash, Simulation
from rota.testing.simulation_history import spec_of


def stray(app: Simulation, number: int, slot: int, release: int = 1) -> ReplicaId:
    """A replica with the app's labels that no record knows."""
    name = ReplicaId(f"web-{number}")
    with pytest.raises(StopIteration):
        app.runtime.prepare(ReleaseOrder("web", release, None, spec_of())).send(None)
    order = StartOrder(name, "web", slot, release, 0, Limits(), spec_of())
    with pytest.raises(StopIteration):
        app.runtime.start(order).send(None)
    return name


def test_no_replica_is_stopped_while_haproxy_does_not_answer() -> None:
    app = deployed()
    app.lose_balancer()
    app.order(o.Stop(remove=True))
    app.run(20.0)
    assert running(app) == ["web-1", "web-2", "web-3"]
    app.restore_balancer()
    app.run(60.0)
    assert app.seen() == {}


def test_a_replica_that_never_entered_rotation_may_be_stopped_without_haproxy() -> None:
    app = deployed(replicas=2)
    app.runtime.faults = lambda order: Faults(listens_after=None)
    app.order(o.Scale(replicas=3))
    app.run(1.0)
    app.lose_balancer()
    app.run(10.0)
    assert told(app, "StopReplica")[0] == "StopReplica web-3"


def test_a_dead_replica_is_not_forgotten_while_haproxy_may_have_it() -> None:
    app = deployed()
    app.lose_balancer()
    app.runtime.crash(ReplicaId("web-2"))
    app.run(5.0)
    assert "web-2" in app.seen()
    app.restore_balancer()
    app.run(10.0)
    settled(app)


def test_a_haproxy_that_forgot_a_server_gets_it_again() -> None:
    app = deployed()
    del app.balancer.apps["web"].servers[ReplicaId("web-2")]
    app.run(40.0)
    assert serving(app) == 3
    assert running(app) == ["web-1", "web-2", "web-3"]


def test_a_haproxy_that_forgot_everything_is_told_again() -> None:
    app = deployed()
    app.balancer.apps.clear()
    app.run(40.0)
    assert told(app, "PrepareBackend", "RouteApp")[0].startswith("PrepareBackend")
    settled(app)


def test_haproxy_lost_in_the_middle_of_a_rollout_only_delays_it() -> None:
    app = deployed()
    app.order(o.Restart())
    app.run(0.15)
    app.lose_balancer()
    app.run(2.0)
    app.restore_balancer()
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert any(gap.reason == "HAProxy was not running" for gap in app.rollout.gaps)
    settled(app)


def test_open_requests_are_waited_for() -> None:
    app = deployed(replicas=2, drain={"timeout": 30})
    app.opens = lambda replica: (4.0,)
    app.order(o.Restart())
    app.run(60.0)
    stopped = [done.at for done in app.steps if type(done.step).__name__ == "StopReplica"]
    drained = [done.at for done in app.steps if type(done.step).__name__ == "DisableServer"]
    assert stopped[0] - drained[0] == pytest.approx(4.0, abs=0.05)
    assert app.rollout.cut == 0


def test_what_is_open_at_the_deadline_is_counted_and_cut() -> None:
    app = deployed(replicas=2, drain={"timeout": 1})
    app.opens = lambda replica: (60.0, 60.0)
    app.order(o.Restart())
    app.run(60.0)
    assert app.rollout.cut == 4
    assert told(app, "CutConnections") == ["CutConnections web-1", "CutConnections web-2"]


def test_a_cut_that_a_crash_kept_from_being_made_is_made_again_and_counted_once() -> None:
    app = deployed(replicas=1, drain={"timeout": 1})
    app.opens = lambda replica: (60.0, 60.0)
    app.order(o.Restart())
    app.run(60.0, until=lambda: bool(told(app, "DisableServer")))
    app.crash = Crash(0)
    app.run(60.0)
    assert app.rollout.cut == 2
    assert set(told(app, "CutConnections")) == {"CutConnections web-1"}
    assert len(told(app, "CutConnections")) == 2
    settled(app)


def test_what_a_daemon_finds_open_long_after_the_deadline_is_counted_as_cut() -> None:
    app = deployed(replicas=1, drain={"timeout": 1})
    app.opens = lambda replica: (60.0, 60.0)
    app.order(o.Restart())
    app.run(60.0, until=lambda: bool(told(app, "DisableServer")))
    app.clock.advance(20.0)  # no daemon runs
    app.restart_daemon()
    app.run(60.0)
    assert app.rollout.cut == 2
    settled(app)


def test_a_hand_off_that_was_given_up_says_nothing_of_the_next_ones_deadline() -> None:
    """An unhealthy replica was to go as its heir could not be started; it recovered before HAProxy let it go."""
    app = deployed(replicas=1, drain={"timeout": 1}, repair={"unhealthy_grace": 0}, restart={"delay": 5})
    app.runtime.faults = lambda order: Faults(start="no such program" if order.replica == "web-2" else "")
    app.refuses = lambda step: "before" if type(step).__name__ == "DisableServer" and app.now < ill + 0.3 else ""
    ill = app.now
    app.unhealthy[ReplicaId("web-1")] = (ill, ill + 0.2)
    app.opens = lambda replica: (60.0,)
    app.run(60.0)
    (last,) = [done.at for done in app.steps if type(done.step).__name__ == "StopReplica"]
    disabled = [done.at for done in app.steps if type(done.step).__name__ == "DisableServer"]
    assert last >= disabled[-1] + 1.0
    assert told(app, "CutConnections") == ["CutConnections web-1"]
    settled(app)


def test_what_cannot_be_cut_does_not_hold_the_hand_off_for_ever() -> None:
    app = deployed(replicas=1, drain={"timeout": 1})
    app.opens = lambda replica: (600.0,)
    app.order(o.Restart())
    app.refuses = lambda step: "before" if type(step).__name__ == "CutConnections" else ""
    app.run(60.0, until=lambda: bool(told(app, "StopReplica")))
    drained = next(done.at for done in app.steps if type(done.step).__name__ == "DisableServer")
    assert app.now - drained == pytest.approx(1.0 + CUT_TIME, abs=0.1)


def test_many_long_connections_end_share_by_share_after_the_deadline() -> None:
    app = deployed(replicas=1, drain={"timeout": 3})
    app.opens = lambda replica: (3600.0,) * 200
    app.order(o.Restart())
    app.run(60.0)
    (drained,) = (done.at for done in app.steps if type(done.step).__name__ == "DisableServer")
    cuts = [(done.at - drained, done.step.open) for done in app.steps if isinstance(done.step, CutConnections)]
    assert app.rollout.cut == 200
    assert [count for _, count in cuts] == [10] * 20
    assert [at for at, _ in cuts] == pytest.approx([3.0 + 0.5 * number for number in range(20)], abs=0.2)
    settled(app)


@pytest.mark.parametrize("point", [0, 1])
def test_a_crash_amid_the_shares_counts_none_of_them_twice(point: int) -> None:
    app = deployed(replicas=1, drain={"timeout": 1})
    app.opens = lambda replica: (3600.0,) * 40
    app.order(o.Restart())
    app.run(60.0, until=lambda: len(told(app, "CutConnections")) == 3)
    app.crash = Crash(point)
    app.run(60.0)
    assert app.rollout.cut == 40
    settled(app)


def test_a_stop_that_a_crash_kept_from_being_sent_is_sent_at_once() -> None:
    app = deployed(replicas=1, stop_grace_period=30)
    app.order(o.Restart())
    app.run(60.0, until=lambda: bool(told(app, "DisableServer")))
    app.crash = Crash(0)
    app.run(60.0)
    assert "KillReplica" not in app.kinds()
    assert told(app, "StopReplica") == ["StopReplica web-1"] * 2
    settled(app)


def test_an_old_haproxy_process_is_waited_for_until_the_deadline() -> None:
    app = deployed(replicas=1, drain={"timeout": 3})
    app.old_process_ends_after = 100.0
    app.order(o.Deploy(spec=spec_of(replicas=1, drain={"timeout": 3}, health_check={"fall": 9})))
    app.run(60.0)
    stopped = [done.at for done in app.steps if type(done.step).__name__ == "StopReplica"]
    drained = [done.at for done in app.steps if type(done.step).__name__ == "DisableServer"]
    assert stopped[0] - drained[0] >= 3.0


def test_one_that_ignores_the_stop_signal_is_killed_after_its_grace_and_again() -> None:
    app = empty()
    app.runtime.faults = lambda order: Faults(stop_takes=None)
    app.order(o.Deploy(spec=spec_of(replicas=1)))
    app.run(20.0)
    app.refuses = lambda step: "before" if type(step).__name__ == "KillReplica" and app.now < 1022.0 else ""
    app.order(o.Restart())
    app.run(60.0)
    kills = [done.at - 1020.0 for done in app.steps if type(done.step).__name__ == "KillReplica"]
    assert kills[0] == pytest.approx(0.6, abs=0.05)
    assert len(kills) >= 2
    assert running(app) == ["web-2"]


@pytest.mark.parametrize("kind", ["EnableServer", "DisableServer", "StopReplica", "RemoveReplica"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_refused_call_is_made_again(kind: str, when: str) -> None:
    app = deployed()
    left = [3]

    def refuse(step: object) -> str:
        if type(step).__name__ != kind or not left[0]:
            return ""
        left[0] -= 1
        return when

    app.refuses = refuse
    app.order(o.Restart())
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_two_hand_offs_at_once_do_not_share_the_same_room() -> None:
    app = deployed(replicas=3)
    app.takes = lambda step: 0.5 if type(step).__name__ == "DisableServer" else 0.0
    app.order(o.Restart(policy=options(order="stop-first", parallelism=2, min_available=2)))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED


def test_a_running_stray_is_taken_over_and_handed_off() -> None:
    app = deployed(replicas=2)
    name = stray(app, 7, slot=1)
    app.run(60.0)
    assert told(app, "AdoptReplica", "StopReplica", "RemoveReplica") == [
        f"AdoptReplica {name}",
        f"StopReplica {name}",
        f"RemoveReplica {name}",
    ]
    settled(app)
    app.runtime.crash(ReplicaId("web-1"))
    app.run(10.0)
    assert "web-8" in running(app)


def test_a_stray_of_a_release_that_nobody_knows_goes_too() -> None:
    app = deployed(replicas=2)
    stray(app, 9, slot=2, release=44)
    app.run(60.0)
    assert running(app) == ["web-1", "web-2"]
    settled(app)


def test_a_stray_in_a_free_slot_beyond_the_count_goes() -> None:
    app = deployed(replicas=1)
    stray(app, 3, slot=2)
    app.run(60.0)
    assert running(app) == ["web-1"]


def test_a_removal_that_a_crash_cut_short_is_done_again() -> None:
    app = deployed(replicas=1)
    app.order(o.Restart())
    app.run(0.15, until=lambda: told(app, "RemoveServer") != [])
    app.crash = Crash(0)
    app.run(30.0)
    assert told(app, "RemoveReplica") == ["RemoveReplica web-1", "RemoveReplica web-1"]
    settled(app)


@pytest.mark.parametrize("order", ["start-first", "stop-first", "in-place"])
@pytest.mark.parametrize("acted", [None, 0, 1])
def test_a_crash_at_any_decision_of_a_rollout_loses_nothing(order: str, acted: int | None) -> None:
    counted = deployed(replicas=2)
    counted.order(o.Restart(policy=options(order=order)))
    before = counted.turns
    counted.run(30.0)
    for turn in range(counted.turns - before):
        app = deployed(replicas=2)
        app.order(o.Restart(policy=options(order=order)))
        start = app.turns
        app.run(30.0, until=lambda app=app, start=start, turn=turn: app.turns - start >= turn)
        app.crash = Crash(acted)
        app.run(60.0)
        assert app.rollout.phase is Phase.SUCCEEDED
        assert len(running(app)) == 2
        settled(app)


def test_a_replica_whose_start_a_crash_cut_short_is_started_as_another() -> None:
    app = deployed(replicas=1)
    app.crash = Crash(0)
    app.runtime.crash(ReplicaId("web-1"))
    app.run(0.001)
    app.crash = Crash(0)
    app.run(60.0)
    assert len(running(app)) == 1
    settled(app)


def test_lost_files_of_a_release_are_made_again_for_a_repair() -> None:
    app = deployed(replicas=1)
    app.runtime.lose_artefact("web", 1)
    app.runtime.prepare_takes = 1.0
    app.runtime.prepare_faults["web", 1] = "no space left"
    app.runtime.crash(ReplicaId("web-1"))
    app.run(30.0)
    assert running(app) == []
    app.runtime.prepare_faults.clear()
    app.run(60.0)
    assert serving(app) == 1


def test_files_lost_a_moment_after_they_were_made_are_made_again_at_once() -> None:
    app = deployed(replicas=2)
    for name in ("web-1", "web-2"):
        app.runtime.lose_artefact("web", 1, known=True)
        app.runtime.crash(ReplicaId(name))
        app.run(1.0)
        assert serving(app) == 2
    settled(app)


def test_nothing_of_a_removed_app_is_known_any_more() -> None:
    app = deployed(replicas=1)
    app.runtime.lose_artefact("web", 1, known=True)
    app.order(o.Remove())
    app.run(30.0)
    assert "forget web []" in app.runtime.calls


def test_limits_that_do_not_take_are_asked_for_again() -> None:
    app = deployed(replicas=1)
    app.refuses = lambda step: "before" if app.now < 1062.0 and type(step).__name__ == "UpdateLimits" else ""
    app.order(o.ChangeLimits(memory=64 * 2**20))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED


def test_an_in_place_restart_that_cannot_start_again_gets_another_replica() -> None:
    app = deployed(replicas=2)
    app.runtime.faults = lambda order: Faults(start="no such program") if order.replica == "web-1" else Faults()
    app.order(o.Restart(policy=options(order="in-place")))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert serving(app) == 2
    settled(app)


def test_an_in_place_restart_takes_over_from_a_stop_first_one() -> None:
    app = deployed(replicas=3, deployment_strategy="replace")
    app.order(o.Restart())
    app.run(0.0)
    app.order(o.Restart(policy=options(order="in-place"), supersede=True))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_an_app_that_cannot_be_stopped_says_so() -> None:
    app = deployed(replicas=1)
    app.refuses = lambda step: "before" if type(step).__name__ in {"StopReplica", "KillReplica"} else ""
    app.order(o.Stop())
    app.run(2000.0)
    assert app.rollout.phase is Phase.FAILED
    app.refuses = lambda step: ""
    app.run(60.0)
    assert running(app) == []
