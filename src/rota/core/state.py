"""What is kept of an app over a crash: *desired* (what is to be) and *recorded* (what was), two types never mixed.

Kept by the store, changed only by core.begin and core.steering (orders) and core.record (steps), read by decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rota.core.observation import Gap
from rota.core.rollout import Failure, Rollout, SlotTarget
from rota.core.spec import AppSpec, Limits


@dataclass(frozen=True)
class Release:
    """One immutable, numbered version of an app: its file and the digest of its source directory. ``given_up``: its
    deploy did not succeed, or a rollback went away from it, and it has not served since; stores written before there
    was such a fact have none."""

    number: int
    spec: AppSpec
    source: str | None
    created_at: float
    rollout: str
    given_up: bool = False


@dataclass(frozen=True)
class Standby:
    """Replicas of the release before, kept running out of rotation until a time, so that going back is one switch."""

    target: SlotTarget
    until: float


@dataclass(frozen=True)
class Desired:
    """``current`` is what every slot from 1 to ``replicas`` is to run, but for those in ``slots``: the ones that a
    rollout has taken up, or that were left behind by one. ``suspended``: stopped with the server, to run again with
    it. ``maintenance``: users are answered by HAProxy itself, whatever the replicas do."""

    replicas: int
    current: SlotTarget
    slots: Mapping[int, SlotTarget] = field(default_factory=dict)
    running: bool = True
    remove_stopped: bool = True
    removed: bool = False
    suspended: bool = False
    maintenance: bool = False
    standby: Standby | None = None

    @property
    def active(self) -> bool:
        """Replicas are to run."""
        return self.running and not self.suspended

    def target(self, slot: int) -> SlotTarget:
        return self.slots.get(slot, self.current)


@dataclass(frozen=True)
class ReplicaRecord:
    """Facts about one replica, each written before the act that it permits. ``run_before`` is the run that is being
    ended for a restart in place; ``generation`` is that of the replica's next or present run; ``colour`` is the pool
    that it was made for. ``unhealthy_since``: when rota saw that its check fails; None while it passes.
    ``cut_at`` is when the last share of what was open was to be cut, ``cut_leave`` how much that was to leave.
    ``weight`` is its share in rotation, of 100 of its slot's, since ``weighed_at``.
    ``withdrawn_at``: when every view of DNS was seen to name it no more; the TTL counts from there.
    ``refused_limits``: what its runtime would not give it while it runs."""

    slot: int
    release: int
    generation: int
    started_at: float
    enabled_at: float | None = None
    drain_began_at: float | None = None
    disabled_at: float | None = None
    cut_at: float | None = None
    stop_began_at: float | None = None
    killed_at: float | None = None
    run_before: str | None = None
    unhealthy_since: float | None = None
    failure: Failure | None = None
    withdraw_began_at: float | None = None
    withdrawn_at: float | None = None
    colour: int = 0
    cut_leave: int = 0
    weight: int = 100
    weighed_at: float | None = None
    refused_limits: Limits | None = None


@dataclass(frozen=True)
class SlotRecord:
    """``attempts`` counts the tries in a row that brought no lasting replica, ``next_try`` is when the next may be.
    ``alerted``: its last attempt was used up, which people were told; so are they when it is over."""

    attempts: int = 0
    next_try: float = 0.0
    alerted: bool = False


@dataclass(frozen=True)
class Recorded:
    """``repair_held_at``: since when repair waits because nobody serves; ``repair_from``: when the first replica of an
    app recovered that was unhealthy altogether. ``outage``: HAProxy's last one that is over."""

    replicas: Mapping[str, ReplicaRecord] = field(default_factory=dict)
    slots: Mapping[int, SlotRecord] = field(default_factory=dict)
    prepared_at: Mapping[int, float] = field(default_factory=dict)
    next_replica: int = 1
    next_generation: int = 1
    next_release: int = 1
    repair_held_at: float | None = None
    repair_from: float = 0.0
    outage: Gap | None = None
    rollout: Rollout | None = None

    @property
    def running_rollout(self) -> Rollout | None:
        return self.rollout if self.rollout and not self.rollout.phase.ended else None


@dataclass(frozen=True)
class AppState:
    """All that is durable of one app."""

    name: str
    desired: Desired
    recorded: Recorded
    releases: Mapping[int, Release]

    @property
    def release_before(self) -> int | None:
        """What there is to go back to when nobody names it."""
        current = self.desired.current.release
        served = [number for number, release in self.releases.items() if number < current and not release.given_up]
        return max(served, default=None)
