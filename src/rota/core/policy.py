"""How a rollout goes about its slots: every strategy is one of these values; resolved once, when it is ordered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rota.core.errors import UsageError
from rota.core.options import NO_WAY_BACK, ONE_GENERATION, ONE_SWITCH, overlapping, partly
from rota.core.spec import AppSpec, FailureAction, Mode, Order, RolloutOptions, Strategy

NAMED_SEQUENTIAL_DELAY = 30.0  # V4: the delay where sequential mode is asked for by name


@dataclass(frozen=True)
class Policy:
    """Times in seconds. ``parallelism`` slots are in hand at once; ``min_available`` replicas serve throughout;
    ``barrier`` lets no new replica start before the last old one is gone (H5, S8). ``attempts`` is how often a slot's
    new replica is tried before it counts as failed (S4, S5). ``switch``: requests go to the new replicas all at once,
    when the last of them is there, and the old ones are kept for ``keep_old`` (S6).
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
    switch: bool = False
    keep_old: float = 0.0
    remove_from_dns: bool = False

    @property
    def strategy(self) -> Strategy:
        if self.switch:
            return Strategy.BLUE_GREEN
        return Strategy.REPLACE if self.barrier else Strategy.ROLLING

    @property
    def stops_first(self) -> bool:
        return self.order is not Order.START_FIRST

    @property
    def whole(self) -> bool:
        """All slots change or none does: they are taken up together, whatever their number becomes."""
        return self.switch or self.barrier


def resolve(
    spec: AppSpec,
    replicas: int,
    options: RolloutOptions,
    *,
    same_release: bool,
    retried: bool = False,
    back: bool = False,
    one_generation: bool = False,
) -> Policy:
    """The policy of a rollout over ``replicas`` slots: the order's own options over the file's. ``back``: of a
    rollback, for which the file has a section of its own. ``one_generation``: what runs may not overlap with what
    comes (``overlap: forbid`` of either).

    Raises UsageError for what contradicts itself or would leave nobody serving (design.md, "Rules")."""
    wanted = options.over(_of_file(spec, back))
    if back:  # before what a rollout of one generation has to leave out
        wanted = wanted.model_copy(update={"failure_action": _when_a_rollback_fails(spec, options)})
    _refuse_whole(spec, options, one_generation)
    if one_generation:
        wanted = _as_a_whole(wanted).model_copy(update={"mode": Mode.SIMULTANEOUS})
    mode = _mode(spec, options, wanted)
    order = _order(mode, wanted)
    switch = not one_generation and _switches(spec, options)
    _refuse(replicas, mode, order, wanted, same_release)
    at_once = switch or mode is Mode.SIMULTANEOUS
    parallelism = replicas if at_once else min(replicas, _count(wanted.parallelism, replicas))
    return Policy(
        mode=mode,
        parallelism=parallelism,
        order=order,
        delay=0.0 if switch else _delay(mode, wanted),
        min_available=_floor(mode, order, replicas, parallelism, wanted),
        failure_action=wanted.failure_action or (FailureAction.PAUSE if back else FailureAction.ROLLBACK),
        monitor=10.0 if wanted.monitor is None else wanted.monitor,
        max_failure_ratio=wanted.max_failure_ratio or 0.0,
        progress_deadline=wanted.progress_deadline or 600.0,
        barrier=one_generation or (mode is Mode.SIMULTANEOUS and spec.deployment_strategy is Strategy.REPLACE),
        attempts=spec.restart.attempts if retried else 1,
        remove_from_dns=bool(wanted.remove_from_dns),
        switch=switch,
        keep_old=spec.keep_old if switch else 0.0,
    )


def way_back(
    spec: AppSpec,
    replicas: int,
    options: RolloutOptions,
    forward: Policy,
    *,
    same_release: bool,
    one_generation: bool = False,
) -> Policy:
    """The policy of the way back of a rollout that goes ``forward`` like that: the file's ``rollback`` section over
    what the rollout was ordered with. Raises UsageError."""
    own = spec.rollback_options
    if own == RolloutOptions():
        return forward
    wanted = own.over(options.model_copy(update={"failure_action": None}))  # that is the way there's
    wanted = _as_a_whole(wanted) if one_generation else wanted
    found = resolve(spec, replicas, wanted, same_release=same_release, back=True, one_generation=one_generation)
    # How the slots are held together is the strategy's, and is the same both ways.
    return replace(found, barrier=forward.barrier, switch=forward.switch, attempts=forward.attempts)


