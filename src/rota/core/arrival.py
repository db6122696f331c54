"""The arrival of one replica: its release made ready, started, watched until it is ready and stable, then put into
rotation; or its failure noted (S2, S3, H2, W1, W2). Called by decide for each slot."""

from __future__ import annotations

from rota.core import backoff, explanation
from rota.core.backend import backend_of
from rota.core.member import Member, is_of, weight_in
from rota.core.names import replica_id
from rota.core.observation import ArtefactState
from rota.core.readiness import Health, Stage
from rota.core.rollout import Cause, Failure, Kind, Phase, Rollout, SlotTarget
from rota.core.situation import Situation
from rota.core.slowstart import first_share
from rota.core.spec import Limits, Restart
from rota.core.state import AppState, SlotRecord
from rota.core.steps import EnableServer, FailReplica, PrepareRelease, RestartReplica, StartReplica

_FROM_OUTSIDE = frozenset({9, 15})  # SIGKILL and SIGTERM: what people and service managers send
AGAIN_AFTER = 60.0  # seconds before a release whose preparation failed is prepared again for a repair


def prepared(here: Situation, release: int) -> bool:
    """Whether the release's files are on this machine; asks for them if not."""
    artefact = here.observed.artefacts.get(release)
    if artefact is not None and artefact.state is ArtefactState.PREPARED:
        return True
    if artefact is not None and artefact.state is ArtefactState.PREPARING:
        return False
    failed = artefact is not None and artefact.state is ArtefactState.FAILED
    tried_at = here.recorded.prepared_at.get(release)
    ordered_at = here.rollout.created_at if here.rollout is not None else 0.0
    if failed and tried_at is not None and ordered_at <= tried_at and here.now < tried_at + AGAIN_AFTER:
        here.draft.wake(tried_at + AGAIN_AFTER)
        return False
    here.draft.add(PrepareRelease(f"release {release} is not on this machine yet", release))
    return False


def start(here: Situation, slot: int, reason: str) -> None:
    """A new replica for a slot that has none, when its backoff has passed."""
    target = here.desired.target(slot)
    tried = here.recorded.slots.get(slot, SlotRecord())
    if _gives_up(here.rollout, here.spec(target.release).restart, tried.attempts):
        return
    if here.now < tried.next_try:
        here.draft.wake(tried.next_try)
    elif prepared(here, target.release):
        number = here.recorded.next_replica + sum(isinstance(step, StartReplica) for step in here.draft.steps)
        here.draft.add(
            StartReplica(
                replica_id(here.state.name, number),
                reason,
                slot,
                target.release,
                _generation(here, slot, target),
                target.limits,
                target.colour,
            )
        )


def start_again(here: Situation, member: Member) -> None:
    """The same replica again, in place, after it was stopped for that."""
    slot, target = member.record.slot, here.desired.target(member.record.slot)
    step = RestartReplica(
        member.id, "restarted in place", slot, target.release, _generation(here, slot, target), target.limits
    )
    here.draft.add(step)


def admit(here: Situation, member: Member) -> None:
    """Into rotation once it is ready; its failure noted when it will not be."""
    ready = member.ready
    if member.record.enabled_at is not None and not here.balanced:
        return  # it may be in rotation for all that is known
    if ready.stage is Stage.FAILED:
        assert ready.cause is not None  # a failed readiness has one
        fail(here, member, ready.cause, ready.detail)
    elif ready.stage is not Stage.READY:
        here.draft.wake(ready.until)
    else:
        _enable(here, member, "ready and stable")


def take_back(here: Situation, member: Member) -> None:
    """Into rotation again once it is healthy; it was stable before."""
    if member.health is Health.PASSES:
        _enable(here, member, "its health check passes again")


