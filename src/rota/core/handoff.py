"""The hand-off of one replica, whatever the reason: sessions, maint, open requests, SIGTERM, SIGKILL, out (R2).

Called by decide for each replica that is not to stay; gives at most one step a replica and decision."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rota.core.member import Member
from rota.core.names import ReplicaId
from rota.core.observation import ObservedServer, Row, ServerState
from rota.core.situation import Situation
from rota.core.spec import Limits, Mode
from rota.core.state import AppState
from rota.core.steps import (
    CutConnections,
    DisableServer,
    DrainServer,
    KillReplica,
    NoteRefusal,
    RecordCounters,
    RemoveReplica,
    RemoveServer,
    StopReplica,
    UpdateLimits,
)

POLL = 0.01  # seconds between two looks at a draining server: HAProxy reports no event when its last request ends

POLL_DIRECT = 0.1  # seconds between two looks while only connections past HAProxy are open: reading them costs more

CUT_AGAIN = 1.0  # seconds after which a cut that did not end everything is made again
CUT_SHARES, CUT_EVERY = 20, 0.5  # what is open ends in so many shares, so many seconds apart: all its users come back
CUT_LEAST = 5  # that end together: so few are no crowd
CUT_TIME = CUT_SHARES * CUT_EVERY + 5.0  # seconds after the deadline in which HAProxy has to have ended what is open


def retire(here: Situation, member: Member, reason: str) -> None:
    """The next step on the way out of a replica that runs."""
    if member.server is not None and member.server.state is not ServerState.MAINT:
        _out_of_rotation(here, member, member.server, reason)
    elif member.leaving:
        _await_exit(here, member)
    elif _may_be_sent_to(here, member):
        return
    elif _drained(here, member):
        assert member.seen is not None  # a running member is seen
        here.draft.add(StopReplica(member.id, reason, member.seen.run))


def watched(state: AppState) -> frozenset[ReplicaId]:
    """Those of which it matters who is connected past the balancer: DNS named them and does no more, and HAProxy sends
    nobody. Who resolved the name before may still wait for an answer."""
    return frozenset(
        ReplicaId(name)
        for name, entry in state.recorded.replicas.items()
        if entry.withdrawn_at is not None and entry.disabled_at is not None
    )


def clear_away(here: Situation, member: Member, *, forget: bool, reason: str) -> None:
    """The next step for a replica that has exited: out of HAProxy at once, its counters kept, then forgotten."""
    server = member.server
    if _may_be_sent_to(here, member):
        return
    if server is not None and server.state is not ServerState.MAINT:
        here.draft.add(DisableServer(member.id, reason))
    elif server is not None:
        _take_out(here, member, reason)
    elif forget and not member.ending:
        here.draft.add(RemoveReplica(member.id, reason))


def adjust(here: Situation, member: Member, limits: Limits) -> None:
    """Live limits: the one change that needs no new run (V8), unless the runtime has just refused it."""
    refusal = here.observed.refusals.get(member.id)
    if refusal is not None and refusal.limits == limits:
        here.draft.add(NoteRefusal(member.id, f"{refusal.reason}; another takes its place", limits))
    else:
        here.draft.add(UpdateLimits(member.id, f"limits are to be {limits.written()}", limits))


def _may_be_sent_to(here: Situation, member: Member) -> bool:
    """While HAProxy does not answer it may go on, or come back from its file, with every replica that ever entered."""
    return not here.balanced and member.record.enabled_at is not None


def _out_of_rotation(here: Situation, member: Member, server: ObservedServer, reason: str) -> None:
    """At once; a sticky app's replica when its sessions are over, or out of time (J2)."""
    timeout = here.spec(member.record.release).session_timeout
    if timeout is None or not _sessions_may_stay(here, member):
        here.draft.add(DisableServer(member.id, reason))
    elif server.state is ServerState.READY:
        here.draft.add(DrainServer(member.id, reason))
    elif server.idle >= timeout:
        here.draft.add(DisableServer(member.id, f"its sessions were idle for {timeout:g} s"))
    else:
        _await_sessions(here, member, timeout - server.idle)


