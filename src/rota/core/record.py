"""What a step writes down before it is carried out: the one place where a step changes what is desired or recorded.

Called by engine.reconciler, which keeps it in one transaction with the step's event, and by the forecast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rota.core import steps as s
from rota.core.observation import Gap, Row
from rota.core.promise import kept
from rota.core.rollout import Cause, Failure, Kind, Phase, Rollout, Taken, check_move
from rota.core.spec import FailureAction
from rota.core.state import AppState, Desired, Recorded, Release, ReplicaRecord, SlotRecord, Standby

FAILURES_KEPT = 20  # a rollout's history names this many failed replicas, the newest


def record(state: AppState, step: s.Step, now: float) -> AppState:
    """The state once ``step`` is permitted. Recording a step again changes nothing that a crash could have used."""
    before = state
    match step:
        case s.StartReplica():
            state = _started(state, step, now)
        case s.AdoptReplica():
            state = _adopted(state, step)
        case s.FailReplica():
            state = _failed(state, step)
        case s.BeginRollback():
            state = _reverting(state, step.rollout)
        case s.TakeSlot():
            state = _taken(state, step, now)
        case s.TurnBack():
            state = _turned_back(state, step)
        case s.FinishRollout():
            state = _finished(state, step, now)
        case s.HoldRepair():
            state = _with(state, replace(state.recorded, repair_held_at=now if step.held else None))
        case s.NoteOutage():
            state = _with(state, replace(state.recorded, outage=step.outage))
        case s.SettleSlot():
            state = _with(state, replace(state.recorded, slots={**state.recorded.slots, step.slot: SlotRecord()}))
        case s.PrepareRelease():
            prepared_at = {**state.recorded.prepared_at, step.release: now}
            state = _with(state, replace(state.recorded, prepared_at=prepared_at))
        case s.DeleteReleases():
            kept = {number: release for number, release in state.releases.items() if number in step.keep}
            state = replace(state, releases=kept or state.releases)
        case s.ReplicaStep():
            state = _replica_step(state, step, now)
        case _:
            state = _rollout_step(state, step, now)
    return _progressed(before, _as_promised(state, step), step, now)


def _with(state: AppState, recorded: Recorded) -> AppState:
    return replace(state, recorded=recorded)


def _with_rollout(state: AppState, rollout: Rollout) -> AppState:
    return _with(state, replace(state.recorded, rollout=rollout))


def _started(state: AppState, step: s.StartReplica, now: float) -> AppState:
    entry = ReplicaRecord(step.slot, step.release, step.generation, now, colour=step.colour)
    number = int(step.replica.rpartition("-")[2])
    recorded = state.recorded
    replicas = {**recorded.replicas, step.replica: entry}
    rollout = recorded.running_rollout
    if rollout is not None:
        rollout = replace(rollout, releases={**rollout.releases, step.replica: step.release})
        recorded = replace(recorded, rollout=rollout)
    return _with(state, replace(recorded, replicas=replicas, next_replica=max(recorded.next_replica, number + 1)))


def _adopted(state: AppState, step: s.AdoptReplica) -> AppState:
    entry = ReplicaRecord(step.slot, step.release, step.generation, step.started_at, enabled_at=step.started_at)
    recorded = state.recorded
    following = max(recorded.next_replica, int(step.replica.rpartition("-")[2]) + 1)
    replicas = {**recorded.replicas, step.replica: entry}
    return _with(state, replace(recorded, replicas=replicas, next_replica=following))


def _replica_step(state: AppState, step: s.Step, now: float) -> AppState:
    assert isinstance(step, s.ReplicaStep)  # asked by record
    replicas = dict(state.recorded.replicas)
    entry = replicas.get(step.replica)
    if isinstance(step, s.RemoveReplica):
        replicas.pop(step.replica, None)
    elif entry is not None:
        replicas[step.replica] = _entry_after(entry, step, now)
    recorded = state.recorded
    if entry is not None and _recovers(entry, step) and not _any_healthy(recorded):
        recorded = replace(recorded, repair_from=now)
    state = _with(state, replace(recorded, replicas=replicas))
    rollout = state.recorded.running_rollout
    if isinstance(step, s.CutConnections) and rollout is not None:
        state = _with_rollout(state, replace(rollout, cut=rollout.cut + step.open))
    return state


def _recovers(entry: ReplicaRecord, step: s.ReplicaStep) -> bool:
    return step.healthy if isinstance(step, s.NoteHealth) else isinstance(step, s.EnableServer) and _suspended(entry)


def _suspended(entry: ReplicaRecord) -> bool:
    """Out of rotation for its health alone."""
    return entry.unhealthy_since is not None and entry.disabled_at is not None and entry.drain_began_at is None


def _any_healthy(recorded: Recorded) -> bool:
    """Whether one of those in rotation was not known to be unhealthy."""
    in_rotation = (
        entry
        for entry in recorded.replicas.values()
        if entry.enabled_at is not None and entry.drain_began_at is None and entry.failure is None
    )
    return any(entry.unhealthy_since is None for entry in in_rotation)


def _entry_after(entry: ReplicaRecord, step: s.Step, now: float) -> ReplicaRecord:
    match step:
        case s.EnableServer() if _suspended(entry):
            return replace(entry, disabled_at=None, unhealthy_since=None)
        case s.SuspendServer():
            return replace(entry, disabled_at=entry.disabled_at or now)
        case s.EnableServer():
            return replace(
                entry,
                enabled_at=now,
                drain_began_at=None,
                disabled_at=None,
                cut_at=None,
                unhealthy_since=None,
                weight=step.share,
                weighed_at=now,
            )
        case s.SetWeight():
            return replace(entry, weight=step.share, weighed_at=now if step.share != entry.weight else entry.weighed_at)
        case s.NoteHealth():
            return replace(entry, unhealthy_since=None if step.healthy else entry.unhealthy_since or now)
        case s.PublishRecords():
            return replace(entry, withdraw_began_at=None, withdrawn_at=None)
        case s.WithdrawRecords() if step.going:
            return replace(entry, withdraw_began_at=entry.withdraw_began_at or now, withdrawn_at=None)
        case s.NoteRefusal():
            return replace(entry, refused_limits=step.limits)
        case s.NoteWithdrawn():
            return replace(entry, withdrawn_at=now)
        case s.DrainServer():
            return replace(entry, drain_began_at=entry.drain_began_at or now)
        case s.DisableServer():
            # Without stickiness, and for a replica that died, there is no drain before. It is decided on only while
            # HAProxy still sends users there: an earlier one, refused and given up since, has no say in the deadline.
            return replace(entry, drain_began_at=entry.drain_began_at or now, disabled_at=now, cut_at=None)
        case s.CutConnections():
            return replace(entry, cut_at=now, cut_leave=step.leave)
        case s.StopReplica():
            began = entry.stop_began_at if entry.run_before == step.run and entry.stop_began_at is not None else now
            return replace(entry, stop_began_at=began, run_before=step.run, killed_at=None)
        case s.KillReplica():
            return replace(entry, killed_at=now)
        case s.RestartReplica():
            return replace(
                entry,
                release=step.release,
                generation=step.generation,
                enabled_at=None,
                withdraw_began_at=None,
                withdrawn_at=None,
                drain_began_at=None,
                disabled_at=None,
                cut_at=None,
                killed_at=None,
                unhealthy_since=None,
                refused_limits=None,
            )
        case _:
            return entry


def _failed(state: AppState, step: s.FailReplica) -> AppState:
    recorded, failure = state.recorded, step.failure
    replicas = dict(recorded.replicas)
    if step.replica in replicas:
        replicas[step.replica] = replace(replicas[step.replica], failure=failure)
    alerted = recorded.slots.get(failure.slot, SlotRecord()).alerted or step.last
    slots = {**recorded.slots, failure.slot: SlotRecord(step.attempts, step.next_try, alerted)}
    state = _with(state, replace(recorded, replicas=replicas, slots=slots))
    rollout = recorded.rollout
    if rollout is None or (rollout.phase.ended and not step.counted):
        return state
    if not step.counted:
        entry = replicas.get(step.replica)
        own = entry is not None and entry.generation >= rollout.generation
        rollout = replace(rollout, lost=rollout.lost | {failure.slot}) if own else rollout
    return _with_rollout(state, _with_failure(rollout, failure) if step.counted else _explained(rollout, failure))


def _explained(rollout: Rollout, failure: Failure) -> Rollout:
    """One of its failures is better understood: what was said of it is said better."""
    known = next((one for one in rollout.failures if (one.replica, one.at) == (failure.replica, failure.at)), None)
    if known is None:
        return rollout
    failures = tuple(failure if one is known else one for one in rollout.failures)
    return replace(rollout, failures=failures, detail=rollout.detail.replace(known.detail, failure.detail))


def _with_failure(rollout: Rollout, failure: Failure) -> Rollout:
    taken = dict(rollout.taken)
    if failure.slot in taken and not rollout.phase.ended:
        entry = taken[failure.slot]
        taken[failure.slot] = replace(entry, failures=entry.failures + 1, finished_at=None)
    return replace(rollout, taken=taken, failures=(*rollout.failures, failure)[-FAILURES_KEPT:])


def _reverting(state: AppState, rollout: Rollout) -> AppState:
    recorded = replace(state.recorded, rollout=rollout, next_generation=rollout.generation + 1)
    return replace(state, desired=replace(state.desired, standby=None), recorded=recorded)


def _taken(state: AppState, step: s.TakeSlot, now: float) -> AppState:
    rollout = state.recorded.running_rollout
    assert rollout is not None  # only a running rollout takes slots up
    slots = {**state.desired.slots, step.slot: step.target}
    taken = {**rollout.taken, step.slot: Taken(at=now, back=step.back)}
    alerted = state.recorded.slots.get(step.slot, SlotRecord()).alerted
    attempts = {**state.recorded.slots, step.slot: SlotRecord(alerted=alerted)}
    recorded = replace(state.recorded, slots=attempts, rollout=replace(rollout, taken=taken))
    return replace(state, desired=replace(state.desired, slots=slots), recorded=recorded)


def _turned_back(state: AppState, step: s.TurnBack) -> AppState:
    rollout = state.recorded.running_rollout
    assert rollout is not None  # only a running rollout turns back
    phase = check_move(rollout.phase, Phase.ROLLING_BACK)
    turned = replace(rollout, phase=phase, back=True, cause=step.cause, detail=step.detail, pause_asked=False)
    same = replace(rollout.policy, failure_action=FailureAction.PAUSE)  # what it says of failures is the way there's
    turned = replace(turned, policy=rollout.way_back or same)
    state = _with_rollout(state, turned)
    if not rollout.fresh:
        return replace(state, desired=replace(state.desired, replicas=rollout.before_replicas))
    current = rollout.before_current or state.desired.current
    return replace(state, desired=replace(state.desired, running=False, remove_stopped=True, current=current, slots={}))


def _finished(state: AppState, step: s.FinishRollout, now: float) -> AppState:
    rollout = state.recorded.running_rollout
    assert rollout is not None  # only a running rollout finishes
    gaps = tuple(replace(gap, until=gap.until or now) for gap in rollout.gaps)
    ended = replace(
        rollout,
        phase=check_move(rollout.phase, step.phase),
        cause=step.cause or rollout.cause,
        detail=step.detail or rollout.detail,
        rows={**rollout.rows, **_by_key(step.rows)},
        gaps=gaps + step.outages,
        finished_at=now,
    )
    desired = _settled(state.desired, ended, step.phase, now)
    return replace(_with_rollout(state, ended), desired=desired, releases=_judged(state.releases, ended))


def _judged(releases: Mapping[int, Release], rollout: Rollout) -> Mapping[int, Release]:
    """The releases with what the rollout's end says of two of them: whether they are one to go back to."""
    there, former, succeeded = rollout.to_release, rollout.from_release, rollout.phase is Phase.SUCCEEDED
    given_up = {}
    if succeeded or (rollout.kind is Kind.DEPLOY and there != former):
        given_up[there] = not succeeded
    if succeeded and rollout.kind is Kind.ROLLBACK and (there or 0) < (former or 0):  # not one on to a later release
        given_up[former] = True
    changed = {
        number: replace(release, given_up=given_up[number])
        for number, release in releases.items()
        if given_up.get(number, release.given_up) != release.given_up
    }
    return {**releases, **changed} if changed else releases


