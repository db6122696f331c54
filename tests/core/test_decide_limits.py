"""Limits that a runtime refuses a running replica: another one takes its place under them (V8)."""

from __future__ import annotations

import pytest
from tests.core.scenario import deployed, options, running, serving, settled, told

from rota.core import order as o
from rota.core.names import ReplicaId
from rota.core.rollout import Phase
from rota.core.spec import Limits
from rota.testing.runtime import Faults
from rota.testing.simulation import Crash, Simulation

MIB = 2**20
LESS = 16 * MIB  # than a replica uses
ASKED = ("UpdateLimits", "NoteRefusal")


def limits(app: Simulation) -> set[int | None]:
    return {seen.limits.memory for seen in app.seen().values()}


def test_refused_limits_are_had_by_a_rolling_change() -> None:
    app = deployed()
    app.order(o.ChangeLimits(memory=LESS))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert limits(app) == {LESS}
    assert told(app, *ASKED) == [f"{kind} web-{slot}" for slot in (1, 2, 3) for kind in ASKED]
    in_turn = told(app, "StartReplica", "EnableServer", "DisableServer")[:3]
    assert in_turn == ["StartReplica web-4", "EnableServer web-4", "DisableServer web-1"]
    settled(app)


def test_those_that_can_have_them_live_keep_running() -> None:
    app = deployed()
    app.runtime.crash(ReplicaId("web-1"))
    app.run(60.0)
    taken = app.runtime.update_limits

    async def only_the_newest(replica: ReplicaId, wanted: Limits) -> None:
        app.runtime.memory = 0 if replica == "web-4" else 32 * MIB
        await taken(replica, wanted)

    app.runtime.update_limits = only_the_newest  # type: ignore[method-assign]
    app.order(o.ChangeLimits(memory=LESS))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert running(app) == ["web-4", "web-5", "web-6"]
    assert limits(app) == {LESS}
    settled(app)


@pytest.mark.parametrize("acted", [None, 0, 1])
@pytest.mark.parametrize("step", ["UpdateLimits", "NoteRefusal", "StartReplica", "DisableServer", "StopReplica"])
def test_a_refusal_outlives_a_crash(step: str, acted: int | None) -> None:
    app = deployed(replicas=2)
    app.order(o.ChangeLimits(memory=LESS))
    app.run(60.0, until=lambda: bool(told(app, step)))
    app.crash = Crash(acted)
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert limits(app) == {LESS}
    settled(app)


def test_the_files_own_order_is_kept() -> None:
    app = deployed(rollout={"order": "stop-first"})
    app.order(o.ChangeLimits(memory=LESS))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert limits(app) == {LESS}
    assert told(app, "DisableServer", "StartReplica")[:2] == ["DisableServer web-1", "StartReplica web-4"]
    settled(app)


def test_one_that_cannot_live_with_them_leaves_the_old_ones_as_they_were() -> None:
    app = deployed()
    app.runtime.faults = lambda order: Faults(crash_after=0.1) if order.limits.memory == LESS else Faults()
    app.order(o.ChangeLimits(memory=LESS))
    app.run(120.0)
    assert app.rollout.phase is Phase.ROLLED_BACK
    assert running(app) == ["web-1", "web-2", "web-3"]
    assert limits(app) == {None}
    settled(app)


def test_other_limits_are_asked_for_live_again() -> None:
    app = deployed(replicas=1)
    app.runtime.faults = lambda order: Faults(crash_after=0.1) if order.limits.memory == LESS else Faults()
    app.order(o.ChangeLimits(memory=LESS))
    app.run(120.0)
    app.order(o.ChangeLimits(memory=64 * MIB))
    app.run(60.0)
    assert running(app) == ["web-1"]
    assert limits(app) == {64 * MIB}


def test_limits_changed_by_hand_are_had_back_by_another_where_they_must() -> None:
    """Outside of a rollout, start-first, and with nobody missing."""
    app = deployed(replicas=2)
    app.order(o.ChangeLimits(memory=LESS, policy=options(order="start-first")))
    app.run(60.0)
    app.steps.clear()
    app.runtime.limit_by_hand(ReplicaId("web-3"), Limits(memory=64 * MIB))
    lowest = 2
    for _ in range(200):
        app.run(0.05)
        lowest = min(lowest, serving(app))
    assert lowest == 2
    assert limits(app) == {LESS}
    assert running(app) == ["web-4", "web-5"]
    settled(app)
