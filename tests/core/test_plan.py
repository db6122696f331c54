"""A plan's words for the users, and whether a saved one still holds."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from tests.core.scenario import deployed, options

from rota.core import order as o
from rota.core import steps as s
from rota.core.begin import begin
from rota.core.durations import Durations, Length
from rota.core.errors import StalePlan
from rota.core.names import ReplicaId
from rota.core.observation import Observation, ObservedBalancer
from rota.core.plan import Change, Plan, plan
from rota.core.promise import check, deviations, kept, promise
from rota.core.quantities import written_seconds
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import spec_of


def planned(simulation: Simulation, order: o.Order, durations: Durations | None = None) -> Plan:
    state = begin(simulation.state, order, "web", simulation.now, {})
    return plan(state, simulation.observe(), durations or Durations(), simulation.now)


def saved(made: Plan) -> o.SavedPlan:
    """As it comes back from a file."""
    return o.SavedPlan.model_validate_json(
        o.SavedPlan(basis=dict(made.basis), steps=made.words, durations=made.durations).model_dump_json()
    )


def held(simulation: Simulation, order: o.Order, kept: o.SavedPlan) -> None:
    now = planned(simulation, order, kept.durations)
    check(kept, now.basis, now.words)


@pytest.mark.parametrize(
    ("order", "change", "meaning"),
    [
        (o.Restart(), Change.ROLLING, "users notice nothing: at least 3 of 3 replicas serve throughout"),
        (
            o.Restart(policy=options(order="stop-first")),
            Change.ROLLING,
            "users notice nothing: at least 2 of 3 replicas serve throughout",
        ),
        (
            o.Restart(policy=options(mode="simultaneous")),
            Change.FULL,
            "nobody is served for about 1.2 s: requests fail meanwhile",
        ),
        (o.Stop(), Change.FULL, "nobody is served any more"),
    ],
)
def test_what_it_means_for_the_users(order: o.Order, change: Change, meaning: str) -> None:
    made = planned(deployed(3), order)
    assert (made.change, made.meaning) == (change, meaning)


@pytest.mark.parametrize(
    ("seen", "policy", "said"),
    [
        ({3: 3}, {}, "coarse: no boot was seen yet of one alone, only of 3 at once, which may take longer"),
        (
            {1: 3},
            {"mode": "simultaneous"},
            "coarse: no boot was seen yet of 3 at once, only of one alone, and several may take longer",
        ),
        ({1: 3, 2: 2}, {"mode": "simultaneous"}, ""),  # one more at once makes little difference
        ({1: 1, 3: 3}, {}, ""),
        ({3: 0}, {}, ""),  # a guess is said to be one
    ],
)
def test_a_plan_by_boots_of_other_numbers_at_once_says_so(
    seen: dict[int, int], policy: dict[str, Any], said: str
) -> None:
    known = Durations(boot={number: Length(seconds=1.0, of=of) for number, of in seen.items()})
    assert planned(deployed(3), o.Restart(policy=options(**policy)), known).coarse == said


def test_what_would_fail_is_said_before() -> None:
    late = Durations.model_validate({"boot": {1: {"seconds": 9.0, "of": 3}}})
    made = planned(deployed(2), o.Deploy(spec=spec_of(replicas=2, boot_timeout=3.0)), late)
    assert made.meaning == "as things stand it would end as rolled back"


def test_a_first_deploy() -> None:
    state = begin(None, o.Deploy(spec=spec_of(replicas=2)), "web", 1000.0, {})
    made = plan(state, Observation(balancer=ObservedBalancer(process="1")), Durations(), 1000.0)
    assert (made.change, made.meaning) == (Change.FIRST, "nobody is served now; 2 replicas will serve")
    assert made.drain_timeout == 0.2


def test_a_stopped_app_that_is_removed() -> None:
    simulation = deployed(1)
    simulation.order(o.Stop())
    simulation.run(60.0)
    assert planned(simulation, o.Remove()).meaning == "nobody is served now"


def test_what_is_open_now_counts_where_a_replica_will_leave() -> None:
    simulation = deployed(3)
    seen = simulation.observe()
    state = begin(simulation.state, o.Scale(replicas=2), "web", simulation.now, {})
    servers = {name: replace(server, open=4) for name, server in seen.balancer.servers.items()}
    seen = replace(seen, balancer=replace(seen.balancer, servers=servers))
    made = plan(state, seen, Durations(), simulation.now)
    assert made.leaving == {"web-3": 4}


def test_steps_that_hang_on_who_is_served_are_not_promised() -> None:
    made = planned(deployed(2), o.Restart(policy=options(mode="simultaneous")))
    assert "OpenGap" not in made.words
    assert "StopReplica web-1" in made.words
    assert "TakeSlot 2" in made.words


def test_a_plan_holds_while_nothing_has_changed() -> None:
    simulation = deployed(3)
    kept = saved(planned(simulation, o.Restart()))
    simulation.run(300.0)
    held(simulation, o.Restart(), kept)


def grown(simulation: Simulation) -> None:
    simulation.order(o.Scale(replicas=4))
    simulation.run(30.0)


def restarted(simulation: Simulation) -> None:
    simulation.order(o.Restart())
    simulation.run(30.0)


def unhealthy(simulation: Simulation) -> None:
    simulation.unhealthy[ReplicaId("web-2")] = (simulation.now, simulation.now + 100.0)
    simulation.observe()


def quiet(simulation: Simulation) -> None:
    pass


FILE: dict[str, Any] = {"replicas": 3}


@pytest.mark.parametrize(
    ("meanwhile", "order", "said"),
    [
        (restarted, o.Restart(), "the replicas were web-1, web-2, web-3, and are web-4, web-5, web-6"),
        (grown, o.Restart(), "the number of replicas: 3 then, 4 now"),
        (unhealthy, o.Restart(), "replicas: web-2 release 1 in slot 1|slot 2, serving then"),
        (quiet, o.Restart(policy=options(delay=5)), "policy: delay 0.0 then, 5.0 now"),
        (quiet, o.Redeploy(), "the order: restart then, redeploy now"),
        (quiet, o.ChangeLimits(memory=2**26), "the limits: no limits then, memory 64 MiB now"),
        (quiet, o.Deploy(spec=spec_of(replicas=3), source="1" * 64), "the source has changed"),
        (quiet, o.Deploy(spec=spec_of("ill", replicas=3)), "the file has another env"),
        (quiet, o.Deploy(spec=spec_of("ill", replicas=3)), "releases: to 1 then, 2 now"),
    ],
)
def test_a_stale_plan_names_what_differs(meanwhile: Any, order: o.Order, said: str) -> None:
    simulation = deployed(3)
    kept = saved(planned(simulation, o.Restart()))
    meanwhile(simulation)
    with pytest.raises(StalePlan, match=said) as refused:
        held(simulation, order, kept)
    assert (refused.value.exit_code, refused.value.code, refused.value.status) == (1, "stale-plan", 409)
    assert refused.value.message.startswith("stale plan: ")


def test_a_plan_whose_steps_are_others_is_stale_too() -> None:
    simulation = deployed(3)
    made = saved(planned(simulation, o.Restart()))
    fewer = made.model_copy(update={"steps": tuple(words for words in made.steps if "web-3" not in words)})
    with pytest.raises(StalePlan, match=r"the steps for web-3: none then, DisableServer, StopReplica"):
        held(simulation, o.Restart(), fewer)
    more = made.model_copy(update={"steps": (*made.steps, "ForgetApp")})
    with pytest.raises(StalePlan, match=r"the steps for the app: .*ForgetApp then"):
        held(simulation, o.Restart(), more)


def test_a_plan_of_a_first_deploy_has_no_replicas_to_rest_on() -> None:
    simulation = deployed(2)
    state = begin(None, o.Deploy(spec=spec_of(replicas=2)), "web", 1000.0, {})
    first = plan(state, Observation(balancer=ObservedBalancer(process="1")), Durations(), 1000.0)
    with pytest.raises(StalePlan, match="the replicas were none, and are web-1, web-2"):
        held(simulation, o.Deploy(spec=spec_of(replicas=2)), saved(first))


def test_no_value_of_the_file_is_in_a_plan() -> None:
    simulation = deployed(1, env=[{"name": "TOKEN", "value": "very-secret"}])
    assert "very-secret" not in saved(planned(simulation, o.Restart())).model_dump_json()


def test_a_basis_that_somebody_bent_is_stale_and_no_crash() -> None:
    simulation = deployed(1)
    kept = saved(planned(simulation, o.Restart()))
    bent = kept.model_copy(update={"basis": {"policy": 7, "replicas": None}})
    with pytest.raises(StalePlan, match="policy: mode not there then, sequential now"):
        held(simulation, o.Restart(), bent)


def test_what_came_otherwise_is_listed() -> None:
    of = promise(("TakeSlot 1", "DisableServer web-1", "SetWeight web-1", "SetWeight web-1", "RemoveServer web-1"))
    weighed, removed = s.SetWeight(ReplicaId("web-1"), "due", 10), s.RemoveServer(ReplicaId("web-1"), "it has ended")
    disabled = s.DisableServer(ReplicaId("web-1"), "its heir serves")
    other = s.RemoveServer(ReplicaId("web-2"), "killed")
    assert deviations(reduce(kept, [removed, weighed, other, other], of)) == (
        "not planned: RemoveServer web-2",
        "not done: DisableServer web-1",
        "not done: SetWeight web-1",
    )
    assert deviations(reduce(kept, [disabled, weighed, weighed, removed], of)) == ()


def test_so_much_that_came_otherwise_is_counted_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.core.promise.BEYOND_KEPT", 1)
    many = [s.RemoveServer(ReplicaId(f"web-{number}"), "it has ended") for number in range(1_500)]
    assert deviations(reduce(kept, many, promise(()))) == (
        "not planned: RemoveServer web-0",
        "not planned: 1,499 more",
    )


def test_a_plan_says_where_it_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.core.forecast.MOST_TURNS", 20)
    made = planned(deployed(2), o.Restart())
    after = written_seconds(made.forecast.seconds)
    assert made.meaning == f"no end in sight after {after}: it would be tried again and again"
