"""decide: the pure heart. What is desired, recorded and observed of one app, and the time, to the next steps.

Called by engine.reconciler in its loop observe, decide, act, record; nothing here waits or remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rota.core import arrival, handoff, lateness, outage, publication, repair, rolling, routes, slowstart
from rota.core.member import Member
from rota.core.names import ReplicaId
from rota.core.observation import Observation
from rota.core.rollout import Phase, Rollout, SlotTarget
from rota.core.situation import Draft, Situation
from rota.core.spec import Order, Overlap
from rota.core.state import AppState
from rota.core.steps import (
    AdoptReplica,
    DeleteReleases,
    ForgetApp,
    PauseRollout,
    StartReplica,
    Step,
    TurnBack,
)

RELEASES_KEPT = 10  # to roll back to


@dataclass(frozen=True)
class Decision:
    """Steps that do not depend on each other, and when to look again if nothing wakes the loop before (None: the
    full observation every 30 s will do)."""

    steps: tuple[Step, ...]
    wake_at: float | None


def decide(state: AppState, observed: Observation, now: float) -> Decision:
    """The next steps. The same arguments give the same decision; the rules of design.md hold after each step."""
    return decide_in(Situation(state, observed, now, Draft(observed.busy)))


def decide_in(here: Situation) -> Decision:
    """For who asks the situation more than what is to be done in it."""
    routes.close(here)
    routed = routes.lead(here)
    rolling.advance(here, routed=routed)
    staying = _staying(here)
    for member in here.members.values():
        if not member.known:
            _unknown(here, member)
        elif member.exited:
            _exited(here, member, staying)
        elif not member.steady and member.running and member.id in staying:
            _staying_on(here, member)
    repair.watch(here, staying)
    outage.note(here)
    publication.follow(here, _hand_off(here, staying, routed))
    filled = {here.members[replica].record.slot for replica in staying}
    for slot in here.slots:
        if slot not in filled:
            _fill(here, slot, staying)
    _clean_up(here)
    return Decision(tuple(here.draft.steps), here.draft.wake_at)


def _staying(here: Situation) -> frozenset[ReplicaId]:
    """One replica a slot: of several that fit, the one that serves, else the newest."""
    found = []
    for slot, members in here.roster.by_slot.items():
        kept = [member for member in members if member.kept] if slot in here.slots else []
        if kept:
            found.append(max(kept, key=lambda member: (member.serving, member.number)).id)
    return frozenset(found)


def _staying_on(here: Situation, member: Member) -> None:
    assert member.target is not None  # a staying member has a slot
    if not member.right_limits:
        handoff.adjust(here, member, member.target.limits)
    elif member.suspended:
        arrival.take_back(here, member)
    elif not member.admitted:
        arrival.admit(here, member)
    else:
        slowstart.grow(here, member)


def _unknown(here: Situation, member: Member) -> None:
    """It has our labels and no record: one that runs is taken over, so that it can be handed off in order; what has
    ended is left from a removal that a crash cut short."""
    if member.running:
        record = member.record
        step = AdoptReplica(
            member.id, "it has the app's labels", record.slot, record.release, record.generation, record.started_at
        )
        here.draft.add(step)
    elif not member.busy:
        handoff.clear_away(here, member, forget=True, reason="it has ended")


def _exited(here: Situation, member: Member, staying: frozenset[ReplicaId]) -> None:
    record = member.record
    if _in_place(here, member, staying):
        if not member.ending:
            arrival.start_again(here, member)
    elif record.failure is None and not member.leaving:
        _unexpected(here, member)
    else:
        keep = not here.desired.running and not here.desired.remove_stopped and not here.desired.suspended
        forget = not keep and (record.failure is None or _superseded(here, member))
        handoff.clear_away(here, member, forget=forget, reason="it has ended")


def _unexpected(here: Situation, member: Member) -> None:
    """It ended by itself: out of rotation first, then the reason; one that was never seen to run is forgotten."""
    if member.admitted and here.balanced:
        handoff.clear_away(here, member, forget=False, reason="it has ended by itself")
    elif member.seen is None and member.record.enabled_at is None:
        handoff.clear_away(here, member, forget=True, reason="it was never started")
    elif not member.ending:
        arrival.note_exit(here, member)


def _in_place(here: Situation, member: Member, staying: frozenset[ReplicaId]) -> bool:
    """It was stopped to be started again: the newest such one of a slot that has no other to stay."""
    slot = member.record.slot
    if not _restartable(here, member) or any(other.id in staying for other in here.of_slot(slot)):
        return False
    return not any(_restartable(here, other) and other.number > member.number for other in here.of_slot(slot))


def _restartable(here: Situation, member: Member) -> bool:
    rollout, slot = here.rollout, member.record.slot
    if rollout is None or rollout.policy.order is not Order.IN_PLACE or slot not in rollout.in_hand:
        return False
    target = here.desired.target(slot)
    # One of a switch that was given up is in another pool than its slot's: it would not fit after its restart either.
    fits = (member.record.release, member.record.colour) == (target.release, target.colour)
    return (
        slot in here.slots
        and fits
        and member.exited
        and member.leaving
        and member.record.failure is None
        and member.seen is not None
    )


def _superseded(here: Situation, member: Member) -> bool:
    """A failed replica is shown until another took its place."""
    if member.record.slot not in here.slots:
        return True
    others = (other for other in here.of_slot(member.record.slot) if other.number > member.number)
    return any(other.serving or other.record.failure is not None for other in others) or any(
        other.serving for other in here.of_slot(member.record.slot)
    )


def _hand_off(here: Situation, staying: frozenset[ReplicaId], routed: bool) -> frozenset[ReplicaId]:
    """Hand-offs under way go on; new ones begin as far as the floor allows. Returns the serving ones that may
    go."""
    if here.desired.standby is not None and here.standby is not None:
        here.draft.wake(here.desired.standby.until)
    staying_in = here.serving - sum(member.withdrawing for member in here.members.values())
    room = max(0, staying_in - here.floor)
    going: set[ReplicaId] = set()
    others = [member for member in here.members.values() if member.id not in staying and not member.standby]
    for member in sorted(others, key=_goes_first):
        if not member.running or not member.known or here.draft.about(member.id):
            continue
        why = _why(here, member)
        if member.leaving or not (member.admitted or member.suspended):
            if member.leaving or not lateness.watched(here, member):
                handoff.retire(here, member, why)
        elif member.serving and room > 0 and _may_go(here, member, staying):
            room -= 1
            going.add(member.id)
            if publication.let_go(here, member, why) and routed:
                handoff.retire(here, member, why)
        elif not member.serving and routed and _may_go(here, member, staying):
            handoff.retire(here, member, why)
        elif member.suspended:
            arrival.take_back(here, member)
    return frozenset(going)


def _goes_first(member: Member) -> bool:
    """Those that DNS names no more come before those that it still does."""
    return member.record.withdraw_began_at is None


def _may_go(here: Situation, member: Member, staying: frozenset[ReplicaId]) -> bool:
    """Whether its place is taken, or to be left free."""
    slot = member.record.slot
    rollout = here.rollout
    if slot not in here.slots or (rollout is not None and slot in rollout.in_hand and rollout.policy.stops_first):
        return True
    if member.record.failure is not None:
        return not repair.waits_for_heir(here, member, staying)
    heir = next((other for other in here.of_slot(slot) if other.id in staying), None)
    return not member.serving or (heir is not None and heir.serving and heir.grown)


def _why(here: Situation, member: Member) -> str:
    if not here.desired.active:
        return "the app is to stop"
    if member.record.slot not in here.slots:
        count = here.desired.replicas
        return "there is 1 slot now" if count == 1 else f"there are {count} slots now"
    if member.record.failure is not None:
        return member.record.failure.detail
    if here.desired.standby is not None and member.record.release == here.desired.standby.target.release:
        return "keep_old has passed"
    return f"slot {member.record.slot} is to run another one"


def _fill(here: Situation, slot: int, staying: frozenset[ReplicaId]) -> None:
    """A new replica for a slot that has none to stay."""
    members, rollout = here.of_slot(slot), here.rollout
    if rollout is not None and slot in rollout.in_hand and rollout.policy.stops_first:
        there = here.members.values() if rollout.policy.barrier else members
        if any((member.running or member.busy) and member.id not in staying for member in there):
            return
        if any(_in_place(here, member, staying) for member in members):
            return
    if rollout is not None and slot in rollout.in_hand and _given_up(here, rollout, slot):
        return
    target = here.desired.target(slot)
    if any(here.overlaps(member, slot, target) for member in here.members.values()) or _begins_another(here, target):
        return
    if not here.draft.about(f"slot {slot}") and not any(_unexplained(member) for member in members):
        arrival.start(here, slot, _need(members))


def _begins_another(here: Situation, target: SlotTarget) -> bool:
    """This very decision starts a release beside which the slot's may not run."""
    others = {step.release for step in here.draft.steps if isinstance(step, StartReplica)} - {target.release}
    return bool(others) and any(here.spec(number).overlap is Overlap.FORBID for number in (*others, target.release))


