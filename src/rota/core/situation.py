"""An app's situation: desired, recorded and observed joined into one view for the length of one decision.

Built by decide; the rules in handoff, arrival and rolling read it and add their steps to a Draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rota.core.backend import Backend, backend_of
from rota.core.member import Member
from rota.core.names import ReplicaId
from rota.core.observation import Observation, as_checked
from rota.core.rollout import Rollout, SlotTarget
from rota.core.roster import NOBODY, Given, Roster, roster
from rota.core.spec import AppSpec, Overlap
from rota.core.state import AppState, Desired, Recorded
from rota.core.steps import Step, subject


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
    """``before`` is the roster of an earlier one, which makes this one's cheaper and nothing else."""

    state: AppState
    observed: Observation
    now: float
    draft: Draft = field(repr=False)
    before: Roster = field(default=NOBODY, repr=False, compare=False)

    @cached_property
    def desired(self) -> Desired:
        return self.state.desired

    @cached_property
    def recorded(self) -> Recorded:
        return self.state.recorded

    @cached_property
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
        file = self.roster.files.get(release)
        return file.checked if file is not None else as_checked(self.spec(release), release, self.observed.artefacts)

    @cached_property
    def slots(self) -> range:
        """The slots that are to have a replica."""
        return range(1, self.desired.replicas + 1) if self.desired.active else range(0)

    @cached_property
    def roster(self) -> Roster:
        return roster(Given(self.state, self.observed, self.now, self.slots, self.standby), self.before)

    @cached_property
    def members(self) -> Mapping[ReplicaId, Member]:
        return self.roster.members

    def of_slot(self, slot: int) -> Sequence[Member]:
        return self.roster.by_slot.get(slot, ())

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
