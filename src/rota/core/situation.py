"""An app's situation: desired, recorded and observed joined into one view for the length of one decision.

Built by decide; the rules in handoff, arrival and rolling read it and add their steps to a Draft."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rota.core.backend import Backend, backend_of
from rota.core.names import ReplicaId
from rota.core.observation import (
    Observation,
    ObservedReplica,
    ObservedServer,
    RunState,
    ServerState,
    as_checked,
)
from rota.core.readiness import Health, Readiness, Stage, health, readiness
from rota.core.rollout import Rollout, SlotTarget
from rota.core.spec import AppSpec, Limits, Overlap
from rota.core.state import AppState, Desired, Recorded, ReplicaRecord
from rota.core.steps import Step, subject

FULL_WEIGHT = 100


class ReplicaPhase(enum.Enum):
    """A replica's phase as people see it (design.md, "Words")."""

    PENDING = "pending"
    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    STANDBY = "standby"


@dataclass(frozen=True)
class Member:
    """One replica: what is recorded of it beside what is seen of it; either may be missing. ``known``: there is a
    record; else ``record`` is what its labels say. ``routed``: requests go to the pool that it is in; ``spare``: it is
    of what is kept to go back to."""

    id: ReplicaId
    known: bool
    record: ReplicaRecord
    seen: ObservedReplica | None
    server: ObservedServer | None
    ready: Readiness
    busy: bool
    target: SlotTarget | None
    routed: bool = True
    spare: bool = False
    health: Health = Health.UNASKED

    @property
    def running(self) -> bool:
        return self.seen is not None and self.seen.state is RunState.RUNNING

    @property
    def exited(self) -> bool:
        """It ran and does no more, or it is nowhere to be seen."""
        return not self.running and not self.busy

    @property
    def ending(self) -> bool:
        """It has ended, and how will be known in a moment: no request goes there, and no more is decided on."""
        return self.seen is not None and self.seen.state is RunState.EXITED and self.seen.exit is None

    @property
    def restarted(self) -> bool:
        """It was stopped to be started again in place, and it was."""
        record = self.record
        return record.run_before is not None and self.seen is not None and self.seen.run != record.run_before

    @property
    def leaving(self) -> bool:
        """It has been told to stop: there is no way back for this run."""
        return self.record.stop_began_at is not None and not self.restarted

    @property
    def right_version(self) -> bool:
        """It is of its slot's release and generation, whatever its limits (design.md: "up to date"), as long as those
        can be changed."""
        return is_of(self.record, self.target) and not self.unlimitable

    def limited_to(self, limits: Limits) -> bool:
        return self.seen is not None and self.seen.limits == limits

    @property
    def right_limits(self) -> bool:
        return self.target is not None and self.limited_to(self.target.limits)

    @property
    def unlimitable(self) -> bool:
        """Its slot's limits can only be had by another one in its place (V8)."""
        refused = self.record.refused_limits
        return self.target is not None and refused == self.target.limits and not self.right_limits

    @property
    def kept(self) -> bool:
        """It is what its slot wants, or is on the way to be, and is not to go."""
        return self.right_version and not self.leaving and self.record.failure is None and not self.exited

    @property
    def admitted(self) -> bool:
        """HAProxy would send it new requests, were it healthy and its pool routed."""
        return self.server is not None and self.server.state is ServerState.READY

    @property
    def suspended(self) -> bool:
        """It was in rotation and is out of it for its health, as the daemon saw that; with it it comes back."""
        ill = self.record.unhealthy_since is not None and self.health is not Health.UNASKED
        return ill and self.running and not self.admitted and not self.leaving and self.record.drain_began_at is None

    @property
    def serving(self) -> bool:
        return self.arrived and self.routed

    @property
    def arrived(self) -> bool:
        """It is in its pool and passes HAProxy's checks, whether requests go there or not."""
        return self.running and self.server is not None and self.admitted and self.server.up

    @property
    def grown(self) -> bool:
        """It takes its whole share of the requests."""
        return self.record.weight >= FULL_WEIGHT

    @property
    def slot_weight(self) -> int:
        """Its whole share, of 100."""
        return FULL_WEIGHT if self.target is None else self.target.weight(self.record.slot)

    @property
    def right_weight(self) -> bool:
        return self.server is None or self.server.weight == weight_in(self.record.weight, self.slot_weight)

    @property
    def standby(self) -> bool:
        """Out of rotation and kept running, to go back to by one switch (S6)."""
        return self.spare and self.arrived and not self.routed and not self.leaving and self.record.failure is None

    @property
    def withdrawing(self) -> bool:
        """It still serves, but the call that takes it out of rotation is under way."""
        return self.serving and self.busy and self.record.drain_began_at is not None

    @property
    def number(self) -> int:
        return int(self.id.rpartition("-")[2])

    @property
    def phase(self) -> ReplicaPhase:
        if self.record.failure is not None:
            return ReplicaPhase.FAILED
        if self.exited:
            return ReplicaPhase.STOPPED
        if self.leaving:
            return ReplicaPhase.STOPPING
        if self.record.drain_began_at is not None:
            return ReplicaPhase.DRAINING
        if self.standby:
            return ReplicaPhase.STANDBY
        if self.arrived:
            return ReplicaPhase.READY
        if not self.running:
            return ReplicaPhase.PENDING
        if self.admitted or self.suspended:
            return ReplicaPhase.WARMING
        return ReplicaPhase.STARTING if self.ready.stage is Stage.STARTING else ReplicaPhase.WARMING