def rescaled(policy: Policy, before: int, after: int) -> Policy:
    """The policy for ``before`` slots when there are ``after``: a floor that follows from their number follows the new
    one, and one that was asked for leaves room for one of them to change. The last replica that there is goes no
    sooner than its heir serves."""
    if not policy.stops_first or not policy.min_available:
        return policy  # all may serve throughout, or none has to
    if after == 1:
        return replace(policy, order=Order.START_FIRST, min_available=1)
    if policy.min_available == _stop_first_floor(before, policy.parallelism):
        return replace(policy, min_available=_stop_first_floor(after, policy.parallelism))
    return replace(policy, min_available=min(policy.min_available, after - 1))


def paced(policy: Policy, replicas: int, delay: float | None, parallelism: int | str | None) -> Policy:
    """The policy with another delay or parallelism, for a rollout under way; a floor that follows from the parallelism
    follows the new one. Raises UsageError where all replicas change at once."""
    if policy.whole or policy.mode is Mode.SIMULTANEOUS:
        raise UsageError("it changes all its replicas at once: there is neither a delay nor a parallelism to set")
    wide = policy.parallelism if parallelism is None else min(replicas, _count(parallelism, replicas))
    by_default = _stop_first_floor(replicas, policy.parallelism)
    floor = policy.min_available
    if policy.order is not Order.START_FIRST and floor == by_default:
        floor = _stop_first_floor(replicas, wide)
    return replace(policy, parallelism=wide, delay=policy.delay if delay is None else delay, min_available=floor)


def _of_file(spec: AppSpec, back: bool) -> RolloutOptions:
    return spec.rollback_options.over(spec.rollout_options) if back else spec.rollout_options


def _when_a_rollback_fails(spec: AppSpec, options: RolloutOptions) -> FailureAction:
    """What ``rollout`` says of failures is not meant for the way back, which pauses unless it is told to go on."""
    action = options.failure_action or spec.rollback_options.failure_action or FailureAction.PAUSE
    if action is FailureAction.ROLLBACK:
        raise UsageError(NO_WAY_BACK)
    return action


def _as_a_whole(options: RolloutOptions) -> RolloutOptions:
    """Without what the new file may say and what the one that runs, and forbids the overlap, makes impossible."""
    whole: dict[str, object] = {"mode": None, "order": None, "min_available": None, "max_failure_ratio": None}
    if options.failure_action is FailureAction.CONTINUE:
        whole["failure_action"] = None
    return options.model_copy(update=whole)


def _switches(spec: AppSpec, options: RolloutOptions) -> bool:
    """Blue-green, unless the operation itself asks for another way by name (V3)."""
    another = options.mode is not None or options.order not in (None, Order.START_FIRST)
    return spec.deployment_strategy is Strategy.BLUE_GREEN and not another


def _refuse_whole(spec: AppSpec, options: RolloutOptions, one_generation: bool) -> None:
    """Flags that have no place beside what the file says; the file itself was read without contradictions."""
    if one_generation:
        found = overlapping(options)
        if found is not None:
            raise UsageError(
                f"{found[1]} contradicts overlap: forbid, {ONE_GENERATION}; leave it out, or give --simultaneous"
            )
    elif _switches(spec, options):
        found = partly(options)
        if found is not None:
            raise UsageError(
                f"{found[1]} contradicts deployment_strategy: blue-green, {ONE_SWITCH}; leave it out, "
                "or give --sequential"
            )


def _mode(spec: AppSpec, options: RolloutOptions, wanted: RolloutOptions) -> Mode:
    """Replace is simultaneous; an operation may still ask for the other mode by name (V3)."""
    if options.mode is None and spec.deployment_strategy is Strategy.REPLACE:
        return Mode.SIMULTANEOUS
    return wanted.mode or Mode.SEQUENTIAL


def _order(mode: Mode, wanted: RolloutOptions) -> Order:
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
    return replicas if order is Order.START_FIRST else _stop_first_floor(replicas, parallelism)


def _stop_first_floor(replicas: int, parallelism: int) -> int:
    return max(1, replicas - parallelism)
