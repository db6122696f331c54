"""A backend: one app's pool of servers under one set of balancer settings; named so that a release with other
settings gets a pool of its own (design.md, "HAProxy's file"). Read by decide and written by the balancer adapter."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import astuple, dataclass
from functools import cached_property, lru_cache

from rota.core.spec import AppSpec, HealthCheck


@dataclass(frozen=True)
class Backend:
    """Times in seconds; ``check_path`` None is a TCP check. ``colour`` tells pools of the same settings apart, between
    which a blue-green rollout switches."""

    app: str
    check_path: str | None
    interval: float
    fast_interval: float
    timeout: float
    fall: int
    rise: int
    colour: int = 0

    @cached_property
    def name(self) -> str:
        """``<app>.<8 hex digits of its settings>``: an app's name holds no dot, so no two apps share one."""
        return _name(self)


def backend_of(spec: AppSpec, colour: int = 0) -> Backend:
    return _backend(spec.name, spec.check_path, spec.health_check, colour)


@lru_cache(maxsize=4096)  # asked several times a decision
def _backend(app: str, path: str | None, check: HealthCheck, colour: int) -> Backend:
    return Backend(app, path, check.interval, check.fast_interval, check.timeout, check.fall, check.rise, colour)


@functools.lru_cache(maxsize=1024)
def _name(backend: Backend) -> str:
    digest = hashlib.sha256(repr(astuple(backend)).encode()).hexdigest()
    return f"{backend.app}.{digest[:8]}"
