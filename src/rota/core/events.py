"""Events: what happened, in the past tense; written with the state that they led to, shown by the API and the CLI."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from rota.core import steps as s
from rota.core.observation import Artefact
from rota.core.rollout import Rollout
from rota.core.state import AppState

RUNTIME_LOST, RUNTIME_BACK = "runtime-lost", "runtime-back"  # reasons of events about the app itself


class EventKind(enum.Enum):
    STEP = "step"  # a step was decided on and recorded
    STEP_FAILED = "step-failed"  # a port could not carry it out; it is tried again
    FAILURE = "failure"  # a replica failed
    PHASE = "phase"  # a rollout changed its phase
    PREPARING = "preparing"  # a release that is being made ready has got further
    APP = "app"  # something about the app itself


@dataclass(frozen=True)
class Event:
    """``seq`` is given by the store: it counts up for ever. ``at`` in seconds of rota's clock. ``healthy_for``,
    ``waited`` and ``running_for`` are the step's (EnableServer), and tell a boot from what it waited for."""

    at: float
    app: str
    kind: EventKind
    rollout: str | None = None
    step: str | None = None
    replica: str | None = None
    phase: str | None = None
    reason: str | None = None
    detail: str | None = None
    healthy_for: float | None = None
    waited: float | None = None
    running_for: float | None = None
    seq: int = 0


def step_event(state: AppState, step: s.Step, now: float) -> Event:
    """The event of a step that is about to be carried out."""
    replica = step.replica if isinstance(step, s.ReplicaStep) else None
    kind, detail = EventKind.STEP, None
    if isinstance(step, s.FailReplica):
        kind, detail = EventKind.FAILURE, "\n".join(step.failure.log)
    return Event(
        at=now,
        app=state.name,
        kind=kind,
        rollout=_rollout(state),
        step=type(step).__name__,
        replica=replica,
        reason=step.reason,
        detail=detail,
        healthy_for=step.healthy_for if isinstance(step, s.EnableServer) else None,
        waited=step.waited if isinstance(step, s.EnableServer) else None,
        running_for=step.running_for if isinstance(step, s.EnableServer) else None,
    )


def preparing_events(
    state: AppState, told: Mapping[int, str], artefacts: Mapping[int, Artefact], now: float
) -> list[Event]:
    """Of releases of which there is more to say than was told."""
    return [
        Event(now, state.name, EventKind.PREPARING, _rollout(state), reason=artefact.progress)
        for number, artefact in artefacts.items()
        if artefact.progress and artefact.progress != told.get(number)
    ]


def lost_event(state: AppState, why: str, now: float) -> Event:
    """The runtime cannot be asked about the app any more: what runs goes on, and nothing is decided."""
    return Event(now, state.name, EventKind.APP, _rollout(state), reason=RUNTIME_LOST, detail=why)


def back_event(state: AppState, now: float) -> Event:
    """It can be asked again."""
    return Event(now, state.name, EventKind.APP, _rollout(state), reason=RUNTIME_BACK)


def phase_event(before: Rollout | None, after: Rollout | None, now: float) -> Event | None:
    """The event of a rollout's change of phase, if it changed."""
    if after is None or (before is not None and before.id == after.id and before.phase is after.phase):
        return None
    return Event(
        at=now,
        app=after.app,
        kind=EventKind.PHASE,
        rollout=after.id,
        phase=after.phase.value,
        reason=after.cause.value if after.cause else None,
        detail=after.detail or None,
    )


def _rollout(state: AppState) -> str | None:
    """The one under way."""
    rollout = state.recorded.running_rollout
    return rollout.id if rollout else None
