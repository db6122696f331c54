"""The steps: each is one call on one port, with the reason that led to it. Made by decide, written down by
core.record, carried out by engine.executor. A new step without a fault point fails a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from rota.core.backend import Backend
from rota.core.names import ReplicaId
from rota.core.observation import Address, DnsEntry, Gap, Row
from rota.core.rollout import Cause, Failure, Phase, Rollout, SlotTarget
from rota.core.spec import Limits
from rota.core.tcp import Listener


@dataclass(frozen=True)
class ReplicaStep:
    replica: ReplicaId
    reason: str


@dataclass(frozen=True)
class AppStep:
    reason: str


# On the runtime


@dataclass(frozen=True)
class PrepareRelease(AppStep):
    release: int


@dataclass(frozen=True)
class StartReplica(ReplicaStep):
    slot: int
    release: int
    generation: int
    limits: Limits
    colour: int = 0


@dataclass(frozen=True)
class RestartReplica(ReplicaStep):
    """The same replica again: its id, slot and files stay."""

    slot: int
    release: int
    generation: int
    limits: Limits


@dataclass(frozen=True)
class UpdateLimits(ReplicaStep):
    limits: Limits


@dataclass(frozen=True)
class StopReplica(ReplicaStep):
    run: str


@dataclass(frozen=True)
class KillReplica(ReplicaStep):
    pass


@dataclass(frozen=True)
class RemoveReplica(ReplicaStep):
    pass


@dataclass(frozen=True)
class DeleteReleases(AppStep):
    """Deletes the files of all releases but these; with none kept, all files of the app."""

    keep: frozenset[int] = frozenset()


# On the balancer


@dataclass(frozen=True)
class PrepareBackend(AppStep):
    backend: Backend
    hosts: tuple[str, ...]
    listeners: tuple[Listener, ...] = ()


@dataclass(frozen=True)
class RouteApp(AppStep):
    shares: Mapping[str, int] = field(hash=False)


@dataclass(frozen=True)
class SetMaintenance(AppStep):
    on: bool


@dataclass(frozen=True)
class EnableServer(ReplicaStep):
    """``ports``: at the replica, by the port that its TCP service listens on. ``healthy_for``: seconds since its first
    health check that passed, and ``waited`` those that it had been without a core until then, where that was seen;
    ``running_for``: seconds since its process began, by the runtime's clock. ``weight`` and ``share`` as in
    SetWeight."""

    backend: str
    address: Address
    weight: int = 100
    ports: tuple[tuple[int, int], ...] = ()
    healthy_for: float | None = None
    waited: float | None = None
    running_for: float | None = None
    share: int = 100


@dataclass(frozen=True)
class SetWeight(ReplicaStep):
    """``weight`` is what it gets beside the others; ``share``, of 100, how much that is of its slot's (J4)."""

    weight: int
    share: int = 100


@dataclass(frozen=True)
class DrainServer(ReplicaStep):
    pass


@dataclass(frozen=True)
class DisableServer(ReplicaStep):
    pass


@dataclass(frozen=True)
class SuspendServer(ReplicaStep):
    """Out of rotation for its health alone: no hand-off begins with it, and EnableServer brings it back."""


@dataclass(frozen=True)
class CutConnections(ReplicaStep):
    """Ends what is still open after the drain's deadline until no more than ``leave`` is; ``open`` of them are counted
    as cut (V7)."""

    open: int
    leave: int = 0


@dataclass(frozen=True)
class RemoveServer(ReplicaStep):
    pass


@dataclass(frozen=True)
class UnrouteApp(AppStep):
    pass


# On DNS, one view a step


@dataclass(frozen=True)
class PublishRecords(ReplicaStep):
    view: str
    entry: DnsEntry


@dataclass(frozen=True)
class WithdrawRecords(ReplicaStep):
    """``going``: its hand-off begins with this, and waits for the TTL."""

    view: str
    going: bool


# On the store: facts with no other effect


@dataclass(frozen=True)
class BeginRollout(AppStep):
    """The receipt's baseline: the counters as they stand when the rollout begins."""

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class BeginRollback(AppStep):
    """A release failed soon after its rollout had succeeded: the rollout that goes back from it, ordered by nobody."""

    rollout: Rollout


