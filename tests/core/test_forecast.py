"""A forecast takes the steps that the loop then takes, keeps the floor that the policy promises, and ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.conftest import FULL
from tests.core.scenario import deployed, options
from tests.core.test_histories import files
from tests.core.test_histories import options as policies

from rota.core import order as o
from rota.core import steering
from rota.core import steps as s
from rota.core.backend import backend_of
from rota.core.begin import begin
from rota.core.durations import Durations, Length
from rota.core.errors import RotaError
from rota.core.forecast import Forecast, forecast, seconds_left
from rota.core.observation import Observation, ObservedBalancer, Reloads
from rota.core.rollout import Phase
from rota.core.world import World
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import MOODS, mood_of, spec_of

EXAMPLES = 2000 if FULL else 40

Sequences = dict[str, list[str]]


def foreseen(simulation: Simulation, order: o.Order, durations: Durations | None = None) -> Forecast:
    state = begin(simulation.state, order, "web", simulation.now, {})
    return forecast(state, simulation.observe(), durations or Durations(), simulation.now)


def by_replica(steps: list[s.Step]) -> Sequences:
    found: Sequences = {}
    for step in steps:
        if isinstance(step, s.ReplicaStep):
            found.setdefault(step.replica, []).append(type(step).__name__)
    return found


def predicted(seen: Forecast) -> Sequences:
    return by_replica([planned.step for planned in seen.steps])


def carried_out(simulation: Simulation, order: o.Order) -> Sequences:
    simulation.steps.clear()
    simulation.order(order)
    simulation.run(4000.0, lambda: simulation.rollout.phase.ended)
    return by_replica([done.step for done in simulation.steps])


def lengths(boot: float, stop: float, drain: float = 0.0, of: int = 5) -> Durations:
    return Durations(
        boot={1: Length(seconds=boot, of=of)},
        stop={1: Length(seconds=stop, of=of)},
        drain=Length(seconds=drain, of=of),
        prepare=Length(seconds=0.0),
        reload=Length(seconds=0.0),
        enable=Length(seconds=0.0),
        call=Length(seconds=0.0),
    )


def behaves(simulation: Simulation, boot: float, stop: float, drain: float = 0.0) -> None:
    """The fakes take these times."""
    good = Faults(listens_after=boot, healthy_after=boot, stop_takes=stop)
    simulation.runtime.faults = lambda order: good if mood_of(order.spec) == "good" else MOODS[mood_of(order.spec)]
    simulation.opens = lambda replica: (drain,) if drain else ()


orders = st.one_of(
    st.builds(lambda policy: o.Restart(policy=policy), policies),
    st.builds(lambda policy: o.Redeploy(policy=policy), policies),
    st.builds(lambda policy: o.ChangeLimits(memory=64 * 2**20, policy=policy), policies),
    st.builds(lambda replicas: o.Scale(replicas=replicas), st.integers(1, 6)),
    st.builds(
        lambda changes, policy: o.Deploy(spec=spec_of(**{"replicas": 3, **changes}), policy=policy),
        st.sampled_from([{}, {"stop_grace_period": 0.7}, {"replicas": 2}, {"health_check": {"fall": 2}}]),
        policies,
    ),
)

boots = st.sampled_from([0.0, 0.2, 1.5])
stops = st.sampled_from([0.0, 0.3, 2.0])  # the last is longer than stop_grace_period
drains = st.sampled_from([0.0, 0.05, 30.0])  # and this one than drain.timeout


@pytest.mark.timeout(600)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(
    files(),
    orders,
    st.sampled_from([0.0, 0.2, 1.5]),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from([0.0, 0.05, 30.0]),
)
def test_it_takes_the_steps_that_are_then_taken(
    file: dict[str, Any], order: o.Order, boot: float, stop: float, drain: float
) -> None:
    try:
        simulation = deployed(**file)
    except RotaError:  # its sections contradict each other
        assume(False)
    # The old replicas are to end as the new ones do.
    behaves(simulation, boot, stop, drain)
    simulation.order(o.Redeploy())
    simulation.run(4000.0, lambda: simulation.rollout.phase.ended)
    assert simulation.state is not None
    serving = simulation.here().serving
    try:
        seen = foreseen(simulation, order, lengths(boot, stop, drain))
    except RotaError:
        assume(False)
    assert seen.phase is Phase.SUCCEEDED
    assert predicted(seen) == carried_out(simulation, order)
    rollout = simulation.rollout
    assert rollout.phase is Phase.SUCCEEDED
    assert seen.least >= min(rollout.policy.min_available, serving, simulation.state.desired.replicas)
    assert (seen.curve[0].serving, seen.curve[-1].serving) == (serving, simulation.state.desired.replicas)


def after(seen: Forecast, name: str, replica: str) -> float:
    return next(
        planned.after
        for planned in seen.steps
        if isinstance(planned.step, s.ReplicaStep)
        and (type(planned.step).__name__, planned.step.replica) == (name, replica)
    )


def test_a_restart_takes_each_replica_s_boot_and_stop_in_turn() -> None:
    seen = foreseen(deployed(3), o.Restart(), lengths(boot=2.0, stop=0.4))
    assert after(seen, "EnableServer", "web-4") == pytest.approx(2.1)  # the second health check, 0.1 s after the first
    assert after(seen, "StartReplica", "web-5") == pytest.approx(2.5)
    assert seen.seconds == pytest.approx(7.5)
    assert (seen.least, seen.most, seen.peak_replicas) == (3, 4, 4)
    assert seen.outage == 0.0


def test_all_at_once_is_a_gap_of_one_stop_and_one_boot() -> None:
    seen = foreseen(deployed(3), o.Restart(policy=options(mode="simultaneous")), lengths(boot=2.0, stop=0.4))
    assert seen.least == 0
    assert seen.outage == pytest.approx(2.5)


def test_the_boot_is_that_of_as_many_at_once() -> None:
    known = lengths(boot=1.0, stop=0.0).model_copy(
        update={"boot": {1: Length(seconds=1.0, of=3), 3: Length(seconds=3.0, of=3)}}
    )
    alone = foreseen(deployed(3), o.Restart(), known)
    together = foreseen(deployed(3), o.Restart(policy=options(parallelism=3)), known)
    assert alone.seconds == pytest.approx(3.3)
    assert together.seconds == pytest.approx(3.1)


def test_the_stop_is_that_of_as_many_at_once() -> None:
    known = lengths(boot=1.0, stop=0.2).model_copy(
        update={"stop": {1: Length(seconds=0.2, of=3), 3: Length(seconds=0.4, of=3)}}
    )
    together = foreseen(deployed(3), o.Restart(policy=options(mode="simultaneous")), known)
    assert after(together, "StartReplica", "web-4") == pytest.approx(0.4)
    alone = foreseen(deployed(3), o.Restart(policy=options(order="stop-first")), known)
    assert after(alone, "StartReplica", "web-4") == pytest.approx(0.2)


def test_haproxy_is_told_one_thing_after_the_other_and_who_looks_at_it_waits_for_all() -> None:
    known = lengths(boot=1.0, stop=0.0).model_copy(update={"call": Length(seconds=0.1), "enable": Length(seconds=0.2)})
    seen = foreseen(deployed(3), o.Restart(policy=options(mode="simultaneous")), known)
    stopped = [after(seen, "StopReplica", f"web-{number}") for number in (1, 2, 3)]
    assert stopped == pytest.approx([0.6, 0.6, 0.6])
    up = max(after(seen, "EnableServer", f"web-{number}") for number in (4, 5, 6))
    assert seen.seconds == pytest.approx(up + 3 * 0.2)


def test_delays_are_in_it() -> None:
    seen = foreseen(deployed(3), o.Restart(policy=options(delay=30)), lengths(boot=1.0, stop=0.0))
    assert seen.seconds == pytest.approx(60.0 + 3.3)


def test_a_slow_start_is_in_it() -> None:
    seen = foreseen(deployed(2, warm_up={"requests": 5, "slow_start": 9}), o.Restart(), lengths(boot=0.0, stop=0.0))
    assert [type(planned.step) for planned in seen.steps].count(s.SetWeight) == 18
    assert seen.seconds == pytest.approx(18.0, abs=1.0)


def test_a_long_drain_is_cut_at_its_deadline_without_a_turn_for_every_look() -> None:
    simulation = deployed(2, drain={"timeout": 3600})
    turns = 0
    seen = foreseen(simulation, o.Restart(), lengths(boot=0.0, stop=0.0, drain=7200.0))
    turns = len(seen.steps)
    assert seen.seconds == pytest.approx(7200.0, abs=1.0)
    assert [type(planned.step) for planned in seen.steps].count(s.CutConnections) == 2
    assert turns < 40


def test_memory_and_cpus_are_those_of_all_that_run_at_once() -> None:
    simulation = deployed(2, resources={"memory": "64MiB", "cpus": 0.5})
    seen = foreseen(simulation, o.Restart(), lengths(boot=1.0, stop=1.0))
    assert (seen.peak_memory, seen.peak_cpus) == (3 * 64 * 2**20, 1.5)
    larger = foreseen(simulation, o.ChangeLimits(memory=128 * 2**20), lengths(boot=1.0, stop=1.0))
    assert (larger.peak_memory, larger.peak_replicas) == (2 * 128 * 2**20, 2)
    assert foreseen(deployed(2), o.Restart()).peak_memory is None


def test_a_first_deploy_waits_for_release_and_reload() -> None:
    state = begin(None, o.Deploy(spec=spec_of(replicas=2)), "web", 1000.0, {})
    seen = forecast(state, Observation(balancer=ObservedBalancer(process="1")), Durations(), 1000.0)
    assert seen.phase is Phase.SUCCEEDED
    assert after(seen, "StartReplica", "web-1") == Durations().prepare.seconds
    assert seen.seconds == pytest.approx(0.5 + 1.0 + 0.1 + 2 * 0.006)
    assert seen.curve[0].serving == 0


def test_a_boot_that_was_measured_longer_than_it_may_take_ends_in_a_rollback() -> None:
    simulation = deployed(2)
    spec = spec_of(replicas=2, boot_timeout=3.0)
    assert foreseen(simulation, o.Deploy(spec=spec), lengths(boot=5.0, stop=0.0)).phase is Phase.ROLLED_BACK
    guessed = foreseen(simulation, o.Deploy(spec=spec), lengths(boot=5.0, stop=0.0, of=0))
    assert guessed.phase is Phase.SUCCEEDED  # nobody is condemned for a guess


def test_a_replica_that_ignores_its_stop_is_killed() -> None:
    seen = foreseen(deployed(2), o.Restart(), lengths(boot=0.0, stop=30.0))
    assert after(seen, "RemoveServer", "web-1") - after(seen, "StopReplica", "web-1") == pytest.approx(0.5)


def test_what_comes_up_already_is_waited_for() -> None:
    """A plan made while a replica is being repaired."""
    simulation = deployed(2)
    behaves(simulation, 2.0, 0.0)
    simulation.runtime.crash(next(iter(simulation.seen())))
    simulation.run(0.5)
    seen = foreseen(simulation, o.Restart(), lengths(boot=2.0, stop=0.0))
    assert seen.phase is Phase.SUCCEEDED
    assert seen.curve[0].serving == 1


def test_the_app_s_end_is_one_too() -> None:
    simulation = deployed(2)
    assert foreseen(simulation, o.Stop()).curve[-1].serving == 0
    gone = foreseen(simulation, o.Remove())
    assert (gone.phase, gone.curve[-1].running) == (Phase.SUCCEEDED, 0)


def test_without_haproxy_nothing_can_happen_and_it_ends_all_the_same() -> None:
    simulation = deployed(2)
    simulation.lose_balancer()
    assert foreseen(simulation, o.Restart()).phase is not Phase.SUCCEEDED


def test_a_release_with_another_health_check_moves_to_a_pool_of_its_own() -> None:
    simulation = deployed(2)
    order = o.Deploy(spec=spec_of(replicas=2, health_check={"fall": 2}))
    seen = foreseen(simulation, order, lengths(boot=1.0, stop=0.1))
    kinds = [type(planned.step) for planned in seen.steps]
    assert s.PrepareBackend in kinds
    assert s.RouteApp in kinds
    assert (seen.least, seen.most) == (2, 3)


def changes_pool(**fields: Any) -> o.Deploy:
    return o.Deploy(spec=spec_of(replicas=2, health_check={"fall": 2}, **fields))


@pytest.mark.parametrize("wait", [0.0, 7.0])
def test_a_new_pool_waits_for_the_next_reload_as_the_balancer_says(wait: float) -> None:
    app = deployed(2)
    behaves(app, boot=1.0, stop=0.0)
    app.takes = lambda step: wait + 0.2 if isinstance(step, s.PrepareBackend) else 0.0
    app.balancer.pace = Reloads(not_before=app.now + wait, apart=10.0)
    known = lengths(boot=1.0, stop=0.0).model_copy(update={"reload": Length(seconds=0.2, of=1)})
    seen = foreseen(app, changes_pool(), known)
    began = app.now
    carried_out(app, changes_pool())
    assert seen.seconds == pytest.approx(app.now - began, abs=0.02)
    assert after(seen, "StartReplica", "web-3") == pytest.approx(wait + 0.2, abs=0.02)


def test_a_reload_is_not_soon_after_another() -> None:
    app = deployed(2)
    app.balancer.pace = Reloads(not_before=app.now + 3.0, apart=10.0)
    assert app.state is not None
    world = World(app.state, app.observe(), lengths(0.0, 0.0), app.now)
    first, second = (s.PrepareBackend("", backend_of(changes_pool().spec, colour), ()) for colour in (1, 2))
    world.begin([first], app.now)
    assert first.backend.name not in world.observe(app.now + 2.9).balancer.backends
    assert first.backend.name in world.observe(app.now + 3.0).balancer.backends
    world.begin([second], app.now + 3.0)
    assert second.backend.name not in world.observe(app.now + 12.9).balancer.backends
    assert second.backend.name in world.observe(app.now + 13.0).balancer.backends


def test_other_hosts_wait_for_no_reload() -> None:
    app = deployed(2)
    app.balancer.pace = Reloads(not_before=app.now + 60.0, apart=10.0)
    order = o.Deploy(spec=spec_of(replicas=2, domains=[{"domain": "example.org"}]))
    seen = foreseen(app, order, lengths(boot=1.0, stop=0.1))
    assert s.PrepareBackend in [type(planned.step) for planned in seen.steps]
    assert seen.seconds < 10.0


def test_a_suspended_app_s_rollout_waits_without_end() -> None:
    simulation = deployed(2)
    simulation.suspend()
    assert foreseen(simulation, o.Restart()).phase is Phase.PENDING


def test_what_goes_round_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    app = deployed(2)
    whole = foreseen(app, o.Restart())
    assert not whole.cut
    monkeypatch.setattr("rota.core.forecast.MOST_TURNS", 20)
    part = foreseen(app, o.Restart())
    assert part.cut
    assert not part.phase.ended
    assert part.steps == whole.steps[: len(part.steps)]
    assert 0 < part.seconds < whole.seconds


def test_of_what_has_no_end_nobody_says_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    app = deployed(2)
    app.order(o.Restart(policy=options(delay=5)))
    assert left(app, Durations()) is not None
    monkeypatch.setattr("rota.core.forecast.MOST_TURNS", 3)
    assert left(app, Durations()) is None


SLOW = {"warm_up": {"requests": 5, "slow_start": 9}, "drain": {"timeout": 1}}
TRIED = {"boot_timeout": 1.0, "restart": {"attempts": 20, "delay": 1, "max_delay": 300}}


@pytest.mark.parametrize("replicas", [2, 5])
@pytest.mark.parametrize(
    ("file", "policy", "known"),
    [
        (SLOW, {"delay": 5}, lengths(boot=1.0, stop=0.1, drain=3600.0)),
        (TRIED, {"failure_action": "pause"}, lengths(boot=5.0, stop=0.1)),
        (TRIED, {"failure_action": "continue"}, lengths(boot=5.0, stop=0.1)),
    ],
)
def test_what_a_slot_needs_is_never_cut(
    file: dict[str, Any], policy: dict[str, Any], known: Durations, replicas: int
) -> None:
    """A slow start, a drain that is cut, and a replica that is tried as often as a restart tries it."""
    seen = foreseen(deployed(replicas, **file), o.Restart(policy=options(**policy)), known)
    assert not seen.cut
    assert seen.phase is {"pause": Phase.PAUSED, "continue": Phase.FAILED}.get(
        policy.get("failure_action", ""), Phase.SUCCEEDED
    )


def test_a_sticky_apps_users_are_taken_to_come_no_more() -> None:
    simulation = deployed(2, sticky=True, drain={"timeout": 60, "session_timeout": 20})
    seen = foreseen(simulation, o.Restart(), lengths(boot=0.0, stop=0.0))
    assert seen.phase is Phase.SUCCEEDED
    assert seen.steps[-1].after == pytest.approx(40.0, abs=2.0)
    assert predicted(seen) == carried_out(simulation, o.Restart())


def left(app: Simulation, durations: Durations) -> float | None:
    assert app.state is not None
    return seconds_left(app.state, app.observe(), durations, app.now)


@pytest.mark.parametrize(
    "policy", [{}, {"delay": 5}, {"order": "stop-first"}, {"order": "in-place"}, {"parallelism": 2}]
)
def test_the_time_left_is_that_from_wherever_it_is(policy: dict[str, Any]) -> None:
    app, known = deployed(4), lengths(boot=2.0, stop=1.0)
    behaves(app, boot=2.0, stop=1.0)
    app.order(o.Redeploy())
    app.run(60.0)
    app.order(o.Restart(policy=options(**policy)))
    told: list[tuple[float, float]] = []
    while not app.rollout.phase.ended:
        seconds = left(app, known)
        assert seconds is not None
        told.append((app.now, seconds))
        app.run(0.7)
    ended_at = app.rollout.finished_at
    assert ended_at is not None
    assert len(told) >= 7
    # Of a stop under way nobody knows how long ago it began: it is as one that has just begun.
    assert all(ended_at - at - 0.1 <= seconds <= ended_at - at + 1.1 for at, seconds in told)


def test_nobody_says_how_long_a_person_takes() -> None:
    app = deployed()
    assert left(app, Durations()) is None
    app.order(o.Restart(policy=options(delay=5)))
    app.run(3.0)
    assert left(app, Durations()) is not None
    app.ask(steering.pause)
    app.run(60.0)
    assert app.rollout.phase is Phase.PAUSED
    assert left(app, Durations()) is None


def test_of_many_replicas_the_pace_tells() -> None:
    app = deployed(25)
    app.order(o.Restart(policy=options(delay=4)))
    assert left(app, Durations()) is None
    app.run(50.0)
    found, now = left(app, Durations()), app.now
    app.run(300.0, lambda: app.rollout.phase.ended)
    assert found == pytest.approx(app.now - now, abs=8.0)


def test_a_release_that_is_being_unpacked_is_waited_for() -> None:
    app = deployed()
    app.runtime.prepare_takes = 5.0
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=1, build_command=["make"])))
    app.run(1.0)
    found = left(app, Durations(prepare=Length(seconds=3.0, of=1)))
    assert found is not None
    assert found > 3.0 + 3 * 1.0
