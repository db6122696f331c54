"""The number of replicas changes while a rollout is under way, or with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.scenario import deployed, options, releases, serving, settled

from rota.core import order as o
from rota.core import steering
from rota.core.rollout import Phase
from rota.testing.simulation_history import spec_of


def test_the_count_may_change_during_a_rollout() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=1)))
    app.run(1.5)
    app.order(o.Scale(replicas=5))
    app.run(1.0)
    app.order(o.Scale(replicas=1))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert releases(app) == [2]
    settled(app)


@pytest.mark.parametrize(
    "policy", [{"order": "stop-first"}, {"order": "in-place"}, {"order": "in-place", "parallelism": 2}]
)
@pytest.mark.parametrize("after", [0.05, 1.0])
@pytest.mark.parametrize("counts", [(2,), (1,), (4,), (2, 1), (4, 3)], ids=str)
def test_the_count_may_change_while_replicas_leave_first(
    policy: dict[str, Any], after: float, counts: tuple[int, ...]
) -> None:
    """There is always one that serves, the last one until its heir does."""
    app = deployed()
    app.order(o.Restart(policy=options(delay=10, **policy)))
    least = []
    for count in counts:
        app.run(after, lambda: least.append(serving(app)))
        app.order(o.Scale(replicas=count))
    app.run(120.0, lambda: least.append(serving(app)))
    assert app.rollout.phase is Phase.SUCCEEDED
    assert min(least) >= 1
    assert {seen.generation for seen in app.seen().values()} == {2}
    settled(app)


@given(
    replicas=st.integers(2, 5),
    order=st.sampled_from(["start-first", "stop-first", "in-place"]),
    parallelism=st.sampled_from([1, 2, "50%", 5]),
    counts=st.lists(st.tuples(st.sampled_from([0.0, 0.1, 1.0, 4.0]), st.integers(1, 6)), min_size=1, max_size=4),
)
def test_an_undisturbed_rollout_comes_to_its_end_whatever_the_count_becomes(
    replicas: int, order: str, parallelism: int | str, counts: list[tuple[float, int]]
) -> None:
    app = deployed(replicas)
    app.order(o.Restart(policy=options(order=order, parallelism=parallelism, delay=2)))
    least = []
    for after, count in counts:
        app.run(after, lambda: least.append(serving(app)))
        app.order(o.Scale(replicas=count))
    app.run(120.0, lambda: least.append(serving(app)))
    assert (app.rollout.phase, app.rollout.cause) == (Phase.SUCCEEDED, None)
    assert min(least) >= 1
    assert min(seen.generation for seen in app.seen().values()) == 2  # a slot added later may have a later one
    settled(app)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_stop_first_rollout_that_was_aborted_goes_back_whatever_the_count_is_meanwhile(count: int) -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of(replicas=3, env=[{"name": "N", "value": "2"}]), policy=options(order="stop-first")))
    app.run(60.0, lambda: "FinishSlot" in " ".join(app.kinds()))
    app.ask(steering.abort)
    app.order(o.Scale(replicas=count))
    app.run(60.0)
    assert app.rollout.phase is Phase.CANCELLED
    assert releases(app) == [1] * count
    settled(app)


@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, 2), (1, 3)])
def test_a_stop_first_deploy_of_another_count_finds_its_way_back(before: int, after: int) -> None:
    app = deployed(before)
    bad = spec_of("crashing", replicas=after)
    app.order(o.Deploy(spec=bad, policy=options(order="stop-first")))
    app.run(120.0)
    assert app.rollout.phase is Phase.ROLLED_BACK
    assert releases(app) == [1] * before
    settled(app)
