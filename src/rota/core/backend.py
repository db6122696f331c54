"""A backend: one app's pool of servers under one set of balancer settings; named so that a release with other
settings gets a pool of its own (design.md, "HAProxy's file"). Read by decide and written by the balancer adapter."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import MISSING, astuple, dataclass, fields, replace
from functools import cached_property, lru_cache

from rota.core.balance import Balance, ByHeader, written
from rota.core.healthcheck import Check
from rota.core.http import IDLE_TIMEOUT, LEAST_RESPONSE_TIMEOUT, HttpOptions
from rota.core.spec import AppSpec
from rota.core.sticky import SameSite, Sticky


@dataclass(frozen=True)
class Backend:
    """Times in seconds; ``check_path`` None is a TCP check, ``expect_body`` None takes any answer, ``cookie`` None is
    no stickiness, ``cookie_age`` None a cookie that ends with the browser. ``balance`` is as core.balance writes it,
    ``cookie_site`` a SameSite's value, ``max_body`` in bytes, ``pages`` by their status. ``colour`` tells pools of the
    same settings apart, between which a blue-green rollout switches. ``tcp`` has the TCP services by the port that they
    listen on, each with the version of the PROXY protocol that its replicas are sent ("" for none) and its idle
    timeout."""

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
    cookie_secure: bool = False
    cookie_site: str = SameSite.LAX.value
    max_body: int | None = None
    request_timeout: float | None = None
    response_timeout: float = LEAST_RESPONSE_TIMEOUT
    idle_timeout: float = IDLE_TIMEOUT
    pages: tuple[tuple[int, str], ...] = ()
    access_log: bool = True
    expect_body: str | None = None
    tcp: tuple[tuple[int, str, float], ...] = ()

    @cached_property
    def name(self) -> str:
        """``<app>.<8 hex digits of its settings>``: an app's name holds no dot, so no two apps share one."""
        return _name(self)


def backend_of(spec: AppSpec, colour: int = 0) -> Backend:
    pool = _backend(spec.name, spec.check, spec.sticky, spec.balance, colour)
    pages = tuple(sorted((page.status, page.text) for page in spec.error_pages if page.text is not None))
    limited = _limited(pool, spec.http, spec.response_timeout)
    limited = replace(limited, pages=pages) if pages else limited
    services = sorted((entry.listener.port, entry.sends, entry.idle_timeout) for entry in spec.ports)
    return replace(limited, tcp=tuple(services)) if services else limited


@lru_cache(maxsize=4096)  # asked several times a decision
def _backend(
    app: str,
    check: Check,
    sticky: Sticky | None,
    balance: Balance | ByHeader,
    colour: int,
) -> Backend:
    plain = Backend(app, check.path, check.interval, check.fast_interval, check.timeout, check.fall, check.rise)
    plain = replace(plain, balance=written(balance), colour=colour, expect_body=check.expect_body)
    if sticky is None:
        return plain
    cookie = replace(plain, cookie=sticky.cookie, cookie_age=sticky.max_age)
    return replace(cookie, cookie_secure=sticky.secure, cookie_site=sticky.same_site.value)


@lru_cache(maxsize=4096)
def _limited(pool: Backend, http: HttpOptions, response_timeout: float) -> Backend:
    pool = replace(pool, max_body=http.max_body, request_timeout=http.request_timeout)
    return replace(pool, response_timeout=response_timeout, idle_timeout=http.idle_timeout, access_log=http.access_log)


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
