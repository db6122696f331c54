"""A rollout's own rules: which slots are in hand, when the next may be, when it turns back, pauses or ends.

Called by decide once a decision; what the slots in hand then need is decided slot by slot (core.decide)."""

from __future__ import annotations

from rota.core import arrival, outage, publication, standstill
from rota.core.begin import reverting
from rota.core.member import Member, is_of
from rota.core.observation import ArtefactState
from rota.core.rollout import Cause, Kind, Phase, Rollout, SlotTarget
from rota.core.situation import Situation
from rota.core.spec import FailureAction
from rota.core.state import SlotRecord
from rota.core.steps import (
    BeginRollback,
    BeginRollout,
    CloseGap,
    FinishRollout,
    FinishSlot,
    OpenGap,
    PauseRollout,
    TakeSlot,
    TurnBack,
)


def advance(here: Situation, *, routed: bool) -> None:
    """The rollout's next facts. ``routed``: its backend and hosts are as it needs them."""
    rollout = here.rollout
    if here.desired.suspended:
        return
    if rollout is None:
        _look_back(here)
        return
    if rollout.phase is Phase.PENDING:
        here.draft.add(BeginRollout("the receipt counts from here", here.observed.balancer.rows))
        return
    _note_gap(here, rollout)
    if rollout.abort_asked and not rollout.back:
        _react(here, rollout, Cause.CANCELLED, "aborted by request")
        return
    if rollout.phase is Phase.PAUSED:
        _finish_slots(here, rollout)
        _stand_in(here, rollout)
        return
    failing = _failing(here, rollout)
    if failing is not None and not _leaves_behind(here, rollout, failing[0]):
        _react(here, rollout, *failing)
    elif rollout.target is None or (rollout.back and rollout.fresh):
        _settle(here, rollout)
    else:
        _finish_slots(here, rollout)
        if rollout.back:
            _take_back(here, rollout)
        else:
            _take_up(here, rollout, routed)


def _look_back(here: Situation) -> None:
    """What the failure action asks for when a release fails within ``monitor`` after its rollout had succeeded."""
    last = here.recorded.rollout
    if last is None or last.finished_at is None or last.policy.failure_action is FailureAction.CONTINUE:
        return
    late = {failure.slot for failure in last.failures if failure.at >= last.finished_at}
    spent = late | {slot for slot, taken in last.taken.items() if taken.back}
    if not late or len(spent) / max(1, len(here.slots)) <= last.policy.max_failure_ratio:
        return
    back = reverting(here.state, last, here.now)
    if back is not None:
        here.draft.add(BeginRollback(back.detail, back))


def is_done(here: Situation, slot: int) -> bool:
    """The slot runs what it is to run, in rotation, and nothing else is left in it."""
    members = _changing(here, slot)
    if slot not in here.slots:
        return not members
    return len(members) == 1 and _arrived(members[0]) and members[0].grown


def _handed_over(here: Situation, slot: int) -> bool:
    """The slot's new replica serves and the old one has ended: what is left of that one is cleared away beside the next
    slot's change, and holds up only the end of the rollout."""
    members = _changing(here, slot)
    arrived = [member for member in members if _arrived(member)]
    rest = [member for member in members if member not in arrived]
    return slot in here.slots and len(arrived) == 1 and all(member.exited and member.leaving for member in rest)


def _arrived(member: Member) -> bool:
    return member.kept and member.right_limits and member.right_weight and member.serving


def _changing(here: Situation, slot: int) -> list[Member]:
    """The slot's replicas without the one that is kept to go back to."""
    return [member for member in here.of_slot(slot) if not member.standby]


def _cleared(here: Situation) -> bool:
    return not any(member.leaving for member in here.members.values())


def _note_gap(here: Situation, rollout: Rollout) -> None:
    """The time in which the rollout left nobody serving: the receipt says so."""
    gap_open = bool(rollout.gaps) and rollout.gaps[-1].until is None
    if here.serving and gap_open:
        here.draft.add(CloseGap("a replica is in service again"))
    elif not here.serving and not gap_open and not rollout.fresh and here.desired.running and rollout.target:
        here.draft.add(OpenGap("no replica is in service"))


