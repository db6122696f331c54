"""The benches' arithmetic on numbers whose results are known by heart; nothing is timed here."""

from __future__ import annotations

import pytest
from bench.figures import Spread, overhead_each, quantile, times_between


def test_the_spread_of_ten_values() -> None:
    assert Spread.of([10.0, 1, 9, 2, 8, 3, 7, 4, 6, 5]) == Spread(median=5.5, p90=9, least=1, most=10)


def test_nothing_measured_has_no_spread() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


@pytest.mark.parametrize(("part", "expected"), [(0.0, 1), (0.5, 2), (0.9, 3), (1.0, 3)])
def test_a_quantile_is_one_of_the_values(part: float, expected: float) -> None:
    assert quantile([3, 1, 2], part) == expected


def test_the_overhead_is_what_is_left_for_each_replica() -> None:
    assert overhead_each(whole=1_250, bare=1_000, replicas=5) == 50


def test_times_lie_between_a_step_and_the_next_and_the_last_ends_with_the_rollout() -> None:
    at = "2026-01-02T03:04:05.{:03}Z".format
    names = ["TakeSlot", "StartReplica", "TakeSlot", "StartReplica", "FinishRollout"]
    steps = [{"step": name, "at": at(ms)} for name, ms in zip(names, [0, 20, 100, 130, 400], strict=True)]
    found = times_between(steps, at(405))
    assert {name: [round(value) for value in values] for name, values in found.items()} == {
        "TakeSlot → StartReplica": [20, 30],
        "StartReplica → TakeSlot": [80],
        "StartReplica → FinishRollout": [270],
        "FinishRollout → (end)": [5],
    }
