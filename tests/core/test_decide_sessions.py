"""The hand-off of a sticky app's replicas: their sessions are let finish, and nobody waits for ever."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.scenario import deployed, options, running, settled, told

from rota.core import order as o
from rota.core.rollout import Phase
from rota.testing.simulation import Simulation

LEAVING = ("DrainServer", "DisableServer", "CutConnections", "StopReplica")
LIFE = ("EnableServer", *LEAVING)


def sticky(replicas: int = 2, timeout: float = 30, session_timeout: float | None = None, **fields: Any) -> Simulation:
    drain = {"timeout": timeout, "session_timeout": session_timeout}
    return deployed(replicas=replicas, sticky=True, drain=drain, **fields)


def moments(app: Simulation, kind: str) -> list[float]:
    return [done.at for done in app.steps if type(done.step).__name__ == kind]


def waited(app: Simulation) -> float:
    """From the first drain to the maintenance after it."""
    return moments(app, "DisableServer")[0] - moments(app, "DrainServer")[0]


def reasons(app: Simulation, kind: str) -> set[str]:
    return {done.step.reason for done in app.steps if type(done.step).__name__ == kind}


def test_an_idle_replica_is_drained_before_it_goes() -> None:
    app = sticky(session_timeout=0)
    app.order(o.Restart())
    app.run(60.0)
    first = ["DrainServer web-1", "DisableServer web-1", "StopReplica web-1"]
    assert told(app, *LIFE)[:5] == ["EnableServer web-3", *first, "EnableServer web-4"]
    assert reasons(app, "DisableServer") == {"its sessions were idle for 0 s"}
    settled(app)


def test_sessions_are_over_once_idle_for_their_timeout() -> None:
    app = sticky(session_timeout=5)
    app.visits = lambda replica: 7.0
    app.order(o.Restart())
    app.run(300.0)
    assert waited(app) == pytest.approx(12.0, abs=0.05)
    assert app.rollout.phase is Phase.SUCCEEDED
    settled(app)


def test_sessions_that_go_on_end_with_the_drains_time() -> None:
    app = sticky(timeout=20, session_timeout=5)
    app.visits = lambda replica: 1000.0
    app.order(o.Restart())
    app.run(300.0)
    assert waited(app) == pytest.approx(20.0, abs=0.05)
    assert reasons(app, "DisableServer") == {"drain.timeout has passed, its sessions go to others"}


def test_without_a_session_timeout_the_drains_time_is_waited() -> None:
    app = sticky(timeout=20)
    app.order(o.Restart())
    app.run(300.0)
    assert waited(app) == pytest.approx(20.0, abs=0.05)


def test_what_is_open_when_its_sessions_end_is_let_finish() -> None:
    app = sticky(timeout=10, session_timeout=5)
    app.visits = lambda replica: 1000.0
    app.opens = lambda replica: (8.0,)
    app.order(o.Restart())
    app.run(300.0)
    assert moments(app, "StopReplica")[0] - moments(app, "DisableServer")[0] == pytest.approx(8.0, abs=0.05)
    assert "CutConnections" not in " ".join(app.kinds())
    assert app.rollout.cut == 0


def test_what_is_open_for_longer_is_cut_after_the_drains_time_once_more() -> None:
    app = sticky(timeout=10, session_timeout=5)
    app.visits = lambda replica: 1000.0
    app.opens = lambda replica: (800.0,)
    app.order(o.Restart())
    app.run(300.0)
    assert moments(app, "CutConnections")[0] - moments(app, "DrainServer")[0] == pytest.approx(20.0, abs=0.05)


def test_a_restarted_daemon_goes_on_waiting_and_does_not_begin_again() -> None:
    app = sticky(timeout=20, session_timeout=10)
    app.visits = lambda replica: 1000.0
    app.order(o.Restart())
    app.run(60.0, until=lambda: bool(told(app, "DrainServer")))
    app.run(12.0)
    app.restart_daemon()
    app.run(300.0)
    assert told(app, "DrainServer") == ["DrainServer web-1", "DrainServer web-2"]
    assert waited(app) == pytest.approx(20.0, abs=0.05)


def test_a_haproxy_that_came_back_from_its_file_is_told_again() -> None:
    app = sticky(timeout=20, session_timeout=10)
    app.visits = lambda replica: 1000.0
    app.order(o.Restart())
    app.run(60.0, until=lambda: bool(told(app, "DrainServer")))
    app.run(2.0)
    app.lose_balancer()
    app.run(1.0)
    app.restore_balancer()
    app.run(300.0)
    assert told(app, "DrainServer") == ["DrainServer web-1", "DrainServer web-1", "DrainServer web-2"]
    assert waited(app) == pytest.approx(20.0, abs=0.05)
    settled(app)


@pytest.mark.parametrize(
    "order",
    [o.Stop(), o.Remove(), o.Restart(policy=options(mode="simultaneous"))],
    ids=["stop", "remove", "simultaneous"],
)
def test_nobody_waits_for_sessions_where_new_users_would_find_nobody(order: o.Order) -> None:
    app = sticky()
    app.visits = lambda replica: 1000.0
    app.order(order)
    app.run(60.0)
    assert told(app, "DrainServer") == []
    assert moments(app, "StopReplica")[0] - app.steps[0].at < 0.1


def test_one_that_failed_does_not_keep_its_users() -> None:
    app = sticky(replicas=1)
    app.visits = lambda replica: 1000.0
    app.runtime.crash("web-1")  # type: ignore[arg-type]
    app.run(60.0)
    assert told(app, *LEAVING) == ["DisableServer web-1"]
    settled(app)


def test_sessions_of_a_slot_that_is_no_more_are_let_finish_too() -> None:
    app = sticky(session_timeout=5)
    app.visits = lambda replica: 2.0
    app.order(o.Scale(replicas=1))
    app.run(60.0)
    assert waited(app) == pytest.approx(7.0, abs=0.05)
    assert running(app) == ["web-1"]


def test_a_wait_for_sessions_is_no_lack_of_progress() -> None:
    app = sticky(timeout=6, rollout={"progress_deadline": 2})
    app.visits = lambda replica: 1000.0
    app.opens = lambda replica: (5.6,)
    app.order(o.Restart())
    app.run(80.0)
    assert app.rollout.phase is Phase.SUCCEEDED
