"""The forecast of a rollout: what the loop will do, and when, if the world behaves as it has.

Made by core.plan. It runs the loop itself (decide, record) on a model of the world (core.world) and a clock that jumps
from one moment to the next: there is no second statement of a rollout's rules that could be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rota.core import steps as s
from rota.core.decide import Decision, decide_in
from rota.core.durations import Durations
from rota.core.handoff import POLL
from rota.core.observation import Observation, RunState
from rota.core.record import record
from rota.core.rollout import Phase, Rollout
from rota.core.roster import NOBODY
from rota.core.situation import Draft, Situation
from rota.core.state import AppState
from rota.core.world import World

_Number = TypeVar("_Number", int, float)

WITHOUT_EVENT = 86400.0  # seconds in which a loop that polls is to come to a deadline
MANY = 20  # replicas, up to which a forecast takes some tenths of a second at most
TURNS_OF_SLOT = 200  # a dozen as a rule; thirty with a slow start; 160 where every one of twenty tries is in vain
FEW = 10  # slots, which any app may take as many turns as
MOST_TURNS = 20_000  # of one forecast: 1000 replicas one after the other, or a hundred whose every try is in vain


@dataclass(frozen=True)
class Planned:
    """A step, so many seconds after the order."""

    after: float
    step: s.Step


@dataclass(frozen=True)
class CurvePoint:
    """``after`` so many seconds ``serving`` replicas serve and ``running`` ones run, which may use so much ``memory``
    (bytes) and ``cpus`` (cores) together; None when one of them has no such limit."""

    after: float
    serving: int
    running: int
    memory: int | None
    cpus: float | None


@dataclass(frozen=True)
class Forecast:
    """``phase`` is the one in which the rollout ends, or waits for a person; ``cut``: it did not in as many turns as a
    rollout may take, and nobody knows whether it ever would. ``curve`` has an entry for each change, the first at 0.
    ``boots`` has the numbers of replicas that boot at once."""

    steps: tuple[Planned, ...]
    curve: tuple[CurvePoint, ...]
    seconds: float
    phase: Phase
    cut: bool = False
    boots: frozenset[int] = frozenset()

    @property
    def least(self) -> int:
        return min(point.serving for point in self.curve)

    @property
    def most(self) -> int:
        return max(point.serving for point in self.curve)

    @property
    def peak_replicas(self) -> int:
        return max(point.running for point in self.curve)

    @property
    def peak_memory(self) -> int | None:
        """Bytes; None without a limit."""
        return _most([point.memory for point in self.curve])

    @property
    def peak_cpus(self) -> float | None:
        return _most([point.cpus for point in self.curve])

    @property
    def outage(self) -> float:
        """Seconds in which nobody is served."""
        ends = [*(point.after for point in self.curve[1:]), self.seconds]
        gaps = [end - point.after for point, end in zip(self.curve, ends, strict=True) if not point.serving]
        return sum(gaps, 0.0)


def forecast(state: AppState, observed: Observation, durations: Durations, now: float) -> Forecast:
    """Of the rollout that an order has left in ``state`` (core.begin), to its end or its pause."""
    run = _Run(state, World(state, observed, durations, now), now)
    left = min(MOST_TURNS, TURNS_OF_SLOT * max(FEW, state.desired.replicas))
    while left and not run.over and run.turn():
        left -= 1
    cut, boots = not (left or run.over), frozenset(run.world.boots)
    return Forecast(tuple(run.steps), tuple(run.curve), run.now - now, run.rollout.phase, cut, boots)


def seconds_left(state: AppState, observed: Observation, durations: Durations, now: float) -> float | None:
    """Of a rollout under way, from wherever it is; None when it waits for a person, or would come to that. It is asked
    for again and again, and what a forecast costs grows with the square of the replicas: of many, the pace so far has
    to tell."""
    rollout = state.recorded.running_rollout
    if rollout is None or rollout.phase is Phase.PAUSED or state.desired.suspended:
        return None
    if state.desired.replicas > MANY:
        return _at_its_pace(rollout, state.desired.replicas, now)
    rest = forecast(state, observed, durations, now)
    return rest.seconds if rest.phase.ended else None


def _at_its_pace(rollout: Rollout, slots: int, now: float) -> float | None:
    done = sum(taken.finished_at is not None for taken in rollout.taken.values())
    if rollout.back or rollout.started_at is None or not done:
        return None
    return (now - rollout.started_at) / done * max(0, slots - done)


@dataclass
class _Run:
    state: AppState
    world: World
    now: float
    steps: list[Planned] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._began = self.now
        self._roster = NOBODY

    @property
    def rollout(self) -> Rollout:
        rollout = self.state.recorded.rollout
        assert rollout is not None  # every order leaves one
        return rollout

    @property
    def over(self) -> bool:
        return self.rollout.phase.ended or self.rollout.phase is Phase.PAUSED

    def turn(self) -> bool:
        """One turn of the loop; whether anything is to come."""
        here, decision = self._decided(self.now)
        self._roster = here.roster
        self._note(here)
        if decision.steps:
            self._carry_out(decision)
            return True
        following = self._following(decision)
        if following is None:
            return False
        self.now = following
        return True

    def _decided(self, now: float) -> tuple[Situation, Decision]:
        observed = self.world.observe(now)
        here = Situation(self.state, observed, now, Draft(observed.busy), self._roster)
        return here, decide_in(here)

    def _carry_out(self, decision: Decision) -> None:
        for step in decision.steps:
            self.steps.append(Planned(self.now - self._began, step))
            self.state = record(self.state, step, self.now)
        self.world.begin(decision.steps, self.now)

    def _following(self, decision: Decision) -> float | None:
        """When to look again. A loop that polls waits for something that is no event: between two moments of the
        model only deadlines pass, and what is decided once one has passed stays so, which lets it be found by
        halving."""
        change, wake_at = self.world.next_change(self.now), decision.wake_at
        if wake_at is None or wake_at > self.now + POLL:
            return min((at for at in (change, wake_at) if at is not None), default=None)
        low, high = self.now, change if change is not None else self.now + WITHOUT_EVENT
        while high - low > POLL:
            middle = (low + high) / 2
            low, high = (low, middle) if self._decided(middle)[1].steps else (middle, high)
        return high

    def _note(self, here: Situation) -> None:
        running = [seen.limits for seen in here.observed.replicas.values() if seen.state is RunState.RUNNING]
        point = CurvePoint(
            self.now - self._began,
            here.serving,
            len(running),
            _sum([limits.memory for limits in running]),
            _sum([limits.cpus for limits in running]),
        )
        if not self.curve or replace(point, after=self.curve[-1].after) != self.curve[-1]:
            self.curve.append(point)


def _sum(limits: Sequence[_Number | None]) -> _Number | None:
    given = [limit for limit in limits if limit is not None]
    return sum(given) if len(given) == len(limits) else None


def _most(sums: Sequence[_Number | None]) -> _Number | None:
    given = [one for one in sums if one is not None]
    return max(given) if len(given) == len(sums) else None
