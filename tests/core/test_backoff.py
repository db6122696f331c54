"""Waits grow to a bound, spread by the replica's name, and end in the slow retry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rota.core.backoff import wait
from rota.core.spec import Restart

RESTART = Restart(attempts=20, delay=1.0, max_delay=300.0)


@given(st.integers(1, 19), st.text())
def test_a_wait_is_within_the_exponential_bound(attempts: int, key: str) -> None:
    assert 0 <= wait(RESTART, attempts, key) <= min(300.0, 2.0 ** (attempts - 1))


def test_past_the_last_attempt_it_is_the_slow_retry() -> None:
    assert wait(RESTART, 20, "web-1") == wait(RESTART, 9999, "web-2") == 300.0


def test_the_same_history_gives_the_same_wait_and_others_spread() -> None:
    waits = [wait(RESTART, 8, f"web-{number}") for number in range(100)]
    assert waits == [wait(RESTART, 8, f"web-{number}") for number in range(100)]
    assert min(waits) < 32 < 96 < max(waits)
