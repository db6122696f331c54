"""The standstill of a rollout: that nothing has moved for its progress deadline, whoever waits for what. Asked by
core.rolling; what counts as a move is core.record's."""

from __future__ import annotations

from rota.core import publication
from rota.core.rollout import Cause, Rollout
from rota.core.situation import Situation
from rota.core.spec import AppSpec


def found(here: Situation, rollout: Rollout) -> tuple[Cause, str] | None:
    """No progress within the deadline, which stands still while a slot waits for its next try."""
    tried = ((slot, record.next_try) for slot, record in here.recorded.slots.items() if record.next_try)
    waits = [next_try for slot, next_try in tried if _is_tried_again(rollout, slot)]
    deadline = max([rollout.progress_at, *waits]) + rollout.policy.progress_deadline + rollout.policy.delay
    known = {member.record.release for member in here.members.values()} & here.state.releases.keys()
    deadline += max((_patience(here.as_checked(number)) for number in known), default=0.0) + publication.patience(here)
    if here.now < deadline:
        here.draft.wake(deadline)
        return None
    return Cause.PROGRESS_DEADLINE, f"nothing has moved for {rollout.policy.progress_deadline:g} s"


def _is_tried_again(rollout: Rollout, slot: int) -> bool:
    """By the rollout, which counts how often. What dies later than ``monitor``, or is not its own, may do so for
    ever."""
    return rollout.target is None or (slot in rollout.in_hand and rollout.taken[slot].failures > 0)


def _patience(spec: AppSpec) -> float:
    """Seconds that one replica may take by its own deadlines without any step."""
    return spec.boot_timeout + spec.check.start_period + spec.min_ready_seconds + spec.drain_time
