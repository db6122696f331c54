"""Capacity and admission: what an order takes at its peak, what is free, and what a refusal says (H9)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.scenario import deployed, empty, options

from rota.core import order as o
from rota.core.admission import admit, capacity
from rota.core.capacity import KEPT_BACK, Amount, Demand, Room, Use, demand_of, promised_to, used_by_others
from rota.core.errors import CapacityError, UsageError
from rota.core.state import AppState
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import spec_of

MIB = 2**20
SMALL: dict[str, Any] = {"resources": {"memory": "100MiB", "cpus": 0.4}}
LARGE: dict[str, Any] = {"resources": {"memory": "300MiB", "cpus": 0.1}}


def room(memory: int, cpus: float = 100.0, promised: int = 0) -> Room:
    """So many MiB and cores free, beside those promised."""
    other = Amount(promised * MIB, 0.0)
    return Room(Amount(memory * MIB + KEPT_BACK, cpus) + other, other)


def ordered(app: Simulation, order: o.Order, space: Room) -> AppState:
    return admit(app.state, order, "web", app.now, {}, space)


def taken(app: Simulation, order: o.Order) -> tuple[int, int, float]:
    """An order's surge, memory in MiB and cores."""
    demand = demand_of(ordered(app, order, room(10**9, 10**6)))
    return demand.surge, demand.amount.memory // MIB, demand.amount.cpus


@pytest.mark.parametrize(
    ("policy", "peak"),
    [
        ({}, (1, 400, 1.6)),
        ({"parallelism": 2}, (2, 500, 2.0)),
        ({"parallelism": 9}, (3, 600, 2.4)),
        ({"parallelism": "67%"}, (2, 500, 2.0)),
        ({"order": "stop-first"}, (0, 300, 1.2)),
        ({"order": "in-place"}, (0, 300, 1.2)),
        ({"mode": "simultaneous"}, (0, 300, 1.2)),
    ],
)
def test_a_restart_takes_the_count_and_the_strategy_s_surge(
    policy: dict[str, Any], peak: tuple[int, int, float]
) -> None:
    assert taken(deployed(**SMALL), o.Restart(policy=options(**policy))) == peak


def test_a_first_deploy_has_nothing_to_replace() -> None:
    assert taken(empty(), o.Deploy(spec=spec_of(replicas=3, **SMALL))) == (0, 300, 1.2)


def test_replace_stops_all_first() -> None:
    spec = spec_of(replicas=3, deployment_strategy="replace", **SMALL)
    assert taken(deployed(**SMALL), o.Deploy(spec=spec)) == (0, 300, 1.2)


def test_a_deploy_of_what_runs_already_replaces_nothing() -> None:
    assert taken(deployed(**SMALL), o.Deploy(spec=spec_of(replicas=3, **SMALL))) == (0, 300, 1.2)


@pytest.mark.parametrize(
    ("before", "after", "peak"),
    [
        # three old of 100 and one new of 300 at first; one old beside three new in the end
        (SMALL, LARGE, (1, 1000, 1.3)),
        (LARGE, SMALL, (1, 1000, 1.3)),
        (SMALL, {}, (1, 300, 1.2)),
        ({}, LARGE, (1, 900, 0.3)),
    ],
)
def test_other_limits_are_counted_wave_by_wave(
    before: dict[str, Any], after: dict[str, Any], peak: tuple[int, int, float]
) -> None:
    assert taken(deployed(**before), o.Deploy(spec=spec_of(replicas=3, **after))) == peak


def test_live_limits_need_no_second_replica_but_a_rollout_of_them_does() -> None:
    app = deployed(**SMALL)
    assert taken(app, o.ChangeLimits(memory=200 * MIB)) == (0, 600, 1.2)
    by_rollout = o.ChangeLimits(memory=200 * MIB, policy=options(order="start-first"))
    assert taken(app, by_rollout) == (1, 700, 1.6)


def test_scale_and_start_take_the_count_and_stop_nothing() -> None:
    app = deployed(**SMALL)
    assert taken(app, o.Scale(replicas=5)) == (0, 500, 2.0)
    assert taken(app, o.Stop()) == (0, 0, 0.0)
    app.order(o.Stop())
    app.run(30.0)
    assert demand_of(app.state) == Demand()
    assert taken(app, o.Start()) == (0, 300, 1.2)