def _failing(here: Situation, rollout: Rollout) -> tuple[Cause, str] | None:
    """Why the rollout is not to go on, if so."""
    if rollout.target is not None and not rollout.back:
        artefact = here.observed.artefacts.get(rollout.target.release)
        tried_at = here.recorded.prepared_at.get(rollout.target.release, -1.0)
        if artefact is not None and artefact.state is ArtefactState.FAILED and tried_at >= rollout.created_at:
            return Cause.BUILD_FAILED, artefact.reason
    if _too_many_failures(here, rollout):
        last = rollout.failures[-1]
        return last.cause, f"{last.replica}: {last.detail}"
    return standstill.found(here, rollout)


def _too_many_failures(here: Situation, rollout: Rollout) -> bool:
    if rollout.target is None:
        return len(rollout.failures) >= rollout.policy.attempts
    spent = [taken.back for taken in rollout.taken.values() if taken.failures >= rollout.policy.attempts]
    if rollout.back or any(spent):
        return any(spent) and not (rollout.back and _continues(rollout) and _gets_on(here, rollout))
    left = sum(taken.back for slot, taken in rollout.taken.items() if slot not in rollout.skipped)
    failed = len(spent) + left
    return not _continues(rollout) and failed / max(1, len(here.slots)) > _ratio_allowed(rollout)


def _gets_on(here: Situation, rollout: Rollout) -> bool:
    """On the way back there are other slots than those that have failed."""
    there = (slot for slot, taken in rollout.taken.items() if slot in here.slots and not taken.back)
    held = (rollout.taken[slot] for slot in rollout.in_hand)
    return any(there) or any(taken.failures < rollout.policy.attempts for taken in held)


def _continues(rollout: Rollout) -> bool:
    """Slots that fail keep what they had, and the others go on. A first deploy has nothing to keep."""
    return rollout.policy.failure_action is FailureAction.CONTINUE and not rollout.fresh


def _ratio_allowed(rollout: Rollout) -> float:
    """Of the slots that may be left behind. A first deploy has nothing to leave them with."""
    return 0.0 if rollout.fresh else rollout.policy.max_failure_ratio


def _leaves_behind(here: Situation, rollout: Rollout, cause: Cause) -> bool:
    """With ``continue`` the slots that do not get on are given up, not the rollout; returns whether there are any."""
    if cause is not Cause.PROGRESS_DEADLINE or rollout.back or not _continues(rollout):
        return False
    stuck = [slot for slot in rollout.in_hand if not rollout.taken[slot].back and slot in here.slots]
    for slot in stuck:
        _give_up(here, rollout, slot)
    return bool(stuck)


def _react(here: Situation, rollout: Rollout, cause: Cause, detail: str) -> None:
    if rollout.target is None:
        phase = Phase.CANCELLED if cause is Cause.CANCELLED else Phase.FAILED
        _end(here, rollout, phase, cause, detail)
    elif cause is Cause.CANCELLED:
        here.draft.add(TurnBack(detail, cause, detail))
    elif rollout.back or _asks_a_person(rollout, cause):
        here.draft.add(PauseRollout(detail, cause, detail))
    else:
        here.draft.add(TurnBack(detail, cause, detail))


def _asks_a_person(rollout: Rollout, cause: Cause) -> bool:
    if rollout.policy.failure_action is FailureAction.PAUSE or (rollout.kind is Kind.ROLLBACK and not rollout.fresh):
        return True
    return _continues(rollout) and cause is not Cause.BUILD_FAILED


def _finish_slots(here: Situation, rollout: Rollout) -> None:
    for slot in rollout.in_hand:
        if (is_done(here, slot) or _handed_over(here, slot)) and _is_named(here, slot):
            here.draft.add(FinishSlot("the slot is as it is to be", slot))


def _is_named(here: Situation, slot: int) -> bool:
    return all(publication.is_settled(here, member) for member in here.of_slot(slot) if member.kept)


