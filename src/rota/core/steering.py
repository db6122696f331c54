"""What a person may ask of a rollout under way: pause, resume, abort; called by the engine under the app's lock."""

from __future__ import annotations

from dataclasses import replace

from rota.core.errors import Conflict
from rota.core.rollout import Kind, Phase, Rollout, Taken, check_move


def pause(rollout: Rollout, now: float) -> Rollout:
    """The hand-off under way is finished, then it is paused. Raises Conflict."""
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
    return replace(rollout, phase=phase, pause_asked=False, taken=taken, cause=None, detail="", progress_at=now)


def abort(rollout: Rollout, now: float) -> Rollout:
    """It goes back and ends cancelled. Raises Conflict."""
    if rollout.kind in {Kind.STOP, Kind.START, Kind.REMOVE}:
        raise Conflict(f"{rollout.id} ({rollout.kind.value}) cannot be aborted; give the order that undoes it")
    if rollout.back:
        raise Conflict(f"{rollout.id} is going back already")
    return replace(rollout, abort_asked=True)
