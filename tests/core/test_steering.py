"""What a person may change of a rollout under way: leave a slot out, another pace; and what is refused (R5)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.scenario import deployed, options, releases, settled, told

from rota.core import order as o
from rota.core import steering
from rota.core.errors import Conflict, NotFound, UsageError
from rota.core.rollout import Cause, Phase
from rota.core.steering import Pace, Skip
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import spec_of


def rolling(**policy: Any) -> Simulation:
    """A deploy of release 2 over three replicas, each new one ready after a second."""
    app = deployed()
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=1), policy=options(**policy)))
    app.run(0.2)
    return app


def skip(app: Simulation, **asked: Any) -> None:
    state = app.state
    assert state is not None
    app.ask(lambda rollout, now: steering.skip(state, rollout, Skip(**asked)))


def tune(app: Simulation, **asked: Any) -> None:
    state = app.state
    assert state is not None
    app.ask(lambda rollout, now: steering.tune(state, rollout, Pace(**asked)))


def test_what_is_paused_or_about_to_be_is_not_paused_again() -> None:
    app = rolling()
    for seconds in (0.0, 60.0):
        if not seconds:
            app.ask(steering.pause)
        app.run(seconds)
        with pytest.raises(Conflict, match=r"web\.2 is paused already; rota rollout resume lets it go on"):
            app.ask(steering.pause)
    assert app.rollout.phase is Phase.PAUSED


@pytest.mark.parametrize("asked", [{"slot": 2}, {"replica": "web-2"}])
def test_a_slot_that_is_skipped_keeps_what_it_had(asked: dict[str, object]) -> None:
    app = rolling()
    skip(app, **asked)
    app.run(60.0)
    assert (app.rollout.phase, app.rollout.detail) == (Phase.SUCCEEDED, "slots left as they were: 2")
    assert releases(app) == [2, 1, 2]
    assert len(told(app, "StartReplica")) == 2
    settled(app)


def test_a_slot_in_hand_goes_back_when_it_is_skipped() -> None:
    app = rolling()
    skip(app, slot=1)
    app.run(60.0)
    assert releases(app) == [1, 2, 2]
    settled(app)


def test_a_slot_that_fails_is_skipped_while_the_rollout_waits() -> None:
    app = deployed()
    app.runtime.faults = lambda order: Faults(crash_after=0.0 if (order.release, order.slot) == (2, 2) else None)
    app.order(o.Deploy(spec=spec_of(replicas=3, min_ready_seconds=1), policy=options(failure_action="pause")))
    app.run(60.0)
    assert app.rollout.phase is Phase.PAUSED
    skip(app, slot=2)
    app.ask(steering.resume)
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert releases(app) == [2, 1, 2]
    settled(app)


def test_a_slot_that_was_skipped_and_then_scaled_away_is_forgotten() -> None:
    app = rolling()
    skip(app, slot=3)
    app.order(o.Scale(replicas=2))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert releases(app) == [2, 2]
    settled(app)


def test_with_every_slot_skipped_nothing_was_changed() -> None:
    app = rolling()
    for slot in (1, 2, 3):
        skip(app, slot=slot)
    app.run(60.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.FAILED, Cause.CANCELLED)
    assert releases(app) == [1, 1, 1]


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_the_last_slot_that_is_left_is_skipped_while_none_is_in_hand(seconds: float) -> None:
    """Before any was taken up, and while the delay passes."""
    app = deployed(2)
    app.order(o.Deploy(spec=spec_of(replicas=2, min_ready_seconds=1), policy=options(delay=300)))
    app.run(seconds)
    for slot in (1, 2) if not seconds else (2,):
        skip(app, slot=slot)
    app.run(60.0)
    end = (Phase.SUCCEEDED, [2, 1]) if seconds else (Phase.FAILED, [1, 1])
    assert (app.rollout.phase, releases(app)) == end
    settled(app)


def test_an_abort_after_a_skip_goes_back_with_the_others() -> None:
    app = rolling()
    skip(app, slot=2)
    app.run(1.2)
    app.ask(steering.abort)
    app.run(60.0)
    assert app.rollout.phase is Phase.CANCELLED
    assert releases(app) == [1, 1, 1]
    settled(app)


def test_the_pace_changes_from_now_on() -> None:
    app = rolling(delay=300)
    tune(app, delay=0, parallelism=2)
    app.run(10.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    taken = [done.at for done in app.steps if type(done.step).__name__ == "TakeSlot"]
    assert taken[1] - taken[0] < 1.0


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"slot": 4}, NotFound, "web has no slot 4: it has 3 of them"),
        ({"replica": "web-99"}, NotFound, "web has no replica 'web-99'; rota ps web lists them"),
        ({"slot": 1}, Conflict, r"slot 1 is done already; to have it as it was, abort web\.2"),
    ],
)
def test_what_cannot_be_skipped_is_refused(asked: dict[str, object], error: type[Exception], words: str) -> None:
    app = rolling()
    app.run(1.5)
    with pytest.raises(error, match=words):
        skip(app, **asked)


def test_what_has_no_slots_or_takes_all_together_is_refused() -> None:
    app = deployed()
    app.order(o.Scale(replicas=4))
    for ask in (lambda: skip(app, slot=1), lambda: tune(app, delay=1)):
        with pytest.raises(Conflict, match=r"web\.2 is a scale: only what takes replicas up one by one"):
            ask()
    whole = deployed(overlap="forbid")
    whole.order(o.Restart())
    with pytest.raises(UsageError, match="changes all its replicas together: none can be left out"):
        skip(whole, slot=1)
    with pytest.raises(UsageError, match="it changes all its replicas at once"):
        tune(whole, delay=1)


def test_a_rollout_on_its_way_back_is_not_told_so() -> None:
    app = rolling()
    app.ask(steering.abort)
    app.run(1.0, lambda: app.rollout.back)
    with pytest.raises(Conflict, match="is going back"):
        skip(app, slot=3)


@pytest.mark.parametrize("wrong", [{}, {"slot": 1, "replica": "web-1"}])
def test_one_slot_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="give a slot or a replica"):
        Skip(**wrong)


def test_a_pace_says_something() -> None:
    with pytest.raises(ValueError, match="give a delay or a parallelism"):
        Pace()
