"""What must hold at every decision and before every call, whatever fails (design.md, "Rules that decide keeps");
raises AssertionError for the tests that run a Simulation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from rota.core import steps as s
from rota.core.decide import Decision
from rota.core.member import Member, is_of
from rota.core.names import ReplicaId
from rota.core.observation import ObservedServer, RunState, ServerState
from rota.core.readiness import Health, Stage
from rota.core.rollout import Cause, Rollout
from rota.core.roster import NOBODY
from rota.core.situation import Situation
from rota.core.spec import Mode, Order, Overlap
from rota.testing.simulation_dns import check_dns

if TYPE_CHECKING:
    from rota.testing.simulation import Simulation

SERVING_STEPS = (s.DrainServer, s.DisableServer, s.StopReplica, s.KillReplica, s.RestartReplica)

MOST_TURNS = 10_000  # of one history


class Rules(Protocol):
    """Told of every decision before it is written down, and of every call before it is made; raises what it finds."""

    def decided(self, simulation: Simulation, here: Situation, decision: Decision) -> None: ...

    def acting(self, simulation: Simulation, step: s.Step) -> None: ...


class NoRules:
    def decided(self, simulation: Simulation, here: Situation, decision: Decision) -> None:
        pass

    def acting(self, simulation: Simulation, step: s.Step) -> None:
        pass


class DesignRules:
    """Holds one simulation to the rules."""

    def __init__(self) -> None:
        self._started: set[ReplicaId] = set()

    def decided(self, simulation: Simulation, here: Situation, decision: Decision) -> None:
        assert simulation.turns < MOST_TURNS, "it goes round without getting anywhere"
        assert simulation.turns_at_once < 40 + 20 * max(5, here.desired.replicas), "it goes round without time passing"
        abouts = [s.subject(step) for step in decision.steps]
        assert len(abouts) == len(set(abouts)), f"two steps about one subject: {abouts}"
        assert not set(abouts) & here.observed.busy, "a step about something that is busy"
        assert here.members == replace(here, before=NOBODY).members, "a member was taken over that is another one now"
        self._floor(here, decision)
        check_dns(here, decision)
        for step in decision.steps:
            self._one(here, decision, step)

    def acting(self, simulation: Simulation, step: s.Step) -> None:
        if isinstance(step, s.StopReplica | s.RestartReplica | s.KillReplica):
            _nobody_is_sent_to(simulation, step.replica)
        if isinstance(step, s.StartReplica):
            assert step.replica not in self._started, f"{step.replica} is started again"
            self._started.add(step.replica)
            _one_run_a_slot(simulation, step)
            _one_generation(simulation, step)

    def _routes(self, here: Situation, step: s.RouteApp) -> None:
        """Requests go to no pool that serves less than is asked for, nor to one of a switch before all are there."""
        serving = sum(member.serving for member in here.members.values())
        then = [
            member
            for member in here.members.values()
            if member.arrived and member.server.backend in step.shares  # type: ignore[union-attr]
        ]
        assert len(then) >= min(floor_of(here), serving), f"{step.shares} leave {len(then)} of {serving}"
        rollout = here.rollout
        if rollout is not None and rollout.policy.switch and serving:
            assert len(step.shares) == 1, f"a switch to {step.shares}"
            there = {member.record.slot for member in then if member.kept}
            assert there >= set(here.slots), f"switched with {there} of {here.slots} there"
            assert not [member.id for member in then if not member.kept], "two generations serve at once"

    def _one(self, here: Situation, decision: Decision, step: s.Step) -> None:
        member = here.members.get(step.replica) if isinstance(step, s.ReplicaStep) else None
        match step:
            case s.StartReplica():
                assert _number(step) >= here.recorded.next_replica, f"{step.replica} was used before"
                _start(here, step)
            case s.EnableServer():
                assert member is not None
                assert member.running
                healthy = member.health is Health.PASSES if member.suspended else member.ready.stage is Stage.READY
                assert healthy, f"{member.id} is enabled and not ready"
            case s.DrainServer():
                assert member is not None
                _out(here, member)
            case s.DisableServer():
                assert member is not None
                assert member.server is not None
                assert member.server.state is not ServerState.MAINT, "maint again"
                _out(here, member)
                _disable(here, member, member.server)
            case s.SuspendServer():
                assert member is not None
                assert member.admitted, "out of rotation again"
                assert member.health is Health.FAILS, f"{member.id} is taken out of rotation and is not ill"
                assert member.record.unhealthy_since is not None, "why it is out of rotation is not written down"
            case s.StopReplica():
                assert member is not None
                _stop(here, member)
            case s.KillReplica():
                assert member is not None
                assert member.leaving, "killed before it was asked to stop"
            case s.RemoveServer():
                assert member is not None
                assert member.server is not None
                assert member.server.state is ServerState.MAINT
                assert not member.running, "its server is removed while it runs"
            case s.RemoveReplica():
                assert member is not None
                assert not member.running
                assert member.server is None, "its server is still there"
            case s.FailReplica() if member is not None and _was_in_rotation(member):
                _repair(here, decision, member)
            case s.RestartReplica():
                assert member is not None
                assert not member.running
                assert member.server is None or member.server.state is ServerState.MAINT
            case s.RouteApp():
                self._routes(here, step)
            case s.TakeSlot():
                assert here.rollout is not None
                _take(here, here.rollout, step)
            case _:
                pass

    def _floor(self, here: Situation, decision: Decision) -> None:
        """No voluntary step takes the serving below min(min_available, those serving before it)."""
        serving = {member.id for member in here.members.values() if member.serving and not _going(member)}
        steps = (step for step in decision.steps if isinstance(step, SERVING_STEPS))
        lost = {step.replica for step in steps} & serving
        if not lost:
            return
        floor = min(floor_of(here), len(serving))
        assert len(serving - lost) >= floor, f"{lost} leave {len(serving - lost)} of {len(serving)}, not {floor}"


def floor_of(here: Situation) -> int:
    """design.md's min_available, as it stands at this moment."""
    if not here.desired.active:
        return 0
    rollout = here.rollout
    if rollout is None and here.spec(here.desired.current.release).overlap is Overlap.FORBID:
        return 0
    return here.desired.replicas if rollout is None else min(rollout.policy.min_available, here.desired.replicas)


