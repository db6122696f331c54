"""``weights:`` in the file: which slots get which share of the requests, and how a change of it alone goes about."""

from __future__ import annotations

import pytest
from tests.core.scenario import deployed, empty, options, running, settled, told

from rota.core import order as o
from rota.core import steering
from rota.core.durations import Durations
from rota.core.errors import SpecError
from rota.core.member import weight_in
from rota.core.names import ReplicaId
from rota.core.plan import plan
from rota.core.rollout import Phase
from rota.core.spec import AppSpec
from rota.core.specfile import parse
from rota.core.steps import EnableServer, RouteApp, SetWeight
from rota.testing.simulation import Crash, Simulation
from rota.testing.simulation_history import spec_of

GOOD = "name: a\ncommand: [x]\nreplicas: 3\n"


def weighed(app: Simulation) -> dict[str, int]:
    """What HAProxy has."""
    return {name: server.weight for name, server in sorted(app.balancer.apps["web"].servers.items())}


def given(app: Simulation, replica: str) -> list[int]:
    """The weights that it was given, one after the other."""
    steps = [done.step for done in app.steps if isinstance(done.step, EnableServer | SetWeight)]
    return [step.weight for step in steps if step.replica == replica]


def deploy(app: Simulation, weights: dict[int, int], replicas: int = 3, **fields: object) -> None:
    app.order(o.Deploy(spec=spec_of(replicas=replicas, weights=weights, **fields), policy=options()))
    app.run(60.0)


