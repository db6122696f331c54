"""A backend: one app's pool of servers under one set of balancer settings; named so that a release with other
settings gets a pool of its own (design.md, "HAProxy's file"). Read by decide and written by the balancer adapter."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import MISSING, astuple, dataclass, fields, replace
from functools import cached_property, lru_cache

from rota.core.healthcheck import Check
from rota.core.spec import AppSpec, Balance
from rota.core.sticky import Sticky


@dataclass(frozen=True)
class Backend:
    """Times in seconds; ``check_path`` None is a TCP check, ``expect_body`` None takes any answer, ``cookie`` None is
    no stickiness, ``cookie_age`` None a cookie that ends with the browser. ``balance`` is a Balance's value. ``colour``
    tells pools of the same settings apart, between which a blue-green rollout switches."""

    app: str
    check_path: str | None
    interval: float
    fast_interval: float
    timeout: float
    fall: int
    rise: int
    cookie: str | None = None
    cookie_age: float | None = None
    balance: str = Balance.ROUND_ROBIN.value
    colour: int = 0
    expect_body: str | None = None

    @cached_property
    def name(self) -> str:
        """``<app>.<8 hex digits of its settings>``: an app's name holds no dot, so no two apps share one."""
        return _name(self)


def backend_of(spec: AppSpec, colour: int = 0) -> Backend:
    return _backend(spec.name, spec.check, spec.sticky, spec.balance, colour)


@lru_cache(maxsize=4096)  # asked several times a decision
def _backend(app: str, check: Check, sticky: Sticky | None, balance: Balance, colour: int) -> Backend:
    plain = Backend(app, check.path, check.interval, check.fast_interval, check.timeout, check.fall, check.rise)
    plain = replace(plain, balance=balance.value, colour=colour, expect_body=check.expect_body)
    return replace(plain, cookie=sticky.cookie, cookie_age=sticky.max_age) if sticky else plain


@functools.lru_cache(maxsize=1024)
def _name(backend: Backend) -> str:
    """A setting at its default does not count, so that one that a later rota adds leaves the names as they are."""
    settings = tuple(
        value if entry.default is MISSING else (entry.name, value)
        for entry, value in zip(fields(backend), astuple(backend), strict=True)
        if value != entry.default
    )
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()
    return f"{backend.app}.{digest[:8]}"