def _enable(here: Situation, member: Member, reason: str) -> None:
    if member.seen is None or member.seen.address is None or not here.balanced:
        return
    spec, seen, address = here.spec(member.record.release), member.seen, member.seen.address
    backend = backend_of(spec, member.record.colour).name
    if backend in here.observed.balancer.backends:
        ports = tuple((entry.listener.port, seen.port_of(entry.target)) for entry in spec.ports)
        if _switched_to_later(here, backend):
            reason = "ready; requests come with the switch"
        share, probed = first_share(here, member), here.observed.probes.get(member.id)
        weight = weight_in(share, member.slot_weight)
        since, waited = (probed.healthy_since, probed.waited) if probed is not None else (None, None)
        healthy_for = here.now - since if since is not None else None
        running_for = here.now - seen.started_at
        here.draft.add(
            EnableServer(
                member.id, reason, backend, address, weight, ports, healthy_for, waited, running_for, share=share
            )
        )


def _switched_to_later(here: Situation, backend: str) -> bool:
    rollout, routes = here.rollout, here.observed.balancer.routes
    return rollout is not None and rollout.policy.switch and bool(routes) and not routes.get(backend)


def note_exit(here: Situation, member: Member) -> None:
    """A replica ended that nobody had told to: the reason, and when its slot may try again."""
    ended = member.seen.exit if member.seen is not None else None
    limits = member.seen.limits if member.seen is not None else Limits()
    fail(here, member, Cause.CRASHED, explanation.exit_in_words(ended, limits, stopped=_stopped_by_others(member)))


def failed_start(state: AppState, step: StartReplica | RestartReplica, reason: str, now: float) -> FailReplica:
    """The failure of a replica that its runtime could not start at all."""
    slot = state.recorded.slots.get(step.slot, SlotRecord())
    attempts = slot.attempts + 1
    restart = state.releases[step.release].spec.restart
    rollout = state.recorded.running_rollout
    detail = _with_end(reason, rollout, restart, attempts)
    counted = _made_by(rollout, step.slot, step.generation)
    return FailReplica(
        step.replica,
        detail,
        failure=Failure(step.replica, step.slot, Cause.START_FAILED, detail, now),
        attempts=attempts,
        next_try=now + backoff.wait(restart, attempts, step.replica),
        counted=counted,
        last=not counted and attempts >= restart.attempts,
    )


def _generation(here: Situation, slot: int, target: SlotTarget) -> int:
    """Where all slots change together, what is made for one that is not taken up yet belongs to those that go."""
    rollout = here.rollout
    if rollout is None or (rollout.policy.whole and slot not in rollout.taken):
        return _least_generation(here, target)
    return max(target.min_generation, rollout.generation)


def _least_generation(here: Situation, target: SlotTarget) -> int:
    """Where only one generation may run, it is that of the others: a rollout that gave way may have taken them up, and
    not the slot that was added since."""
    if not here.one_at_a_time(target):
        return target.min_generation
    fellows = (other for other in here.desired.slots.values() if other.release == target.release)
    return max(target.min_generation, *(fellow.min_generation for fellow in fellows), 0)


def fail(here: Situation, member: Member, cause: Cause, detail: str) -> None:
    """The failure of a replica, and when its slot may try again."""
    record, log = member.record, here.observed.logs.get(member.id, ())
    slot = here.recorded.slots.get(record.slot, SlotRecord())
    attempts, next_try = _backoff(here, member, slot)
    restart = here.spec(record.release).restart
    detail = _with_end(explanation.with_advice(detail, log), here.rollout, restart, attempts)
    failure = Failure(member.id, record.slot, cause, detail, here.now, log)
    until = _served_until(here, member)
    counted = _speaks(member) and (_counts(here.rollout, member, until) or _counts_late(here, member, until))
    last = not counted and attempts >= restart.attempts
    here.draft.add(FailReplica(member.id, detail, failure, attempts, next_try, counted, last))