def _await_sessions(here: Situation, member: Member, left: float) -> None:
    """``left``: seconds until its sessions are over, were nobody to come."""
    deadline = _deadline(here, member, member.record.drain_began_at)
    if here.now >= deadline:
        here.draft.add(DisableServer(member.id, "drain.timeout has passed, its sessions go to others"))
    else:
        here.draft.wake(min(deadline, here.now + max(left, POLL)))


def _sessions_may_stay(here: Situation, member: Member) -> bool:
    """Not on one that failed; and not while an app stops or changes all at once, when nobody takes the new users."""
    simultaneous = here.rollout is not None and here.rollout.policy.mode is Mode.SIMULTANEOUS
    return here.desired.active and not simultaneous and member.record.failure is None


def _deadline(here: Situation, member: Member, began: float | None) -> float:
    return here.now if began is None else began + here.spec(member.record.release).drain.timeout


def _drained(here: Situation, member: Member) -> bool:
    """Whether nothing is open to it, or its deadline has come; asks for the cut at the deadline."""
    server, direct = member.server, here.observed.direct.get(member.id, 0)
    if server is None or not (server.open or server.old_holders or direct):
        return True
    deadline = _deadline(here, member, member.record.disabled_at)
    if here.now < deadline:
        poll = POLL if server.open or server.old_holders else POLL_DIRECT
        here.draft.wake(min(deadline, here.now + poll))
        return False
    # What goes past HAProxy is counted, and ends with the replica: nobody else can cut it.
    counted = not direct or member.record.cut_at is not None
    return (counted and not server.open) or _cut(here, member, deadline, direct)


def _cut(here: Situation, member: Member, deadline: float, direct: int) -> bool:
    """Asks, share by share, for the end of what is open after the deadline; whether that has been tried for long
    enough. A daemon that died between writing a cut down and making it is why it is asked for again, and not counted
    again. ``direct`` is what goes past HAProxy, counted with the first share."""
    assert member.server is not None  # asked by _drained
    open_now, cut_at, leave = member.server.open, member.record.cut_at, member.record.cut_leave
    if cut_at is None or (open_now <= leave and here.now >= cut_at + CUT_EVERY):
        # Counted in any case, also when no daemon ran at the deadline.
        share = _share(open_now, here.now - deadline)
        count = share + direct if cut_at is None else share
        here.draft.add(CutConnections(member.id, "drain.timeout has passed", count, open_now - share))
    elif here.now >= max(deadline + CUT_TIME, cut_at + CUT_AGAIN):
        return True
    elif open_now > leave and here.now >= cut_at + CUT_AGAIN:
        here.draft.add(CutConnections(member.id, "what was to be cut is still open", 0, leave))
    else:
        here.draft.wake(min(cut_at + (CUT_AGAIN if open_now > leave else CUT_EVERY), here.now + POLL))
    return False


def _share(open_now: int, late: float) -> int:
    """How much of it ends now, so that all of it has when the last share is due."""
    shares_left = max(1, CUT_SHARES - math.floor(late / CUT_EVERY))
    return min(open_now, max(CUT_LEAST, math.ceil(open_now / shares_left)))


def _await_exit(here: Situation, member: Member) -> None:
    record = member.record
    assert record.stop_began_at is not None  # a leaving member was told to stop
    deadline = record.stop_began_at + here.spec(record.release).stop_grace_period
    if here.now < deadline and member.seen is not None and not member.seen.told_to_stop:
        # A daemon died between writing the stop down and carrying it out.
        here.draft.add(StopReplica(member.id, "its stop is on record and was not sent", member.seen.run))
    elif here.now < deadline:
        here.draft.wake(deadline)
    elif record.killed_at is None or here.now >= record.killed_at + 1.0:
        here.draft.add(KillReplica(member.id, "stop_grace_period has passed"))
    else:
        here.draft.wake(record.killed_at + 1.0)


def _take_out(here: Situation, member: Member, reason: str) -> None:
    """Its counters first: ``del server`` takes them with it."""
    rollout = here.rollout
    if rollout is not None:
        rows = tuple(row for row in here.observed.balancer.rows if row.replica == member.id)
        if any(not _recorded(rollout.rows, row) for row in rows):
            here.draft.add(RecordCounters("counted before the server is removed", here.observed.balancer.rows))
            return
    here.draft.add(RemoveServer(member.id, reason))


def _recorded(rows: Mapping[str, Row], row: Row) -> bool:
    return rows.get(row.key) == row
