"""Repair of replicas that run and do not serve: who is unhealthy since when, who is replaced for it, and when nobody is
(H3, W1, S5).

Called by decide once a decision, between arrivals and hand-offs. Users are spared an unhealthy replica by HAProxy
already: this is about getting the replica back, so it may take its time and must not make things worse."""

from __future__ import annotations

from rota.core import arrival, backoff
from rota.core.member import Member
from rota.core.names import ReplicaId
from rota.core.quantities import written_seconds
from rota.core.readiness import Health
from rota.core.rollout import Cause
from rota.core.situation import Situation
from rota.core.spec import AppSpec
from rota.core.state import ReplicaRecord
from rota.core.steps import HoldRepair, NoteHealth, SettleSlot, SuspendServer


def watch(here: Situation, staying: frozenset[ReplicaId]) -> None:
    """Notes who is healthy and who is not; gives up the longest unhealthy, as far as that may help."""
    if not here.balanced:
        return
    unwell = [member for member in here.members.values() if not member.well]
    watched = [member for member in unwell if member.id in staying and (member.admitted or member.suspended)]
    noted = [_note(here, member) for member in watched]
    noted += [_take_out(here, member) for member in unwell if _is_ill(member)]
    troubled = {slot for slot, tried in here.recorded.slots.items() if tried.attempts or tried.alerted}
    for member in here.members.values() if troubled else ():
        if member.record.slot in troubled and member.id in staying:
            _settle(here, member)
    if any(noted):
        return  # what they change, such as from when the grace counts, is decided on next
    overdue = [member for member in watched if not member.arrived and _due(here, member)]
    if _nobody_serves(here):
        _hold(here, overdue)
    else:
        _release(here)
        _give_up(here, overdue)


def waits_for_heir(here: Situation, member: Member, staying: frozenset[ReplicaId]) -> bool:
    """Whether a replica that was given up is to stay for now. It may recover before its heir serves, and costs nobody
    anything: so the heir comes first, unless it cannot be started beside it, or must not be (S8)."""
    if here.overlaps(member, member.record.slot, here.desired.target(member.record.slot)):
        return False
    others = here.of_slot(member.record.slot)
    heir = next((other for other in others if other.id in staying), None)
    if heir is not None:
        return not heir.serving
    failures = (other.record.failure for other in others if other.number > member.number)
    return not any(failure is not None and failure.cause is Cause.START_FAILED for failure in failures)


def overdue(spec: AppSpec, record: ReplicaRecord, now: float) -> bool:
    """Whether it has been unhealthy for longer than repair.unhealthy_grace."""
    return record.unhealthy_since is not None and now >= record.unhealthy_since + spec.repair.unhealthy_grace


def condition(here: Situation, member: Member) -> str:
    """What a person is told of a replica that runs, is in rotation and gets no requests; empty when all is well."""
    since = member.record.unhealthy_since
    in_rotation = member.admitted or member.suspended
    if since is None or member.record.failure is not None or not member.running or not in_rotation:
        return ""
    last = _last_seen(here, member)
    seen = f" ({last})" if last else ""
    text = f"unhealthy for {written_seconds(max(0.0, here.now - since))}{seen}, gets no requests; "
    if _nobody_serves(here):
        return text + _WAITING
    grace = here.spec(member.record.release).repair.unhealthy_grace
    return text + f"is replaced after {written_seconds(grace)}"


_FAILS = "its health check fails, so it gets no requests"
_WAITING = "so are all others: what they depend on may be down, so none is replaced"


def _is_ill(member: Member) -> bool:
    """HAProxy would send it requests, and the daemon's own check says that it must not."""
    return member.known and member.running and member.admitted and member.health is Health.FAILS