def _gives_up(rollout: Rollout | None, restart: Restart, attempts: int) -> bool:
    """Whether a slot has had its last try (restart.give_up); a rollout has rules of its own for what fails."""
    return restart.give_up and rollout is None and attempts >= restart.attempts


def _with_end(detail: str, rollout: Rollout | None, restart: Restart, attempts: int) -> str:
    if not _gives_up(rollout, restart, attempts):
        return detail
    return f"{detail}; given up after {attempts} attempts (restart.give_up), until a restart or deploy"


def _backoff(here: Situation, member: Member, slot: SlotRecord) -> tuple[int, float]:
    """The slot's attempts and its next try: a replica that had been ready for a while is replaced at once."""
    spec = here.spec(member.record.release)
    enabled_at = member.record.enabled_at
    if enabled_at is not None:
        lived = _served_until(here, member) - enabled_at
        attempts = 0 if lived >= backoff.RESET_AFTER else slot.attempts
        if _ended_by_others(member):
            return attempts, min(slot.next_try, here.now)  # no try of the slot's: nothing to wait for, or to count from
        if lived >= max(backoff.SHORT_LIFE, spec.min_ready_seconds):
            return attempts, here.now
        return attempts + 1, here.now + (backoff.wait(spec.restart, attempts + 1, member.id) if attempts else 0.0)
    attempts = slot.attempts + 1
    return attempts, here.now + backoff.wait(spec.restart, attempts, member.id)


def _served_until(here: Situation, member: Member) -> float:
    since = member.record.unhealthy_since
    return here.now if since is None else since


def _ended_by_others(member: Member) -> bool:
    """Removed, stopped or killed by somebody and not for its memory, or ended while nobody watched, as all do with
    their machine: that says nothing about how its heir will do."""
    if member.seen is None:
        return True
    ended = member.seen.exit
    return ended is not None and not ended.oom and (_surely_by_others(member) or ended.signal in _FROM_OUTSIDE)


def _surely_by_others(member: Member) -> bool:
    """Of one that has ended: it cannot have done that itself."""
    seen = member.seen
    return seen is not None and seen.exit is not None and (seen.exit.unwatched or _stopped_by_others(member))


def _stopped_by_others(member: Member) -> bool:
    return member.seen is not None and member.seen.told_to_stop and member.record.stop_began_at is None


def _speaks(member: Member) -> bool:
    """Whether its end says anything about what it was made of. A signal to one that had never been ready does: a
    program that cannot start may end itself so."""
    if member.running or not _ended_by_others(member):
        return True
    return member.record.enabled_at is None and member.seen is not None and not _surely_by_others(member)


def _counts(rollout: Rollout | None, member: Member, now: float) -> bool:
    """Whether a failure is one of the rollout's own: a replica that it made, not in rotation for ``monitor`` yet."""
    if rollout is None or not _made_by(rollout, member.record.slot, member.record.generation):
        return False
    taken = rollout.taken.get(member.record.slot)
    if taken is not None and taken.back and not is_of(member.record, member.target):
        return False  # its slot has gone back since: it was to go
    if rollout.policy.switch and member.record.slot in rollout.in_hand:
        return True  # in its pool, and waiting for the others: not in rotation
    enabled_at = member.record.enabled_at
    return enabled_at is None or now < enabled_at + rollout.policy.monitor


def _counts_late(here: Situation, member: Member, until: float) -> bool:
    """Within ``monitor`` after its deploy succeeded a release is still on trial."""
    last = here.recorded.rollout
    if here.rollout is not None or last is None or last.kind is not Kind.DEPLOY or last.finished_at is None:
        return False
    on_trial = last.phase is Phase.SUCCEEDED and until < last.finished_at + last.policy.monitor
    return on_trial and _made_by(last, member.record.slot, member.record.generation)


def _made_by(rollout: Rollout | None, slot: int, generation: int) -> bool:
    if rollout is None or generation < rollout.generation:
        return False
    return rollout.target is None or slot in rollout.taken
