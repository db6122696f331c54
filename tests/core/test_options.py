"""What a file may say of its rollouts, under rota's names and under Compose's, and what contradicts what."""

from __future__ import annotations

import pytest

from rota.core.errors import SpecError
from rota.core.policy import resolve
from rota.core.spec import AppSpec, FailureAction, Mode, Order, Overlap, RolloutOptions
from rota.core.specfile import parse

HEAD = 'name: web\ncommand: ["serve"]\nreplicas: 4\n'


def read(text: str) -> AppSpec:
    return parse(HEAD + text)


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as wrong:
        read(text)
    return [str(problem) for problem in wrong.value.problems]


@pytest.mark.feature("W6")
def test_compose_s_names_mean_what_they_say_there() -> None:
    spec = read(
        "update_config: {parallelism: 2, delay: 10s, order: stop-first, failure_action: pause, monitor: 5s,"
        " max_failure_ratio: 0.3}\n"
        "rollback_config: {parallelism: 0, failure_action: continue, monitor: 7s}\n"
    )
    there = resolve(spec, 4, RolloutOptions(), same_release=False)
    assert (there.parallelism, there.delay, there.order) == (2, 10.0, Order.STOP_FIRST)
    assert (there.failure_action, there.monitor, there.max_failure_ratio) == (FailureAction.PAUSE, 5.0, 0.3)
    back = resolve(spec, 4, RolloutOptions(), same_release=False, back=True)
    assert (back.parallelism, back.mode, back.order) == (4, Mode.SEQUENTIAL, Order.STOP_FIRST)
    assert (back.failure_action, back.delay, back.monitor) == (FailureAction.CONTINUE, 0.0, 7.0)


@pytest.mark.feature("W6")
def test_what_is_left_out_under_compose_s_names_is_as_it_is_there() -> None:
    """And not as it is under rota's, nor for the way back as it is for the way there."""
    spec = read("update_config: {delay: 10s, max_failure_ratio: 0.5}\nrollback_config: {}\n")
    there = resolve(spec, 4, RolloutOptions(), same_release=False)
    assert (there.order, there.failure_action, there.monitor) == (Order.STOP_FIRST, FailureAction.PAUSE, 5.0)
    assert (there.parallelism, there.min_available) == (1, 3)
    back = resolve(spec, 4, RolloutOptions(), same_release=False, back=True)
    assert (back.order, back.failure_action, back.monitor) == (Order.STOP_FIRST, FailureAction.PAUSE, 5.0)
    assert (back.delay, back.max_failure_ratio) == (0.0, 0.0)
    flagged = resolve(spec, 4, RolloutOptions(order=Order.START_FIRST), same_release=False)
    assert (flagged.order, flagged.failure_action) == (Order.START_FIRST, FailureAction.PAUSE)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("replicas: 1\n", Order.START_FIRST),
        ("replicas: 4\ndeployment_strategy: blue-green\n", Order.START_FIRST),
        ("replicas: 4\noverlap: forbid\n", Order.STOP_FIRST),
        ("replicas: 4\ndeployment_strategy: replace\n", Order.STOP_FIRST),
    ],
)
def test_compose_s_order_is_kept_where_there_is_one_to_choose(text: str, order: Order) -> None:
    spec = parse(f'name: web\ncommand: ["serve"]\n{text}update_config: {{delay: 1s}}\nrollback_config: {{}}\n')
    one = spec.overlap is Overlap.FORBID
    for back in (False, True):
        policy = resolve(spec, spec.replicas, RolloutOptions(), same_release=False, back=back, one_generation=one)
        assert (policy.order, policy.failure_action) == (order, FailureAction.PAUSE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "rollout: {delay: 1}\nupdate_config: {delay: 2}\n",
            "rota.yaml:5:16: update_config: this is Compose's name of rollout, which is given too; keep one of the two",
        ),
        (
            "rollback: {delay: 1}\nrollback_config: {delay: 2}\n",
            "rota.yaml:5:18: rollback_config: this is Compose's name of rollback, which is given too;"
            " keep one of the two",
        ),
        (
            "update_config: {order: in-place}\n",
            'rota.yaml:4:24: update_config.order: start-first or stop-first is expected, not "in-place"',
        ),
        (
            "update_config: {min_available: 1}\n",
            'rota.yaml:4:17: unknown key "min_available"; it belongs under rollout:',
        ),
        (
            "update_config: {parallelism: 1001}\n",
            "rota.yaml:4:30: update_config.parallelism: at most 1000 is expected, not 1001",
        ),
        (
            "rollback_config: {failure_action: rollback}\n",
            "rota.yaml:4:35: rollback_config.failure_action: a rollback is not rolled back; pause or continue",
        ),
        (
            "rollback: {failure_action: rollback}\n",
            "rota.yaml:4:28: rollback.failure_action: a rollback is not rolled back; pause or continue",
        ),
        (
            "rollout: {parallelism: 0}\n",
            "rota.yaml:4:24: rollout.parallelism: 1 to 1000 replicas or 1% to 100% of them are expected, not 0",
        ),
        (
            "rollback: {parallelism: 101%}\n",
            'rota.yaml:4:25: rollback.parallelism: 1 to 1000 replicas or 1% to 100% of them are expected, not "101%"',
        ),
        (
            "rollout: {failure_action: explode}\n",
            'rota.yaml:4:27: rollout.failure_action: rollback, pause or continue is expected, not "explode"',
        ),
        ("keep_old: 2d\n", "rota.yaml:4:11: keep_old: 0 to 86400 seconds are allowed, not 172800"),
        ("overlap: maybe\n", 'rota.yaml:4:10: overlap: allow or forbid is expected, not "maybe"'),
    ],
)
@pytest.mark.feature("W6")
def test_what_is_wrong_is_named_at_its_place(text: str, message: str) -> None:
    assert problems(text) == [message]


@pytest.mark.parametrize(
    ("strategy", "section", "said", "words"),
    [
        ("deployment_strategy: replace", "rollout", "mode: sequential", "rollout.mode: sequential contradicts"),
        ("deployment_strategy: replace", "rollback", "order: in-place", "rollback.order: in-place contradicts"),
        ("deployment_strategy: replace", "update_config", "order: start-first", "start-first contradicts"),
        ("deployment_strategy: blue-green", "rollout", "mode: simultaneous", "simultaneous contradicts"),
        ("deployment_strategy: blue-green", "rollout", "order: stop-first", "stop-first contradicts"),
        ("deployment_strategy: blue-green", "rollback", "failure_action: continue", "continue contradicts blue-green"),
        ("deployment_strategy: blue-green", "update_config", "max_failure_ratio: 0.5", "max_failure_ratio 0.5"),
        ("overlap: forbid", "rollout", "order: start-first", "start-first contradicts overlap: forbid"),
        ("overlap: forbid", "rollback", "min_available: 2", "min_available 2 contradicts overlap: forbid"),
        ("overlap: forbid\ndeployment_strategy: blue-green", "rollout", "delay: 1", "overlap: forbid contradicts"),
    ],
)
def test_strategy_and_section_may_not_contradict_each_other(strategy: str, section: str, said: str, words: str) -> None:
    (found,) = problems(f"{strategy}\n{section}: {{{said}}}\n")
    assert words in found


def test_what_the_strategy_does_anyway_may_be_written_down() -> None:
    assert read("deployment_strategy: blue-green\nrollout: {order: start-first}\n").rollout.order is Order.START_FIRST
    assert read("overlap: forbid\nrollout: {order: stop-first, min_available: 0}\n").rollout.min_available == 0