class Draft:
    """The steps decided on so far, at most one a subject, and when to look again."""

    def __init__(self, busy: frozenset[str]) -> None:
        self.steps: list[Step] = []
        self.wake_at: float | None = None
        self._subjects = set(busy)

    def add(self, step: Step) -> bool:
        """Takes the step, unless one about the same subject is under way or decided on already."""
        about = subject(step)
        if about in self._subjects:
            return False
        self._subjects.add(about)
        self.steps.append(step)
        return True

    def wake(self, at: float | None) -> None:
        if at is not None and (self.wake_at is None or at < self.wake_at):
            self.wake_at = at

    def about(self, replica: str) -> bool:
        return replica in self._subjects


@dataclass(frozen=True)
class Situation:
    state: AppState
    observed: Observation
    now: float
    draft: Draft = field(repr=False)

    @property
    def desired(self) -> Desired:
        return self.state.desired

    @property
    def recorded(self) -> Recorded:
        return self.state.recorded

    @property
    def rollout(self) -> Rollout | None:
        """The rollout under way, if there is one."""
        return self.recorded.running_rollout

    @property
    def balanced(self) -> bool:
        """HAProxy answers."""
        return self.observed.balancer.process is not None

    def spec(self, release: int) -> AppSpec:
        """A release's file; a stray's release may be one that nobody knows, then the current one's serves."""
        known = self.state.releases.get(release) or self.state.releases[self.desired.current.release]
        return known.spec

    def as_checked(self, release: int) -> AppSpec:
        """A release's file with its image's health check, where that is the one in force."""
        return as_checked(self.spec(release), release, self.observed.artefacts)

    @cached_property
    def slots(self) -> range:
        """The slots that are to have a replica."""
        return range(1, self.desired.replicas + 1) if self.desired.active else range(0)

    @cached_property
    def members(self) -> Mapping[ReplicaId, Member]:
        known = dict.fromkeys([*map(ReplicaId, self.recorded.replicas), *self.observed.replicas])
        members = (self._member(name) for name in known)
        return {member.id: member for member in members}

    @cached_property
    def _by_slot(self) -> Mapping[int, tuple[Member, ...]]:
        found: dict[int, tuple[Member, ...]] = {}
        for member in self.members.values():
            found[member.record.slot] = (*found.get(member.record.slot, ()), member)
        return found

    def of_slot(self, slot: int) -> tuple[Member, ...]:
        return self._by_slot.get(slot, ())

    @cached_property
    def serving(self) -> int:
        return sum(member.serving for member in self.members.values())

    @property
    def floor(self) -> int:
        """How many replicas are to serve throughout."""
        if not self.desired.active or (self.rollout is None and self.one_at_a_time(self.desired.current)):
            return 0
        replicas = self.desired.replicas
        return replicas if self.rollout is None else min(self.rollout.policy.min_available, replicas)

    def overlaps(self, member: Member, slot: int, target: SlotTarget) -> bool:
        """It runs, or is about to, and may not run at the same time as the slot's next: as it is of another generation,
        or its predecessor (S8)."""
        fellow = member.record.release == target.release and member.record.generation >= target.min_generation
        if (fellow and member.record.slot != slot) or not (member.running or member.busy):
            return False
        return self.one_at_a_time(target) or self.spec(member.record.release).overlap is Overlap.FORBID

    def one_at_a_time(self, target: SlotTarget) -> bool:
        return self.spec(target.release).overlap is Overlap.FORBID

    @cached_property
    def backend(self) -> Backend:
        """The pool that new replicas enter."""
        return backend_of(self.spec(self.newest_target.release), self.newest_target.colour)

    @cached_property
    def standby(self) -> SlotTarget | None:
        """What is kept to go back to at this moment."""
        rollout, kept = self.rollout, self.desired.standby
        if rollout is not None and rollout.target is not None:
            return rollout.standby
        return kept.target if kept is not None and self.now < kept.until else None

    @property
    def newest_target(self) -> SlotTarget:
        rollout = self.rollout
        if rollout is not None and rollout.target is not None and not rollout.back:
            return rollout.target
        return self.desired.current

    def _member(self, name: ReplicaId) -> Member:
        seen = self.observed.replicas.get(name)
        record = self.recorded.replicas.get(name) or _unrecorded(seen)
        target = self.desired.target(record.slot) if record.slot in self.slots else None
        server = self.observed.balancer.servers.get(name)
        return Member(
            id=name,
            known=name in self.recorded.replicas,
            record=record,
            seen=seen,
            server=server,
            ready=self._readiness(record, seen),
            busy=name in self.observed.busy,
            target=target,
            routed=server is None or bool(self.observed.balancer.routes.get(server.backend)),
            spare=is_of(record, self.standby) and target is not None and not is_of(record, target),
            health=self._health(record, seen),
        )

    def _readiness(self, record: ReplicaRecord, seen: ObservedReplica | None) -> Readiness:
        release = self.state.releases.get(record.release)
        if seen is None or release is None:
            return Readiness(Stage.STARTING)
        return readiness(self.as_checked(record.release), seen, self.observed.probes.get(seen.id), self.now)

    def _health(self, record: ReplicaRecord, seen: ObservedReplica | None) -> Health:
        release = self.state.releases.get(record.release)
        if seen is None or release is None:
            return Health.UNASKED
        return health(self.as_checked(record.release), seen, self.observed.probes.get(seen.id))


def weight_in(share: int, slot_weight: int) -> int:
    """What HAProxy is told of one that has so much of its whole share; never 0, which would be no request at all."""
    return max(1, share * slot_weight // FULL_WEIGHT)


def is_of(record: ReplicaRecord, target: SlotTarget | None) -> bool:
    """It is of that release, no older, and for that pool."""
    if target is None or (record.release, record.colour) != (target.release, target.colour):
        return False
    return record.generation >= target.min_generation


def _unrecorded(seen: ObservedReplica | None) -> ReplicaRecord:
    """A replica that carries our labels and that no record knows: taken at its labels' word. HAProxy may have it."""
    assert seen is not None  # a member is recorded or seen
    return ReplicaRecord(seen.slot, seen.release, seen.generation, seen.started_at, enabled_at=seen.started_at)