def test_weights_are_written_by_slot_and_the_usual_one_is_none() -> None:
    spec = parse(GOOD + "weights: {3: 200, 1: 50, 2: 100}")
    assert spec.weights == ((1, 50), (3, 200))
    assert AppSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert parse(GOOD).weights == ()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{1: 0}", "rota.yaml:4:14: weights.1: 1 to 256 is expected, 100 being the usual share; to send a slot noth"),
        ("{1: 257}", "rota.yaml:4:14: weights.1: 1 to 256 is expected, 100 being the usual share, not 257"),
        ("{1: 0.5}", "rota.yaml:4:14: weights.1: 1 to 256 is expected, 100 being the usual share, not 0.5"),
        ("{1: true}", "rota.yaml:4:14: weights.1: 1 to 256 is expected, 100 being the usual share, not true"),
        ("{1: false}", "rota.yaml:4:14: weights.1: 1 to 256 is expected, 100 being the usual share, not false"),
        ("{1: half}", 'rota.yaml:4:14: weights.1: 1 to 256 is expected, 100 being the usual share, not "half"'),
        ("{2: 50, 4: 50}", "rota.yaml:4:21: weights.4: there is no slot 4: replicas is 3"),
        ("{a-1: 50}", 'rota.yaml:4:16: weights.a-1: a slot is expected, 1 to 1000, not "a-1"'),
        ("{01: 50}", 'rota.yaml:4:15: weights.01: a slot is expected, 1 to 1000, not "01"'),
        ("{12345678901: 50}", "rota.yaml:4:24: weights.12345678901: a slot is expected"),
        ("half", 'rota.yaml:4:10: weights: a section of slots and weights is expected, such as {1: 50, 3: 200}, not "'),
        ("[1]", "rota.yaml:4:10: weights: a section of slots and weights is expected, such as {1: 50, 3: 200}, not a"),
        ("[[1]]", "rota.yaml:4:10: weights: a section of slots and weights is expected"),
        ("[[[1], 50]]", "rota.yaml:4:10: weights.[1]: a slot is expected, 1 to 1000, not"),
        ("[[1, 50], [1, 60]]", "rota.yaml:4:10: weights: a slot is given twice"),
    ],
)
def test_what_is_no_weight_is_refused_at_its_place(section: str, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse(f"{GOOD}weights: {section}")
    assert str(refused.value).startswith(message)


def test_a_slot_beyond_a_number_of_replicas_that_is_none_is_not_told_apart() -> None:
    with pytest.raises(SpecError, match=r"replicas") as refused:
        parse("name: a\ncommand: [x]\nreplicas: many\nweights: {4: 50}")
    assert len(refused.value.problems) == 1


@pytest.mark.parametrize(("share", "slot", "weight"), [(100, 256, 256), (10, 50, 5), (10, 5, 1), (100, 1, 1)])
def test_a_share_and_a_weight_multiply_and_leave_at_least_one(share: int, slot: int, weight: int) -> None:
    assert weight_in(share, slot) == weight


def test_each_slot_s_replica_has_its_weight_and_its_heir_too() -> None:
    app = empty()
    deploy(app, {1: 50, 3: 200})
    assert weighed(app) == {"web-1": 50, "web-2": 100, "web-3": 200}
    app.order(o.Restart())
    app.run(60.0)
    assert weighed(app) == {"web-4": 50, "web-5": 100, "web-6": 200}
    assert told(app, "SetWeight") == []
    settled(app)


def test_other_weights_alone_are_no_new_replica_no_new_release_and_no_reload() -> None:
    app = deployed(3)
    deploy(app, {1: 50, 3: 200})
    assert weighed(app) == {"web-1": 50, "web-2": 100, "web-3": 200}
    assert told(app, "SetWeight", "StartReplica", "PrepareBackend", "StopReplica") == [
        "SetWeight web-1",
        "SetWeight web-3",
    ]
    assert (app.rollout.phase, app.rollout.to_release) == (Phase.SUCCEEDED, 1)
    deploy(app, {})
    assert weighed(app) == dict.fromkeys(["web-1", "web-2", "web-3"], 100)
    settled(app)


def test_a_plan_of_other_weights_says_what_will_be_done() -> None:
    app = deployed(2)
    app.order(o.Deploy(spec=spec_of(replicas=2, weights={2: 20})))
    assert app.state is not None
    made = plan(app.state, app.observe(), Durations(), app.now)
    assert [words for words in made.words if words.startswith("SetWeight")] == ["SetWeight web-2"]
    assert not made.leaving


@pytest.mark.parametrize("point", [None, 0, 1])
def test_a_daemon_that_dies_midway_is_followed_by_one_that_sets_them(point: int | None) -> None:
    app = deployed(3)
    app.order(o.Deploy(spec=spec_of(replicas=3, weights={1: 50, 3: 200})))
    app.run(60.0, until=lambda: len(told(app, "SetWeight")) == 1)
    app.crash = Crash(point)
    app.run(60.0)
    assert weighed(app) == {"web-1": 50, "web-2": 100, "web-3": 200}
    settled(app)


def test_slow_start_grows_to_the_slot_s_weight() -> None:
    app = empty()
    slow = {"warm_up": {"slow_start": 9.0}}
    deploy(app, {1: 50}, 2, **slow)
    app.steps.clear()
    app.order(o.Restart())
    app.run(60.0)
    assert given(app, "web-3") == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    assert weighed(app) == {"web-3": 50, "web-4": 100}
    settled(app)


def test_other_weights_in_the_midst_of_a_slow_start_do_not_hold_it_up() -> None:
    app = deployed(2, warm_up={"slow_start": 9.0})
    app.order(o.Restart())
    app.run(60.0, until=lambda: len(told(app, "SetWeight")) == 4)
    spec = spec_of(replicas=2, weights={1: 200}, warm_up={"slow_start": 9.0})
    app.order(o.Deploy(spec=spec, supersede=True))
    app.run(120.0)
    assert given(app, "web-3") == [10, 20, 30, 40, 50, 100, 120, 140, 160, 180, 200]
    settled(app)


def test_a_way_back_brings_the_weights_back_too() -> None:
    app = deployed(3)
    deploy(app, {1: 50}, mood="crashing")
    assert app.rollout.phase is Phase.ROLLED_BACK
    assert set(weighed(app).values()) == {100}
    settled(app)
    deploy(app, {2: 30}, boot_timeout=5.0)
    deploy(app, {3: 40}, boot_timeout=5.0)
    assert set(weighed(app).values()) == {100, 40}
    app.order(o.Rollback(release=1))
    app.run(60.0)
    assert set(weighed(app).values()) == {100}
    app.order(o.Rollback(release=app.rollout.from_release))
    app.run(60.0)
    assert sorted(weighed(app).values()) == [40, 100, 100]


def test_an_abort_in_between_leaves_the_slots_as_they_were() -> None:
    app = deployed(3)
    app.order(o.Deploy(spec=spec_of(replicas=3, weights={1: 50, 3: 200}), policy=options(delay=30.0)))
    app.run(5.0, until=lambda: bool(told(app, "SetWeight")))
    app.ask(steering.abort)
    app.run(60.0)
    assert (app.rollout.phase, set(weighed(app).values())) == (Phase.CANCELLED, {100})
    settled(app)


def test_other_limits_leave_the_weights_alone() -> None:
    app = empty()
    deploy(app, {1: 50}, 2)
    app.order(o.ChangeLimits(memory=512 * 2**20))
    app.run(60.0)
    assert weighed(app) == {"web-1": 50, "web-2": 100}
    settled(app)


def test_pools_get_requests_in_proportion_to_their_replicas_weights() -> None:
    app = empty()
    deploy(app, {1: 50}, 2)
    app.steps.clear()
    app.order(o.Deploy(spec=spec_of(replicas=2, weights={1: 50}, balance="leastconn")))
    app.run(60.0)
    shares = [sorted(done.step.shares.values()) for done in app.steps if isinstance(done.step, RouteApp)]
    assert shares == [[1, 2], [1]]
    settled(app)


def test_scaled_down_and_up_a_slot_has_its_weight_again() -> None:
    app = empty()
    deploy(app, {3: 200})
    for count in (2, 4):
        app.order(o.Scale(replicas=count))
        app.run(60.0)
    assert weighed(app) == {"web-1": 100, "web-2": 100, "web-4": 200, "web-5": 100}
    assert len(running(app)) == 4
    assert ReplicaId("web-3") not in app.balancer.apps["web"].servers
