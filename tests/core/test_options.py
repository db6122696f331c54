"""What a file may say of its rollouts, under rota's names and under Compose's, and what contradicts what."""

from __future__ import annotations

import pytest

from rota.core.errors import SpecError
from rota.core.policy import resolve
from rota.core.spec import AppSpec, FailureAction, Mode, Order, RolloutOptions
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
        "rollback_config: {parallelism: 0, failure_action: continue}\n"
    )
    there = resolve(spec, 4, RolloutOptions(), same_release=False)
    assert (there.parallelism, there.delay, there.order) == (2, 10.0, Order.STOP_FIRST)
    assert (there.failure_action, there.monitor, there.max_failure_ratio) == (FailureAction.PAUSE, 5.0, 0.3)
    back = resolve(spec, 4, RolloutOptions(), same_release=False, back=True)
    assert (back.parallelism, back.mode, back.order) == (4, Mode.SEQUENTIAL, Order.STOP_FIRST)
    assert (back.failure_action, back.delay) == (FailureAction.CONTINUE, 10.0)


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
