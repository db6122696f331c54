"""What a person may ask of a rollout under way: pause, resume, abort, skip a slot, another pace; called by the engine
under the app's lock."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

from pydantic import Field, model_validator

from rota.core.errors import Conflict, NotFound, UsageError
from rota.core.model import Model, Switch
from rota.core.names import ReplicaId
from rota.core.options import Delay, Parallelism
from rota.core.policy import paced
from rota.core.quantities import Whole
from rota.core.rollout import Kind, Phase, Rollout, Taken, check_move
from rota.core.state import AppState


class Maintenance(Model):
    """Whether an app's users are to be kept out."""

    on: Switch


class Skip(Model):
    """The slot that a rollout is to leave as it was, by its number or by a replica in it."""

    slot: Whole | None = Field(default=None, ge=1)
    replica: ReplicaId | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.slot is None) == (self.replica is None):
            raise ValueError("give a slot or a replica")
        return self


class Pace(Model):
    """Seconds between replicas, and how many change at a time; what is None stays as it is."""

    delay: Delay | None = None
    parallelism: Parallelism | None = None

    @model_validator(mode="after")
    def _something_given(self) -> Self:
        if self.delay is None and self.parallelism is None:
            raise ValueError("give a delay or a parallelism")
        return self


def pause(rollout: Rollout, now: float) -> Rollout:
    """The hand-off under way is finished, then it is paused. Raises Conflict."""
    if rollout.phase is Phase.PAUSED or rollout.pause_asked:
        raise Conflict(f"{rollout.id} is paused already; rota rollout resume lets it go on")
    if rollout.phase is not Phase.PROGRESSING or rollout.target is None:
        raise Conflict(f"{rollout.id} is {rollout.phase.value}: only a rollout that takes replicas up can pause")
    return replace(rollout, pause_asked=True)


def resume(rollout: Rollout, now: float) -> Rollout:
    """It goes on, forwards or back as before, and what failed is tried again. Raises Conflict."""
    if rollout.phase is not Phase.PAUSED and not rollout.pause_asked:
        raise Conflict(f"{rollout.id} is not paused")
    phase = rollout.phase
    if phase is Phase.PAUSED:
        phase = check_move(phase, Phase.ROLLING_BACK if rollout.back else Phase.PROGRESSING)
    taken = {slot: Taken(entry.at, entry.finished_at, entry.back) for slot, entry in rollout.taken.items()}
    if not rollout.back:  # those that were left as they were may be taken up once more
        taken = {slot: entry for slot, entry in taken.items() if not entry.back or slot in rollout.skipped}
    return replace(rollout, phase=phase, pause_asked=False, taken=taken, cause=None, detail="", progress_at=now)


def abort(rollout: Rollout, now: float) -> Rollout:
    """It goes back and ends cancelled. Raises Conflict."""
    if rollout.kind in {Kind.STOP, Kind.START, Kind.REMOVE}:
        raise Conflict(f"{rollout.id} ({rollout.kind.value}) cannot be aborted; give the order that undoes it")
    if rollout.back:
        raise Conflict(f"{rollout.id} is going back already")
    return replace(rollout, abort_asked=True)


def skip(state: AppState, rollout: Rollout, asked: Skip) -> Rollout:
    """The slot keeps what it had, or goes back to it, and is no failure. Raises Conflict, NotFound, UsageError."""
    _refuse_unslotted(rollout)
    if rollout.policy.whole or rollout.fresh:
        raise UsageError(f"{rollout.id} changes all its replicas together: none can be left out")
    slot = _slot(state, asked)
    taken = rollout.taken.get(slot)
    if taken is not None and taken.finished_at is not None:
        raise Conflict(f"slot {slot} is done already; to have it as it was, abort {rollout.id} or roll back later")
    return replace(rollout, skipped=rollout.skipped | {slot})


def tune(state: AppState, rollout: Rollout, asked: Pace) -> Rollout:
    """Another delay or parallelism from now on. Raises Conflict, UsageError."""
    _refuse_unslotted(rollout)
    policy = paced(rollout.policy, state.desired.replicas, asked.delay, asked.parallelism)
    return replace(rollout, policy=policy)


def _refuse_unslotted(rollout: Rollout) -> None:
    if rollout.target is None or rollout.back:
        going = "going back" if rollout.back else f"a {rollout.kind.value}"
        raise Conflict(f"{rollout.id} is {going}: only what takes replicas up one by one can be told so")


def _slot(state: AppState, asked: Skip) -> int:
    if asked.replica is not None:
        record = state.recorded.replicas.get(asked.replica)
        if record is None:
            raise NotFound(f"{state.name} has no replica {asked.replica!r}; rota ps {state.name} lists them")
        return record.slot
    assert asked.slot is not None  # one of the two is given
    if asked.slot > state.desired.replicas:
        raise NotFound(f"{state.name} has no slot {asked.slot}: it has {state.desired.replicas} of them")
    return asked.slot