def _take_out(here: Situation, member: Member) -> bool:
    """First it is written down since when it is ill: by that it is told from one whose hand-off has begun."""
    if member.record.unhealthy_since is None:
        return here.draft.add(NoteHealth(member.id, _FAILS, healthy=False))
    last = _last_seen(here, member)
    return here.draft.add(SuspendServer(member.id, f"its health check fails{f': {last}' if last else ''}"))


def _last_seen(here: Situation, member: Member) -> str:
    """What its check saw last, when that failed: the daemon's own, else HAProxy's."""
    seen = here.observed.probes.get(member.id)
    if member.health is not Health.UNASKED and seen is not None and seen.fails:
        return seen.last_failure
    return member.server.check if member.server is not None else ""


def _note(here: Situation, member: Member) -> bool:
    known = member.record.unhealthy_since is not None
    if _is_ill(member):
        return False
    if member.arrived and known:
        return here.draft.add(NoteHealth(member.id, "its health check passes again", healthy=True))
    if member.arrived or known:
        return False
    reason = _FAILS
    if _nobody_serves(here):
        reason += f"; {_WAITING}"
    return here.draft.add(NoteHealth(member.id, reason, healthy=False))


def _settle(here: Situation, member: Member) -> None:
    """A slot whose replica lasts starts from nothing when that one fails, and its incident is over."""
    since = member.record.enabled_at
    if since is None or not member.arrived:
        return
    if here.now >= since + backoff.RESET_AFTER:
        here.draft.add(SettleSlot(f"{member.id} has been in rotation for a minute", member.record.slot))
    else:
        here.draft.wake(since + backoff.RESET_AFTER)


def _due(here: Situation, member: Member) -> bool:
    """The grace counts from when it became unhealthy, or from when the first recovered of an app that was unhealthy
    altogether: the others are about to follow."""
    since = member.record.unhealthy_since
    if since is None:
        return False
    at = max(since, here.recorded.repair_from) + here.spec(member.record.release).repair.unhealthy_grace
    if here.now < at:
        here.draft.wake(at)
    return here.now >= at


def _nobody_serves(here: Situation) -> bool:
    """With one replica there are no others to tell its own failing from that of what it depends on."""
    return here.serving == 0 and len(here.slots) > 1


def _hold(here: Situation, overdue: list[Member]) -> None:
    if overdue and here.recorded.repair_held_at is None:
        last = _last_seen(here, overdue[-1])
        seen = f" (last seen: {last})" if last else ""
        reason = (
            f"no replica serves{seen}: what they depend on may be down, so none is replaced; "
            f"they serve again as soon as they are healthy, and rota restart {here.state.name} replaces them"
        )
        here.draft.add(HoldRepair(reason, held=True))


def _release(here: Situation) -> None:
    if here.recorded.repair_held_at is not None:
        here.draft.add(HoldRepair("a replica serves again", held=False))


def _give_up(here: Situation, overdue: list[Member]) -> None:
    if not overdue:
        return
    limits = here.spec(here.desired.current.release).repair
    room = limits.max_at_once - _under_repair(here)
    for member in sorted(overdue, key=lambda member: member.record.unhealthy_since or 0.0)[: max(0, room)]:
        grace = here.spec(member.record.release).repair.unhealthy_grace
        seen = _last_seen(here, member)
        last = f"; last: {seen}" if seen else ""
        detail = f"its health check has failed for {written_seconds(grace)} (repair.unhealthy_grace){last}"
        arrival.fail(here, member, Cause.UNHEALTHY, detail)


def _under_repair(here: Situation) -> int:
    """The slots whose replica was given up and has no heir that serves yet."""
    slots = {member.record.slot for member in here.members.values() if _repaired(here, member)}
    return sum(not any(other.kept and other.serving for other in here.of_slot(slot)) for slot in slots)


def _repaired(here: Situation, member: Member) -> bool:
    failure = member.record.failure
    was_ready = member.record.enabled_at is not None and member.record.slot in here.slots
    return was_ready and failure is not None and failure.cause is Cause.UNHEALTHY
