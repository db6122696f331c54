"""Maintenance: users are kept out by one step, and nothing else waits for it."""

from __future__ import annotations

from tests.core.scenario import deployed, told

from rota.core import order as o
from rota.core.rollout import Phase


def test_it_begins_and_ends_by_one_step_each() -> None:
    app = deployed()
    for on in (True, False):
        app.desire(maintenance=on)
        app.run(5.0)
        assert app.balancer.apps["web"].maintenance is on
    assert told(app, "SetMaintenance") == app.kinds() == ["SetMaintenance"] * 2


def test_a_rollout_goes_on_beneath() -> None:
    app = deployed()
    app.desire(maintenance=True)
    app.order(o.Restart())
    app.run(60.0)
    assert app.balancer.apps["web"].maintenance
    assert app.rollout.phase is Phase.SUCCEEDED


def test_an_app_that_is_removed_is_not_closed_first() -> None:
    app = deployed()
    app.order(o.Remove())
    app.desire(maintenance=True)
    app.run(60.0)
    assert not told(app, "SetMaintenance")
