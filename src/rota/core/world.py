"""A small model of the world: one app's runtime and HAProxy as they will behave if they go on as they have.

Moved by core.forecast from one moment to the next; each step has the effect that it has on the real ones, after the
time that core.durations says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rota.core import steps as s
from rota.core.durations import NOISE, Durations, Length
from rota.core.names import ReplicaId
from rota.core.observation import (
    Address,
    Artefact,
    ArtefactState,
    Exit,
    Observation,
    ObservedDns,
    ObservedReplica,
    ObservedServer,
    ProbeHistory,
    Published,
    RunState,
    ServerState,
)
from rota.core.spec import AppSpec
from rota.core.state import AppState

SOMEWHERE = Address("127.0.0.1", 1)  # the model's replicas listen nowhere

ROUNDING = 1e-6  # of a health check's interval

Effect = Callable[[], None]


class World:
    """Begins as what is seen now. What is open now is not in it: nobody knows for how long it will be; a drain takes
    what drains took, and the users of a sticky app come no more once it has begun. Calls under way count as not begun,
    a stop and a preparation as just begun."""

    def __init__(self, state: AppState, observed: Observation, durations: Durations, now: float) -> None:
        self.boots: set[int] = set()  # how many started at once, each time that any did
        self._durations = durations
        self._state = state
        self._replicas: dict[ReplicaId, ObservedReplica] = dict(observed.replicas)
        self._artefacts = dict(observed.artefacts)
        self._balancer = observed.balancer
        self._no_reload_before = observed.balancer.reloads.not_before
        self._dns = dict(observed.dns)
        self._servers = {
            name: replace(server, open=0, old_holders=0) for name, server in observed.balancer.servers.items()
        }
        self._calls: dict[str, tuple[float, Effect]] = {}
        self._later: list[tuple[float, Effect]] = []
        self._haproxy_free_at = now
        self._open_until: dict[ReplicaId, float] = {}
        self._idle_since: dict[ReplicaId, float] = {}
        self._healthy_at: dict[ReplicaId, float] = {}  # of those whose checks have not all passed yet
        self._passed: dict[ReplicaId, ProbeHistory] = {}
        for name, seen in observed.replicas.items():
            if seen.state is RunState.RUNNING:
                self._healthy_at[name] = self._first_pass(seen, observed.probes.get(name), now)
                if seen.told_to_stop:
                    self._end_later(seen, now, durations.stop_of(1))
        for number, artefact in observed.artefacts.items():
            if artefact.state is ArtefactState.PREPARING:
                self._prepare(number, now)

    def observe(self, now: float) -> Observation:
        """What a look at this moment sees."""
        self._happen(now)
        servers = dict(self._servers)
        for name in servers.keys() & {*self._open_until, *self._idle_since}:
            servers[name] = replace(
                servers[name],
                open=int(now < self._open_until.get(name, now)),
                idle=max(servers[name].idle, now - self._idle_since.get(name, now)),
            )
        return Observation(
            replicas=dict(self._replicas),
            artefacts=dict(self._artefacts),
            balancer=replace(self._balancer, servers=servers),
            dns=dict(self._dns),
            probes=self._probes(now),
            busy=frozenset(self._calls),
        )

    def next_change(self, now: float) -> float | None:
        """When something will be seen that is not seen at ``now``; None when nothing will."""
        moments = [at for at, _ in (*self._calls.values(), *self._later)]
        moments += self._open_until.values()
        for name in self._healthy_at:
            moments += self._passes_at(name)
        return min((at for at in moments if at > now), default=None)

    def begin(self, steps: Sequence[s.Step], now: float) -> None:
        """The steps of one decision are carried out from now on."""
        starts = [step for step in steps if isinstance(step, s.StartReplica | s.RestartReplica)]
        stops = [step for step in steps if isinstance(step, s.StopReplica)]
        starting = sum(at > now for at in self._healthy_at.values()) + len(starts)
        if starts:
            self.boots.add(starting)
        boots = self._durations.boot_of(starting)
        ends = self._durations.stop_of(self._stopping + len(stops))
        for place, start in enumerate(starts):
            self._start(start, now, boots.one(place, len(starts)))
        for place, stop in enumerate(stops):
            self._stop(stop, now, ends.one(place, len(stops)))
        told_at = self._told(steps, now)
        for step in steps:
            self._begin(step, now, told_at)

    def _begin(self, step: s.Step, now: float, told_at: float) -> None:
        """A fact (core.record) changes nothing here."""
        match step:
            case s.StartReplica() | s.RestartReplica() | s.StopReplica():
                pass
            case s.KillReplica():
                self._exit(step.replica, self._replicas[step.replica].run, now)
            case s.PrepareRelease():
                self._prepare(step.release, now)
            case s.PrepareBackend():
                self._call(step, self._reloaded(step, now))
            case s.RemoveServer():
                look = max(0.0, self._durations.call.seconds - self._durations.enable.seconds)
                self._call(step, told_at + look)
            case _ if isinstance(step, s.BalancerStep):
                self._call(step, told_at)
            case _ if not isinstance(step, s.StoreStep):
                self._call(step, now + self._durations.remove.seconds)

    # The runtime

    def _start(self, step: s.StartReplica | s.RestartReplica, now: float, boot: Length) -> None:
        """It runs at once: what the start itself takes is in the boot."""
        before = self._replicas.get(step.replica)
        seen = ObservedReplica(
            id=step.replica,
            app=self._state.name,
            slot=step.slot,
            release=step.release,
            generation=step.generation,
            state=RunState.RUNNING,
            run=f"predicted/{now}",
            started_at=now,
            address=SOMEWHERE,
            limits=step.limits,
            restarts=before.restarts + 1 if before else 0,
            told_to_stop=False,
        )
        self._replicas[step.replica] = seen
        self._passed.pop(step.replica, None)
        self._healthy_at[step.replica] = now + _believed(boot, self._spec(seen).boot_timeout)

    def _stop(self, step: s.StopReplica, now: float, length: Length) -> None:
        self._replicas[step.replica] = replace(self._replicas[step.replica], told_to_stop=True)
        self._end_later(self._replicas[step.replica], now, length)

    @property
    def _stopping(self) -> int:
        return sum(seen.told_to_stop and seen.state is RunState.RUNNING for seen in self._replicas.values())

    def _end_later(self, seen: ObservedReplica, now: float, length: Length) -> None:
        at = now + _believed(length, self._spec(seen).stop_grace_period)
        self._later.append((at, lambda: self._exit(seen.id, seen.run, at)))

    def _exit(self, replica: ReplicaId, run: str, at: float) -> None:
        seen = self._replicas.get(replica)
        if seen is not None and seen.run == run and seen.state is RunState.RUNNING:
            self._replicas[replica] = replace(seen, state=RunState.EXITED, exit=Exit(at, code=0))
            self._forget_checks(replica)

    def _forget_checks(self, replica: ReplicaId) -> None:
        self._healthy_at.pop(replica, None)
        self._passed.pop(replica, None)

    def _prepare(self, release: int, now: float) -> None:
        self._artefacts[release] = Artefact(release, ArtefactState.PREPARING)
        done = Artefact(release, ArtefactState.PREPARED)
        at = now + self._durations.prepare.seconds
        self._later.append((at, lambda: self._artefacts.update({release: done})))

    # The calls

    def _told(self, steps: Sequence[s.Step], now: float) -> float:
        """When HAProxy has been told all of these: one thing after the other, and who looks at it waits for them."""
        known = self._durations
        told = [step for step in steps if isinstance(step, s.BalancerStep) and not isinstance(step, s.PrepareBackend)]
        self._haproxy_free_at = max(now, self._haproxy_free_at) + len(told) * known.enable.seconds
        return self._haproxy_free_at

    def _reloaded(self, step: s.PrepareBackend, now: float) -> float:
        """Other hosts are known without a reload."""
        if step.backend.name in self._balancer.backends:
            return now + self._durations.call.seconds
        due = max(now, self._no_reload_before)
        self._no_reload_before = due + self._balancer.reloads.apart
        return due + self._durations.reload.seconds

    def _call(self, step: s.Step, until: float) -> None:
        self._calls[s.subject(step)] = (until, lambda: self._take_effect(step, until))

    def _take_effect(self, step: s.Step, at: float) -> None:
        match step:
            case s.UpdateLimits():
                self._replicas[step.replica] = replace(self._replicas[step.replica], limits=step.limits)
            case s.RemoveReplica():
                self._replicas.pop(step.replica, None)
                self._forget_checks(step.replica)
            case s.EnableServer():
                entry = ObservedServer(step.replica, step.backend, ServerState.READY, up=True, weight=step.weight)
                self._servers[step.replica] = entry
            case s.SetWeight():
                self._servers[step.replica] = replace(self._servers[step.replica], weight=step.weight)
            case s.DrainServer():
                self._set_server(step.replica, ServerState.DRAIN)
                self._idle_since[step.replica] = at
            case s.DisableServer() | s.SuspendServer():
                self._set_server(step.replica, ServerState.MAINT)
                if self._durations.drain.seconds >= NOISE:
                    self._open_until[step.replica] = at + self._durations.drain.seconds
            case s.CutConnections():
                self._open_until.pop(step.replica, None)
            case s.RemoveServer():
                self._servers.pop(step.replica, None)
                self._idle_since.pop(step.replica, None)
            case s.PublishRecords() | s.WithdrawRecords():
                self._dns[step.view] = _published(self._dns[step.view], step)
            case _:
                self._take_effect_on_app(step)

    def _take_effect_on_app(self, step: s.Step) -> None:
        seen = self._balancer
        match step:
            case s.DeleteReleases():
                self._artefacts = {number: one for number, one in self._artefacts.items() if number in step.keep}
            case s.PrepareBackend():
                name = step.backend.name
                self._balancer = replace(
                    seen,
                    backends=seen.backends | {name},
                    hosts=frozenset(step.hosts),
                    listeners=frozenset(step.listeners),
                    routes=seen.routes or {name: 100},
                )
            case s.RouteApp():
                self._balancer = replace(seen, routes=step.shares)
            case s.SetMaintenance():
                self._balancer = replace(seen, maintenance=step.on)
            case _:  # UnrouteApp
                self._balancer = replace(
                    seen, backends=frozenset(), hosts=frozenset(), listeners=frozenset(), routes={}
                )

    def _set_server(self, replica: ReplicaId, state: ServerState) -> None:
        server = self._servers[replica]
        self._servers[replica] = replace(server, state=state, up=server.up and state is not ServerState.MAINT)

    # What is seen

    def _happen(self, now: float) -> None:
        due = [call for call in self._calls.values() if call[0] <= now]
        due += [event for event in self._later if event[0] <= now]
        self._calls = {about: call for about, call in self._calls.items() if call[0] > now}
        self._later = [event for event in self._later if event[0] > now]
        self._open_until = {name: until for name, until in self._open_until.items() if until > now}
        for _, effect in sorted(due, key=lambda one: one[0]):
            effect()

    def _probes(self, now: float) -> Mapping[ReplicaId, ProbeHistory]:
        """Of a replica whose checks have passed it is the same from then on."""
        still = {name: self._history(name, now) for name in self._healthy_at}
        for name, history in still.items():
            if now >= self._passes_at(name)[-1] and history.passes >= self._spec(self._replicas[name]).check.rise:
                self._passed[name] = history
                del self._healthy_at[name]
        return self._passed | still

    def _passes_at(self, name: ReplicaId) -> tuple[float, float]:
        """When its first check passes, and when enough of them have."""
        healthy_at, check = self._healthy_at[name], self._spec(self._replicas[name]).check
        return healthy_at, healthy_at + (check.rise - 1) * check.start_interval

    def _history(self, name: ReplicaId, now: float) -> ProbeHistory:
        seen, healthy_at = self._replicas[name], self._healthy_at[name]
        if now < healthy_at:
            return ProbeHistory(seen.run, seen.started_at)
        check, warm_up = self._spec(seen).check, self._spec(seen).warm_up
        passes = 1 + int((now - healthy_at) / check.start_interval + ROUNDING)
        return ProbeHistory(
            seen.run, seen.started_at, healthy_at, min(passes, check.rise), healthy_at, warmed=warm_up.requests
        )

    def _first_pass(self, seen: ObservedReplica, history: ProbeHistory | None, now: float) -> float:
        """Of one that runs already: when it did, or when it should."""
        if history is not None and history.healthy_since is not None:
            return history.healthy_since
        boot = self._durations.boot_of(1).one(0, 1)
        return max(now, seen.started_at + _believed(boot, self._spec(seen).boot_timeout))

    def _spec(self, seen: ObservedReplica) -> AppSpec:
        release = self._state.releases.get(seen.release) or self._state.releases[self._state.desired.current.release]
        return release.spec


def _published(view: ObservedDns, step: s.PublishRecords | s.WithdrawRecords) -> ObservedDns:
    published = {name: shown for name, shown in view.published.items() if name != step.replica}
    if isinstance(step, s.PublishRecords):
        published[step.replica] = Published(step.entry.address, step.entry.hosts & (view.hosts or frozenset()))
    return replace(view, published=published)


def _believed(length: Length, deadline: float) -> float:
    """A guess never says that a replica will be late."""
    return length.seconds if length.of else min(length.seconds, deadline / 2)