def test_what_is_kept_to_go_back_to_is_promised_until_it_leaves() -> None:
    blue_green = {"deployment_strategy": "blue-green", "keep_old": 60}
    app = deployed(3, resources={"memory": "64MiB", "cpus": 0.5}, **blue_green)
    assert promised_to(app.state) == demand_of(app.state).amount == Amount(3 * 64 * MIB, 1.5)
    larger = spec_of(replicas=3, resources={"memory": "100MiB", "cpus": 1}, min_ready_seconds=0.5, **blue_green)
    app.order(o.Deploy(spec=larger))
    app.run(30.0)
    assert demand_of(app.state).amount == Amount(300 * MIB, 3.0)
    assert promised_to(app.state) == Amount((300 + 3 * 64) * MIB, 4.5)
    app.run(120.0)
    assert promised_to(app.state) == Amount(300 * MIB, 3.0)


def test_an_app_that_is_not_there_takes_nothing() -> None:
    assert demand_of(None) == Demand()


def test_a_rollout_under_way_keeps_its_peak_and_a_scale_meanwhile_adds_to_it() -> None:
    app = deployed(**SMALL)
    app.order(o.Restart())
    assert demand_of(app.state).amount.memory == 400 * MIB
    assert taken(app, o.Scale(replicas=5)) == (1, 600, 2.4)
    app.run(60.0)
    assert demand_of(app.state) == Demand(3, 0, Amount(300 * MIB, 1.2))


def test_free_is_what_others_and_the_system_leave() -> None:
    space = Room(Amount(4096 * MIB, 4.0), Amount(1000 * MIB, 1.5))
    assert space.free == Amount((4096 - 256 - 1000) * MIB, 2.5)
    assert Room(Amount(100 * MIB, 1.0), Amount(1, 3.0)).free == Amount()


@pytest.mark.parametrize(
    ("available", "replicas", "others"),
    [
        (None, [], 256),  # nobody can tell: what is kept back
        (4000, [], 256),  # less than that is used
        (1000, [], 3096),
        (1000, [Use(2000 * MIB, 2500 * MIB)], 1096),  # promised already: not counted twice
        (1000, [Use(2000 * MIB, 1500 * MIB)], 1596),  # a limit that holds only soon: what is above it is not promised
        (1000, [Use(2000 * MIB, None)], 3096),  # nothing is promised to it, and it uses that
        (3000, [Use(2000 * MIB, 2500 * MIB)], 256),  # file cache of replicas may count on both sides
    ],
)
def test_what_others_use_of_the_memory(available: int | None, replicas: list[Use], others: int) -> None:
    left = None if available is None else available * MIB
    assert used_by_others(4096 * MIB, left, replicas) == others * MIB


def test_what_others_use_is_not_free_and_the_refusal_says_so() -> None:
    space = Room(Amount(4096 * MIB, 4.0), Amount(1000 * MIB, 0.0), others=2800 * MIB)
    assert space.free.memory == 296 * MIB
    with pytest.raises(CapacityError, match=r"2 fit;") as refused:
        ordered(empty(), o.Deploy(spec=spec_of(replicas=3, **SMALL)), space)
    said = "296 of 4,096 MiB free, 2,800 MiB used by others and 1,000 MiB promised to other apps"
    assert said in str(refused.value)


def test_what_just_fits_is_taken_and_one_more_refused() -> None:
    spec = spec_of(replicas=4, **SMALL)
    ordered(empty(), o.Deploy(spec=spec), room(400, 1.6))
    with pytest.raises(CapacityError) as refused:
        ordered(empty(), o.Deploy(spec=spec), room(399, 1.6, promised=1000))
    assert str(refused.value) == (
        "web does not fit on this machine: 4 replicas need 400 MiB of memory (399 of 1,655 MiB free, 256 MiB kept back"
        " and 1,000 MiB promised to other apps) and 1.6 CPUs (1.6 of 1.6 free); 3 fit;"
        " lower the number or the limits, or make room"
    )
    numbers = refused.value.capacity
    assert numbers is not None
    assert numbers["memory"] == {
        "needed": 400 * MIB,
        "free": 399 * MIB,
        "machine": 1655 * MIB,
        "promised": 1000 * MIB,
        "kept_back": 256 * MIB,
        "others": 256 * MIB,
    }
    assert numbers["cpus"] == {"needed": 1.6, "free": 1.6, "machine": 1.6, "promised": 0.0}
    assert (numbers["replicas"], numbers["surge"], numbers["largest"], numbers["fits"]) == (4, 0, 3, False)


def test_cpus_are_counted_too() -> None:
    with pytest.raises(CapacityError, match=r"4 replicas need .* and 1\.6 CPUs \(1 of 1 free\); 2 fit;"):
        ordered(empty(), o.Deploy(spec=spec_of(replicas=4, **SMALL)), room(10_000, 1.0))


