"""What a rollout's policy is by default, by file and by flag, and what contradicts itself."""

from __future__ import annotations

import pytest
from tests.core.scenario import options

from rota.core.errors import UsageError
from rota.core.policy import Policy, resolve
from rota.core.spec import Mode, Order
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
