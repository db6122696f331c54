"""What is put on record of HAProxy's own outages, and what can be said of what was lost in them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.scenario import deployed, options, settled, told

from rota.core import order as o
from rota.core import steps as s
from rota.core.observation import Gap, LastLook
from rota.core.outage import came_meanwhile, said
from rota.core.receipt import BALANCER_DOWN
from rota.core.rollout import Phase
from rota.testing.simulation import Simulation

LOOK = LastLook(ago=0.02, open=3, requests=300, connections=30)
DOWN = Gap(10.0, 10.18, BALANCER_DOWN, LOOK)


def outage(app: Simulation, seconds: float = 2.0, before: LastLook | None = LOOK) -> None:
    app.balancer.lose(app.clock.now(), before=before)
    app.run(seconds)
    app.restore_balancer()


def noted(app: Simulation) -> list[Gap]:
    return [done.step.outage for done in app.steps if isinstance(done.step, s.NoteOutage)]


@pytest.mark.parametrize(
    ("gap", "about"),
    [(DOWN, (54, 5)), (replace(DOWN, before=None), None), (replace(DOWN, until=None), None)],
)
def test_as_many_come_meanwhile_as_had_come_before(gap: Gap, about: tuple[int, int] | None) -> None:
    assert came_meanwhile(gap) == about


def test_it_is_said_what_is_known_and_what_is_not() -> None:
    assert said(DOWN) == (
        "HAProxy was not running for 180 ms; 3 requests and connections were open 20 ms before and cut off, "
        "about 54 requests and 5 TCP connections came meanwhile (estimated by the second before)"
    )
    unknown = "HAProxy was not running for 180 ms; nobody had looked before, so what was lost is not known"
    assert said(replace(DOWN, before=None)) == unknown


def test_one_outside_a_rollout_is_an_event_once() -> None:
    app = deployed()
    outage(app)
    app.run(60.0)
    (gap,) = noted(app)
    assert (gap.before, gap.reason) == (LOOK, BALANCER_DOWN)
    assert gap.until is not None
    assert gap.until - gap.since == pytest.approx(2.0, abs=0.1)
    outage(app)
    app.run(60.0)
    assert len(noted(app)) == 2
    settled(app)


def test_an_app_that_did_not_serve_then_says_nothing() -> None:
    app = deployed()
    app.order(o.Stop())
    app.run(60.0)
    outage(app)
    app.order(o.Start())
    app.run(60.0)
    assert noted(app) == []


def test_the_receipt_of_a_rollout_has_it_also_when_only_an_earlier_daemon_had_looked() -> None:
    app = deployed()
    app.order(o.Restart(policy=options(delay=5)))
    app.run(0.15)
    outage(app)
    app.run(0.2)
    assert app.rollout.phase is Phase.PROGRESSING
    assert len(noted(app)) == 1
    app.balancer.gaps = [replace(gap, since=gap.since + 0.001, before=None) for gap in app.balancer.gaps]
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    (gap,) = [gap for gap in app.rollout.gaps if gap.reason == BALANCER_DOWN]
    assert gap.before == LOOK
    assert len(told(app, "NoteOutage")) == 1


def test_what_an_earlier_daemon_saw_of_another_outage_is_not_this_one_s() -> None:
    app = deployed()
    outage(app)
    app.run(5.0)
    outage(app, before=None)
    app.run(5.0)
    assert [gap.before for gap in noted(app)] == [LOOK, None]
