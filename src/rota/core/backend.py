"""A backend: one app's pool of servers under one set of balancer settings; named so that a release with other
settings gets a pool of its own (design.md, "HAProxy's file"). Read by decide and written by the balancer adapter."""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass

from rota.core.spec import AppSpec


@dataclass(frozen=True)
class Backend:
    """Times in seconds; ``check_path`` None is a TCP check."""

    app: str
    check_path: str | None
    interval: float
    fast_interval: float
    timeout: float
    fall: int
    rise: int

    @property
    def name(self) -> str:
        """``<app>.<8 hex digits of its settings>``: an app's name holds no dot, so no two apps share one."""
        digest = hashlib.sha256(repr(astuple(self)).encode()).hexdigest()
        return f"{self.app}.{digest[:8]}"


def backend_of(spec: AppSpec) -> Backend:
    check = spec.health_check
    return Backend(
        spec.name, spec.check_path, check.interval, check.fast_interval, check.timeout, check.fall, check.rise
    )
