"""One app, its runtime and its HAProxy in one thread on a clock that jumps; used by the tests of the core.

    simulation = Simulation()
    simulation.order(Deploy(spec=spec))
    simulation.run(60.0)

The loop is the engine's (observe, decide, write down, act) with the same executor, each part of it at one instant;
between two instants time goes to whatever comes next. Nothing here is random: faults are values and functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rota.core import steps as s
from rota.core.arrival import failed_start
from rota.core.begin import begin, given_way
from rota.core.decide import Decision, decide
from rota.core.errors import LimitsRefused, StepFailed
from rota.core.names import ReplicaId
from rota.core.notice import Notice, of_phase, of_step
from rota.core.observation import (
    Counters,
    Observation,
    ObservedBalancer,
    ObservedReplica,
    Refusal,
    RunState,
    ServerState,
    as_checked,
)
from rota.core.order import Order
from rota.core.record import record
from rota.core.rollout import Rollout
from rota.core.roster import NOBODY
from rota.core.situation import Draft, Situation
from rota.core.state import AppState
from rota.engine.executor import Executor
from rota.engine.observer import look_at_dns, to_probe
from rota.engine.reconciler import FULL_OBSERVATION, RETRY
from rota.testing.balancer import FakeBalancer
from rota.testing.clock import FakeClock
from rota.testing.dns import FakeDns
from rota.testing.instant import at_once
from rota.testing.runtime import FakeRuntime
from rota.testing.simulation_dns import users_past_haproxy
from rota.testing.simulation_probes import SimulatedProbes
from rota.testing.simulation_rules import NoRules, Rules

LEAST_ADVANCE = 1e-4  # seconds: less is lost in rounding


@dataclass(frozen=True)
class Done:
    at: float
    step: s.Step


@dataclass(frozen=True)
class Crash:
    """The daemon ends at its next decision that has steps: before it is written down (``acted`` None), or after that
    and the first ``acted`` of its calls."""

    acted: int | None = 0


class Simulation:
    """``takes`` says how long a call is under way, ``refuses`` whether it fails ("before" or "after" it had its
    effect), ``opens`` for how long each of the requests goes on that are open to a server that leaves, ``stays`` for
    how long a user past HAProxy keeps a connection to it, ``visits`` for how long the users of one that is drained go
    on coming. All may be changed at any time; ``dns`` has the views."""

    def __init__(self, app: str = "web", rules: Rules | None = None) -> None:
        self.app = app
        self.clock = FakeClock(1000.0)
        self.runtime = FakeRuntime(self.clock)
        self.balancer = FakeBalancer()
        self.dns: dict[str, FakeDns] = {}
        self.state: AppState | None = None
        self.steps: list[Done] = []
        self.rollouts: dict[str, Rollout] = {}
        self.notices: list[Notice] = []
        self.takes: Callable[[s.Step], float] = lambda step: 0.0
        self.refuses: Callable[[s.Step], str] = lambda step: ""
        self.opens: Callable[[ReplicaId], tuple[float, ...]] = lambda replica: ()
        self.visits: Callable[[ReplicaId], float] = lambda replica: 0.0
        self.stays: Callable[[ReplicaId], float] = lambda replica: 0.0
        self.old_process_ends_after = 0.0
        self.unhealthy: dict[ReplicaId, tuple[float, float]] = {}
        self.unhealthy_because = ""
        self.crash: Crash | None = None
        self.turns_at_once = 0
        self.turns = 0
        self._rules = rules or NoRules()
        self._executor = Executor(self.runtime, self.balancer, self.dns)
        self._under_way: dict[str, tuple[float, s.Step]] = {}
        self._refused: dict[str, float] = {}
        self._refusals: dict[ReplicaId, Refusal] = {}
        self._probes = SimulatedProbes(self.runtime)
        self._roster = NOBODY
        self._open: dict[ReplicaId, list[float]] = {}
        self._visited_until: dict[ReplicaId, float] = {}
        self._old_process_until = 0.0

    @property
    def now(self) -> float:
        return self.clock.now()

    @property
    def rollout(self) -> Rollout:
        """The newest one."""
        return list(self.rollouts.values())[-1]

    def order(self, order: Order, hosts: dict[str, str] | None = None) -> None:
        """As a person gives it. Raises what core.begin raises."""
        after = begin(self.state, order, self.app, self.now, hosts or {})
        ended = given_way(self.state, after, self.now) if self.state is not None else None
        for state in (ended, after) if ended else (after,):
            self._keep(state)

    def ask(self, change: Callable[[Rollout, float], Rollout]) -> None:
        """One of core.steering's. Raises Conflict."""
        assert self.state is not None
        recorded = self.state.recorded
        assert recorded.running_rollout is not None
        rollout = change(recorded.running_rollout, self.now)
        self._keep(replace(self.state, recorded=replace(recorded, rollout=rollout)))

    def suspend(self, suspended: bool = True) -> None:
        self.desire(suspended=suspended)

    def desire(self, **changes: Any) -> None:
        assert self.state is not None
        self._keep(replace(self.state, desired=replace(self.state.desired, **changes)))

    def restart_daemon(self) -> None:
        """What was under way was never done, what was seen is forgotten."""
        self._under_way.clear()
        self._refused.clear()
        self._refusals.clear()
        self._probes.forget()

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Turns and waits, until so many seconds have passed or the condition holds."""
        end = self.now + seconds
        while self.state is not None and not until():
            decision = self.turn()
            if decision.steps or self.state is None:
                continue
            self.turns_at_once = 0
            at = min(end, self._next(decision))
            if self.now >= end:
                return
            self.clock.advance(max(at - self.now, LEAST_ADVANCE))

    def turn(self) -> Decision:
        """One turn of the loop."""
        self._finish_calls()
        assert self.state is not None
        observed, now = self.observe(), self.now
        decision = decide(self.state, observed, now)
        here = Situation(self.state, observed, now, Draft(observed.busy), self._roster)
        self._rules.decided(self, here, decision)
        self._roster = here.roster
        self.turns += 1
        self.turns_at_once += 1
        crash = None
        if decision.steps:
            crash, self.crash = self.crash, None
        if crash is None or crash.acted is not None:
            self._write_down(decision)
            for step in decision.steps[: None if crash is None else crash.acted]:
                self._start(step)
        if crash is not None:
            self.restart_daemon()
        return decision

    def observe(self) -> Observation:
        assert self.state is not None
        self._move_servers()
        replicas, artefacts = at_once(self.runtime.observe())
        made = {number: artefact for (_, number), artefact in artefacts.items()}
        parts = at_once(self.balancer.observe())
        balancer = parts.get(self.app, ObservedBalancer(process=at_once(self.balancer.answering())))
        self._refused = {about: until for about, until in self._refused.items() if until > self.now}
        return Observation(
            replicas=replicas,
            artefacts=made,
            balancer=replace(balancer, reloads=self.balancer.reloads()),
            dns=at_once(look_at_dns(self.dns, self.state)),
            direct=users_past_haproxy(self.state, replicas, self.stays, self.now),
            probes=self._probes.look(
                to_probe(self.state, dict(replicas), balancer, made), self.unhealthy, self.unhealthy_because
            ),
            logs={name: at_once(self.runtime.tail(name, 5)) for name in replicas},
            refusals=dict(self._refusals),
            busy=frozenset(self._under_way) | frozenset(self._refused),
        )

    def here(self) -> Situation:
        assert self.state is not None
        return Situation(self.state, observed := self.observe(), self.now, Draft(observed.busy))

    def lose_balancer(self) -> None:
        """Its connections go with it."""
        self._open.clear()
        self.balancer.lose(self.now)

    def restore_balancer(self) -> None:
        self._old_process_until = 0.0
        self.balancer.restore(self.now)

    def seen(self) -> dict[ReplicaId, ObservedReplica]:
        """The replicas as they are."""
        return dict(at_once(self.runtime.observe())[0])

    def kinds(self) -> list[str]:
        """What was decided, step by step, as ``StartReplica web-1`` or ``TakeSlot 2``."""
        return [_in_words(done.step) for done in self.steps]

    # Acting

    def _write_down(self, decision: Decision) -> None:
        assert self.state is not None
        state: AppState | None = self.state
        for step in decision.steps:
            assert state is not None
            self.steps.append(Done(self.now, step))
            before, state = state, record(state, step, self.now)
            self.notices += of_step(before, state, step, self.now)
        if any(isinstance(step, s.ForgetApp) for step in decision.steps):
            state = None
        self._keep(state)

    def _keep(self, state: AppState | None) -> None:
        if state is not None:
            before = self.state.recorded.rollout if self.state is not None else None
            self.notices += of_phase(before, state, self.now)
        self.state = state
        if state is not None and state.recorded.rollout is not None:
            self.rollouts[state.recorded.rollout.id] = state.recorded.rollout

    def _start(self, step: s.Step) -> None:
        if isinstance(step, s.StoreStep):
            return
        took = self.takes(step)
        if took:
            self._under_way[s.subject(step)] = (self.now + took, step)
        else:
            self._carry_out(step)

    def _finish_calls(self) -> None:
        for about, (at, step) in sorted(self._under_way.items(), key=lambda call: call[1][0]):
            if at <= self.now:
                del self._under_way[about]
                self._carry_out(step)

    def _carry_out(self, step: s.Step) -> None:
        if self.state is None:
            return
        refused = self.refuses(step)
        try:
            if refused == "before":
                raise StepFailed("refused")
            self._rules.acting(self, step)
            at_once(self._executor.carry_out(self.state, step))
            self._acted(step)
            if refused:
                raise StepFailed("it took too long")
        except StepFailed as error:
            self._step_failed(step, error)

    def _step_failed(self, step: s.Step, error: StepFailed) -> None:
        assert self.state is not None
        if isinstance(step, s.StartReplica | s.RestartReplica):
            failed = failed_start(self.state, step, error.message, self.now)
            after = record(self.state, failed, self.now)
            self.notices += of_step(self.state, after, failed, self.now)
            self._keep(after)
        elif isinstance(step, s.UpdateLimits) and isinstance(error, LimitsRefused):
            self._refusals[step.replica] = Refusal(step.limits, error.message)
        else:
            self._refused[s.subject(step)] = self.now + RETRY

    def _acted(self, step: s.Step) -> None:
        """What the users and HAProxy do about it."""
        match step:
            case s.EnableServer():
                self._open.pop(step.replica, None)
                self._visited_until.pop(step.replica, None)
                self.balancer.count(step.replica, Counters(requests=1))
            case s.DrainServer():
                self._visited_until.setdefault(step.replica, self.now + self.visits(step.replica))
            case s.DisableServer():
                if step.replica not in self._open and not self._missing(step.replica):
                    self._open[step.replica] = self._ends(step.replica)
                    self.balancer.count(step.replica, Counters(requests=1))
            case s.CutConnections():
                self._open[step.replica] = sorted(self._open.get(step.replica, []), reverse=True)[: step.leave]
            case s.PrepareBackend():
                self._old_process_until = self.now + self.old_process_ends_after

    def _ends(self, replica: ReplicaId) -> list[float]:
        """When the requests that are open to it as it leaves will have ended; a dead one's have."""
        seen = self.seen().get(replica)
        if seen is None or seen.state is not RunState.RUNNING:
            return []
        return [self.now + lasts for lasts in self.opens(replica)]

    def _missing(self, replica: ReplicaId) -> bool:
        return not any(replica in app.servers for app in self.balancer.apps.values())

    # What is seen

    def _move_servers(self) -> None:
        for app in self.balancer.apps.values():
            for name, server in list(app.servers.items()):
                waiting = [at for at in self._open.get(name, []) if at > self.now]
                self.balancer.set_server(
                    name,
                    up=server.state is not ServerState.MAINT and self._is_healthy(name),
                    open=len(waiting),
                    old_holders=int(self.now < self._old_process_until),
                    check=self.unhealthy_because,
                    idle=max(0.0, self.now - self._visited_until.get(name, self.now)),
                )

    def _is_healthy(self, replica: ReplicaId) -> bool:
        """As HAProxy sees it."""
        seen = self.seen().get(replica)
        release = self.state.releases.get(seen.release) if self.state is not None and seen is not None else None
        made = {key[1]: artefact for key, artefact in at_once(self.runtime.observe(self.app))[1].items()}
        if release is not None and as_checked(release.spec, release.number, made).check.by_daemon:
            return self.runtime.answers(replica).passed
        since, until = self.unhealthy.get(replica, (0.0, 0.0))
        return not since <= self.now < until and self.runtime.is_healthy(replica).passed

    def _next(self, decision: Decision) -> float:
        """When something happens, or the loop wants to look again."""
        moments = [
            self.now + FULL_OBSERVATION,
            *self._refused.values(),
            *(at for at, _ in self._under_way.values()),
            *(at for ends in self._open.values() for at in ends),
            *(at for times in self.unhealthy.values() for at in times),
            self._old_process_until,
            *self._probes.moments(self.seen(), self.unhealthy),
        ]
        later = [at for at in moments if at > self.now]
        due = [at for at in (self.clock.next_due, decision.wake_at) if at is not None]
        return max(self.now, min([*later, *due]))


def _in_words(step: s.Step) -> str:
    about = getattr(step, "replica", getattr(step, "slot", getattr(step, "release", "")))
    return f"{type(step).__name__} {about}".strip()