@dataclass(frozen=True)
class TakeSlot(AppStep):
    """A slot is taken up (or taken back): from now on it is to run ``target``."""

    slot: int
    target: SlotTarget
    back: bool = False


@dataclass(frozen=True)
class FinishSlot(AppStep):
    slot: int


@dataclass(frozen=True)
class AdoptReplica(ReplicaStep):
    """A replica that runs and that no record knows is known from now on, by its labels."""

    slot: int
    release: int
    generation: int
    started_at: float


@dataclass(frozen=True)
class FailReplica(ReplicaStep):
    """``attempts`` and ``next_try`` are the slot's from now on; ``counted`` says whether it counts in the rollout,
    ``last`` whether restart.attempts are used up outside of one (S5)."""

    failure: Failure
    attempts: int
    next_try: float
    counted: bool
    last: bool = False


@dataclass(frozen=True)
class NoteHealth(ReplicaStep):
    """The check of a replica in rotation begins to fail, or passes again. HAProxy itself has acted on what it saw; what
    the daemon saw SuspendServer and EnableServer act on."""

    healthy: bool


@dataclass(frozen=True)
class NoteRefusal(ReplicaStep):
    """Its runtime cannot give it these limits while it runs: another one is to take its place under them."""

    limits: Limits


@dataclass(frozen=True)
class HoldRepair(AppStep):
    """Repair waits, as nobody serves; or goes on."""

    held: bool


@dataclass(frozen=True)
class NoteOutage(AppStep):
    """HAProxy was not running, and is again."""

    outage: Gap


@dataclass(frozen=True)
class SettleSlot(AppStep):
    """The slot's replica has lasted: its earlier attempts are forgotten."""

    slot: int


@dataclass(frozen=True)
class NoteWithdrawn(ReplicaStep):
    """Seen: no view has its records any more; the TTL counts from here."""


@dataclass(frozen=True)
class RecordCounters(AppStep):
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class OpenGap(AppStep):
    pass


@dataclass(frozen=True)
class CloseGap(AppStep):
    pass


@dataclass(frozen=True)
class TurnBack(AppStep):
    cause: Cause
    detail: str


@dataclass(frozen=True)
class PauseRollout(AppStep):
    cause: Cause | None
    detail: str


@dataclass(frozen=True)
class FinishRollout(AppStep):
    phase: Phase
    cause: Cause | None
    detail: str
    rows: tuple[Row, ...]
    outages: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class ForgetApp(AppStep):
    pass


RuntimeStep = (
    PrepareRelease
    | StartReplica
    | RestartReplica
    | UpdateLimits
    | StopReplica
    | KillReplica
    | RemoveReplica
    | DeleteReleases
)
BalancerStep = (
    PrepareBackend
    | RouteApp
    | SetMaintenance
    | EnableServer
    | SetWeight
    | DrainServer
    | DisableServer
    | SuspendServer
    | CutConnections
    | RemoveServer
    | UnrouteApp
)
DnsStep = PublishRecords | WithdrawRecords
StoreStep = (
    BeginRollout
    | BeginRollback
    | TakeSlot
    | FinishSlot
    | AdoptReplica
    | FailReplica
    | NoteWithdrawn
    | NoteHealth
    | NoteRefusal
    | HoldRepair
    | NoteOutage
    | SettleSlot
    | RecordCounters
    | OpenGap
    | CloseGap
    | TurnBack
    | PauseRollout
    | FinishRollout
    | ForgetApp
)
Step = RuntimeStep | BalancerStep | DnsStep | StoreStep

STEP_TYPES: tuple[type, ...] = tuple(
    kind for port in (RuntimeStep, BalancerStep, DnsStep, StoreStep) for kind in get_args(port)
)


def dns_subject(view: str, replica: str) -> str:
    return f"{replica} in {view}"


def subject(step: Step) -> str:
    """What a step is about: while one is under way, decide asks for nothing else about the same subject."""
    if isinstance(step, PublishRecords | WithdrawRecords):
        return dns_subject(step.view, step.replica)
    if isinstance(step, ReplicaStep):
        return step.replica
    if isinstance(step, PrepareRelease):
        return f"release {step.release}"
    if isinstance(step, TakeSlot | FinishSlot | SettleSlot):
        return f"slot {step.slot}"
    return "routes" if isinstance(step, PrepareBackend | RouteApp | UnrouteApp) else type(step).__name__
