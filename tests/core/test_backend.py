"""A backend's name changes with the settings that need a pool of their own, and with nothing else."""

from __future__ import annotations

import re

from rota.core.backend import backend_of
from rota.core.spec import AppSpec


def spec(**changes: object) -> AppSpec:
    return AppSpec.model_validate({"name": "hello", "command": ["x"], **changes})


def test_a_name_is_the_app_and_a_digest() -> None:
    assert re.fullmatch(r"hello\.[0-9a-f]{8}", backend_of(spec()).name)


def test_a_release_with_the_same_settings_shares_the_pool() -> None:
    assert backend_of(spec()).name == backend_of(spec(command=["y"], replicas=5)).name


def test_another_check_needs_another_pool() -> None:
    assert backend_of(spec()).name != backend_of(spec(health_check_path="/health")).name
    assert backend_of(spec()).name != backend_of(spec(health_check={"fall": 5})).name
    plain, strict = ({"path": "/health"}, {"path": "/health", "expect_body": "ok"})
    assert backend_of(spec(health_check=plain)).name != backend_of(spec(health_check=strict)).name


def test_a_sticky_app_needs_a_pool_for_its_cookie() -> None:
    names = [
        backend_of(spec(**changes)).name
        for changes in (
            {},
            {"sticky": True},
            {"sticky": {"cookie": "seat"}},
            {"sticky": {"max_age": "1h"}},
            {"sticky": {"secure": True}},
            {"sticky": {"same_site": "strict"}},
        )
    ]
    assert len(set(names)) == 6
    assert backend_of(spec(sticky=False)).name == names[0]


def test_how_long_sessions_are_waited_for_needs_none() -> None:
    waiting = spec(sticky=True, drain={"timeout": 60, "session_timeout": 5})
    assert backend_of(waiting).name == backend_of(spec(sticky=True)).name


def test_a_name_does_not_change_with_the_settings_that_a_later_version_has() -> None:
    assert backend_of(spec(health_check={"timeout": 2})).name == "hello.096989af"


def test_a_request_may_be_as_slow_as_a_drain_would_wait_for() -> None:
    assert spec().response_timeout == 60
    assert spec(drain={"timeout": "5m"}).response_timeout == 300
    assert backend_of(spec(drain={"timeout": "5m"}, http={"response_timeout": "9s"})).response_timeout == 9
    assert backend_of(spec(drain={"timeout": "50s"})).name == backend_of(spec()).name


def test_other_limits_need_another_pool() -> None:
    limits = ({}, {"max_body": "1MiB"}, {"request_timeout": 5}, {"response_timeout": 5}, {"idle_timeout": 5})
    assert len({backend_of(spec(http=changes)).name for changes in limits}) == len(limits)


def test_another_way_to_choose_a_replica_needs_another_pool() -> None:
    assert backend_of(spec()).name == backend_of(spec(balance="round-robin")).name
    ways = ("round-robin", "leastconn", "random", "source", {"header": "X-User"}, {"header": "X-Tenant"})
    assert len({backend_of(spec(balance=way)).name for way in ways}) == len(ways)
