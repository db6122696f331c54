"""The reconciler: one app's loop. Observe, decide, write down, act; woken by what happens, at the latest every 30 s.

Owned by the supervisor, one an app. Every change of the app's state goes through its lock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from rota.core import steps as s
from rota.core.arrival import failed_start
from rota.core.begin import given_way
from rota.core.decide import Decision, decide_in
from rota.core.errors import LimitsRefused, RuntimeLost, StepFailed
from rota.core.events import (
    Event,
    EventKind,
    back_event,
    lost_event,
    phase_event,
    preparing_events,
    step_event,
)
from rota.core.names import ReplicaId
from rota.core.notice import Notice, of_phase, of_step
from rota.core.observation import Observation, Refusal, RunState
from rota.core.record import record
from rota.core.roster import NOBODY
from rota.core.situation import Draft, Situation
from rota.core.state import AppState
from rota.engine.executor import Executor
from rota.engine.journal import Journal
from rota.engine.observer import Observer
from rota.ports.clock import Clock

FULL_OBSERVATION = 30.0  # seconds (design.md, "Observed")
RETRY = 0.25  # seconds before a step that a port refused is decided on again

log = logging.getLogger(__name__)

Fault = Callable[[str, s.Step], None]
"""Called with "decided", "recorded" or "acted" and the step: where tests end the daemon."""


def no_fault(point: str, step: s.Step) -> None:
    """The fault of every daemon that is not under test."""


class _Verdict:
    """What a look led to: the steps, the state once they are permitted, their events and notices."""

    def __init__(self, state: AppState) -> None:
        self.state = state
        self.steps: list[s.Step] = []
        self.events: list[Event] = []
        self.notices: list[Notice] = []
        self.last = Decision((), None)

    def add(self, step: s.Step, now: float) -> None:
        before = self.state
        self.state = record(before, step, now)
        phase = phase_event(before.recorded.rollout, self.state.recorded.rollout, now)
        self.events += [step_event(before, step, now), *([phase] if phase else [])]
        self.notices += of_step(before, self.state, step, now) + of_phase(before.recorded.rollout, self.state, now)
        self.steps.append(step)

    @property
    def forgets(self) -> bool:
        return any(isinstance(step, s.ForgetApp) for step in self.steps)


class Reconciler:
    def __init__(
        self,
        state: AppState,
        observer: Observer,
        executor: Executor,
        journal: Journal,
        clock: Clock,
        fault: Fault = no_fault,
    ) -> None:
        self.state = state
        self.lock = asyncio.Lock()
        self.observation: Observation | None = None
        self.forgotten = False
        self._observer = observer
        self._executor = executor
        self._journal = journal
        self._clock = clock
        self._fault = fault
        self._woken = asyncio.Event()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, float] = {}
        self._refusals: dict[ReplicaId, Refusal] = {}
        self._told: dict[int, str] = {}
        self._blind = False
        self._trouble = ""
        self._roster = NOBODY
        self._emptied = asyncio.Condition()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Until the app is forgotten or the task is cancelled; steps under way end by themselves then."""
        while not self.forgotten:
            self._woken.clear()
            again_at = await self._turn()
            if not self.forgotten:
                await self._rest(again_at)

    async def change(self, make: Callable[[AppState], AppState]) -> AppState:
        """Changes the state by an order: durable when this returns. Whatever ``make`` raises changes nothing."""
        async with self.lock:
            after = make(self.state)
            ended = given_way(self.state, after, self._clock.now())
            for state in (ended, after) if ended else (after,):
                await self._keep(state, [])
        self.wake()
        return after

    async def look(self) -> Observation:
        """What is seen now, for who asks in between. Raises StepFailed when the runtime or the balancer cannot say."""
        return await self._observer.observe(self.state, self._busy())

    async def until_empty(self) -> None:
        """Waits until no replica of the app runs."""
        async with self._emptied:
            await self._emptied.wait_for(lambda: self.forgotten or self._is_empty())

    async def close(self) -> None:
        """Waits for the steps under way."""
        if self._under_way:
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _turn(self) -> float:
        """One turn; returns when to look again at the latest: the end of each step under way wakes the loop."""
        try:
            decision = await self._decide(await self._observed())
        except RuntimeLost:
            return self._clock.now() + RETRY
        except StepFailed as error:
            if str(error) != self._trouble:  # a disk stays full for hours, with several turns a second
                log.warning("%s: %s; trying again", self.state.name, error)
            self._trouble = str(error)
            return self._clock.now() + RETRY
        if self._trouble:
            log.warning("%s: goes on", self.state.name)
        self._trouble = ""
        if self._is_empty():
            async with self._emptied:
                self._emptied.notify_all()
        limit = self._clock.now() + FULL_OBSERVATION
        return min([limit, *self._refused.values(), *([decision.wake_at] if decision.wake_at is not None else [])])

    async def _observed(self) -> Observation:
        observed = await self._seen()
        await self._tell(observed)
        there = observed.replicas.keys()
        self._refusals = {replica: one for replica, one in self._refusals.items() if replica in there}
        return replace(observed, refusals=dict(self._refusals))

    async def _seen(self) -> Observation:
        """A look, and once each an event when the runtime is lost and when it is back. The runtime's own log says why:
        here it would be said again for every app, and at every look."""
        try:
            observed = await self._observer.observe(self.state, self._busy())
        except RuntimeLost as lost:
            if not self._blind:
                await self._add(lost_event(self.state, lost.message, self._clock.now()))
                self._blind = True
            raise
        if self._blind:
            await self._add(back_event(self.state, self._clock.now()))
            self._blind = False
        return observed

    async def _tell(self, observed: Observation) -> None:
        """How far the releases are that are being made ready: some take minutes."""
        news = preparing_events(self.state, self._told, observed.artefacts, self._clock.now())
        if news:
            async with self.lock:
                await self._keep(self.state, news)
        self._told = {number: artefact.progress for number, artefact in observed.artefacts.items()}

    async def _decide(self, observed: Observation) -> Decision:
        """Decides, writes down in one commit, and has the steps begun."""
        async with self.lock:
            self.observation = observed
            verdict = self._judge(observed)
            await self._write_down(verdict)
        for step in verdict.steps:
            self._start(step)
        return verdict.last

    def _judge(self, observed: Observation) -> _Verdict:
        """Facts alone change nothing that can be seen: the same look is good for the decisions they allow."""
        now, verdict = self._clock.now(), _Verdict(self.state)
        while True:
            here = Situation(verdict.state, observed, now, Draft(observed.busy), self._roster)
            verdict.last, self._roster = decide_in(here), here.roster
            for step in verdict.last.steps:
                self._fault("decided", step)
                verdict.add(step, now)
            if verdict.forgets or not any(isinstance(step, s.StoreStep) for step in verdict.last.steps):
                return verdict
            if any(isinstance(step, s.FinishRollout) for step in verdict.last.steps):
                self.wake()  # its end is kept before anything else becomes of the app
                return verdict
            # What a step changes that begins now, even if it ends at once, is not in the look: its subject is busy.
            begun = {s.subject(step) for step in verdict.last.steps if not isinstance(step, s.StoreStep)}
            observed = replace(observed, busy=observed.busy | begun)

    def _is_empty(self) -> bool:
        seen = self.observation
        ran = [replica for replica in seen.replicas.values() if replica.state is RunState.RUNNING] if seen else []
        return not ran and not self._under_way and self.observation is not None

    def _busy(self) -> frozenset[str]:
        """The subjects of steps under way, and of those refused a moment ago."""
        now = self._clock.now()
        self._refused = {about: until for about, until in self._refused.items() if until > now}
        return frozenset(self._under_way) | frozenset(self._refused)

    async def _write_down(self, verdict: _Verdict) -> None:
        if not verdict.steps:
            return
        await self._journal.save(verdict.state, verdict.events, verdict.notices)
        self.state = verdict.state
        if verdict.forgets:  # after its end is in the history: the rollout may have ended in this very verdict
            await self._journal.forget(self.state.name, [])
            self.forgotten = True
        for step in verdict.steps:
            self._fault("recorded", step)

    async def _keep(self, after: AppState, events: list[Event], notices: Sequence[Notice] = ()) -> None:
        if self.forgotten:
            return  # what comes late would bring the app back
        before, now = self.state.recorded.rollout, self._clock.now()
        phase = phase_event(before, after.recorded.rollout, now)
        told = (*notices, *of_phase(before, after, now))
        await self._journal.save(after, [*events, phase] if phase else events, told)
        self.state = after

    def _start(self, step: s.Step) -> None:
        """The call of a step beside the loop, so that a slow one delays no reaction to what else happens."""
        if isinstance(step, s.StoreStep):
            self._fault("acted", step)
            return
        about = s.subject(step)
        task = asyncio.create_task(self._carry_out(step))
        self._under_way[about] = task
        task.add_done_callback(lambda done: self._ended(about, done))

    def _ended(self, about: str, task: asyncio.Task[None]) -> None:
        self._under_way.pop(about, None)
        self.wake()
        if not task.cancelled() and task.exception() is not None:
            log.error("%s: a step broke", self.state.name, exc_info=task.exception())
            self._refused[about] = self._clock.now() + FULL_OBSERVATION

    async def _carry_out(self, step: s.Step) -> None:
        try:
            await self._executor.carry_out(self.state, step)
        except StepFailed as error:
            await self._step_failed(step, str(error), final=isinstance(error, LimitsRefused))
        self._fault("acted", step)

    async def _step_failed(self, step: s.Step, reason: str, *, final: bool) -> None:
        """A start that failed is a failure of its replica, limits that were refused are decided on at once; every other
        step is decided on again a little later."""
        log.warning("%s: %s failed: %s", self.state.name, type(step).__name__, reason)
        if isinstance(step, s.StartReplica | s.RestartReplica):
            await self._start_failed(step, reason)
            return
        if isinstance(step, s.UpdateLimits) and final:
            self._refusals[step.replica] = Refusal(step.limits, reason)
            return
        self._refused[s.subject(step)] = self._clock.now() + RETRY
        event = step_event(self.state, step, self._clock.now())
        await self._note(event, reason)

    async def _start_failed(self, step: s.StartReplica | s.RestartReplica, reason: str) -> None:
        async with self.lock:
            now = self._clock.now()
            failed = failed_start(self.state, step, reason, now)
            after = record(self.state, failed, now)
            notices = of_step(self.state, after, failed, now)
            await self._keep(after, [step_event(self.state, failed, now)], notices)

    async def _note(self, event: Event, reason: str) -> None:
        noted = Event(
            event.at, event.app, EventKind.STEP_FAILED, event.rollout, event.step, event.replica, None, reason
        )
        await self._add(noted)

    async def _add(self, event: Event) -> None:
        async with self.lock:
            await self._keep(self.state, [event])

    async def _rest(self, until: float) -> None:
        """Until something wakes the loop, or the time has come."""
        try:
            async with asyncio.timeout(max(0.0, until - self._clock.now())):
                await self._woken.wait()
        except TimeoutError:
            pass