def _settled(desired: Desired, rollout: Rollout, phase: Phase, now: float) -> Desired:
    """After success the rollout's target is everybody's, but for slots that were left behind; a scale that was
    aborted never was."""
    if rollout.kind is Kind.SCALE and rollout.cause is Cause.CANCELLED:
        desired = replace(desired, replicas=rollout.before_replicas)
    if phase is Phase.SUCCEEDED and rollout.target is not None:
        desired = replace(desired, current=rollout.target, standby=_kept(rollout, now))
    slots = {
        slot: target for slot, target in desired.slots.items() if target != desired.current and slot <= desired.replicas
    }
    return replace(desired, slots=slots)


def _kept(rollout: Rollout, now: float) -> Standby | None:
    target = rollout.standby
    if target is None or target == rollout.target:
        return None
    return Standby(target, now + rollout.policy.keep_old)


def _rollout_step(state: AppState, step: s.Step, now: float) -> AppState:
    rollout = state.recorded.running_rollout
    if rollout is None:
        return state
    match step:
        case s.BeginRollout():
            phase = check_move(rollout.phase, Phase.PROGRESSING)
            rows = _by_key(step.rows)
            releases = {name: entry.release for name, entry in state.recorded.replicas.items()}
            rollout = replace(rollout, phase=phase, started_at=now, baseline=rows, rows=rows, releases=releases)
        case s.FinishSlot():
            entry = replace(rollout.taken[step.slot], finished_at=now)
            rollout = replace(rollout, taken={**rollout.taken, step.slot: entry})
        case s.RecordCounters():
            rollout = replace(rollout, rows={**rollout.rows, **_by_key(step.rows)})
        case s.OpenGap():
            rollout = replace(rollout, gaps=(*rollout.gaps, Gap(now, None, "no replica was in service")))
        case s.CloseGap():
            rollout = replace(rollout, gaps=(*rollout.gaps[:-1], replace(rollout.gaps[-1], until=now)))
        case s.PauseRollout():
            rollout = _paused(rollout, step.cause, step.detail)
        case _:
            pass
    return _with_rollout(state, rollout)


