"""A rollout: one change of an app from the order to its end, as a table of phases and the facts recorded of it.

Made by core.begin, moved by core.record, read by decide and shown to people."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rota.core.names import ReplicaId, RolloutId
from rota.core.observation import Gap, Row
from rota.core.policy import Policy
from rota.core.spec import Limits
from rota.core.weights import SlotWeights, weight_of


class Kind(enum.Enum):
    """What was asked for. The first five take slots up; the rest only change how many replicas there are."""

    DEPLOY = "deploy"
    RESTART = "restart"
    REDEPLOY = "redeploy"
    ROLLBACK = "rollback"
    LIMITS = "limits"
    SCALE = "scale"
    STOP = "stop"
    START = "start"
    REMOVE = "remove"


class Phase(enum.Enum):
    PENDING = "pending"
    PROGRESSING = "progressing"
    PAUSED = "paused"
    ROLLING_BACK = "rolling_back"
    SUCCEEDED = "succeeded"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return not MOVES[self]


_ENDS = frozenset({Phase.FAILED, Phase.CANCELLED})
MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.PENDING: frozenset({Phase.PROGRESSING, Phase.CANCELLED}),
    Phase.PROGRESSING: frozenset({Phase.SUCCEEDED, Phase.PAUSED, Phase.ROLLING_BACK}) | _ENDS,
    Phase.PAUSED: frozenset({Phase.PROGRESSING, Phase.ROLLING_BACK}) | _ENDS,
    Phase.ROLLING_BACK: frozenset({Phase.ROLLED_BACK, Phase.PAUSED}) | _ENDS,
    Phase.SUCCEEDED: frozenset(),
    Phase.ROLLED_BACK: frozenset(),
    Phase.FAILED: frozenset(),
    Phase.CANCELLED: frozenset(),
}


class IllegalMove(Exception):
    """A bug: a rollout was moved against the table."""


class Cause(enum.Enum):
    """Why a replica or a rollout failed: the ``reason`` codes of design.md."""

    TIMEOUT = "timeout-error"
    CRASHED = "crashed"
    UNHEALTHY = "unhealthy"
    START_FAILED = "start-failed"
    BUILD_FAILED = "build-failed"
    PROGRESS_DEADLINE = "progress-deadline"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class SlotTarget:
    """What one slot is to run: a release, no older than a generation, under these limits. ``colour`` is the pool that
    its replica enters: a blue-green rollout fills another one than the one that serves (S6). ``weights``
    are those of all slots."""

    release: int
    min_generation: int
    limits: Limits
    colour: int = 0
    weights: SlotWeights = ()

    def weight(self, slot: int) -> int:
        """What the slot's replica gets of the requests, of 100."""
        return weight_of(self.weights, slot)


@dataclass(frozen=True)
class Failure:
    """One replica that did not come up or died; ``log`` holds its last lines of output."""

    replica: ReplicaId
    slot: int
    cause: Cause
    detail: str
    at: float
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """A slot that the rollout has taken up; ``back`` once it is being returned to what it was."""

    at: float
    finished_at: float | None = None
    back: bool = False
    failures: int = 0


@dataclass(frozen=True)
class Promise:
    """What a plan says of replicas, step by step in words (core.promise), and what has become of it: ``open`` is how
    often each is still to come, ``beyond`` was done and not planned, ``more`` counts what is not named there."""

    open: Mapping[str, int]
    beyond: tuple[str, ...] = ()
    more: int = 0


@dataclass(frozen=True)
class Rollout:
    """The durable facts of one rollout. ``target`` is None for the kinds that take no slot up; ``before`` keeps the
    slots' own targets from before it and ``before_current`` everybody's; ``fresh`` says that nothing of the app ran.
    ``skipped`` are the slots that a person left out, ``lost`` those in which others ended a replica that it had made;
    ``way_back`` is the policy from the moment it turns back, None the same one. ``releases`` says of which release each
    replica was that served meanwhile. ``next_replica`` is the number that the first replica after the order has or
    would have had. ``promise`` is of the plan that it was ordered with. Times are seconds of rota's clock."""

    id: RolloutId
    app: str
    kind: Kind
    generation: int
    policy: Policy
    created_at: float
    way_back: Policy | None = None
    next_replica: int = 1
    target: SlotTarget | None = None
    before: Mapping[int, SlotTarget] = field(default_factory=dict)
    before_current: SlotTarget | None = None
    before_replicas: int = 0
    fresh: bool = False
    from_release: int | None = None
    to_release: int | None = None
    phase: Phase = Phase.PENDING
    back: bool = False
    pause_asked: bool = False
    abort_asked: bool = False
    cause: Cause | None = None
    detail: str = ""
    taken: Mapping[int, Taken] = field(default_factory=dict)
    skipped: frozenset[int] = frozenset()
    lost: frozenset[int] = frozenset()
    failures: tuple[Failure, ...] = ()
    progress_at: float = 0.0
    baseline: Mapping[str, Row] = field(default_factory=dict)
    rows: Mapping[str, Row] = field(default_factory=dict)
    releases: Mapping[str, int] = field(default_factory=dict)
    promise: Promise | None = None
    gaps: tuple[Gap, ...] = ()
    cut: int = 0
    started_at: float | None = None
    finished_at: float | None = None

    def former(self, slot: int) -> SlotTarget | None:
        """What the slot was to run before this rollout; None when there was nothing before it."""
        return self.before.get(slot, self.before_current)

    def returns_to(self, slot: int) -> SlotTarget | None:
        """What the slot goes back to. After a rollout that gave way to another, slots may have been of several
        releases; where all are stopped before one starts they go back together, to everybody's."""
        return self.before_current if self.policy.barrier else self.former(slot)

    @property
    def standby(self) -> SlotTarget | None:
        """What a switch leaves running out of rotation: the release before, to go back to, when that was everybody's;
        and on the way back that one until its slots are taken up. What a rollback goes away from is not kept."""
        former = self.before_current
        if former is None or self.target is None or self.back or not self.policy.switch:
            return None
        if self.kind is Kind.ROLLBACK:
            return self.target
        worth = self.policy.keep_old and former.release != self.target.release and not self.before
        return former if worth else None

    @cached_property
    def in_hand(self) -> tuple[int, ...]:
        """The slots taken up and not finished."""
        return tuple(sorted(slot for slot, taken in self.taken.items() if taken.finished_at is None))


def check_move(before: Phase, after: Phase) -> Phase:
    """``after``, when the table allows it; raises IllegalMove else."""
    if after not in MOVES[before]:
        raise IllegalMove(f"a rollout cannot go from {before.value} to {after.value}")
    return after