def test_what_names_no_limit_is_not_refused_for_it() -> None:
    ordered(empty(), o.Deploy(spec=spec_of(replicas=9)), room(0, 0.0))
    only_cpus = spec_of(replicas=2, resources={"cpus": 0.5})
    ordered(empty(), o.Deploy(spec=only_cpus), room(0, 1.0))
    with pytest.raises(CapacityError, match=r"2 replicas need 1 CPU \(0\.9 of 0\.9 free\); 1 fits;"):
        ordered(empty(), o.Deploy(spec=only_cpus), room(0, 0.9))


def test_not_even_one() -> None:
    with pytest.raises(CapacityError, match=r"1 replica needs 100 MiB of memory .* none fits;"):
        ordered(empty(), o.Deploy(spec=spec_of(replicas=1, **SMALL)), room(99))


def test_the_surge_alone_may_be_too_much_and_the_way_out_is_named() -> None:
    app = deployed(**SMALL)
    with pytest.raises(CapacityError, match="3 replicas and 1 more while they are replaced need 400 MiB") as refused:
        ordered(app, o.Restart(), room(350))
    assert "; 2 fit; --order stop-first fits, as it needs none more; or lower" in str(refused.value)
    ordered(app, o.Restart(policy=options(order="stop-first")), room(350))


def test_stop_first_is_not_named_where_it_would_not_do() -> None:
    single, scaled, held = deployed(replicas=1, **SMALL), deployed(**SMALL), deployed(**SMALL)
    scaled.order(o.Restart())
    for app, order in (
        (single, o.Restart()),  # leaves nobody serving
        (scaled, o.Scale(replicas=9)),  # has no policy of its own
        (held, o.Deploy(spec=spec_of(replicas=4, **LARGE))),  # too much without a surge too
    ):
        with pytest.raises(CapacityError) as refused:
            ordered(app, order, room(150))
        assert "stop-first" not in str(refused.value)


def test_what_takes_no_more_than_before_is_never_refused() -> None:
    app, full = deployed(**SMALL), room(0, 0.0)
    ordered(app, o.Restart(policy=options(order="stop-first")), full)
    ordered(app, o.Scale(replicas=2), full)
    ordered(app, o.ChangeLimits(memory=50 * MIB), full)
    ordered(app, o.Stop(), full)
    with pytest.raises(CapacityError):
        ordered(app, o.Scale(replicas=4), full)


def test_a_count_that_the_policy_forbids_is_not_advised() -> None:
    spec = spec_of(replicas=4, rollout={"min_available": 3}, **SMALL)
    with pytest.raises(CapacityError, match="none fits"):
        ordered(empty(), o.Deploy(spec=spec), room(250))
    with pytest.raises(CapacityError, match="3 fit"):
        ordered(empty(), o.Deploy(spec=spec), room(350))


def test_other_refusals_come_first() -> None:
    with pytest.raises(UsageError, match="stop-first with 1 replica"):
        ordered(deployed(replicas=1, **SMALL), o.Restart(policy=options(order="stop-first")), room(0))


@pytest.mark.parametrize("space", [400, 450, 799, 800, 1234])
def test_the_largest_number_is_the_largest(space: int) -> None:
    """Whatever is told to fit does, and one more does not; a percentage is taken of each number anew."""
    app = deployed(replicas=2, **SMALL)
    new = spec_of(replicas=30, rollout={"parallelism": "50%"}, env=[{"name": "NEW", "value": "1"}], **SMALL)
    with pytest.raises(CapacityError) as refused:
        ordered(app, o.Deploy(spec=new), room(space))
    assert refused.value.capacity is not None
    largest = refused.value.capacity["largest"]
    assert isinstance(largest, int)
    ordered(app, o.Deploy(spec=new.model_copy(update={"replicas": largest})), room(space))
    with pytest.raises(CapacityError):
        ordered(app, o.Deploy(spec=new.model_copy(update={"replicas": largest + 1})), room(space))


def test_a_plan_shows_the_same_numbers() -> None:
    app = deployed(**SMALL)
    assert app.state is not None
    after = ordered(app, o.Restart(), room(500))
    shown = capacity(app.state, after, room(500))
    assert shown.fits
    assert shown.shown()["surge"] == 1
    assert shown.held == Amount(300 * MIB, 1.2)
    assert not replace(shown, room=room(100)).memory_fits
    assert replace(shown, room=room(100)).cpus_fit
