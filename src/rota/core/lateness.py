"""How much too late a replica is that was given up for being late: it is watched for a moment longer, so that its
reason can name the value that would have fitted (R9). Called by decide before its hand-off."""

from __future__ import annotations

from rota.core import explanation
from rota.core.member import Member
from rota.core.observation import ProbeHistory
from rota.core.rollout import Cause, Failure, Rollout
from rota.core.situation import Situation
from rota.core.spec import AppSpec, Order
from rota.core.state import SlotRecord
from rota.core.steps import FailReplica

SHARE, LONGEST = 0.5, 10.0  # of boot_timeout; seconds: the end of a rollout that went back waits for it


def watched(here: Situation, member: Member) -> bool:
    """Whether a replica that is given up stays for now. Notes how late it was once that is known."""
    failure, run = member.record.failure, member.seen.run if member.seen is not None else None
    if failure is None or failure.cause not in (Cause.TIMEOUT, Cause.UNHEALTHY) or not _harmless(here, member):
        return False
    spec, seen = here.as_checked(member.record.release), here.observed.probes.get(member.id)
    until = failure.at + min(SHARE * spec.boot_timeout, LONGEST)
    if here.now >= until or seen is None or seen.run != run or "too slow" in failure.detail:
        return False
    said = _how_late(spec, failure, seen)
    if said:
        _note(here, member, failure, said)
    here.draft.wake(until)
    return True


def _harmless(here: Situation, member: Member) -> bool:
    """It never served, and nothing waits for its place: nobody asked for the app to stop, or for another one first."""
    rollout, slot = here.rollout, member.record.slot
    if member.record.enabled_at is not None:
        return False
    if slot not in here.slots:
        return rollout is not None and rollout.fresh and rollout.back and rollout.cause is not Cause.CANCELLED
    if here.overlaps(member, slot, here.desired.target(slot)):
        return False
    return rollout is None or slot not in rollout.in_hand or not _stops_first(rollout)


def _stops_first(rollout: Rollout) -> bool:
    return rollout.policy.order is not Order.START_FIRST


def _how_late(spec: AppSpec, failure: Failure, seen: ProbeHistory) -> str:
    if failure.cause is Cause.TIMEOUT:
        if seen.accepted_at is None:
            return ""
        return explanation.too_slow(seen.accepted_at - seen.since, spec.boot_timeout, "boot_timeout")
    if seen.healthy_since is None or seen.passes < spec.check.rise:
        return ""
    allowed, took = spec.boot_timeout + spec.check.start_period, seen.healthy_since - seen.since
    return explanation.too_slow(max(took, allowed), allowed, "health_check.start_period", spec.boot_timeout)


def _note(here: Situation, member: Member, failure: Failure, said: str) -> None:
    """The same failure again with a better reason: it counts no second time."""
    slot = here.recorded.slots.get(failure.slot, SlotRecord())
    detail = f"{failure.detail}; it came up {said}"
    known = Failure(failure.replica, failure.slot, failure.cause, detail, failure.at, failure.log)
    here.draft.add(FailReplica(member.id, detail, known, slot.attempts, slot.next_try, counted=False))
