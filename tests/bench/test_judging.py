"""What is said of a limit, and when nothing can be said; and orders in which nobody has the better place."""

from __future__ import annotations

from collections import Counter

import pytest
from bench.judging import Interval, Verdict, judged, orders

EVEN = Interval(1.0, 0.99, 1.01)


def test_the_interval_of_a_median_holds_it_and_is_narrow_where_values_agree() -> None:
    wide, narrow = Interval.of([0.9, 1.0, 1.1] * 8), Interval.of([0.99, 1.0, 1.01] * 8)
    for found in (wide, narrow):
        assert found.low <= found.median == 1.0 <= found.high
    assert narrow.high - narrow.low < wide.high - wide.low
    assert Interval.of([1.5]) == Interval(1.5, 1.5, 1.5)
    with pytest.raises(ValueError, match="nothing was measured"):
        Interval.of([])


@pytest.mark.parametrize(
    ("own", "limit", "verdict"),
    [
        (Interval(0.99, 0.98, 1.0), 0.97, Verdict.HELD),
        (Interval(0.9, 0.89, 0.96), 0.97, Verdict.OVER),
        (Interval(0.97, 0.96, 0.98), 0.97, Verdict.UNDECIDED),
        (Interval(1.02, 1.0, 1.05), 1.05, Verdict.HELD),
        (Interval(1.2, 1.06, 1.3), 1.05, Verdict.OVER),
        (Interval(1.05, 1.0, 1.1), 1.05, Verdict.UNDECIDED),
    ],
)
def test_a_limit_is_held_over_or_undecided(own: Interval, limit: float, verdict: Verdict) -> None:
    assert judged(own, EVEN, limit)[0] is verdict


@pytest.mark.parametrize("same", [Interval(1.0, 0.96, 1.0), Interval(1.0, 1.0, 1.04)])
def test_where_the_same_beside_itself_strays_further_than_the_limit_nothing_is_said(same: Interval) -> None:
    verdict, why = judged(Interval(0.5, 0.5, 0.5), same, 0.97)
    assert verdict is Verdict.UNDECIDED
    assert "strays by 0.04" in why


def test_each_has_each_place_as_often_and_the_way_back_is_the_way_there() -> None:
    found = orders("abc", 12)
    assert all(order == order[::-1] and Counter(order) == {"a": 2, "b": 2, "c": 2} for order in found)
    for place in range(6):
        assert Counter(order[place] for order in found) == {"a": 4, "b": 4, "c": 4}
    assert found == orders("abc", 12)