def _paused(rollout: Rollout, cause: Cause | None, detail: str) -> Rollout:
    phase = check_move(rollout.phase, Phase.PAUSED)
    return replace(rollout, phase=phase, pause_asked=False, cause=cause or rollout.cause, detail=detail)


def _by_key(rows: tuple[Row, ...]) -> dict[str, Row]:
    return {row.key: row for row in rows}


def _as_promised(state: AppState, step: s.Step) -> AppState:
    """With what the step is to the plan that the rollout was ordered with."""
    rollout = state.recorded.running_rollout
    if rollout is None or rollout.promise is None or not isinstance(step, s.ReplicaStep):
        return state
    return _with_rollout(state, replace(rollout, promise=kept(rollout.promise, step)))


def _progressed(before: AppState, after: AppState, step: s.Step, now: float) -> AppState:
    rollout = after.recorded.running_rollout
    if rollout is None or not _advances(before.recorded, step):
        return after
    return _with_rollout(after, replace(rollout, progress_at=now))


def _advances(recorded: Recorded, step: s.Step) -> bool:
    """Whether the rollout gets on: by what happens once, so that no call that is refused for ever, and no replica that
    is tried for ever, or that dies or is killed again and again once it serves, holds up its progress deadline."""
    entry = recorded.replicas.get(step.replica) if isinstance(step, s.ReplicaStep) else None
    if _is_another_try(recorded, entry, step):
        return False
    match step:
        case s.BeginRollout() | s.TakeSlot() | s.FinishSlot() | s.TurnBack() | s.StartReplica() | s.RestartReplica():
            return True
        case s.EnableServer():
            return entry is not None and entry.enabled_at is None
        case s.SetWeight():
            return entry is not None and entry.weight < step.share
        case s.DrainServer():
            return entry is not None and entry.drain_began_at is None
        case s.DisableServer():
            return entry is not None and entry.disabled_at is None
        case s.StopReplica():
            return entry is not None and entry.stop_began_at is None
        case _:
            return False


def _is_another_try(recorded: Recorded, entry: ReplicaRecord | None, step: s.Step) -> bool:
    """A step about a replica of a slot that had another one before it: one that failed, or that the rollout had made
    and others ended."""
    made = step if isinstance(step, s.StartReplica | s.RestartReplica) else entry
    if made is None:
        return False
    rollout = recorded.rollout
    lost = rollout is not None and made.generation >= rollout.generation and made.slot in rollout.lost
    return lost or recorded.slots.get(made.slot, SlotRecord()).attempts > 0
