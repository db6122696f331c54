"""How soon one that hangs is out of rotation, and what is said of a check that is late with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.healthcheck import Check, Kind

MILLISECONDS = st.integers(50, 10_000).map(lambda number: number / 1000)
CHECKS = st.builds(
    Check,
    kind=st.sampled_from(Kind),
    interval=MILLISECONDS,
    fast_interval=MILLISECONDS,
    timeout=MILLISECONDS,
    fall=st.integers(1, 10),
)


def hangs_from(check: Check) -> float:
    """Seconds from a check that passed in no time, after which every one hangs, to the one that takes it out."""
    began, now = 0.0, 0.0
    for failed in range(check.fall):
        wait = check.interval if failed == 0 else check.fast_interval
        began = max(now, began + min(wait, check.interval)) if check.by_daemon else now + wait
        now = began + lasts(check)
    return now


def lasts(check: Check) -> float:
    given_up = min(check.interval, 1.0)
    return {Kind.TCP: given_up, Kind.HTTP: max(given_up, check.timeout)}.get(check.kind, check.timeout)


@given(CHECKS)
def test_one_that_hangs_is_out_when_it_is_said_to_be(check: Check) -> None:
    assert check.hung_out_within == pytest.approx(hangs_from(check))


@given(CHECKS)
def test_what_is_late_is_named_and_nothing_else(check: Check) -> None:
    late = hangs_from(check) - check.out_within
    assert bool(check.late_if_it_hangs()) == (late > 0) or late == pytest.approx(0, abs=1e-5)


@given(CHECKS)
def test_who_keeps_to_the_way_out_is_in_time(check: Check) -> None:
    if not check.by_daemon:
        check = replace(check, timeout=max(1.0, check.timeout))
    apart = check.timeout if check.by_daemon else check.timeout + check.fast_interval
    check = replace(check, interval=max(apart, check.interval))
    assert check.late_if_it_hangs() == ""
    assert hangs_from(check) <= check.out_within + 1e-5


@pytest.mark.parametrize("kind", Kind)
def test_the_defaults_keep_to_it(kind: Kind) -> None:
    assert Check(kind).out_within == 7.5
    assert Check(kind).late_if_it_hangs() == ""


def test_what_is_late_names_the_time_and_the_way_out() -> None:
    said = "health_check: a replica that answers nothing gets requests for up to"
    assert Check(Kind.HTTP, timeout=2.0).late_if_it_hangs() == (
        f"{said} 9.0 s, not 8.0 s: timeout + fast_interval should be no more than interval, timeout 1 s or more"
    )
    assert Check(Kind.GRPC, timeout=3.0).late_if_it_hangs() == (
        f"{said} 11.0 s, not 9.0 s: timeout should be no more than interval"
    )
