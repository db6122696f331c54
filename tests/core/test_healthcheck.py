"""How soon one that hangs is out of rotation, and what is said of a check that is late with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.healthcheck import Check, Kind

MILLISECONDS = st.integers(50, 10_000).map(lambda number: number / 1000)
CHECKS = st.builds(
    Check,
    kind=st.sampled_from([Kind.HTTP, Kind.EXEC]),
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
        now = began + check.timeout
    return now


@given(CHECKS)
def test_one_that_hangs_is_out_when_it_is_said_to_be(check: Check) -> None:
    assert check.hung_out_within == pytest.approx(hangs_from(check))


@given(CHECKS)
def test_who_keeps_to_the_condition_is_told_nothing_and_is_in_time(check: Check) -> None:
    each = check.timeout if check.by_daemon else check.timeout + check.fast_interval
    if check.fall == 1 or each <= check.interval:
        assert check.late_if_it_hangs() == ""
        assert hangs_from(check) <= check.out_within + 1e-6
    elif each > check.interval + 1e-6:
        assert check.late_if_it_hangs()
        assert hangs_from(check) > check.out_within


@pytest.mark.parametrize("kind", Kind)
def test_the_defaults_keep_to_it(kind: Kind) -> None:
    assert Check(kind).out_within == 7.5
    assert Check(kind).late_if_it_hangs() == ""


def test_what_is_late_names_its_keys_and_the_time() -> None:
    over = "more than interval: a replica that answers nothing gets requests for up to"
    assert Check(timeout=2.0).late_if_it_hangs() == (
        f"health_check: timeout + fast_interval are {over} 9.0 s, not 8.0 s"
    )
    assert Check(Kind.GRPC, timeout=3.0).late_if_it_hangs() == f"health_check: timeout is {over} 11.0 s, not 9.0 s"
