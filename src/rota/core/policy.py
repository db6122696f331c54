"""How a rollout goes about its slots: every strategy is one of these values; resolved once, when it is ordered."""

from __future__ import annotations

from dataclasses import dataclass

from rota.core.errors import UsageError
from rota.core.spec import AppSpec, FailureAction, Mode, Order, RolloutOptions, Strategy

NAMED_SEQUENTIAL_DELAY = 30.0  # V4: the delay where sequential mode is asked for by name


@dataclass(frozen=True)
class Policy:
    """Times in seconds. ``parallelism`` slots are in hand at once; ``min_available`` replicas serve throughout;
    ``barrier`` lets no new replica start before the last old one is gone (H5). ``attempts`` is how often a slot's
    new replica is tried before it counts as failed (S4, S5).
    ``remove_from_dns``: a replica leaves DNS, and every cache, before it is handed off (V5)."""

    mode: Mode
    parallelism: int
    order: Order
    delay: float
    min_available: int
    failure_action: FailureAction
    monitor: float
    max_failure_ratio: float
    progress_deadline: float
    barrier: bool = False
    attempts: int = 1
    remove_from_dns: bool = False


def resolve(spec: AppSpec, replicas: int, options: RolloutOptions, *, same_release: bool, retried: bool) -> Policy:
    """The policy of a rollout over ``replicas`` slots: the order's own options over the file's.

    Raises UsageError for what contradicts itself or would leave nobody serving (design.md, "Rules")."""
    wanted = options.over(spec.rollout)
    mode = _mode(spec, options, wanted)
    order = _order(spec, mode, wanted)
    _refuse(replicas, mode, order, wanted, same_release)
    parallelism = replicas if mode is Mode.SIMULTANEOUS else min(replicas, _count(wanted.parallelism, replicas))
    return Policy(
        mode=mode,
        parallelism=parallelism,
        order=order,
        delay=_delay(mode, wanted),
        min_available=_floor(mode, order, replicas, parallelism, wanted),
        failure_action=wanted.failure_action or FailureAction.ROLLBACK,
        monitor=10.0 if wanted.monitor is None else wanted.monitor,
        max_failure_ratio=wanted.max_failure_ratio or 0.0,
        progress_deadline=wanted.progress_deadline or 600.0,
        barrier=mode is Mode.SIMULTANEOUS and spec.deployment_strategy is Strategy.REPLACE,
        attempts=spec.restart.attempts if retried else 1,
        remove_from_dns=bool(wanted.remove_from_dns),
    )


def _mode(spec: AppSpec, options: RolloutOptions, wanted: RolloutOptions) -> Mode:
    """Replace is simultaneous; an operation may still ask for the other mode by name (V3)."""
    if options.mode is None and spec.deployment_strategy is Strategy.REPLACE:
        return Mode.SIMULTANEOUS
    return wanted.mode or Mode.SEQUENTIAL


def _order(spec: AppSpec, mode: Mode, wanted: RolloutOptions) -> Order:
    if mode is Mode.SIMULTANEOUS:
        if wanted.order is Order.START_FIRST:
            raise UsageError(
                "simultaneous stops all replicas first; start-first contradicts it. Leave out one of the two"
            )
        return wanted.order or Order.STOP_FIRST
    return wanted.order or Order.START_FIRST


def _refuse(replicas: int, mode: Mode, order: Order, wanted: RolloutOptions, same_release: bool) -> None:
    if order is Order.IN_PLACE and not same_release:
        raise UsageError("in-place is for restarts and limits: a new release gets new replicas; use start-first")
    if replicas == 1 and mode is Mode.SEQUENTIAL and order is not Order.START_FIRST and wanted.min_available is None:
        raise UsageError(
            f"{order.value} with 1 replica leaves nobody serving; use --order start-first, "
            "or --simultaneous to accept the gap"
        )
    if wanted.min_available is not None and wanted.min_available > replicas:
        raise UsageError(f"min_available {wanted.min_available} is more than the {replicas} replicas there are")
    if mode is Mode.SEQUENTIAL and order is not Order.START_FIRST and wanted.min_available == replicas:
        raise UsageError(
            f"{order.value} cannot keep all {replicas} replicas serving; use start-first or a lower min_available"
        )


def _count(parallelism: int | str | None, replicas: int) -> int:
    if isinstance(parallelism, str):
        return max(1, replicas * int(parallelism.rstrip("%")) // 100)
    return parallelism or 1


def _delay(mode: Mode, wanted: RolloutOptions) -> float:
    if mode is Mode.SIMULTANEOUS:
        return 0.0
    if wanted.delay is not None:
        return wanted.delay
    return NAMED_SEQUENTIAL_DELAY if wanted.mode is Mode.SEQUENTIAL else 0.0


def _floor(mode: Mode, order: Order, replicas: int, parallelism: int, wanted: RolloutOptions) -> int:
    if mode is Mode.SIMULTANEOUS:
        return 0
    if wanted.min_available is not None:
        return wanted.min_available
    return replicas if order is Order.START_FIRST else max(1, replicas - parallelism)
