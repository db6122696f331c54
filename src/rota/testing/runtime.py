"""A runtime in memory that tests drive by a FakeClock, with faults to order; fulfils Runtime, Logs, Usage, Machine and
Certificates.

    runtime = FakeRuntime(clock)
    runtime.faults = lambda order: Faults(crash_after=2.0) if order.release == 2 else Faults()

Whatever takes time takes the FakeClock's: nothing happens but by ``clock.advance`` or a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rota.core.capacity import Amount
from rota.core.errors import LimitsRefused, StartFailed, StepFailed
from rota.core.expiry import Certificate
from rota.core.fitness import RuntimeKind
from rota.core.healthcheck import Check, ImageCheck
from rota.core.names import ReplicaId
from rota.core.observation import Address, Artefact, ArtefactState, Exit, ObservedReplica, RunState, Stranger
from rota.core.spec import Limits
from rota.ports.logs import LogLine
from rota.ports.prober import ProbeResult
from rota.ports.runtime import ReleaseOrder, StartOrder
from rota.ports.usage import Reading
from rota.testing.clock import FakeClock

_TERM, _KILL = 15, 9


@dataclass(frozen=True)
class Faults:
    """What goes wrong with one run of a replica; times in seconds from its start, None is "never"."""

    start: str = ""
    """The message of the StartFailed that start or restart raises."""
    crash_after: float | None = None
    crash_code: int = 1
    listens_after: float | None = 0.0
    healthy_after: float | None = 0.0
    stop_takes: float | None = 0.0
    """How long it takes to end after the stop signal; None ignores it."""
    explained_after: float = 0.0
    """How long after its end it is known how it ended."""
    lost_updates: bool = False
    """update_limits returns, and nothing has changed."""


@dataclass
class _Run:
    order: StartOrder
    faults: Faults
    seen: ObservedReplica
    lines: list[str] = field(default_factory=list)


class FakeRuntime:
    """The faults are asked for at each start; the flags may be changed at any time."""

    def __init__(self, clock: FakeClock, prepare_takes: float = 0.0) -> None:
        self.kind = RuntimeKind.PROCESS
        self.clock = clock
        self.prepare_takes = prepare_takes
        self.faults: Callable[[StartOrder], Faults] = lambda order: Faults()
        self.prepare_faults: dict[tuple[str, int], str] = {}
        """Why a release's files cannot be made, by (app, release)."""
        self.image_checks: dict[tuple[str, int], ImageCheck] = {}
        """What a release's image says of its health, by (app, release)."""
        self.unavailable = ""
        """While not empty every call raises StepFailed with it."""
        self.silent = False
        """While True nobody is woken (an event that was lost)."""
        self.ill: dict[ReplicaId, str] = {}
        """Whose health check fails from now on, and what it sees."""
        self.enforces_limits = True
        self.strange: tuple[Stranger, ...] = ()
        self.machine = Amount(2**50, 100_000.0)
        """How large the machine is; by default whatever fits."""
        self.left: int | None = None
        """Bytes of its memory that nobody uses; by default it cannot tell."""
        self.memory = 32 * 2**20
        """Bytes that each replica uses once it runs; no limit below that can be had live."""
        self.load = 0.5
        """Cores that each replica uses while it runs."""
        self.depends_on: list[Certificate] = []
        self.waits: dict[ReplicaId, float] = {}
        """Seconds that a replica has waited for a core; by default none."""
        self.host: Callable[[StartOrder], str] = lambda order: "127.0.0.1"
        """At which address a replica listens."""
        self.calls: list[str] = []
        """What was asked, in order: ``start web-1``, ``stop web-1``, ``prepare web 2``, …"""
        self._runs: dict[ReplicaId, _Run] = {}
        self._kept_lines: dict[ReplicaId, list[str]] = {}
        self._artefacts: dict[tuple[str, int], Artefact] = {}
        self._wakes: list[Callable[[str], None]] = []
        self._ports = iter(range(20000, 1_000_000))
        self._pids = iter(range(1000, 10_000_000))

    async def observe(
        self, app: str | None = None
    ) -> tuple[Mapping[ReplicaId, ObservedReplica], Mapping[tuple[str, int], Artefact]]:
        self._ask("")
        ours = {replica: run.seen for replica, run in self._runs.items() if app is None or run.seen.app == app}
        return ours, dict(self._artefacts)

    def strangers(self) -> tuple[Stranger, ...]:
        return self.strange

    def on_change(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    async def prepare(self, order: ReleaseOrder) -> None:
        self._ask(f"prepare {order.app} {order.release}")
        key = (order.app, order.release)
        known = self._artefacts.get(key)
        if known is None or known.state in (ArtefactState.FAILED, ArtefactState.LOST):
            self._set_artefact(key, ArtefactState.PREPARING)
            self.clock.call_at(self.clock.now() + self.prepare_takes, lambda: self._finish_prepare(key))
            if not self.prepare_takes:
                self._finish_prepare(key)

    async def start(self, order: StartOrder) -> None:
        self._ask(f"start {order.replica}")
        if order.replica in self._runs:
            return
        artefact = self._artefacts.get((order.app, order.release))
        if artefact is None or artefact.state is not ArtefactState.PREPARED:
            raise StartFailed(f"the files of release {order.release} of {order.app} are not there; deploy again")
        self._run(order, Address(self.host(order), next(self._ports)), restarts=0)

    async def restart(self, order: StartOrder) -> None:
        self._ask(f"restart {order.replica}")
        run = self._runs.get(order.replica)
        if run is None:
            raise StartFailed(f"{order.replica} is gone: there is nothing to start again in place")
        if run.seen.state is RunState.EXITED:
            self._run(order, run.seen.address, restarts=run.seen.restarts + 1)

    async def update_limits(self, replica: ReplicaId, limits: Limits) -> None:
        self._ask(f"update_limits {replica}")
        run = self._runs.get(replica)
        if run is None:
            raise StepFailed(f"{replica} is gone: there is nothing to limit")
        if limits.memory is not None and limits.memory < self.memory:
            raise LimitsRefused(
                f"{replica} uses more than {limits.memory / 2**20:g} MiB and cannot be limited to it while it runs"
            )
        if not run.faults.lost_updates:
            self._see(run, replace(run.seen, limits=limits))

    async def stop(self, replica: ReplicaId) -> None:
        self._ask(f"stop {replica}")
        run = self._runs.get(replica)
        if run is None:
            return
        self._see(run, replace(run.seen, told_to_stop=True))
        if run.faults.stop_takes is None:
            return
        seen = run.seen
        if run.faults.stop_takes:
            self.clock.call_at(self.clock.now() + run.faults.stop_takes, lambda: self._exit(seen, signal=_TERM))
        else:
            self._exit(seen, signal=_TERM)

    async def kill(self, replica: ReplicaId) -> None:
        self._ask(f"kill {replica}")
        if replica in self._runs:
            self._exit(self._runs[replica].seen, signal=_KILL)

    async def remove(self, replica: ReplicaId) -> None:
        self._ask(f"remove {replica}")
        run = self._runs.get(replica)
        if run is None:
            return
        if run.seen.state is RunState.RUNNING:
            raise StepFailed(f"{replica} still runs and cannot be removed")
        self.vanish(replica)

    async def forget(self, app: str, keep_releases: frozenset[int]) -> None:
        self._ask(f"forget {app} {sorted(keep_releases)}")
        for key in [key for key in self._artefacts if key[0] == app and key[1] not in keep_releases]:
            del self._artefacts[key]
        if not keep_releases:
            self._kept_lines = {one: kept for one, kept in self._kept_lines.items() if one.rpartition("-")[0] != app}

    async def tail(self, replica: ReplicaId, lines: int) -> tuple[str, ...]:
        written = self._written(replica)
        return tuple(written[-lines:]) if lines else ()

    async def follow(self, replica: ReplicaId, lines: int) -> AsyncIterator[LogLine]:
        """What there is at the moment; a fake has nobody to wait for."""
        for text in await self.tail(replica, lines):
            yield LogLine(replica, text)

    async def usage(self, replicas: Collection[ReplicaId]) -> Mapping[ReplicaId, Reading]:
        self._ask("")
        now = self.clock.now()
        alive = [run.seen for run in map(self._runs.get, replicas) if run and run.seen.state is RunState.RUNNING]
        return {seen.id: Reading(now, self.memory, (now - seen.started_at) * self.load) for seen in alive}

    async def certificates(self) -> Sequence[Certificate]:
        return self.depends_on

    async def waited(self, replica: ReplicaId) -> float | None:
        run = self._runs.get(replica)
        return self.waits.get(replica, 0.0) if run and run.seen.state is RunState.RUNNING else None

    async def size(self) -> Amount:
        self._ask("")
        return self.machine

    async def available(self) -> int | None:
        self._ask("")
        return self.left

    # What tests do to it

    def write(self, replica: ReplicaId, *lines: str) -> None:
        """The replica prints these lines."""
        self._runs[replica].lines.extend(lines)

    def crash(self, replica: ReplicaId, code: int | None = 1, *, signal: int | None = None, oom: bool = False) -> None:
        """Its present run ends now."""
        self._exit(self._runs[replica].seen, code=code if signal is None else None, signal=signal, oom=oom)

    def stop_by_hand(self, replica: ReplicaId, code: int | None = 0) -> None:
        """Somebody has it stopped behind rota's back, and it ends with this exit code."""
        run = self._runs[replica]
        self._see(run, replace(run.seen, told_to_stop=True))
        self._exit(run.seen, code=code)

    def limit_by_hand(self, replica: ReplicaId, limits: Limits) -> None:
        """Somebody changes its limits behind rota's back."""
        run = self._runs[replica]
        self._see(run, replace(run.seen, limits=limits))

    def alter_by_hand(self, replica: ReplicaId, *oddities: str) -> None:
        """Somebody does that to it, in the words of a runtime that sees it."""
        run = self._runs[replica]
        self._see(run, replace(run.seen, oddities=oddities))

    def vanish(self, replica: ReplicaId) -> None:
        """It is gone, as if somebody had removed it behind rota's back."""
        run = self._runs.pop(replica)
        self._kept_lines[replica] = run.lines
        self._wake(run.order.app)

    def get_on_with(self, app: str, release: int, progress: str) -> None:
        """A release that is being made ready is so far now."""
        self._artefacts[app, release] = replace(self._artefacts[app, release], progress=progress)
        self._wake(app)

    def lose_artefact(self, app: str, release: int, *, known: bool = False) -> None:
        """A release's files are gone; ``known``: what they were is not."""
        if known:
            self._set_artefact((app, release), ArtefactState.LOST)
            return
        del self._artefacts[app, release]
        self._wake(app)

    def faults_of(self, replica: ReplicaId) -> Faults:
        """What was ordered for its present run."""
        return self._runs[replica].faults

    def answers(self, replica: ReplicaId) -> ProbeResult:
        """Whether it accepts connections now."""
        return self._since_start(replica, lambda faults: faults.listens_after, "connection refused")

    def is_healthy(self, replica: ReplicaId) -> ProbeResult:
        """Whether its health check passes now."""
        listening = self.answers(replica)
        if not listening.passed:
            return listening
        if replica in self.ill:
            return ProbeResult(self.ill[replica])
        return self._since_start(replica, lambda faults: faults.healthy_after, "HTTP 503")

    # Within

    def _run(self, order: StartOrder, address: Address | None, restarts: int) -> None:
        faults = self.faults(order)
        if faults.start:
            raise StartFailed(faults.start)
        now = self.clock.now()
        seen = ObservedReplica(
            id=order.replica,
            app=order.app,
            slot=order.slot,
            release=order.release,
            generation=order.generation,
            state=RunState.RUNNING,
            run=f"boot/{next(self._pids)}/{now}",
            started_at=now,
            address=address,
            limits=order.limits,
            limits_enforced=self.enforces_limits or order.limits == Limits(),
            restarts=restarts,
        )
        lines = self._runs[order.replica].lines if order.replica in self._runs else []
        self._runs[order.replica] = _Run(order, faults, seen, lines)
        self._wake(order.app)
        if faults.crash_after is not None:
            self.clock.call_at(now + faults.crash_after, lambda: self._exit(seen, code=faults.crash_code))

    def _exit(
        self, seen: ObservedReplica, code: int | None = None, signal: int | None = None, oom: bool = False
    ) -> None:
        """Ends this run, if it has not ended, or been followed by another, yet."""
        run = self._runs.get(seen.id)
        if run is None or run.seen.run != seen.run or run.seen.state is RunState.EXITED:
            return
        ending = Exit(at=self.clock.now(), code=code, signal=signal, oom=oom)
        ended = replace(run.seen, state=RunState.EXITED)
        if run.faults.explained_after:
            self._see(run, ended)
            self.clock.call_at(ending.at + run.faults.explained_after, lambda: self._explain(ended, ending))
        else:
            self._see(run, replace(ended, exit=ending))

    def _explain(self, ended: ObservedReplica, ending: Exit) -> None:
        run = self._runs.get(ended.id)
        if run is not None and run.seen.run == ended.run:
            self._see(run, replace(run.seen, exit=ending))

    def _see(self, run: _Run, seen: ObservedReplica) -> None:
        run.seen = seen
        self._wake(run.order.app)

    def _since_start(self, replica: ReplicaId, after: Callable[[Faults], float | None], failure: str) -> ProbeResult:
        run = self._runs.get(replica)
        if run is None or run.seen.state is RunState.EXITED:
            return ProbeResult("connection refused")
        delay = after(run.faults)
        ready = delay is not None and self.clock.now() >= run.seen.started_at + delay
        return ProbeResult() if ready else ProbeResult(failure)

    def _finish_prepare(self, key: tuple[str, int]) -> None:
        known = self._artefacts.get(key)
        if known is None or known.state is not ArtefactState.PREPARING:
            return
        reason = self.prepare_faults.get(key, "")
        self._set_artefact(key, ArtefactState.FAILED if reason else ArtefactState.PREPARED, reason)

    def _set_artefact(self, key: tuple[str, int], state: ArtefactState, reason: str = "") -> None:
        check = self.image_checks.get(key) if state is ArtefactState.PREPARED else None
        self._artefacts[key] = Artefact(key[1], state, reason, check=check)
        self._wake(key[0])

    def _written(self, replica: ReplicaId) -> list[str]:
        run = self._runs.get(replica)
        return run.lines if run is not None else self._kept_lines.get(replica, [])

    def _ask(self, call: str) -> None:
        if self.unavailable:
            raise StepFailed(self.unavailable)
        if call:
            self.calls.append(call)

    def _wake(self, app: str) -> None:
        if not self.silent:
            for wake in self._wakes:
                wake(app)


class FakeProber:
    """Asks a FakeRuntime instead of the network; fulfils the Prober port. ``asked`` are the paths, in order."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self.asked: list[str | None] = []

    async def accepts(
        self, replica: ReplicaId, address: Address, timeout: float, variable: str = "PORT"
    ) -> ProbeResult:
        return self._runtime.answers(replica)

    async def healthy(self, replica: ReplicaId, address: Address, check: Check, host: str) -> ProbeResult:
        self.asked.append(check.path)
        return self._runtime.is_healthy(replica)