def _given_up(here: Situation, rollout: Rollout, slot: int) -> bool:
    """The rollout turns back in this very decision, or a person is to say how the slot goes on."""
    turning = any(isinstance(step, TurnBack | PauseRollout) for step in here.draft.steps)
    failed = rollout.taken[slot].failures >= rollout.policy.attempts
    return turning or (rollout.phase is Phase.PAUSED and not rollout.back and failed)


def _unexplained(member: Member) -> bool:
    """It has died, and when its slot may try again is not written down yet."""
    return member.known and member.exited and member.record.failure is None and not member.leaving


def _need(members: Sequence[Member]) -> str:
    failed = [member for member in members if member.record.failure is not None]
    if failed:
        return f"in the place of {failed[-1].id}"
    return f"in the place of {members[-1].id}" if members else "the slot is empty"


def _clean_up(here: Situation) -> None:
    """Old releases, and all that is left of a removed app."""
    if here.desired.removed:
        if not here.members and routes.drop(here) and publication.is_cleared(here):
            _delete_rest(here)
    elif here.rollout is None:
        keep = _kept_releases(here)
        if set(here.observed.artefacts) - keep:
            here.draft.add(DeleteReleases("older than can be rolled back to", frozenset(keep)))


def _delete_rest(here: Situation) -> None:
    if here.observed.artefacts:
        here.draft.add(DeleteReleases("the app is removed"))
    elif here.rollout is None:
        here.draft.add(ForgetApp("the app is removed"))


def _kept_releases(here: Situation) -> set[int]:
    used = {member.record.release for member in here.members.values()}
    used |= {here.desired.current.release, *(target.release for target in here.desired.slots.values())}
    used.add(here.state.release_before or here.desired.current.release)  # however many have failed since
    return used | set(sorted(here.state.releases)[-RELEASES_KEPT:])