def _number(step: s.StartReplica) -> int:
    return int(step.replica.rpartition("-")[2])


def _going(member: Member) -> bool:
    """A call that takes it out of rotation is under way."""
    return member.busy and member.record.drain_began_at is not None


def _start(here: Situation, step: s.StartReplica) -> None:
    target = here.desired.target(step.slot)
    assert step.slot in here.slots, f"slot {step.slot} is not to have a replica"
    assert step.release == target.release
    assert here.now >= here.recorded.slots[step.slot].next_try if step.slot in here.recorded.slots else True
    there = [member for member in here.of_slot(step.slot) if member.kept]
    assert not there, f"{step.replica} is started beside {[member.id for member in there]} in slot {step.slot}"
    rollout = here.rollout
    if rollout is None or step.slot not in rollout.in_hand or rollout.policy.order is Order.START_FIRST:
        return
    others = here.members.values() if rollout.policy.barrier else here.of_slot(step.slot)
    old = [member.id for member in others if member.running and not member.kept]
    assert not old, f"{step.replica} is started before {old} are gone"


def _repair(here: Situation, decision: Decision, member: Member) -> None:
    """A replica in rotation is given up when it has been unhealthy for long enough and others serve, few at once."""
    since, repair = member.record.unhealthy_since, here.spec(member.record.release).repair
    assert not member.serving, f"{member.id} serves and is given up"
    assert since is not None, f"{member.id} was not seen to be unhealthy"
    assert here.now >= since + repair.unhealthy_grace - 1e-6, f"{member.id} is given up too early"
    assert here.serving or len(here.slots) == 1, "nobody serves, and a replica is given up"
    ill = {other.record.slot for other in here.members.values() if _is_given_up(other)}
    ill -= {slot for slot in ill if any(other.kept and other.serving for other in here.of_slot(slot))}
    given_up = [step for step in decision.steps if isinstance(step, s.FailReplica) and _admitted(here, step)]
    most = here.spec(here.desired.current.release).repair.max_at_once
    assert len(ill) + len(given_up) <= most, f"{len(ill)} and {len(given_up)} are repaired at once"


def _admitted(here: Situation, step: s.FailReplica) -> bool:
    return step.replica in here.members and _was_in_rotation(here.members[step.replica])


def _was_in_rotation(member: Member) -> bool:
    return member.running and (member.admitted or member.suspended)


def _is_given_up(member: Member) -> bool:
    failure = member.record.failure
    return failure is not None and failure.cause is Cause.UNHEALTHY and _was_in_rotation(member)


def _out(here: Situation, member: Member) -> None:
    """A replica that was given up, and may recover, goes after its heir serves, or could not be started beside it; but
    first where overlap is forbidden."""
    rollout, slot = here.rollout, member.record.slot
    if here.spec(member.record.release).overlap is Overlap.FORBID:
        return
    stops_first = rollout is not None and slot in rollout.in_hand and rollout.policy.order is not Order.START_FIRST
    if not _is_given_up(member) or slot not in here.slots or stops_first:
        return
    others = [other for other in here.of_slot(slot) if other.number > member.number]
    failures = [other.record.failure for other in others if other.record.failure is not None]
    heir = any(other.kept and other.serving for other in here.of_slot(slot))
    refused = any(failure.cause is Cause.START_FAILED for failure in failures)
    assert heir or refused, f"{member.id} goes before its heir serves"


