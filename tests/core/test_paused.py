"""What goes on about an app while its rollout waits for a person (W1)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.scenario import deployed, options, releases, running, serving, settled, told

from rota.core import order as o
from rota.core import steering
from rota.core.names import ReplicaId
from rota.core.rollout import Phase
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import spec_of


def paused(replicas: int = 3, **policy: Any) -> Simulation:
    """A deploy whose first replica crashed: what it was to replace serves."""
    app = deployed(replicas)
    app.runtime.faults = lambda order: Faults(crash_after=0.0 if order.release == 2 else None)
    ordered = options(failure_action="pause", **policy)
    app.order(o.Deploy(spec=spec_of(replicas=replicas, min_ready_seconds=1), policy=ordered))
    app.run(60.0)
    assert app.rollout.phase is Phase.PAUSED
    return app


@pytest.mark.parametrize("replicas", [1, 3])
def test_the_old_replica_of_the_slot_that_failed_is_replaced_by_another_old_one(replicas: int) -> None:
    app = paused(replicas)
    app.runtime.crash(ReplicaId("web-1"), code=1)
    app.run(60.0)
    assert (app.rollout.phase, releases(app)) == (Phase.PAUSED, [1] * replicas)
    assert serving(app) == replicas
    assert "web-1" not in running(app)
    assert told(app, "TakeSlot") == ["TakeSlot 1", "TakeSlot 1"]


def test_the_slot_is_taken_up_again_when_the_rollout_goes_on() -> None:
    app = paused()
    app.runtime.crash(ReplicaId("web-1"), code=1)
    app.run(60.0)
    app.runtime.faults = lambda order: Faults()
    app.ask(steering.resume)
    app.run(60.0)
    assert (app.rollout.phase, app.rollout.detail, releases(app)) == (Phase.SUCCEEDED, "", [2, 2, 2])
    settled(app)


def test_an_abort_finds_nothing_to_take_back() -> None:
    app = paused()
    app.runtime.crash(ReplicaId("web-1"), code=1)
    app.run(60.0)
    before = running(app)
    app.ask(steering.abort)
    app.run(60.0)
    assert (app.rollout.phase, running(app)) == (Phase.CANCELLED, before)
    settled(app)


def test_what_stops_first_leaves_the_slot_empty() -> None:
    app = paused(order="stop-first")
    app.run(60.0)
    assert releases(app) == [1, 1]


def test_a_slot_that_was_left_behind_is_taken_up_again_too() -> None:
    app = deployed()
    app.runtime.faults = lambda order: Faults(crash_after=0.0 if (order.release, order.slot) == (2, 1) else None)
    ordered = options(failure_action="continue", delay=30)
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=1), policy=ordered))
    app.run(50.0)
    app.ask(steering.pause)
    app.run(60.0)
    assert (app.rollout.phase, releases(app)) == (Phase.PAUSED, [1, 2, 1])
    app.runtime.faults = lambda order: Faults()
    app.ask(steering.resume)
    app.run(300.0)
    assert (app.rollout.phase, app.rollout.detail, releases(app)) == (Phase.SUCCEEDED, "", [2, 2, 2])
    settled(app)
