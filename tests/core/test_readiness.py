"""When a replica is ready, what it waits for, and when it has failed to become so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rota.core.names import ReplicaId
from rota.core.observation import ObservedReplica, ProbeHistory, RunState
from rota.core.readiness import Health, Stage, health, readiness
from rota.core.rollout import Cause
from rota.testing.simulation_history import spec_of

SPEC = spec_of(boot_timeout=10, min_ready_seconds=5, health_check={"start_period": 20})
REPLICA = ObservedReplica(ReplicaId("web-1"), "web", 1, 1, 1, RunState.RUNNING, "run", 100.0)


@pytest.mark.parametrize(
    ("seen", "now", "stage", "until"),
    [
        (None, 100.0, Stage.STARTING, None),
        (ProbeHistory("another run", 100.0, 100.0, 9, 100.0), 200.0, Stage.STARTING, None),
        (ProbeHistory("run", 100.0), 109.9, Stage.STARTING, 110.0),
        (ProbeHistory("run", 100.0, 109.0), 129.9, Stage.WARMING, 130.0),
        (ProbeHistory("run", 100.0, 101.0, 1, 101.0), 102.0, Stage.WARMING, 130.0),
        (ProbeHistory("run", 100.0, 101.0, 2, 101.0), 105.9, Stage.WARMING, 106.0),
        (ProbeHistory("run", 100.0, 101.0, 2, 101.0), 106.0, Stage.READY, None),
    ],
)
def test_a_replica_starts_warms_and_is_ready(
    seen: ProbeHistory | None, now: float, stage: Stage, until: float | None
) -> None:
    found = readiness(SPEC, REPLICA, seen, now)
    assert (found.stage, found.until) == (stage, until)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, Health.UNKNOWN),
        (ProbeHistory("another run", 100.0, fails=9), Health.UNKNOWN),
        (ProbeHistory("run", 100.0, 101.0, passes=1), Health.UNKNOWN),
        (ProbeHistory("run", 100.0, 101.0, passes=2), Health.PASSES),
        (ProbeHistory("run", 100.0, 101.0, fails=2), Health.UNKNOWN),
        (ProbeHistory("run", 100.0, 101.0, fails=3), Health.FAILS),
    ],
)
def test_its_health_is_known_after_so_many_checks_in_a_row(seen: ProbeHistory | None, expected: Health) -> None:
    asked = spec_of(health_check={"type": "exec", "command": ["check"]})
    assert health(asked, REPLICA, seen) is expected
    assert health(SPEC, REPLICA, seen) is Health.UNASKED


def test_one_that_never_listens_has_timed_out() -> None:
    found = readiness(SPEC, REPLICA, ProbeHistory("run", 100.0, last_failure="connection refused"), 110.0)
    assert (found.stage, found.cause) == (Stage.FAILED, Cause.TIMEOUT)
    assert found.detail == "no TCP connection was accepted within boot_timeout (10.0 s); last: connection refused"


def test_one_that_never_passes_is_unhealthy() -> None:
    found = readiness(SPEC, REPLICA, ProbeHistory("run", 100.0, 101.0), 130.0)
    assert (found.stage, found.cause) == (Stage.FAILED, Cause.UNHEALTHY)
    assert found.detail == "its health check did not pass 2 times in a row within 30.0 s"


def test_it_is_ready_once_it_is_warmed_up_or_that_has_taken_too_long() -> None:
    spec = spec_of(boot_timeout=10, warm_up={"requests": 3})
    seen = ProbeHistory("run", 100.0, 101.0, 2, 101.0, warmed=2)
    found = readiness(spec, REPLICA, seen, 105.0)
    assert (found.stage, found.until) == (Stage.WARMING, 111.0)
    assert readiness(spec, REPLICA, seen, 111.0).stage is Stage.READY
    assert readiness(spec, REPLICA, replace(seen, warmed=3), 105.0).stage is Stage.READY