def _disable(here: Situation, member: Member, server: ObservedServer) -> None:
    """Whose users' sessions are kept is not taken from them before they are idle, or the drain's time is up (J2)."""
    spec, record, rollout = here.spec(member.record.release), member.record, here.rollout
    if not member.running or spec.session_timeout is None or record.failure is not None or not here.desired.active:
        return
    if rollout is not None and rollout.policy.mode is Mode.SIMULTANEOUS:
        return
    assert server.state is ServerState.DRAIN, "maint before drain"
    over = server.idle >= spec.session_timeout
    assert over or here.now >= (record.drain_began_at or 0.0) + spec.drain.timeout, "sessions are taken from it"


def _stop(here: Situation, member: Member) -> None:
    server, record = member.server, member.record
    if server is None:
        return
    assert not here.observed.direct.get(member.id) or record.cut_at is not None, "users past HAProxy were not counted"
    assert server.state is ServerState.MAINT, f"{member.id} is stopped while its server is {server.state.value}"
    assert not server.open or record.cut_at is not None, "open requests were not counted as cut"
    if server.old_holders:
        assert record.disabled_at is not None
        assert here.now >= record.disabled_at + here.spec(record.release).drain.timeout, "an old process holds it"


def _take(here: Situation, rollout: Rollout, step: s.TakeSlot) -> None:
    serves = any(member.serving for member in here.of_slot(step.slot))
    if step.back or (step.slot in rollout.taken and not rollout.taken[step.slot].back):
        return
    if serves:
        assert rollout.policy.whole or len(rollout.in_hand) < rollout.policy.parallelism, (
            "more slots in hand than parallelism"
        )
    same = [member for member in here.of_slot(step.slot) if is_of(member.record, step.target)]
    if any(member.serving and member.limited_to(step.target.limits) for member in same):
        return  # it stays as it is
    for slot, taken in rollout.taken.items():
        if taken.finished_at is not None and slot in here.slots:
            enabled = [member.record.enabled_at or 0.0 for member in here.of_slot(slot)]
            back = max([at for at in enabled if at >= taken.at], default=taken.finished_at)
            assert here.now >= back + rollout.policy.delay - 1e-6, "the delay after a hand-back was not kept"


def _nobody_is_sent_to(simulation: Simulation, replica: ReplicaId) -> None:
    """The truth, whatever was observed: a HAProxy that is gone comes back with what its file has."""
    for app in simulation.balancer.apps.values():
        server = app.servers.get(replica)
        assert server is None or server.state is ServerState.MAINT, f"{replica} is in rotation and is ended"
        assert replica not in app.written, f"{replica} is in HAProxy's file and is ended"


def _one_run_a_slot(simulation: Simulation, step: s.StartReplica) -> None:
    """Beside the one that is replaced or goes, a slot never has two runs of one generation."""
    assert simulation.state is not None, "started for an app that is gone"
    records, target = simulation.state.recorded.replicas, simulation.state.desired.target(step.slot)
    if step.release != target.release or step.generation < target.min_generation:
        return  # of a rollout that has turned back since: it is to go
    for name, seen in simulation.seen().items():
        record = records.get(name)
        if name == step.replica or seen.state is not RunState.RUNNING or seen.slot != step.slot or record is None:
            continue
        going = record.stop_began_at is not None or record.failure is not None
        going = going or record.refused_limits == target.limits
        same = (record.release, record.generation, record.colour) == (step.release, step.generation, step.colour)
        assert going or not same, f"{step.replica} is a duplicate of {name}"


def _one_generation(simulation: Simulation, step: s.StartReplica) -> None:
    """The truth, whatever was observed: where overlap is forbidden, only replicas of one generation run (S8)."""
    assert simulation.state is not None, "started for an app that is gone"
    state, rollout = simulation.state, simulation.state.recorded.running_rollout  # one that has ended wants nothing
    wanted = [state.desired.current, *state.desired.slots.values()]
    wanted += [rollout.target] if rollout is not None and rollout.target is not None else []
    for name, seen in simulation.seen().items():
        specs = [state.releases[number].spec for number in (seen.release, step.release) if number in state.releases]
        if name == step.replica or seen.state is not RunState.RUNNING:
            continue
        forbidden = any(spec.overlap is Overlap.FORBID for spec in specs)
        assert seen.slot != step.slot or not forbidden, f"{step.replica} is started while {name} runs in its slot"
        low, high = sorted((seen.generation, step.generation))
        bounds = [target.min_generation for target in wanted if target.release == step.release]
        apart = seen.release != step.release or any(low < bound <= high for bound in bounds)
        assert not (apart and forbidden), f"{step.replica} of generation {step.generation} beside {name}, {low}"
