"""Whether a new replica may enter rotation yet: TCP accepted, healthy, stable, each with its deadline (S3, H2); and
whether one that did may stay, where HAProxy cannot tell."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rota.core.observation import ObservedReplica, ProbeHistory
from rota.core.quantities import written_seconds
from rota.core.rollout import Cause
from rota.core.spec import AppSpec


class Stage(enum.Enum):
    STARTING = "starting"  # no TCP connection accepted yet
    WARMING = "warming"  # accepted; not healthy, not so for min_ready_seconds, or not warmed up yet
    READY = "ready"
    FAILED = "failed"


class Health(enum.Enum):
    """What the daemon's own checks say of a replica, before rotation or in it."""

    UNASKED = "unasked"  # in rotation HAProxy asks, and its server's state says what it saw
    UNKNOWN = "unknown"
    PASSES = "passes"
    FAILS = "fails"


@dataclass(frozen=True)
class Readiness:
    """``until`` is when the present stage ends by itself (None: never)."""

    stage: Stage
    until: float | None = None
    cause: Cause | None = None
    detail: str = ""


def readiness(spec: AppSpec, replica: ObservedReplica, seen: ProbeHistory | None, now: float) -> Readiness:
    """Deadlines count from when this daemon began to look, not from the start of the replica, so that a daemon that
    was away does not condemn a replica that it has not asked yet."""
    if seen is None or seen.run != replica.run:
        return Readiness(Stage.STARTING)
    if seen.accepted_at is None:
        return _booting(spec, seen, now)
    if seen.healthy_since is None or seen.passes < spec.check.rise:
        return _warming(spec, seen, now)
    stable_at = seen.healthy_since + spec.min_ready_seconds
    if now < stable_at:
        return Readiness(Stage.WARMING, stable_at)
    warm_at = stable_at + spec.boot_timeout  # a warm-up that hangs keeps nobody out for ever
    if seen.warmed < spec.warm_up.requests and now < warm_at:
        return Readiness(Stage.WARMING, warm_at)
    return Readiness(Stage.READY)


def health(spec: AppSpec, replica: ObservedReplica, seen: ProbeHistory | None) -> Health:
    """By ``rise`` passes or ``fall`` failures in a row; anything else says nothing."""
    if not spec.check.by_daemon:
        return Health.UNASKED
    if seen is None or seen.run != replica.run:
        return Health.UNKNOWN
    if seen.fails >= spec.check.fall:
        return Health.FAILS
    return Health.PASSES if seen.passes >= spec.check.rise else Health.UNKNOWN


def _booting(spec: AppSpec, seen: ProbeHistory, now: float) -> Readiness:
    deadline = seen.since + spec.boot_timeout
    if now < deadline:
        return Readiness(Stage.STARTING, deadline)
    detail = f"no TCP connection was accepted within boot_timeout ({written_seconds(spec.boot_timeout)})"
    return Readiness(Stage.FAILED, None, Cause.TIMEOUT, _with(detail, seen.last_failure))


def _warming(spec: AppSpec, seen: ProbeHistory, now: float) -> Readiness:
    allowed = spec.boot_timeout + spec.check.start_period
    if now < seen.since + allowed:
        return Readiness(Stage.WARMING, seen.since + allowed)
    detail = f"its health check did not pass {spec.check.rise} times in a row within {written_seconds(allowed)}"
    return Readiness(Stage.FAILED, None, Cause.UNHEALTHY, _with(detail, seen.last_failure))


def _with(detail: str, last: str) -> str:
    return f"{detail}; last: {last}" if last else detail
