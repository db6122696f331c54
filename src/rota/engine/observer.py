"""The observer: asks runtime, balancer, probes and logs, and puts together what is seen of one app.

Called by each app's reconciler before it decides, and by the status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from rota.core import handoff, repair
from rota.core.errors import RuntimeLost, StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import (
    Address,
    Artefact,
    Observation,
    ObservedBalancer,
    ObservedDns,
    ObservedReplica,
    ProbeHistory,
    RunState,
    ServerState,
    as_checked,
)
from rota.core.readiness import Stage, readiness
from rota.core.state import AppState, ReplicaRecord
from rota.engine.probing import Probed, Probing
from rota.ports.balancer import Balancer
from rota.ports.clock import Clock
from rota.ports.connections import Connections
from rota.ports.dns import Dns
from rota.ports.logs import Logs
from rota.ports.prober import Prober
from rota.ports.runtime import Runtime
from rota.ports.usage import Usage

LOG_LINES = 20  # of a failed replica's output that its reason shows (R9)


class Observer:
    def __init__(
        self,
        runtime: Runtime,
        balancer: Balancer,
        dns: Mapping[str, Dns],
        prober: Prober,
        usage: Usage,
        logs: Logs,
        clock: Clock,
        connections: Connections,
        wake: Callable[[str], None],
    ) -> None:
        self._runtime = runtime
        self._balancer = balancer
        self._dns = dns
        self._logs = logs
        self._clock = clock
        self._connections = connections
        self._probing = Probing(prober, usage, clock, wake)

    async def observe(self, state: AppState, busy: frozenset[str]) -> Observation:
        """One look at an app; raises RuntimeLost, and StepFailed when the balancer cannot be asked."""
        ours, artefacts = await self._ask_runtime(state.name)
        balancer = (await self._balancer.observe()).get(state.name)
        if balancer is None:
            balancer = await self._unknown_to_balancer()
        made = _of_app(state.name, artefacts)
        self._probing.watch(state.name, to_probe(state, ours, balancer, made))
        return Observation(
            replicas=ours,
            artefacts=made,
            balancer=replace(balancer, reloads=self._balancer.reloads()),
            dns=await look_at_dns(self._dns, state),
            direct=await self._connections.direct(to_watch(state, ours)),
            probes=self._histories(ours),
            logs=await self._last_lines(state, ours, made),
            busy=busy,
        )

    async def close(self) -> None:
        await self._probing.close()

    async def _ask_runtime(
        self, app: str
    ) -> tuple[Mapping[ReplicaId, ObservedReplica], Mapping[tuple[str, int], Artefact]]:
        try:
            return await self._runtime.observe(app)
        except StepFailed as error:
            raise RuntimeLost(error.message) from error

    async def _unknown_to_balancer(self) -> ObservedBalancer:
        """An app that HAProxy has no part of yet: whether HAProxy answers is all there is to know."""
        return ObservedBalancer(process=await self._balancer.answering())

    def _histories(self, replicas: Mapping[ReplicaId, ObservedReplica]) -> dict[ReplicaId, ProbeHistory]:
        seen = {name: self._probing.seen(name) for name in replicas}
        return {name: history for name, history in seen.items() if history is not None}

    async def _last_lines(
        self, state: AppState, replicas: Mapping[ReplicaId, ObservedReplica], made: Mapping[int, Artefact]
    ) -> dict[ReplicaId, tuple[str, ...]]:
        """For replicas that may be about to be counted as failed: what they wrote last."""
        lines: dict[ReplicaId, tuple[str, ...]] = {}
        for name, seen in replicas.items():
            record = state.recorded.replicas.get(name)
            settled = record is not None and (record.failure is not None or record.stop_began_at is not None)
            running = seen.state is RunState.RUNNING
            waiting = seen.exit is None and not (running and self._overdue(state, seen, made))
            if not settled and not waiting:
                lines[name] = await self._logs.tail(name, LOG_LINES)
        return lines

    def _overdue(self, state: AppState, seen: ObservedReplica, made: Mapping[int, Artefact]) -> bool:
        """Whether this look is the one on which it fails."""
        release, record = state.releases.get(seen.release), state.recorded.replicas.get(seen.id)
        if release is None:
            return False
        now = self._clock.now()
        if record is not None and record.enabled_at is not None:
            return repair.overdue(release.spec, record, now)
        spec = as_checked(release.spec, seen.release, made)
        return readiness(spec, seen, self._probing.seen(seen.id), now).stage is Stage.FAILED


def _of_app(app: str, artefacts: Mapping[tuple[str, int], Artefact]) -> dict[int, Artefact]:
    return {number: artefact for (name, number), artefact in artefacts.items() if name == app}


async def look_at_dns(views: Mapping[str, Dns], state: AppState) -> dict[str, ObservedDns]:
    """The app's part of each view that it has one of."""
    hosts = frozenset(host for release in state.releases.values() for host in release.spec.hosts)
    seen = {name: await view.observe(state.name, hosts) for name, view in views.items()}
    return {name: shown for name, shown in seen.items() if shown is not None}


def to_watch(state: AppState, replicas: Mapping[ReplicaId, ObservedReplica]) -> dict[ReplicaId, Address]:
    """Those whose connections past the balancer are to be seen, while they run."""
    matter = handoff.watched(state)
    running = (seen for name, seen in replicas.items() if name in matter and seen.state is RunState.RUNNING)
    return {seen.id: seen.address for seen in running if seen.address is not None}


def to_probe(
    state: AppState,
    replicas: Mapping[ReplicaId, ObservedReplica],
    balancer: ObservedBalancer,
    artefacts: Mapping[int, Artefact],
) -> dict[ReplicaId, Probed]:
    """Those that run and have not been told to stop, while they are not in rotation; in it HAProxy asks what it can."""
    wanted: dict[ReplicaId, Probed] = {}
    specs = {number: as_checked(release.spec, number, artefacts) for number, release in state.releases.items()}
    always = {number for number, spec in specs.items() if spec.check.by_daemon}
    for name, seen in replicas.items():
        spec, server = specs.get(seen.release), balancer.servers.get(name)
        in_rotation = server is not None and server.state is ServerState.READY
        if spec is None or (in_rotation and seen.release not in always):
            continue
        record = state.recorded.replicas.get(name)
        leaving = record is not None and record.stop_began_at is not None and record.run_before == seen.run
        going = record is not None and record.drain_began_at is not None and not _wanted(state, record)
        if seen.state is RunState.RUNNING and not leaving and not going:
            served = record is not None and record.enabled_at is not None
            wanted[name] = Probed(seen, spec, served)
    return wanted


def _wanted(state: AppState, record: ReplicaRecord) -> bool:
    """Its slot is to run it: one that was drained for a change that went back is asked again."""
    target = state.desired.target(record.slot)
    return record.release == target.release and record.generation >= target.min_generation
