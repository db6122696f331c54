"""Replicas as processes of this machine, without Docker; fulfils the Runtime, Usage, Machine and
Certificates ports for the engine.

The keeper is their parent and remembers them; their labels are in its records. What is the runtime's own is below the
data directory (layout). Nothing is kept in memory that is not read again from there."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Self

from rota.adapters.cgroupfiles import MOUNT, directories
from rota.adapters.clock import SystemClock
from rota.adapters.keeper.client import Child, ChildOrder, Children, Refused
from rota.adapters.keeper.launch import KeeperLost
from rota.adapters.machine import LocalMachine
from rota.adapters.runtime.command import with_port
from rota.adapters.runtime.process import cgroups
from rota.adapters.runtime.process.artefacts import BUILD_TIME, Artefacts
from rota.adapters.runtime.process.command import DEFAULT_PATH, executable, replica_environment
from rota.adapters.runtime.process.disk import remove
from rota.adapters.runtime.process.exec import ProcessExec
from rota.adapters.runtime.process.labels import BrokenLabels, Labels, observed
from rota.adapters.runtime.process.layout import Account, Layout, account, app_of, make
from rota.adapters.runtime.process.logs import FileLogs
from rota.adapters.runtime.process.port_leases import PortLeases
from rota.adapters.runtime.process.tree import processes, tree_of
from rota.adapters.unpack import written_disk_error
from rota.adapters.usage import used, waited_of
from rota.core.capacity import Amount
from rota.core.errors import StartFailed, StepFailed
from rota.core.expiry import Certificate
from rota.core.fitness import RuntimeKind
from rota.core.names import ReplicaId
from rota.core.observation import Artefact, ObservedReplica, Stranger
from rota.core.spec import Limits
from rota.ports.runtime import ReleaseOrder, StartOrder
from rota.ports.source import Sources
from rota.ports.usage import Reading

_log = logging.getLogger(__name__)
_OWN_CGROUPS = Path("/proc/self/cgroup")
PORTS = range(20000, 30000)


class ProcessRuntime:
    """``children`` is open before ``open`` and closed by whoever opened it."""

    kind = RuntimeKind.PROCESS

    def __init__(
        self,
        data_dir: Path,
        children: Children,
        sources: Sources,
        clock: SystemClock,
        *,
        ports: range = PORTS,
        process_user: str | None = None,
        path: str = DEFAULT_PATH,
        build_time: float = BUILD_TIME,
        cgroup_mount: Path = MOUNT,
    ) -> None:
        """``process_user`` runs the apps that name no ``user:`` (only root can); ``path`` is PATH for apps that have
        none of their own; ``build_time`` is in seconds."""
        self._layout = Layout(data_dir)
        self._children = children
        self._clock = clock
        self._process_user = process_user
        self._path = path
        self._cgroup_mount = cgroup_mount
        self._cgroups = cgroups.Cgroups(())
        self._leases = PortLeases(self._layout.ports(), clock.now, ports)
        self._wakes: list[Callable[[str], None]] = []
        self._complained: set[str] = set()
        self.exec = ProcessExec(children)
        self.logs = FileLogs(self._layout, lambda replica: replica in self._children.known)
        self._artefacts = Artefacts(
            self._layout,
            children,
            sources,
            lambda: self._cgroups,
            self._wake,
            path=path,
            process_user=process_user,
            build_time=build_time,
        )

    async def open(self) -> Self:
        """Takes over what runs. Raises StepFailed when the keeper or the data directory cannot be asked."""
        name = f"rota-{self._children.data_dir_id[:12]}"
        self._cgroups = cgroups.find(self._cgroup_mount, _OWN_CGROUPS, name)
        self._layout.close_to_others()
        self._artefacts.load()
        await self._artefacts.end_strays()
        self._leases.agree({holder: port for _, labels in self._replicas() for holder, port in labels.leased()})
        self._children.on_change(self._child_changed)
        return self

    async def close(self) -> None:
        """Lets go; replicas run on."""
        await self._artefacts.close()

    async def dismantle(self) -> None:
        """For ``rota shutdown``, once no replica is left: there was nothing that all of them shared but their control
        group, and that went with the last."""

    @property
    def contains(self) -> bool:
        """Whether replicas are contained, and limited, by control groups on this machine."""
        return bool(self._cgroups.roots)

    async def observe(
        self, app: str | None = None
    ) -> tuple[Mapping[ReplicaId, ObservedReplica], Mapping[tuple[str, int], Artefact]]:
        replicas = {labels.replica: observed(child, labels, self._clock) for child, labels in self._replicas(app)}
        return replicas, dict(self._artefacts.known)

    def strangers(self) -> tuple[Stranger, ...]:
        """None: the keeper knows its own children, and nothing else looks like them."""
        return ()

    def on_change(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    async def prepare(self, order: ReleaseOrder) -> None:
        self._artefacts.prepare(order)

    async def start(self, order: StartOrder) -> None:
        if order.replica in await self._children.there():
            return
        port, ports = await asyncio.to_thread(self._leases.lease_all, order.replica, order.spec)
        try:
            child = self._child_order(order, port, ports)
            await _surviving_the_keeper(lambda: self._children.start(child))
        except StartFailed:
            await self._discard(order.replica, self._groups_of(order.replica))
            raise
        except Refused as refused:
            await self._give_up(order, refused)
        except OSError as error:
            await self._discard(order.replica, self._groups_of(order.replica))
            raise StartFailed(written_disk_error(error, self._layout.data_dir)) from error

    async def restart(self, order: StartOrder) -> None:
        await _surviving_the_keeper(lambda: self._restart(order))

    async def _restart(self, order: StartOrder) -> None:
        child = (await self._children.there()).get(order.replica)
        if child is None:
            raise StartFailed(f"{order.replica} is gone: there is nothing to start again in place")
        if child.alive:
            return
        port, ports = await asyncio.to_thread(self._leases.lease_all, order.replica, order.spec)
        try:
            again = self._child_order(order, port, ports)
            await self._children.restart(
                order.replica,
                argv=list(again.argv),
                env=dict(again.env),
                cgroups=list(again.cgroups),
                meta=dict(again.meta),
            )
        except Refused as refused:
            raise _not_started(order, refused) from refused
        except OSError as error:
            raise StartFailed(written_disk_error(error, self._layout.data_dir)) from error

    async def update_limits(self, replica: ReplicaId, limits: Limits) -> None:
        child = self._children.known.get(replica)
        if child is None:
            raise StepFailed(f"{replica} is gone: there is nothing to limit")
        cgroups.apply(child.cgroups, limits)
        meta = {**child.meta, "rota.limits": limits.model_dump()}
        await self._children.update(replica, meta)

    async def stop(self, replica: ReplicaId) -> None:
        child = self._children.known.get(replica)
        if child is not None:
            await self._children.signal(replica, str(child.meta.get("rota.stop_signal", "TERM")))

    async def kill(self, replica: ReplicaId) -> None:
        await self._children.signal(replica, "KILL", tree=True)

    async def remove(self, replica: ReplicaId) -> None:
        child = self._children.known.get(replica)
        if child is not None and child.alive:
            raise StepFailed(f"{replica} still runs and cannot be removed")
        await self._discard(replica, child.cgroups if child else self._groups_of(replica))

    async def forget(self, app: str, keep_releases: frozenset[int]) -> None:
        try:
            await self._artefacts.forget(app, keep_releases)
            if not keep_releases:
                for directory in (self._layout.releases(app), self._layout.logs(app)):
                    await asyncio.to_thread(remove, directory)
        except OSError as error:
            raise StepFailed(written_disk_error(error, self._layout.data_dir)) from error

    async def size(self) -> Amount:
        return self._machine().size()

    async def available(self) -> int | None:
        return self._machine().available()

    @property
    def bridge(self) -> None:
        """Replicas have no network of their own."""

    def namespace_of(self, replica: ReplicaId) -> int | None:
        """None: replicas listen in the machine's own network namespace."""
        return None

    async def usage(self, replicas: Collection[ReplicaId]) -> Mapping[ReplicaId, Reading]:
        known = self._children.known
        alive = {replica: child for replica in replicas if (child := known.get(replica)) is not None and child.alive}
        return await asyncio.to_thread(self._read_usage, alive)

    async def certificates(self) -> Sequence[Certificate]:
        """Nothing here depends on any."""
        return ()

    async def waited(self, replica: ReplicaId) -> float | None:
        return waited_of(self.pids_of(replica) or ())

    def pids_of(self, replica: ReplicaId) -> frozenset[int] | None:
        """The processes of a replica's tree at this moment, for the prober; None while nobody knows."""
        try:
            child = self._children.known.get(replica)
        except KeeperLost:
            return None
        return tree_of(child.pid, child.cgroups) if child is not None and child.pid is not None else None

    def _machine(self) -> LocalMachine:
        # Replicas are in or below the groups that can be made, else in the daemon's own.
        groups = self._cgroups.roots or map(Path, directories(_OWN_CGROUPS, self._cgroup_mount))
        return LocalMachine(tuple(groups), mount=self._cgroup_mount)

    def _read_usage(self, children: Mapping[ReplicaId, Child]) -> dict[ReplicaId, Reading]:
        readings = {}
        look = functools.cache(processes)  # one for all of them
        for replica, child in children.items():
            pid, group = child.pid, child.cgroups
            found = used(group, functools.partial(tree_of, pid, group, look)) if pid is not None else None
            if found is not None:
                readings[replica] = Reading(self._clock.now(), found.memory, found.cpu_seconds)
        return readings

    def _child_order(self, order: StartOrder, port: int, ports: Mapping[int, int]) -> ChildOrder:
        """Makes what the replica needs, anew or as it is, and says what is to run. Raises StartFailed, OSError."""
        owner = account(order.spec.user or self._process_user)
        files = self._make_files(order, owner)
        directory = self._layout.release(order.app, order.release)
        if not directory.is_dir():
            raise StartFailed(f"the files of release {order.release} of {order.app} are not there; deploy again")
        environment = replica_environment(order, port, ports, files, self._path)
        groups = self._cgroups.create(order.replica)
        cgroups.apply(groups, order.limits)
        return ChildOrder(
            name=order.replica,
            argv=with_port(executable(order.spec.command, directory, environment), port, ports),
            env=environment,
            cwd=str(directory),
            user=owner.name if owner else None,
            log=str(self._layout.log(order.replica)),
            cgroups=groups,
            meta=Labels.of(order, port, ports).written(),
        )

    def _make_files(self, order: StartOrder, owner: Account | None) -> Path:
        files = self._layout.replica_files(order.replica)
        make(files, owner)
        make(files / "tmp", owner)
        make(self._layout.logs(order.app))
        self._layout.open_to(owner, files.parent)
        return files

    async def _give_up(self, order: StartOrder, refused: Refused) -> None:
        if refused.reason == "alive":
            return  # another request of ours was first
        await self._discard(order.replica, self._groups_of(order.replica))
        raise _not_started(order, refused) from refused

    async def _discard(self, replica: ReplicaId, groups: Sequence[str]) -> None:
        """Nothing is left of it but its log."""
        await self._children.forget(replica)
        if not await self._cgroups.remove(groups):
            _log.warning("the control group of %s is still in use and stays", replica)
        await asyncio.to_thread(self._discard_files, replica)

    def _discard_files(self, replica: ReplicaId) -> None:
        self._leases.give_back(replica)
        try:
            remove(self._layout.replica_files(replica))
        except OSError as error:
            _log.warning("the files of %s stay: %s", replica, error)
        self.logs.prune(app_of(replica))

    def _groups_of(self, replica: ReplicaId) -> tuple[str, ...]:
        return tuple(str(root / replica) for root in self._cgroups.roots)

    def _replicas(self, app: str | None = None) -> list[tuple[Child, Labels]]:
        found = []
        for child in self._children.known.values():
            if app is not None and child.meta.get("rota.app") != app:
                continue
            labels = self._labels(child)
            if labels is not None:
                found.append((child, labels))
        return found

    def _labels(self, child: Child) -> Labels | None:
        try:
            return Labels.read(child.meta)
        except BrokenLabels as broken:
            if child.name not in self._complained:
                self._complained.add(child.name)
                _log.warning("the labels of %s cannot be read; it is left alone: %s", child.name, broken)
            return None

    def _child_changed(self, child: Child) -> None:
        app = child.meta.get("rota.app")
        if isinstance(app, str):
            self._wake(app)

    def _wake(self, app: str) -> None:
        for wake in self._wakes:
            wake(app)


async def _surviving_the_keeper(start: Callable[[], Awaitable[object]]) -> None:
    """Once more when the keeper was lost meanwhile, which is no failure of the replica; the next keeper knows what had
    been started, and a start of what lives is none."""
    try:
        await start()
    except KeeperLost:
        await start()


def _not_started(order: StartOrder, refused: Refused) -> StepFailed:
    if refused.reason != "exec-failed":
        return StepFailed(f"{order.replica} was not started: {refused.message}")
    command = " ".join(order.spec.command)
    return StartFailed(
        f"cannot start {command!r}: {refused.message}; check command: and build_command: in the file, then deploy again"
    )
