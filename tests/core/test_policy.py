"""What a rollout's policy is by default, by file and by flag, and what contradicts itself."""

from __future__ import annotations

import pytest
from tests.core.scenario import options

from rota.core.errors import UsageError
from rota.core.policy import Policy, paced, resolve, way_back
from rota.core.spec import FailureAction, Mode, Order, Strategy
from rota.testing.simulation_history import spec_of


def policy(replicas: int = 3, same_release: bool = True, **given: object) -> Policy:
    return resolve(spec_of(), replicas, options(**given), same_release=same_release, retried=False)


def test_by_default_one_after_the_other_start_first_without_delay() -> None:
    found = policy()
    assert (found.mode, found.order, found.parallelism, found.delay) == (Mode.SEQUENTIAL, Order.START_FIRST, 1, 0.0)


def test_sequential_by_name_waits_30_s() -> None:
    assert policy(mode="sequential").delay == 30.0
    assert policy(mode="sequential", delay=5.0).delay == 5.0


@pytest.mark.parametrize(("given", "floor"), [({}, 3), ({"order": "stop-first"}, 2), ({"mode": "simultaneous"}, 0)])
def test_min_available_follows_the_order(given: dict[str, object], floor: int) -> None:
    assert policy(**given).min_available == floor
    assert policy(**{**given, "min_available": 1}).min_available == (0 if "mode" in given else 1)


@pytest.mark.parametrize(("given", "count"), [(2, 2), ("50%", 2), ("10%", 1), (9, 4)])
def test_parallelism_is_a_count_or_a_share(given: object, count: int) -> None:
    assert policy(4, parallelism=given).parallelism == count


def test_replace_stops_all_first_with_a_barrier_unless_asked_otherwise() -> None:
    spec = spec_of(deployment_strategy="replace")
    found = resolve(spec, 3, options(), same_release=False, retried=False)
    assert (found.mode, found.order, found.barrier) == (Mode.SIMULTANEOUS, Order.STOP_FIRST, True)
    named = resolve(spec, 3, options(mode="sequential"), same_release=False, retried=False)
    assert (named.mode, named.barrier) == (Mode.SEQUENTIAL, False)


def test_only_a_restart_is_tried_again() -> None:
    assert resolve(spec_of(), 3, options(), same_release=True, retried=True).attempts == 3
    assert policy().attempts == 1


@pytest.mark.parametrize(
    ("replicas", "same_release", "given", "words"),
    [
        (3, True, {"mode": "simultaneous", "order": "start-first"}, "simultaneous stops all replicas first"),
        (3, False, {"order": "in-place"}, "in-place is for restarts and limits"),
        (1, True, {"order": "stop-first"}, "stop-first with 1 replica leaves nobody serving; use --order start-first"),
        (1, True, {"order": "in-place"}, "in-place with 1 replica leaves nobody serving"),
        (3, True, {"min_available": 4}, "min_available 4 is more than the 3 replicas there are"),
        (3, True, {"order": "stop-first", "min_available": 3}, "stop-first cannot keep all 3 replicas serving"),
    ],
)
def test_what_contradicts_itself_is_refused(
    replicas: int, same_release: bool, given: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        policy(replicas, same_release, **given)


def test_the_strategy_of_a_policy_has_a_name() -> None:
    assert policy().strategy is Strategy.ROLLING
    for name in ("replace", "blue-green"):
        spec = spec_of(deployment_strategy=name)
        assert resolve(spec, 3, options(), same_release=False).strategy is Strategy(name)


def test_a_rollback_has_a_section_of_its_own_over_rollout_and_flags_over_both() -> None:
    spec = spec_of(rollout={"delay": 5, "parallelism": 2, "failure_action": "continue"}, rollback={"delay": 1})
    found = resolve(spec, 4, options(monitor=3), same_release=False, back=True)
    assert (found.delay, found.parallelism, found.monitor) == (1.0, 2, 3.0)
    assert found.failure_action is FailureAction.PAUSE
    named = resolve(spec, 4, options(failure_action="continue", delay=0), same_release=False, back=True)
    assert (named.failure_action, named.delay) == (FailureAction.CONTINUE, 0.0)


def test_a_rollback_cannot_be_asked_to_be_rolled_back() -> None:
    with pytest.raises(UsageError, match="a rollback is not rolled back; pause or continue"):
        resolve(spec_of(), 3, options(failure_action="rollback"), same_release=False, back=True)


def test_the_way_back_is_the_way_there_unless_the_file_says_how() -> None:
    there = policy(delay=4.0, failure_action="rollback")
    assert way_back(spec_of(), 3, options(delay=4.0), there, same_release=True) is there
    spec = spec_of(rollback={"parallelism": 3})
    back = way_back(spec, 3, options(delay=4.0, failure_action="rollback"), there, same_release=True)
    assert (back.delay, back.parallelism, back.failure_action) == (4.0, 3, FailureAction.PAUSE)


@pytest.mark.parametrize("action", [None, "continue", "pause"])
def test_the_way_back_of_one_generation_is_whole_too(action: str | None) -> None:
    spec = spec_of(rollback={"order": "start-first", "failure_action": action, "monitor": 2})
    there = resolve(spec, 3, options(), same_release=False, one_generation=True)
    back = way_back(spec, 3, options(), there, same_release=False, one_generation=True)
    assert (back.barrier, back.order, back.failure_action) == (True, Order.STOP_FIRST, FailureAction.PAUSE)
    assert back.monitor == 2.0


@pytest.mark.parametrize(
    ("given", "asked", "found"),
    [
        ({"delay": 5.0}, (None, 2), (2, 5.0, 4)),
        ({}, (3.0, None), (1, 3.0, 4)),
        ({"order": "stop-first"}, (None, "50%"), (2, 0.0, 2)),
        ({"order": "stop-first", "min_available": 2}, (None, 3), (3, 0.0, 2)),
    ],
)
def test_the_pace_may_change_and_a_floor_that_follows_from_it_follows(
    given: dict[str, object], asked: tuple[float | None, int | str | None], found: tuple[int, float, int]
) -> None:
    after = paced(policy(4, **given), 4, *asked)
    assert (after.parallelism, after.delay, after.min_available) == found


def test_what_changes_all_at_once_has_no_pace() -> None:
    with pytest.raises(UsageError, match="it changes all its replicas at once"):
        paced(policy(mode="simultaneous"), 3, 1.0, None)
