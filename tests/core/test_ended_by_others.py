"""Replicas that somebody ends, or that end with their machine: replaced, and no fault of what they were made of."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.scenario import deployed, options, releases, running, serving, settled

from rota.core import order as o
from rota.core.names import ReplicaId
from rota.core.rollout import Cause, Phase
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import MOODS, spec_of

STOPPED: dict[str, Any] = {"code": 0}
OUTSIDE: list[dict[str, Any]] = [{"signal": 9}, {"signal": 15}, {"code": None}, STOPPED]
"""Killed, terminated, ended with nobody to see it, as at a reboot, and stopped properly by somebody else."""


def end(app: Simulation, name: str, ending: dict[str, Any]) -> None:
    ends = app.runtime.stop_by_hand if ending is STOPPED else app.runtime.crash
    ends(ReplicaId(name), **ending)


def new_release(app: Simulation, **policy: Any) -> None:
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=0.5), policy=options(**policy)))


@pytest.mark.parametrize("ending", OUTSIDE)
def test_a_release_on_trial_stays(ending: dict[str, Any]) -> None:
    app = deployed()
    new_release(app)
    app.run(60.0, lambda: app.rollout.phase is Phase.SUCCEEDED)
    for name in running(app):
        end(app, name, ending)
    app.run(60.0)
    assert app.rollout.id == "web.2"
    assert releases(app) == [2, 2, 2]
    assert app.notices == []
    settled(app)


@pytest.mark.parametrize("ending", OUTSIDE)
@pytest.mark.parametrize("replica", ["web-4", "web-5"])
def test_a_new_replica_that_was_ready_is_replaced_and_the_rollout_goes_on(ending: dict[str, Any], replica: str) -> None:
    """In a slot that is done, and in the one in hand."""
    app = deployed()
    new_release(app, delay=5)
    app.run(60.0, lambda: f"EnableServer {replica}" in app.kinds())
    end(app, replica, ending)
    app.run(120.0)
    assert (app.rollout.phase, app.rollout.failures) == (Phase.SUCCEEDED, ())
    assert releases(app) == [2, 2, 2]
    settled(app)


def test_a_switch_waits_for_the_one_that_takes_its_place() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of(replicas=3, deployment_strategy="blue-green", min_ready_seconds=1)))
    app.runtime.faults = lambda order: Faults(listens_after=3.0 if order.slot == 3 else 0.0)
    app.run(60.0, lambda: "EnableServer web-4" in app.kinds())
    end(app, "web-4", {"signal": 9})
    app.run(120.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert serving(app) == 3


@pytest.mark.parametrize("ending", [{"code": None}, STOPPED])
def test_one_that_ends_with_its_machine_before_it_is_ready_is_started_again(ending: dict[str, Any]) -> None:
    app = deployed()
    app.runtime.faults = lambda order: Faults(listens_after=2.0)
    new_release(app)
    app.run(1.0)
    for name in running(app):
        end(app, name, ending)
    app.run(120.0)
    assert (app.rollout.phase, app.rollout.failures) == (Phase.SUCCEEDED, ())
    assert releases(app) == [2, 2, 2]
    settled(app)


@pytest.mark.parametrize("ending", [{"signal": 9, "oom": True}, {"code": 0}, {"signal": 6}])
def test_one_that_ends_by_itself_or_for_its_memory_turns_the_rollout_back(ending: dict[str, Any]) -> None:
    app = deployed()
    new_release(app, delay=5)
    app.run(60.0, lambda: "EnableServer web-4" in app.kinds())
    end(app, "web-4", ending)
    app.run(120.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.CRASHED)


def test_a_signal_before_it_was_ever_ready_counts() -> None:
    app = deployed()
    app.runtime.faults = lambda order: MOODS["deaf"]
    new_release(app)
    app.run(0.1)
    end(app, "web-4", {"signal": 9})
    app.run(120.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.CRASHED)


def test_who_kills_each_new_one_as_it_comes_up_does_not_hold_up_the_progress_deadline() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=5), policy=options(progress_deadline=20)))
    for number in range(4, 40):
        app.run(60.0, lambda number=number: f"EnableServer web-{number}" in app.kinds())  # type: ignore[misc]
        if app.rollout.phase is Phase.PROGRESSING:
            end(app, f"web-{number}", {"signal": 9})
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.PROGRESS_DEADLINE)
    settled(app)