def _take_up(here: Situation, rollout: Rollout, routed: bool) -> None:
    assert rollout.target is not None  # asked by advance
    _give_up_failed(here, rollout)
    untaken = [slot for slot in here.slots if slot not in rollout.taken and slot not in rollout.skipped]
    if rollout.pause_asked:
        if not rollout.in_hand:
            why = rollout.detail or "paused by request"
            here.draft.add(PauseRollout(why, None, why))
    elif not untaken and not rollout.in_hand:
        if _cleared(here) and all(slot in rollout.taken for slot in here.slots):  # one may be given up just now
            _succeed(here, rollout)
    elif untaken and arrival.prepared(here, rollout.target.release) and routed:
        _take_next(here, rollout, rollout.target, untaken)


def _take_next(here: Situation, rollout: Rollout, target: SlotTarget, untaken: list[int]) -> None:
    gate = _gate(here, rollout)
    if here.now < gate and any(not _is_so_already(here, slot, target) for slot in untaken):
        here.draft.wake(gate)
        return
    room = rollout.policy.parallelism - len(rollout.in_hand)
    if rollout.policy.whole:
        room = len(untaken)
    if room <= 0:
        tried = {slot for slot, record in here.recorded.slots.items() if record.attempts > 0}
        untaken = [slot for slot in untaken if slot in tried]
    for slot in sorted(untaken, key=lambda slot: (_is_so_already(here, slot, target), _serves(here, slot), slot)):
        if room <= 0 and not _out_of_turn(here, rollout, slot):
            continue
        here.draft.add(TakeSlot(f"slot {slot} is next", slot, target))
        room -= 1


def _gate(here: Situation, rollout: Rollout) -> float:
    """When the next slot may be taken up."""
    if not rollout.policy.delay:
        return 0.0
    return max((_handed_back(here, slot) + rollout.policy.delay for slot in rollout.taken), default=0.0)


def _is_so_already(here: Situation, slot: int, target: SlotTarget) -> bool:
    """As a slot that came by a scale meanwhile: it is taken up for the record alone, and no delay is due for that."""
    members = [member for member in _changing(here, slot) if member.kept and is_of(member.record, target)]
    return any(member.serving and member.limited_to(target.limits) for member in members)


def _out_of_turn(here: Situation, rollout: Rollout, slot: int) -> bool:
    """A slot that its old release cannot keep serving must not hold up, by the floor, the one whose new replica
    already serves."""
    if here.recorded.slots.get(slot, SlotRecord()).attempts == 0 or _serves(here, slot):
        return False
    return all(any(member.kept and member.serving for member in here.of_slot(held)) for held in rollout.in_hand)


def _serves(here: Situation, slot: int) -> bool:
    return any(member.serving for member in here.of_slot(slot))


def _handed_back(here: Situation, slot: int) -> float:
    """When the slot was back in rotation (V9: the delay counts from there), be it with one that has died since."""
    taken = here.rollout.taken[slot] if here.rollout is not None else None
    enabled = [member.record.enabled_at for member in here.of_slot(slot) if member.record.enabled_at]
    if taken is None or taken.finished_at is None:
        return 0.0
    return max(enabled, default=taken.finished_at) if max(enabled, default=0.0) >= taken.at else taken.finished_at


def _give_up_failed(here: Situation, rollout: Rollout) -> None:
    """Failures within max_failure_ratio, or with ``continue``, and what a person skips: the slot keeps its old
    values."""
    for slot, taken in rollout.taken.items():
        skipped = slot in rollout.skipped and taken.finished_at is None
        if (skipped or taken.failures >= rollout.policy.attempts) and not taken.back:
            _give_up(here, rollout, slot)
    for slot in sorted(rollout.skipped - set(rollout.taken)):
        if slot in here.slots:
            _give_up(here, rollout, slot)


def _give_up(here: Situation, rollout: Rollout, slot: int) -> None:
    former = rollout.returns_to(slot)
    assert former is not None  # a first deploy turns back instead
    here.draft.add(TakeSlot(f"slot {slot} keeps what it had", slot, former, back=True))


