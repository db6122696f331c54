"""Replicas as containers of a Docker engine; fulfils the Runtime, Usage, Machine and Certificates ports for the engine.

What is durable is in the engine: labels, the images, the containers themselves. Beside it are only the addresses that
rest, what was started again in place and which image each release is (data directory). observe() reads a table that the
watch keeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from rota.adapters.cgroupfiles import limits_above
from rota.adapters.clock import SystemClock
from rota.adapters.inturn import InTurn
from rota.adapters.machine import LocalMachine
from rota.adapters.runtime.docker import limits, platforms, usage
from rota.adapters.runtime.docker.client import Client, EngineLost, Refused
from rota.adapters.runtime.docker.exec import ContainerExec
from rota.adapters.runtime.docker.failures import ending, not_started
from rota.adapters.runtime.docker.images import Images
from rota.adapters.runtime.docker.inspection import Capability, Inspection
from rota.adapters.runtime.docker.lastboot import LastBoot
from rota.adapters.runtime.docker.logs import ContainerLogs
from rota.adapters.runtime.docker.names import Names
from rota.adapters.runtime.docker.network import OwnNetwork
from rota.adapters.runtime.docker.pins import Pins
from rota.adapters.runtime.docker.processes import groups_of
from rota.adapters.runtime.docker.reruns import Reruns, Standing
from rota.adapters.runtime.docker.starts import Starts
from rota.adapters.runtime.docker.table import Entry, Table
from rota.adapters.runtime.docker.watch import Watch
from rota.core.capacity import Amount
from rota.core.errors import LimitsRefused, StartFailed, StepFailed
from rota.core.expiry import Certificate
from rota.core.fitness import RuntimeKind
from rota.core.names import ReplicaId
from rota.core.observation import Artefact, ObservedReplica, Stranger
from rota.core.spec import Limits
from rota.ports.runtime import ReleaseOrder, StartOrder
from rota.ports.usage import Reading

_log = logging.getLogger(__name__)
PATIENCE = 60.0  # seconds that a start waits for an engine that was lost, as for one that is being restarted
_AGAIN = 0.2


class DockerRuntime:
    """``server_id`` is the data directory's; ``host`` is an engine's address, by default that in DOCKER_HOST."""

    kind = RuntimeKind.DOCKER

    def __init__(self, data_dir: Path, server_id: str, clock: SystemClock, *, host: str | None = None) -> None:
        self._clock = clock
        self._names = Names(server_id)
        self._client = Client(host, data_dir / "ssh")
        self._network = OwnNetwork(self._client, self._names, data_dir / "addresses.json", clock.now)
        self._turn = InTurn("rota-docker")
        self._pins = Pins(data_dir / "images.json", self._turn)
        self._images = Images(self._client, self._names, self._pins, self._wake)
        self._wakes: list[Callable[[str], None]] = []
        self._reruns = Reruns(data_dir / "restarts.json", self._turn)
        self._last_boot = LastBoot(data_dir / "boot.json", clock.boot_id) if self._client.is_local else None
        self._table = Table(self._client, self._names, clock, self._reruns, self._wake, self._gone, self._last_boot)
        self._watch = Watch(self._client, self._names, self._table, self._look, self._wake_all)
        self._starts = Starts(self._client, self._names, self._network, self._images, self._table)
        self._size = Amount()
        self.exec = ContainerExec(self._client, self._table.entry)
        self.logs = ContainerLogs(self._client, self._inspection)

    async def open(self) -> Self:
        """Takes over what runs. Raises Missing when no engine answers, StepFailed when it cannot be worked with."""
        await self._client.open()
        try:
            self._pins.open()
            await self._network.ensure()
            await self._watch.open()
            if self._last_boot is not None:
                self._last_boot.looked()
            for container in self._table.created_only:
                await self._starts.discard(container)
            self._network.agree({entry.labels.replica: entry.labels.address for entry in self._table.entries})
        except BaseException:
            await self._turn.close()
            await self._client.close()
            raise
        return self

    async def close(self) -> None:
        """Lets go; replicas run on."""
        await self._watch.close()
        await self._table.close()
        await self._images.close()
        await self._turn.close()
        await self._client.close()

    async def dismantle(self) -> None:
        """For ``rota shutdown``, once no replica is left: its network goes too. Raises StepFailed."""
        await self._network.remove()

    @property
    def bridge(self) -> OwnNetwork | None:
        """The replicas' own network; None where this machine has no address in it."""
        return self._network if self._client.is_local else None

    @property
    def contains(self) -> bool:
        """Whether limits are enforced on the engine's machine."""
        return self._table.capability.memory and self._table.capability.cpus

    async def observe(
        self, app: str | None = None
    ) -> tuple[Mapping[ReplicaId, ObservedReplica], Mapping[tuple[str, int], Artefact]]:
        self._watch.check()
        return self._table.replicas(app), dict(self._images.known)

    def strangers(self) -> tuple[Stranger, ...]:
        return self._table.strangers

    def on_change(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    async def prepare(self, order: ReleaseOrder) -> None:
        self._images.prepare(order)

    async def start(self, order: StartOrder) -> None:
        if order.replica in self._table.replicas():
            return
        try:
            await self._when_the_engine_is_there(lambda: self._starts.start(order))
        except EngineLost:
            self._network.give_back(order.replica)  # should it run all the same, the engine lets nobody else have it
            raise

    async def restart(self, order: StartOrder) -> None:
        await self._when_the_engine_is_there(lambda: self._restart(order))

    async def update_limits(self, replica: ReplicaId, limits: Limits) -> None:
        entry = self._table.entry(replica)
        if entry is None:
            raise StepFailed(f"{replica} is gone: there is nothing to limit")
        await self._limit(entry, limits)

    async def stop(self, replica: ReplicaId) -> None:
        entry = self._table.entry(replica)
        if entry is not None:
            await self._signal(entry, entry.labels.stop_signal)
            self._table.told(entry.seen.id)

    async def kill(self, replica: ReplicaId) -> None:
        entry = self._table.entry(replica)
        if entry is not None:
            await self._signal(entry, "SIGKILL")

    async def remove(self, replica: ReplicaId) -> None:
        entry = self._table.entry(replica)
        if entry is None:
            return
        if entry.seen.running:
            raise StepFailed(f"{replica} still runs and cannot be removed")
        await self._starts.discard(entry.seen.id)

    async def forget(self, app: str, keep_releases: frozenset[int]) -> None:
        await self._images.forget(app, keep_releases)

    async def usage(self, replicas: Collection[ReplicaId]) -> Mapping[ReplicaId, Reading]:
        """Of an engine on another machine nothing can be read."""
        self._watch.check()
        if not self._client.is_local:
            return {}
        seen = {replica: entry.seen for replica in replicas if (entry := self._table.entry(replica)) is not None}
        return await asyncio.to_thread(usage.readings, seen, self._clock)

    async def certificates(self) -> Sequence[Certificate]:
        return await self._client.certificates()

    async def waited(self, replica: ReplicaId) -> float | None:
        """Of an engine on another machine nobody knows."""
        entry = self._table.entry(replica)
        return usage.waited(entry.seen) if entry is not None and self._client.is_local else None

    async def size(self) -> Amount:
        """The engine's machine; with it in a container, as much of that as the container may use."""
        self._watch.check()
        memory, cpus = limits_above(()) if self._client.is_local else ([], [])
        return Amount(min([self._size.memory, *memory]), min([self._size.cpus, *cpus]))

    async def available(self) -> int | None:
        """A local socket may lead to another machine's engine (somebody forwards it): that one's memory is another."""
        self._watch.check()
        here = LocalMachine()
        return here.available() if self._client.is_local and here.memory == self._size.memory else None

    def pids_of(self, replica: ReplicaId) -> frozenset[int] | None:
        """None: a container's address is its own, nobody else can listen there."""
        return None

    def namespace_of(self, replica: ReplicaId) -> int | None:
        """A process of this machine in the replica's network namespace, for the prober."""
        seen = self._inspection(replica)
        here = seen is not None and self._client.is_local and groups_of(seen) is not None
        return seen.pid if seen is not None and here else None

    # Within

    async def _restart(self, order: StartOrder) -> None:
        entry = self._table.entry(order.replica)
        if entry is None:
            raise StartFailed(f"{order.replica} is gone: there is nothing to start again in place")
        if entry.seen.running:
            return
        if entry.replica.limits != order.limits:
            await self._limit(entry, order.limits)
        standing = Standing(entry.replica.generation, entry.replica.restarts)
        await self._reruns.begin(entry.seen.id, entry.seen.started, standing, order.generation)
        try:
            await self._client.post(f"containers/{entry.seen.id}/start")
        except Refused as refused:
            raise not_started(order, refused.message) from refused
        await self._table.refresh(entry.seen.id)

    async def _limit(self, entry: Entry, wanted: Limits) -> None:
        """Raises LimitsRefused for what this container cannot have while it runs."""
        await self._refuse_less_than_used(entry, wanted)
        body = limits.changed(wanted, entry.seen.host_config, self._table.capability.processors)
        container = entry.seen.id
        self._table.expect(container, entry.replica.limits, wanted)
        try:
            if body:
                await self._client.post(f"containers/{container}/update", body=body)
        except Refused as refused:
            self._table.expect(container, entry.replica.limits)
            failure = StepFailed if refused.http_status == 404 or ending(refused.message) else LimitsRefused
            raise failure(f"{entry.labels.replica} cannot get {wanted.written()}: {refused.message}") from refused
        self._table.expect(container, wanted)
        await self._table.refresh(container)

    async def _refuse_less_than_used(self, entry: Entry, wanted: Limits) -> None:
        """With control groups of version 2 the kernel would end it, where version 1 says no."""
        if wanted.memory is None or not entry.seen.running:
            return
        reading = (await self.usage([entry.labels.replica])).get(entry.labels.replica)
        if reading is not None and reading.memory > wanted.memory:
            raise LimitsRefused(
                f"{entry.labels.replica} uses {reading.memory / 2**20:.0f} MiB of memory and cannot be limited to "
                f"{wanted.memory / 2**20:g} MiB while it runs"
            )

    async def _signal(self, entry: Entry, name: str) -> None:
        """One that does not run is no error."""
        container = entry.seen.id
        try:
            if entry.seen.paused:
                await self._client.post(f"containers/{container}/unpause")
            await self._client.post(f"containers/{container}/kill", {"signal": name})
        except Refused as refused:
            if refused.http_status not in (404, 409):
                raise
        await self._table.refresh(container)

    async def _when_the_engine_is_there(self, call: Callable[[], Awaitable[None]]) -> None:
        """Again, when the engine was lost meanwhile: its restart is no failure of the replica."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while True:
            try:
                await call()
                return
            except EngineLost:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(_AGAIN)
            await self._watch.until_back(deadline - loop.time())

    async def _look(self, info: Mapping[str, Any]) -> None:
        self._size = Amount(int(info.get("MemTotal") or 0), float(info.get("NCPU") or 1))
        self._table.capability = Capability.of(info)
        await self._images.look(platforms.of_engine(info))

    def _gone(self, replica: ReplicaId) -> None:
        self._reruns.keep(self._table.ids)
        try:
            self._network.give_back(replica)
        except StartFailed as failure:
            _log.warning("%s is gone, but: %s", replica, failure)  # set right at the next start of the daemon

    def _inspection(self, replica: ReplicaId) -> Inspection | None:
        entry = self._table.entry(replica)
        return entry.seen if entry is not None else None

    def _wake(self, app: str) -> None:
        for wake in self._wakes:
            wake(app)

    def _wake_all(self) -> None:
        for app in {replica.app for replica in self._table.replicas().values()} | {
            app for app, _ in self._images.known
        }:
            self._wake(app)
