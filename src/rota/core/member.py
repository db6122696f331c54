"""A member of an app: one replica, what is recorded of it joined with what is seen of it, and what follows from that.

Made by core.roster, read by the rules. Nothing here changes with the time alone but ``ready``, so that a member serves
for as many decisions as nothing becomes of its replica, and works each fact out once."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rota.core.fact import fact
from rota.core.names import ReplicaId
from rota.core.observation import ObservedReplica, ObservedServer, ProbeHistory, RunState, ServerState
from rota.core.readiness import Health, Readiness, Stage, health
from rota.core.rollout import SlotTarget
from rota.core.spec import AppSpec, Limits
from rota.core.state import ReplicaRecord

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
    record; else ``record`` is what its labels say. ``probed`` is what the daemon's own checks saw, ``checked`` its
    release's file with the health check in force, None of a release that nobody knows. ``routed``: requests go to the
    pool that it is in; ``spare``: it is of what is kept to go back to."""

    id: ReplicaId
    known: bool
    record: ReplicaRecord
    seen: ObservedReplica | None
    server: ObservedServer | None
    probed: ProbeHistory | None
    checked: AppSpec | None
    busy: bool
    target: SlotTarget | None
    routed: bool
    spare: bool
    ready: Readiness

    @fact
    def health(self) -> Health:
        if self.seen is None or self.checked is None:
            return Health.UNASKED
        return health(self.checked, self.seen, self.probed)

    @fact
    def running(self) -> bool:
        return self.seen is not None and self.seen.state is RunState.RUNNING

    @fact
    def exited(self) -> bool:
        """It ran and does no more, or it is nowhere to be seen."""
        return not self.running and not self.busy

    @fact
    def ending(self) -> bool:
        """It has ended, and how will be known in a moment: no request goes there, and no more is decided on."""
        return self.seen is not None and self.seen.state is RunState.EXITED and self.seen.exit is None

    @fact
    def restarted(self) -> bool:
        """It was stopped to be started again in place, and it was."""
        record = self.record
        return record.run_before is not None and self.seen is not None and self.seen.run != record.run_before

    @fact
    def leaving(self) -> bool:
        """It has been told to stop: there is no way back for this run."""
        return self.record.stop_began_at is not None and not self.restarted

    @fact
    def right_version(self) -> bool:
        """It is of its slot's release and generation, whatever its limits (design.md: "up to date"), as long as those
        can be changed."""
        return is_of(self.record, self.target) and not self.unlimitable

    def limited_to(self, limits: Limits) -> bool:
        return self.seen is not None and self.seen.limits == limits

    @fact
    def right_limits(self) -> bool:
        return self.target is not None and self.limited_to(self.target.limits)

    @fact
    def unlimitable(self) -> bool:
        """Its slot's limits can only be had by another one in its place (V8)."""
        refused = self.record.refused_limits
        return self.target is not None and refused == self.target.limits and not self.right_limits

    @fact
    def kept(self) -> bool:
        """It is what its slot wants, or is on the way to be, and is not to go."""
        return self.right_version and not self.leaving and self.record.failure is None and not self.exited

    @fact
    def admitted(self) -> bool:
        """HAProxy would send it new requests, were it healthy and its pool routed."""
        return self.server is not None and self.server.state is ServerState.READY

    @fact
    def suspended(self) -> bool:
        """It was in rotation and is out of it for its health, as the daemon saw that; with it it comes back."""
        ill = self.record.unhealthy_since is not None and self.health is not Health.UNASKED
        return ill and self.running and not self.admitted and not self.leaving and self.record.drain_began_at is None

    @fact
    def serving(self) -> bool:
        return self.arrived and self.routed

    @fact
    def arrived(self) -> bool:
        """It is in its pool and passes HAProxy's checks, whether requests go there or not."""
        return self.running and self.server is not None and self.admitted and self.server.up

    @fact
    def grown(self) -> bool:
        """It takes its whole share of the requests."""
        return self.record.weight >= FULL_WEIGHT

    @fact
    def slot_weight(self) -> int:
        """Its whole share, of 100."""
        return FULL_WEIGHT if self.target is None else self.target.weight(self.record.slot)

    @fact
    def right_weight(self) -> bool:
        return self.server is None or self.server.weight == weight_in(self.record.weight, self.slot_weight)

    @fact
    def steady(self) -> bool:
        """In rotation with the limits and the share that it is to have."""
        return self.admitted and self.right_limits and self.right_weight and self.grown

    @fact
    def well(self) -> bool:
        """It passes its checks, and nothing else is on record."""
        return self.arrived and self.record.unhealthy_since is None and self.health is not Health.FAILS

    @fact
    def standby(self) -> bool:
        """Out of rotation and kept running, to go back to by one switch (S6)."""
        return self.spare and self.arrived and not self.routed and not self.leaving and self.record.failure is None

    @fact
    def withdrawing(self) -> bool:
        """It still serves, but the call that takes it out of rotation is under way."""
        return self.serving and self.busy and self.record.drain_began_at is not None

    @fact
    def number(self) -> int:
        return int(self.id.rpartition("-")[2])

    @fact
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


def weight_in(share: int, slot_weight: int) -> int:
    """What HAProxy is told of one that has so much of its whole share; never 0, which would be no request at all."""
    return max(1, share * slot_weight // FULL_WEIGHT)


def is_of(record: ReplicaRecord, target: SlotTarget | None) -> bool:
    """It is of that release, no older, and for that pool."""
    if target is None or (record.release, record.colour) != (target.release, target.colour):
        return False
    return record.generation >= target.min_generation
