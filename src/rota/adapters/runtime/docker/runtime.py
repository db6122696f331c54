"""Replicas as containers of a Docker engine; fulfils the Runtime, Usage and Machine ports for the engine.

What is durable is in the engine: labels, images' tags, the containers themselves. Beside it are only the addresses that
rest and what was started again in place (data directory). observe() reads a table that the watch keeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self

from rota.adapters.cgroupfiles import limits_above
from rota.adapters.clock import SystemClock
from rota.adapters.runtime.docker import failures, limits, program, usage
from rota.adapters.runtime.docker.client import Client, EngineLost, Refused
from rota.adapters.runtime.docker.creation import creation
from rota.adapters.runtime.docker.images import Images
from rota.adapters.runtime.docker.inspection import Capability, Inspection
from rota.adapters.runtime.docker.labels import Labels
from rota.adapters.runtime.docker.logs import ContainerLogs
from rota.adapters.runtime.docker.names import SERVER, Names
from rota.adapters.runtime.docker.network import OwnNetwork
from rota.adapters.runtime.docker.reruns import Reruns, Standing
from rota.adapters.runtime.docker.table import Entry, Table
from rota.adapters.runtime.docker.watch import Watch
from rota.adapters.runtime.leases import Leases
from rota.core.capacity import Amount
from rota.core.errors import StartFailed, StepFailed
from rota.core.fitness import RuntimeKind
from rota.core.names import ReplicaId
from rota.core.observation import Artefact, ObservedReplica
from rota.core.spec import Limits
from rota.ports.runtime import ReleaseOrder, StartOrder
from rota.ports.usage import Reading

_log = logging.getLogger(__name__)
AT_ONCE = 4  # starts; more gain nothing (measured: 152 ms one by one, 81 to 90 ms each with 4)
PATIENCE = 60.0  # seconds that a start waits for an engine that was lost, as for one that is being restarted
_AGAIN = 0.2
_ADDRESSES = 3  # tries, when somebody else's container has taken one


class DockerRuntime:
    """``server_id`` is the data directory's; ``host`` is an engine's address, by default that in DOCKER_HOST."""

    kind = RuntimeKind.DOCKER

    def __init__(self, data_dir: Path, server_id: str, clock: SystemClock, *, host: str | None = None) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self._names = Names(server_id)
        self._client = Client(host)
        self._network = OwnNetwork(self._client, self._names)
        self._images = Images(self._client, self._names, self._wake)
        self._wakes: list[Callable[[str], None]] = []
        self._reruns = Reruns(data_dir / "restarts.json")
        self._table = Table(self._client, self._names, clock, self._reruns, self._wake, self._gone)
        self._watch = Watch(self._client, self._names, self._table, self._look, self._wake_all)
        self._leases: Leases | None = None
        self._size = Amount()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._checked: set[tuple[str, int]] = set()
        self.logs = ContainerLogs(self._client, self._inspection)

    async def open(self) -> Self:
        """Takes over what runs. Raises Missing when no engine answers, StepFailed when it cannot be worked with."""
        await self._client.open()
        try:
            await self._network.ensure()
            offsets = self._network.offsets
            self._leases = Leases(self._data_dir / "addresses.json", self._clock.now, offsets, "address")
            await self._watch.open()
            self._leases.agree(self._leased())
        except BaseException:
            await self._client.close()
            raise
        return self

    async def close(self) -> None:
        """Lets go; replicas run on."""
        await self._watch.close()
        await self._images.close()
        await self._client.close()

    async def dismantle(self) -> None:
        """For ``rota shutdown``, once no replica is left: its network goes too. Raises StepFailed."""
        await self._network.remove()

    @property
    def contains(self) -> bool:
        """Whether limits are enforced on the engine's machine."""
        return self._table.capability.memory and self._table.capability.cpus

    async def observe(self) -> tuple[Mapping[ReplicaId, ObservedReplica], Mapping[tuple[str, int], Artefact]]:
        self._watch.check()
        return self._table.replicas(), dict(self._images.known)

    def on_change(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    async def prepare(self, order: ReleaseOrder) -> None:
        self._images.prepare(order)

    async def start(self, order: StartOrder) -> None:
        if order.replica in self._table.replicas():
            return
        self._table.starting(order.replica)
        try:
            await self._when_the_engine_is_there(lambda: self._start(order))
        finally:
            self._table.started(order.replica)

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
        await self._discard(entry.seen.id)

    async def forget(self, app: str, keep_releases: frozenset[int]) -> None:
        await self._images.forget(app, keep_releases)

    async def usage(self, replicas: Collection[ReplicaId]) -> Mapping[ReplicaId, Reading]:
        """Of an engine on another machine nothing can be read."""
        self._watch.check()
        if not self._client.is_local:
            return {}
        seen = {replica: entry.seen for replica in replicas if (entry := self._table.entry(replica)) is not None}
        return await asyncio.to_thread(usage.readings, seen, self._clock)

    async def size(self) -> Amount:
        """The engine's machine; with it in a container, as much of that as the container may use."""
        self._watch.check()
        memory, cpus = limits_above(()) if self._client.is_local else ([], [])
        return Amount(min([self._size.memory, *memory]), min([self._size.cpus, *cpus]))

    def pids_of(self, replica: ReplicaId) -> frozenset[int] | None:
        """None: a container's address is its own, nobody else can listen there."""
        return None

    def namespace_of(self, replica: ReplicaId) -> int | None:
        """A process of this machine in the replica's network namespace, for the prober."""
        seen = self._inspection(replica)
        return seen.pid or None if seen is not None and self._client.is_local else None

    # Within

    async def _start(self, order: StartOrder) -> None:
        image = await self._images.id_of(order.app, order.release)
        if image is None:
            raise StartFailed(f"the files of release {order.release} of {order.app} are not there; deploy again")
        async with self._slots:
            for left in reversed(range(_ADDRESSES)):
                try:
                    await self._create_and_start(order, image)
                    return
                except Refused as refused:
                    await asyncio.to_thread(self._lease_of().give_back, order.replica)
                    if not left or not failures.address_taken(refused.message):
                        raise failures.not_started(order.replica, refused.message, _first(order)) from refused

    async def _create_and_start(self, order: StartOrder, image: str) -> None:
        """Raises Refused and StartFailed, with nothing left."""
        container = await self._create(order, image)
        try:
            inspection = Inspection(await self._client.get(f"containers/{container}/json"))
            if inspection.created_only:
                await self._complete(order, inspection)
                await self._client.post(f"containers/{container}/start")
        except (Refused, StartFailed):
            await self._discard(container)
            raise
        await self._table.refresh(container)

    async def _create(self, order: StartOrder, image: str) -> str:
        """The id of the replica's container, new or of an earlier try."""
        offset = await asyncio.to_thread(self._lease_of().lease, order.replica)
        labels = Labels.of(order, self._network.address(offset))
        name = self._names.container(order.replica)
        body = creation(order, labels, image, self._names)
        try:
            return str((await self._client.post("containers/create", {"name": name}, body))["Id"])
        except Refused as refused:
            if refused.http_status == 409:
                return await self._of_an_earlier_try(order.replica, name)
            if f"network {self._names.network}" not in refused.message:
                raise
        await self._network.ensure()  # somebody has removed it
        return str((await self._client.post("containers/create", {"name": name}, body))["Id"])

    async def _of_an_earlier_try(self, replica: ReplicaId, name: str) -> str:
        found = Inspection(await self._client.get(f"containers/{name}/json"))
        if (found.labels.get(SERVER), found.labels.get("rota.replica")) != (self._names.server_id, replica):
            raise StartFailed(f"there is a container {name} that is not this server's; remove it or rename it")
        return found.id

    async def _complete(self, order: StartOrder, created: Inspection) -> None:
        """What cannot be said at its creation (older engines take one network there), and what is to be known first."""
        if (order.app, order.release) not in self._checked:
            await program.check(self._client, created.id, created.raw["Config"])
            self._checked.add((order.app, order.release))
        network = order.spec.network
        if network is not None and created.address_in(network) is None:
            await self._client.post(f"networks/{network}/connect", body={"Container": created.id})

    async def _restart(self, order: StartOrder) -> None:
        entry = self._table.entry(order.replica)
        if entry is None:
            raise StartFailed(f"{order.replica} is gone: there is nothing to start again in place")
        if entry.seen.running:
            return
        if entry.replica.limits != order.limits:
            await self._limit(entry, order.limits)
        standing = Standing(entry.replica.generation, entry.replica.restarts)
        self._reruns.begin(entry.seen.id, entry.seen.started, standing, order.generation)
        try:
            await self._client.post(f"containers/{entry.seen.id}/start")
        except Refused as refused:
            raise failures.not_started(order.replica, refused.message, _first(order)) from refused
        await self._table.refresh(entry.seen.id)

    async def _limit(self, entry: Entry, wanted: Limits) -> None:
        body = limits.changed(wanted, entry.seen.host_config, self._table.capability.processors)
        container = entry.seen.id
        self._table.expect(container, entry.replica.limits, wanted)
        try:
            if body:
                await self._client.post(f"containers/{container}/update", body=body)
        except Refused as refused:
            self._table.expect(container, entry.replica.limits)
            raise StepFailed(f"{entry.labels.replica} cannot get {wanted.written()}: {refused.message}") from refused
        self._table.expect(container, wanted)
        await self._table.refresh(container)

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

    async def _discard(self, container: str) -> None:
        """Nothing is left of it, its nameless volumes included; one that is gone is no error."""
        try:
            await self._client.delete(f"containers/{container}", {"v": 1})
        except Refused as refused:
            if refused.http_status != 404 and "already in progress" not in refused.message:
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
        quota = bool(info.get("CpuCfsQuota", True))
        self._size = Amount(int(info.get("MemTotal") or 0), float(info.get("NCPU") or 1))
        self._table.capability = Capability(bool(info.get("MemoryLimit", True)), quota, int(info.get("NCPU") or 1))
        await self._images.look((str(info.get("OSType") or ""), _architecture(str(info.get("Architecture") or ""))))

    def _gone(self, replica: ReplicaId) -> None:
        self._reruns.keep(self._table.ids)
        if self._leases is not None:
            self._leases.give_back(replica)

    def _leased(self) -> dict[ReplicaId, int]:
        found = {}
        for replica, seen in self._table.replicas().items():
            offset = self._network.offset(seen.address.host) if seen.address is not None else None
            if offset is not None:
                found[replica] = offset
        return found

    def _lease_of(self) -> Leases:
        if self._leases is None:
            raise StepFailed("the docker runtime is not open")
        return self._leases

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


def _first(order: StartOrder) -> str:
    return order.spec.command[0] if order.spec.command else order.spec.image.reference if order.spec.image else ""


def _architecture(machine: str) -> str:
    """An engine names its machine as uname does, an image names it as Go does."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
