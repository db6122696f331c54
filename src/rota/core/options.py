"""How a rollout goes, as a person asks for it: ``rollout:``, ``rollback:`` and their flags; and what contradicts what.

Part of a file's model (core.spec) and of an order (core.order); core.policy makes a Policy of it."""

from __future__ import annotations

import enum
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from rota.core.model import Model, Switch
from rota.core.quantities import Seconds, Whole, between, quoted

MAX_DELAY = 300.0  # V4


class Strategy(enum.Enum):
    ROLLING = "rolling"
    REPLACE = "replace"
    BLUE_GREEN = "blue-green"


class Overlap(enum.Enum):
    """Whether replicas of two generations may run at the same time (S8)."""

    ALLOW = "allow"
    FORBID = "forbid"


class Mode(enum.Enum):
    SEQUENTIAL = "sequential"
    SIMULTANEOUS = "simultaneous"


class Order(enum.Enum):
    START_FIRST = "start-first"
    STOP_FIRST = "stop-first"
    IN_PLACE = "in-place"


class FailureAction(enum.Enum):
    ROLLBACK = "rollback"
    PAUSE = "pause"
    CONTINUE = "continue"


def _parallelism(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000:
        return value
    match = re.fullmatch(r"([1-9][0-9]{0,3})(%?)", value, re.ASCII) if isinstance(value, str) else None
    if match is None or int(match[1]) > (100 if match[2] else 1000):
        raise ValueError(f"1 to 1000 replicas or 1% to 100% of them are expected, not {quoted(value)}")
    return match[0] if match[2] else int(match[1])


Parallelism = Annotated[int | str, BeforeValidator(_parallelism)]


def _delay(value: float) -> float:
    if value > MAX_DELAY:
        raise ValueError(
            f"a delay is 0 to {MAX_DELAY:g} seconds, not {value:g}: it only spaces out replicas that are ready already;"
            " to watch each for longer use min_ready_seconds"
        )
    return value


Delay = Annotated[Seconds, AfterValidator(_delay)]


class RolloutOptions(Model):
    """``rollout:`` in the file and the policy flags of a command; None means "by default" (core.policy)."""

    mode: Mode | None = None
    parallelism: Parallelism | None = None
    order: Order | None = None
    delay: Delay | None = None
    min_available: Whole | None = Field(default=None, ge=0, le=1000)
    remove_from_dns: Switch | None = None
    failure_action: FailureAction | None = None
    monitor: Annotated[Seconds, between(0, 3600)] | None = None
    max_failure_ratio: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    progress_deadline: Annotated[Seconds, between(1, 86400)] | None = None

    def over(self, other: RolloutOptions) -> RolloutOptions:
        """These options where they are given, the other's where not."""
        given = {name: value for name, value in self if value is not None}
        return other.model_copy(update=given)


class UpdateConfig(Model):
    """``update_config`` and ``rollback_config``: what ``rollout`` and ``rollback`` say, in Compose's words and with
    Compose's meaning (W6): 0 as the parallelism is all at once, and what is left out is as it is there."""

    parallelism: Whole | None = Field(default=None, ge=0, le=1000)
    delay: Delay | None = None
    failure_action: FailureAction | None = None
    monitor: Annotated[Seconds, between(0, 3600)] | None = None
    max_failure_ratio: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    order: Literal["start-first", "stop-first"] | None = None

    def written(self) -> RolloutOptions:
        given = {name: value for name, value in self if value is not None}
        if self.parallelism == 0:
            given["parallelism"] = "100%"
        if self.order is not None:
            given["order"] = Order(self.order)
        return RolloutOptions().model_copy(update=given)

    def options(self, *, by_order: bool) -> RolloutOptions:
        """``by_order``: there is an order to choose, which is the strategy's otherwise."""
        return self.written().over(_IN_COMPOSE.model_copy(update={} if by_order else {"order": None}))


_IN_COMPOSE = RolloutOptions(
    parallelism=1,
    order=Order.STOP_FIRST,
    failure_action=FailureAction.PAUSE,
    monitor=5.0,
    max_failure_ratio=0.0,
)


NO_WAY_BACK = "a rollback is not rolled back; pause or continue"


def contradiction(
    options: RolloutOptions, strategy: Strategy | None, overlap: Overlap | None
) -> tuple[str, str] | None:
    """The key and the reason of what cannot be kept beside the strategy: ``mode`` and ``order`` refine rolling only,
    and what changes all replicas or none has no use for a part of them."""
    if overlap is Overlap.FORBID:
        found = overlapping(options)
        return None if found is None else (found[0], f"{found[1]} contradicts overlap: forbid, {ONE_GENERATION}")
    if strategy is Strategy.REPLACE:
        if options.mode is Mode.SEQUENTIAL:
            return "mode", "sequential contradicts deployment_strategy: replace, which does all at once"
        if options.order in (Order.START_FIRST, Order.IN_PLACE):
            return "order", f"{options.order.value} contradicts deployment_strategy: replace, which stops all first"
    if strategy is Strategy.BLUE_GREEN:
        if options.mode is not None:
            return "mode", f"{options.mode.value} contradicts deployment_strategy: blue-green, {ONE_SWITCH}"
        if options.order in (Order.STOP_FIRST, Order.IN_PLACE):
            return "order", f"{options.order.value} contradicts deployment_strategy: blue-green, {ONE_SWITCH}"
        partial = partly(options)
        return None if partial is None else (partial[0], f"{partial[1]} contradicts blue-green, {ONE_SWITCH}")
    return None


ONE_SWITCH = "which starts all new replicas first and then switches to them at once"
ONE_GENERATION = "which stops all old replicas before a new one starts"


def overlapping(options: RolloutOptions) -> tuple[str, str] | None:
    """The key, and its value in words, that would have two generations run at once, or only a part change."""
    if options.order in (Order.START_FIRST, Order.IN_PLACE):
        return "order", options.order.value
    if options.mode is Mode.SEQUENTIAL:
        return "mode", "sequential"
    if options.min_available:
        return "min_available", f"min_available {options.min_available}"
    return partly(options)


def partly(options: RolloutOptions) -> tuple[str, str] | None:
    """The key, and its value in words, that would leave some replicas as they were."""
    if options.failure_action is FailureAction.CONTINUE:
        return "failure_action", "continue"
    if options.max_failure_ratio:
        return "max_failure_ratio", f"max_failure_ratio {options.max_failure_ratio:g}"
    return None
