"""A new replica's share of the requests grows step by step, and no faster than it copes with (J4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.scenario import deployed, options, settled, told

from rota.core import order as o
from rota.core.names import ReplicaId
from rota.core.rollout import Phase
from rota.core.slowstart import PATIENCE
from rota.core.steps import EnableServer, SetWeight
from rota.testing.simulation import Crash, Simulation

SLOW = {"warm_up": {"slow_start": 9.0}}


def shares(app: Simulation, replica: str) -> list[tuple[float, int]]:
    """When it was given which share, in seconds since it entered rotation."""
    given = [(done.at, done.step) for done in app.steps if isinstance(done.step, EnableServer | SetWeight)]
    of_it = [(at, step.weight) for at, step in given if step.replica == replica]
    return [(at - of_it[0][0], weight) for at, weight in of_it]


def test_a_share_grows_over_slow_start_and_the_old_replica_stays_meanwhile() -> None:
    app = deployed(2, **SLOW)
    app.order(o.Restart())
    app.run(60.0)
    given = shares(app, "web-3")
    assert [weight for _, weight in given] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert [at for at, _ in given] == pytest.approx(list(range(10)), abs=0.3)
    order = [words for words in told(app, "SetWeight", "DisableServer") if words.endswith(("web-1", "web-3"))]
    assert order[-1] == "DisableServer web-1"
    settled(app)


def test_nobody_waits_where_it_was_not_asked_for_or_nobody_else_serves() -> None:
    app = deployed(2)
    app.order(o.Restart())
    app.run(30.0)
    assert told(app, "SetWeight") == []
    app = deployed(1, **SLOW)
    assert told(app, "SetWeight") == []
    app.order(o.Restart(policy=options(mode="simultaneous")))
    app.run(10.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert told(app, "SetWeight") == []


@pytest.mark.parametrize(("latency", "held"), [(0.5, True), (0.011, False), (0.0, False)])
def test_one_that_is_slower_than_the_others_is_held_back_but_not_for_ever(latency: float, held: bool) -> None:
    app = deployed(3, **SLOW)
    for name in ("web-1", "web-2", "web-3"):
        app.balancer.set_server(ReplicaId(name), latency=0.01)
    app.order(o.Restart(policy=options(parallelism=1)))
    app.run(30.0, until=lambda: "web-4" in app.balancer.apps["web"].servers)
    app.balancer.set_server(ReplicaId("web-4"), latency=latency)
    app.run(8.5)
    assert (len(shares(app, "web-4")) == 1) is held
    app.run(30.0)
    (whole,) = (at for at, weight in shares(app, "web-4") if weight == 100)
    assert whole == pytest.approx(PATIENCE * 9.0 if held else 9.0, abs=0.5)


@pytest.mark.parametrize("point", [None, 0, 1])
def test_a_daemon_that_dies_midway_is_followed_by_one_that_goes_on(point: int | None) -> None:
    app = deployed(2, **SLOW)
    app.order(o.Restart())
    app.run(60.0, until=lambda: len(told(app, "SetWeight")) == 4)
    app.crash = Crash(point)
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    weights = [weight for _, weight in shares(app, "web-3")]
    assert weights == sorted(weights)
    assert {server.weight for server in app.balancer.apps["web"].servers.values()} == {100}
    settled(app)


def test_a_share_that_haproxy_does_not_have_is_given_again() -> None:
    app = deployed(2)
    servers = app.balancer.apps["web"].servers
    servers[ReplicaId("web-1")] = replace(servers[ReplicaId("web-1")], weight=10)
    app.run(31.0)
    assert told(app, "SetWeight") == ["SetWeight web-1"]
    settled(app)
