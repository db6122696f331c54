"""A replica's share of the requests: its slot's weight; with slow start at first a part of that, which grows step by
step, and waits while it is slower than the others (J4). Called by decide for each replica in rotation, and by arrival
for the first share."""

from __future__ import annotations

from statistics import median

from rota.core.member import FULL_WEIGHT, Member, weight_in
from rota.core.situation import Situation
from rota.core.steps import SetWeight

FIRST = 10  # of FULL_WEIGHT, and by how much it grows
STEPS = FULL_WEIGHT // FIRST - 1
SLOWER, NOISE = 1.1, 0.001  # times the others' latency, and seconds: HAProxy counts whole milliseconds
PATIENCE = 4.0  # times slow_start, after which a replica that stays slower gets its whole share


def first_share(here: Situation, member: Member) -> int:
    """Of one that enters rotation. It has nobody to leave requests to when no other serves; one that was in rotation
    in this run of its before goes on where it was."""
    if member.record.enabled_at is not None:
        return member.record.weight
    slow = here.spec(member.record.release).warm_up.slow_start
    return FIRST if slow and here.serving else FULL_WEIGHT


def grow(here: Situation, member: Member) -> None:
    """The next step of a replica in rotation that is not steady yet, when it is due."""
    record = member.record
    if not member.right_weight:
        # Its slot has another weight now, or a daemon died between writing a share down and setting it.
        _set(here, member, "its weight is not what it is to be", record.weight)
    else:
        _next(here, member)


def _next(here: Situation, member: Member) -> None:
    record, slow = member.record, here.spec(member.record.release).warm_up.slow_start
    enabled_at, weighed_at = record.enabled_at or here.now, record.weighed_at or here.now
    every = slow / STEPS
    overdue = here.now >= enabled_at + PATIENCE * slow
    if here.now < weighed_at + every:
        here.draft.wake(weighed_at + every)
    elif _is_slower(here, member) and not overdue:
        here.draft.wake(min(here.now + every, enabled_at + PATIENCE * slow))
    else:
        share = FULL_WEIGHT if overdue else min(FULL_WEIGHT, record.weight + FIRST)
        _set(here, member, "it was slower for long" if overdue else "slow_start goes on", share)


def _set(here: Situation, member: Member, reason: str, share: int) -> None:
    here.draft.add(SetWeight(member.id, reason, weight_in(share, member.slot_weight), share))


def _is_slower(here: Situation, member: Member) -> bool:
    assert member.server is not None  # it is in rotation
    others = [
        other.server.latency
        for other in here.members.values()
        if other.serving and other.id != member.id and other.server is not None and other.server.latency
    ]
    return bool(others) and member.server.latency > SLOWER * median(others) + NOISE