def _stand_in(here: Situation, rollout: Rollout) -> None:
    """A person may be long in coming (W1): the slot that failed, and whose old replica has died since, has what it had.
    What stops first has none in any case, and a switch is all or nothing."""
    if rollout.back or rollout.fresh or rollout.policy.stops_first or rollout.policy.whole:
        return
    for slot in rollout.in_hand:
        failed = rollout.taken[slot].failures >= rollout.policy.attempts
        if failed and slot in here.slots and not any(member.running or member.busy for member in here.of_slot(slot)):
            _give_up(here, rollout, slot)


def _succeed(here: Situation, rollout: Rollout) -> None:
    left = sorted(slot for slot in here.slots if rollout.taken[slot].back)
    detail = f"slots left as they were: {', '.join(map(str, left))}" if left else ""
    if len(left) < len(here.slots):
        _end(here, rollout, Phase.SUCCEEDED, None, detail)
    else:
        otherwise = Cause.CANCELLED if rollout.skipped else Cause.PROGRESS_DEADLINE
        cause = rollout.failures[-1].cause if rollout.failures else otherwise
        _end(here, rollout, Phase.FAILED, cause, "no slot could be changed")


def _take_back(here: Situation, rollout: Rollout) -> None:
    """Slots in hand and those that do not serve go back at once, finished ones in waves as they came."""
    forward = [slot for slot in here.slots if _is_to_go_back(here, rollout, slot)]
    held = (rollout.taken[slot] for slot in rollout.in_hand)
    returning = [taken for taken in held if taken.back and taken.failures < rollout.policy.attempts]
    if not forward and not rollout.in_hand:
        if not _cleared(here):
            return
        cancelled = rollout.cause in {Cause.CANCELLED, Cause.SUPERSEDED}
        _end(here, rollout, Phase.CANCELLED if cancelled else Phase.ROLLED_BACK, None, "")
        return
    room = rollout.policy.parallelism - len(returning)
    done = {slot for slot, taken in rollout.taken.items() if taken.finished_at is not None}
    for slot in sorted(forward, key=lambda slot: (slot in done, slot)):
        former, finished = rollout.returns_to(slot), slot in done
        if former is None or (finished and room <= 0 and _serves(here, slot)):
            continue
        here.draft.add(TakeSlot(f"slot {slot} goes back to release {former.release}", slot, former, back=True))
        room -= 1


def _is_to_go_back(here: Situation, rollout: Rollout, slot: int) -> bool:
    """What was taken up; where all go back together also what was not, and is not of everybody's release."""
    taken = rollout.taken.get(slot)
    if taken is not None:
        return not taken.back
    former = rollout.before_current
    return rollout.policy.barrier and former is not None and here.desired.target(slot).release != former.release


def _settle(here: Situation, rollout: Rollout) -> None:
    """The kinds that take no slot up end when the app is as it is to be."""
    if here.desired.running:
        settled = all(is_done(here, slot) for slot in here.slots) and _surplus_gone(here)
    else:
        settled = not any(_still_there(here, member) for member in here.members.values())
    if not settled:
        return
    if rollout.back:
        cancelled = rollout.cause is Cause.CANCELLED
        _end(here, rollout, Phase.CANCELLED if cancelled else Phase.FAILED, None, "")
    elif not here.desired.removed or _nothing_left(here):
        _end(here, rollout, Phase.SUCCEEDED, None, "")


def _surplus_gone(here: Situation) -> bool:
    return all(member.record.slot in here.slots for member in here.members.values())


def _still_there(here: Situation, member: Member) -> bool:
    return member.running or member.busy or member.server is not None or here.desired.remove_stopped


def _nothing_left(here: Situation) -> bool:
    seen = here.observed
    unrouted = not seen.balancer.backends and "routes" not in seen.busy
    cleared = here.balanced and unrouted and publication.is_cleared(here)
    return not here.members and not seen.artefacts and cleared


def _end(here: Situation, rollout: Rollout, phase: Phase, cause: Cause | None, detail: str) -> None:
    outages = outage.since(here, rollout.started_at or rollout.created_at)
    reason = f"the rollout has {phase.value}" if phase is Phase.SUCCEEDED else detail or phase.value
    here.draft.add(FinishRollout(reason, phase, cause, detail, here.observed.balancer.rows, outages))
